//! The name of this in health.

/// The parts of a host that keep something on the server, as its health has them.
pub const HEALTH: &str = "kept";
