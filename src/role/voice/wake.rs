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

    /// What follows the phrase in a transcript; `None` if it does not begin with one.
    pub fn after_phrase(&self, text: &str) -> Option<String> {
        self.phrases.find(text).map(|found| found.rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::audio::EndReason;
    use crate::engine::Transcription;

    /// Hears 'computer' and how many samples there are; a clip of one sample takes until it is cancelled.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Recognizer for Counting {
        fn model(&self) -> &str {
            "counting"
        }

        fn languages(&self) -> Vec<String> {
            Vec::new()
        }

        fn transcribe(
            &self,
            samples: &[f32],
            options: &TranscribeOptions,
            cancel: &CancellationToken,
        ) -> Result<Transcription, EngineError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            assert_eq!(options.prompt.as_deref(), Some("Computer"));
            while samples.len() == 1 {
                if cancel.is_cancelled() {
                    return Err(EngineError::Cancelled);
                }
                std::thread::yield_now();
            }
            Ok(Transcription { text: format!("Computer, {}.", samples.len()), ..Transcription::default() })
        }
    }

    fn ear() -> (WakeEar, mpsc::Receiver<Look>, Arc<Counting>) {
        let (looks_out, looks) = mpsc::channel(4);
        let counting = Arc::new(Counting::default());
        let phrases = WakePhrases::new([("Computer", Vec::<String>::new())]).unwrap();
        (WakeEar::new(phrases, &["Computer".to_owned()], counting.clone(), looks_out), looks, counting)
    }

    fn speech() -> Speech {
        Speech { start_sample: 7, began: Instant::now(), speech_ms: 900 }
    }

    fn utterance(samples: usize) -> Utterance {
        let (speech, spoken_until) = (speech(), Instant::now());
        Utterance { speech, samples: vec![0.1; samples], reason: EndReason::Silence, endpoint_ms: 500, spoken_until }
    }

    #[tokio::test]
    async fn the_end_of_an_utterance_breaks_off_the_glimpse_of_it() {
        let (mut ear, mut looks, counting) = ear();
        ear.glimpse(Glimpse { speech: speech(), samples: vec![0.1] });
        assert!(!ear.is_busy());
        // Another glimpse is left out while one is looked at.
        ear.glimpse(Glimpse { speech: speech(), samples: vec![0.1; 2] });
        ear.look_at(utterance(3));
        assert!(ear.is_busy());
        let look = looks.recv().await.unwrap();
        assert_eq!(look.found.as_ref().unwrap().rest, "3.");
        assert!(look.whole && look.utterance.is_some() && ear.done(&look));
        assert!(!ear.is_busy());
        drop(ear);
        assert!(looks.recv().await.is_none());
        assert!(counting.0.load(Ordering::Relaxed) <= 2);
    }

    #[tokio::test]
    async fn only_the_beginning_of_a_long_utterance_is_looked_at() {
        let (mut ear, mut looks, _) = ear();
        let longest = LOOK_AT_S * RECOGNIZER_RATE_HZ as usize;
        for (samples, whole) in [(longest, true), (longest + 1, false)] {
            ear.look_at(utterance(samples));
            let look = looks.recv().await.unwrap();
            assert_eq!((look.found.as_ref().unwrap().rest.as_str(), look.whole), (&*format!("{longest}."), whole));
            assert_eq!(look.utterance.as_ref().unwrap().samples.len(), samples);
            assert!(ear.done(&look));
        }
    }
}
