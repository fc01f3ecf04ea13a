//! The integration tests: one binary, real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod bus;
mod contract;
mod engines;
mod jack;
mod layout;
mod support;
mod watch;
