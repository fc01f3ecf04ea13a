//! A host's place on the bus: who it is to the server, its connections, and what goes over them without an answer.

pub mod access;
mod acks;
mod bus;
mod connection;
pub mod embedded;
mod error;
mod events;
pub mod headers;

pub use access::Access;
pub(in crate::bus) use acks::Flow;
pub use bus::{Bus, ServerFacts};
pub(in crate::bus) use connection::{DeliveryWatch, NatsConnection};
pub use error::BusError;
