//! The wake phrase, on this host: what is said is transcribed here, and only what follows the phrase leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pipeline::{Glimpse, Speech, Utterance};
use crate::audio::{WakeMatch, WakePhrases};
use crate::engine::{EngineError, RECOGNIZER_RATE_HZ, Recognizer, TranscribeOptions};
use crate::role::pool::blocking;

/// The longest speech that is looked at: the phrase is at its beginning, and what follows is used if it is short.
const LOOK_AT_S: usize = 12;

/// What a look has found.
#[derive(Debug)]
pub struct Look {
    number: u64,
    /// The phrase, and what was said after it.
    pub found: Option<WakeMatch>,
    /// The speech that was looked at.
    pub speech: Speech,
    /// The utterance, if it was over.
    pub utterance: Option<Utterance>,
    /// Whether all of it was looked at.
    pub whole: bool,
    /// How long the look took.
    pub took: Duration,
}

/// Looks for a listener's wake phrases, one piece of speech at a time.
pub struct WakeEar {
    phrases: Arc<WakePhrases>,
    recognizer: Arc<dyn Recognizer>,
    options: TranscribeOptions,
    looks: mpsc::Sender<Look>,
    /// Looks so far.
    count: u64,
    /// The look under way: whether at a whole utterance, and what breaks it off.
    under_way: Option<(bool, DropGuard)>,
}

impl WakeEar {
    /// An ear for `phrases`, whose names are `names`; what it finds goes to `looks`.
    pub fn new(
        phrases: WakePhrases,
        names: &[String],
        recognizer: Arc<dyn Recognizer>,
        looks: mpsc::Sender<Look>,
    ) -> Self {
        // The recognizer spells a name as it is prompted: tiny.en hears 'Jarvis' in 27 of 30 recordings instead of 25,
        // 'computer' in 30 instead of 29, and none of them in other words or in noise.
        let options = TranscribeOptions { language: None, prompt: (!names.is_empty()).then(|| names.join(", ")) };
        Self { phrases: Arc::new(phrases), recognizer, options, looks, count: 0, under_way: None }
    }

    /// Whether a whole utterance is being looked at: then the next must wait.
    pub fn is_busy(&self) -> bool {
        matches!(self.under_way, Some((true, _)))
    }

    /// Takes note that a look has come back; `false` if it is one that was broken off.
    pub fn done(&mut self, look: &Look) -> bool {
        let current = look.number == self.count;
        if current {
            self.under_way = None;
        }
        current
    }

    /// Starts to look at speech that goes on, unless a look is under way.
    pub fn glimpse(&mut self, glimpse: Glimpse) {
        if self.under_way.is_none() {
            self.look(glimpse.speech, glimpse.samples, None);
        }
    }

    /// Starts to look at an utterance. A glimpse under way is broken off: the whole tells more.
    pub fn look_at(&mut self, utterance: Utterance) {
        self.look(utterance.speech, utterance.samples.clone(), Some(utterance));
    }

    fn look(&mut self, speech: Speech, mut samples: Vec<f32>, utterance: Option<Utterance>) {
        self.count += 1;
        let (number, cancel) = (self.count, CancellationToken::new());
        self.under_way = Some((utterance.is_some(), cancel.clone().drop_guard()));
        let longest = LOOK_AT_S * RECOGNIZER_RATE_HZ as usize;
        let whole = utterance.is_some() && samples.len() <= longest;
        samples.truncate(longest);
        let (phrases, recognizer, looks) =
            (Arc::clone(&self.phrases), Arc::clone(&self.recognizer), self.looks.clone());
        let options = self.options.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let heard = blocking(move || recognizer.transcribe(&samples, &options, &cancel));
            let found = match heard.await {
                Ok(heard) => phrases.find(&heard.text),
                Err(EngineError::Cancelled) => return,
                Err(error) => {
                    tracing::warn!(%error, "the wake phrase could not be looked for");
                    None
                }
            };
            // The listener is gone only when the host ends.
            let _ = looks.send(Look { number, found, speech, utterance, whole, took: begun.elapsed() }).await;
        });
    }

    /// What follows the phrase in a transcript; all of it if the phrase is not there.
    pub fn without_phrase(&self, text: &str) -> String {
        self.phrases.find(text).map_or_else(|| text.trim().to_owned(), |found| found.rest)
    }
}
