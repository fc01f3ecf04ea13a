//! What goes wrong with an engine.

use crate::process::ProcessError;

/// Why an engine did not do what was asked. The kind tells whether asking again, or elsewhere, can help.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// Something must be installed, fetched or compiled in first; the text says what. Elsewhere it may work.
    #[error("{0}")]
    Missing(String),
    /// The input itself can't be handled; no retry can help.
    #[error("{0}")]
    Invalid(String),
    /// The input is more than the engine takes; a shorter one may do.
    #[error("{0}")]
    TooLarge(String),
    /// The engine's backend is down, slow or busy; a retry, here or elsewhere, can help.
    #[error("{0}")]
    Unavailable(String),
    /// The engine broke while working; elsewhere it may work.
    #[error("{0}")]
    Failed(String),
    /// The caller gave up or the deadline passed.
    #[error("cancelled")]
    Cancelled,
}

impl From<ProcessError> for EngineError {
    fn from(error: ProcessError) -> Self {
        let text = error.to_string();
        match error {
            ProcessError::NotInstalled { .. } => Self::Missing(text),
            ProcessError::NotReady { .. } => Self::Unavailable(text),
            ProcessError::Spawn { .. } | ProcessError::Exited { .. } => Self::Failed(text),
        }
    }
}
