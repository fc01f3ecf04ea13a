//! The integration tests: one binary, real servers.

mod jack;
mod support;
