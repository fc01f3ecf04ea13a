//! Child processes that are started, watched and restarted.
//!
//! A child lives in a process group of its own, so that Ctrl-C in a terminal reaches us and not it, and stopping it
//! reaches its own children. It gets SIGTERM from the kernel when this process dies, however that happens. Its standard
//! input is a pipe that stays open for as long as we live.

mod answer;
mod error;
mod output;
mod spawn;
mod spec;
mod supervise;

pub use answer::{answer, version};
pub use error::ProcessError;
pub use spawn::{ReadChild, StopOutcome};
pub use spec::{ChildSpec, ReadyProbe};
pub use supervise::{ChildState, Supervised};

#[cfg(test)]
mod tests;
