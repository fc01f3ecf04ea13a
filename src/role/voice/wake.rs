//! The wake phrase, on this host: what is said is transcribed here, and only what follows the phrase leaves.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::audio::{WakeMatch, WakePhrases};
use crate::engine::{EngineError, RECOGNIZER_RATE_HZ, Recognizer, TranscribeOptions};
use crate::role::pool::blocking;

/// The longest speech that is looked at: the phrase is at its beginning, and what follows is used if it is short.
const LOOK_AT_S: usize = 12;

/// What a look has found.
#[derive(Debug)]
pub struct Look {
    /// The phrase, and what was said after it.
    pub found: Option<WakeMatch>,
    /// Whether the speech was over, and all of it was looked at.
    pub whole: bool,
    /// How long the look took.
    pub took: std::time::Duration,
}

/// Looks for a listener's wake phrases, one piece of speech at a time.
pub struct WakeEar {
    phrases: Arc<WakePhrases>,
    recognizer: Arc<dyn Recognizer>,
    prompt: String,
    busy: bool,
    looks: mpsc::Sender<Look>,
}

impl WakeEar {
    /// An ear for `phrases`; what it finds goes to `looks`.
    pub fn new(
        phrases: WakePhrases,
        names: &[String],
        recognizer: Arc<dyn Recognizer>,
        looks: mpsc::Sender<Look>,
    ) -> Self {
        // The recognizer spells an unusual name as it is prompted.
        let prompt = names.join(", ");
        Self { phrases: Arc::new(phrases), recognizer, prompt, busy: false, looks }
    }

    /// Whether a look is under way; its [`Look`] comes, and must be handed to [`WakeEar::done`].
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Takes note that a look has come back.
    pub fn done(&mut self) {
        self.busy = false;
    }

    /// Starts a look, unless one is under way.
    pub fn look(&mut self, mut samples: Vec<f32>, over: bool) {
        if self.busy {
            return;
        }
        self.busy = true;
        let whole = over && samples.len() <= LOOK_AT_S * RECOGNIZER_RATE_HZ as usize;
        samples.truncate(LOOK_AT_S * RECOGNIZER_RATE_HZ as usize);
        let (phrases, recognizer, looks) =
            (Arc::clone(&self.phrases), Arc::clone(&self.recognizer), self.looks.clone());
        let options = TranscribeOptions { language: None, prompt: Some(self.prompt.clone()).filter(|p| !p.is_empty()) };
        tokio::spawn(async move {
            let begun = std::time::Instant::now();
            let heard = blocking::<_, EngineError>(move || {
                recognizer.transcribe(&samples, &options, &CancellationToken::new())
            });
            let found = match heard.await {
                Ok(heard) => phrases.find(&heard.text),
                Err(error) => {
                    tracing::warn!(%error, "the wake phrase could not be looked for");
                    None
                }
            };
            // The listener is gone only when the host ends.
            let _ = looks.send(Look { found, whole, took: begun.elapsed() }).await;
        });
    }

    /// What follows the phrase in a transcript; all of it if the phrase is not there.
    pub fn without_phrase(&self, text: &str) -> String {
        self.phrases.find(text).map_or_else(|| text.trim().to_owned(), |found| found.rest)
    }
}
