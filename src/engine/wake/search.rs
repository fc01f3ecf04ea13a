//! What finds wake phrases, and what is found.

use tokio_util::sync::CancellationToken;

use crate::engine::error::EngineError;

/// A phrase that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeFound {
    /// Its name.
    pub phrase: String,
    /// Where it ends, in ms from the first sample that was shown, if the engine can tell.
    pub end_ms: Option<u64>,
    /// What was said after it, empty if nothing was; `None` from an engine that recognizes no words.
    pub rest: Option<String>,
}

/// Finds wake phrases.
pub trait WakeEngine: Send + Sync {
    /// Looks for a phrase in `speech` (mono, [`RECOGNIZER_RATE_HZ`](crate::engine::RECOGNIZER_RATE_HZ), −1…1), the beginning of what is
    /// said. Blocks; looks at `cancel` while it works.
    ///
    /// # Errors
    /// As [`Recognizer::transcribe`](crate::engine::Recognizer::transcribe).
    fn find(&self, speech: &[f32], cancel: &CancellationToken) -> Result<Option<WakeFound>, EngineError>;
}
