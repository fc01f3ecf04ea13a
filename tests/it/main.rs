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
mod cli;
mod contract;
mod deploy;
mod engines;
mod graph;
mod jack;
mod layout;
mod own_engine;
mod session;
mod support;
mod watch;
// They need engines that fail on demand, beside the real ones.
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod drain;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod fabric;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod job_faults;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod link;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod listen;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa", feature = "midi-jack"))]
mod midi;
mod osc;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod prompt;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod recorded;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod stop;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod telemetry;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod transcripts;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod turns;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod voice;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
mod voice_faults;
