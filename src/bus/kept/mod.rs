//! What the server keeps for hosts: who is there, what was said, work that may wait, large audio.

pub mod clips;
mod copies;
mod health;
pub mod jobs;
pub mod registry;
pub mod roster;
pub mod session;

pub use health::HEALTH;
