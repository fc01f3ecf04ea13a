//! Why a child process did not start.

use std::path::PathBuf;
use std::time::Duration;

/// Why a child did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProcessError {
    /// The program is not on this host.
    #[error("cannot start {name}: there is no program {}; {hint}", program.display())]
    NotInstalled {
        /// The child's name.
        name: String,
        /// The program that was looked for.
        program: PathBuf,
        /// What to install.
        hint: String,
    },
    /// The operating system refused.
    #[error("cannot start {name} ({}): {why}", program.display())]
    Spawn {
        /// The child's name.
        name: String,
        /// The program.
        program: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It ended before it was ready.
    #[error("{name} ended before it was ready ({status}); its last words: {}", last_words(tail))]
    Exited {
        /// The child's name.
        name: String,
        /// How it ended.
        status: String,
        /// Its last lines of output.
        tail: Vec<String>,
    },
    /// It runs, but was not ready in time.
    #[error("{name} was not ready within {} ms; its last words: {}", timeout.as_millis(), last_words(tail))]
    NotReady {
        /// The child's name.
        name: String,
        /// How long it was given.
        timeout: Duration,
        /// Its last lines of output.
        tail: Vec<String>,
    },
}

/// The last lines of output in one, for an error.
pub(super) fn last_words(tail: &[String]) -> String {
    if tail.is_empty() { "none".into() } else { tail.join(" | ") }
}
