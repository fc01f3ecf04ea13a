//! The bus: the sole user of NATS.
//!
//! | folder | what |
//! | --- | --- |
//! | `connect` | who this host is to the server, its connections, events |
//! | `ask` | a caller [`ask`](Bus::ask)s for one reply or [`open`](Bus::open)s a stream of them, or has speech transcribed while it is spoken ([`listen`]) |
//! | `kept` | what the server keeps: hosts, sessions, jobs, large audio |
//! | `serve` | a role serves verbs ([`service`]) and does jobs ([`batch`]) |
//!
//! Each imports those above it. Every message has a subject from [`subject`] and a type from [`message`], which know no NATS.

mod ask;
mod connect;
mod kept;
mod serve;

pub use ask::{Call, listen, stream};
pub use connect::{Access, Bus, BusError, ServerFacts, access, embedded, headers};
pub use kept::{HEALTH, clips, jobs, registry, roster, session};
pub use serve::{batch, ingest, service, sink};

pub use crate::wire::{codec, contract, message, pack, subject};
