//! The wake phrase, on this host: what is said is shown to a wake engine here, and only what follows the phrase leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pipeline::{Partial, Speech, Utterance};
use crate::engine::wake::{WakeEngine, WakeFound};
use crate::engine::{EngineError, RECOGNIZER_RATE_HZ};
use crate::role::model_cache::blocking;
use crate::text::wake::{WakeMatch, WakePhrases};

/// What may follow the phrase, in ms, where an engine does not hear what is said after it: its last sound, and silence.
const ALONE_MS: u64 = 450;
/// The longest speech that is looked at: the phrase is at its beginning, and what follows is used if it is short.
const LOOK_AT_S: usize = 12;

/// What a look has found.
#[derive(Debug)]
pub struct Look {
    number: u64,
    /// The phrase, and what was said after it, if the engine has heard that.
    pub found: Option<WakeMatch>,
    /// Whether nothing was said after the phrase.
    pub alone: bool,
    /// The speech that was looked at.
    pub speech: Speech,
    /// The utterance, if it was over.
    pub utterance: Option<Utterance>,
    /// Whether the words of all of it were heard.
    pub whole: bool,
    /// How long the look took.
    pub took: Duration,
}

/// Looks for a listener's wake phrases, one piece of speech at a time.
pub struct WakeEar {
    phrases: WakePhrases,
    engine: Arc<dyn WakeEngine>,
    looks: mpsc::Sender<Look>,
    /// Looks so far.
    count: u64,
    /// The look under way: whether at a whole utterance, and what breaks it off.
    under_way: Option<(bool, DropGuard)>,
}

impl WakeEar {
    /// An ear that looks by `engine`, which was built for `phrases`; what it finds goes to `looks`.
    pub fn new(phrases: WakePhrases, engine: Arc<dyn WakeEngine>, looks: mpsc::Sender<Look>) -> Self {
        Self { phrases, engine, looks, count: 0, under_way: None }
    }

    /// Whether a whole utterance is being looked at.
    #[cfg(test)]
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
    pub fn partial(&mut self, partial: Partial) {
        if self.under_way.is_none() {
            self.look(partial.speech, partial.samples, None);
        }
    }

    /// Starts to look at an utterance. A partial under way is broken off: the whole tells more.
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
        let (engine, looks) = (Arc::clone(&self.engine), self.looks.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            let looked = blocking(move || {
                let found = engine.find(&samples, &cancel)?;
                Ok((found, samples.len() as u64 * 1_000 / u64::from(RECOGNIZER_RATE_HZ)))
            });
            let (found, audio_ms) = match looked.await {
                Ok(looked) => looked,
                Err(EngineError::Cancelled) => return,
                Err(error) => {
                    tracing::warn!(%error, "the wake phrase could not be looked for");
                    (None, 0)
                }
            };
            let (heard_words, alone) =
                found.as_ref().map_or((true, false), |found| (found.rest.is_some(), is_alone(found, audio_ms)));
            let found = found.map(|found| WakeMatch { phrase: found.phrase, rest: found.rest.unwrap_or_default() });
            let (whole, took) = (whole && heard_words, begun.elapsed());
            // The listener is gone only when the host ends.
            let _ = looks.send(Look { number, found, alone, speech, utterance, whole, took }).await;
        });
    }

    /// What follows the phrase in a transcript; `None` if it does not begin with one.
    pub fn after_phrase(&self, text: &str) -> Option<String> {
        self.phrases.find(text).map(|found| found.rest)
    }
}

/// Whether nothing was said after a phrase in `audio_ms` of speech.
fn is_alone(found: &WakeFound, audio_ms: u64) -> bool {
    match (&found.rest, found.end_ms) {
        (Some(rest), _) => rest.is_empty(),
        (None, Some(end_ms)) => audio_ms.saturating_sub(end_ms) <= ALONE_MS,
        // As if it was: the end of the utterance tells.
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::audio::EndReason;

    /// Hears 'computer' and how many samples there are; a clip of one sample takes until it is cancelled.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl WakeEngine for Counting {
        fn find(&self, speech: &[f32], cancel: &CancellationToken) -> Result<Option<WakeFound>, EngineError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            while speech.len() == 1 {
                if cancel.is_cancelled() {
                    return Err(EngineError::Cancelled);
                }
                std::thread::yield_now();
            }
            let rest = Some(format!("{}.", speech.len()));
            Ok(Some(WakeFound { phrase: "Computer".to_owned(), end_ms: None, rest }))
        }
    }

    fn ear() -> (WakeEar, mpsc::Receiver<Look>, Arc<Counting>) {
        let (looks_out, looks) = mpsc::channel(4);
        let counting = Arc::new(Counting::default());
        let phrases = WakePhrases::new([("Computer", Vec::<String>::new())]).unwrap();
        (WakeEar::new(phrases, counting.clone(), looks_out), looks, counting)
    }

    fn speech() -> Speech {
        Speech { start_sample: 7, began: Instant::now(), speech_ms: 900 }
    }

    fn utterance(samples: usize) -> Utterance {
        let (speech, spoken_until) = (speech(), Instant::now());
        Utterance { speech, samples: vec![0.1; samples], reason: EndReason::Silence, endpoint_ms: 500, spoken_until }
    }

    #[tokio::test]
    async fn the_end_of_an_utterance_breaks_off_the_partial_of_it() {
        let (mut ear, mut looks, counting) = ear();
        ear.partial(Partial { speech: speech(), samples: vec![0.1] });
        assert!(!ear.is_busy());
        // Another partial is left out while one is looked at.
        ear.partial(Partial { speech: speech(), samples: vec![0.1; 2] });
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
    #[test]
    fn a_phrase_is_alone_if_nothing_was_said_after_it() {
        let found = |end_ms, rest: Option<&str>| WakeFound {
            phrase: "Computer".to_owned(),
            end_ms,
            rest: rest.map(str::to_owned),
        };
        assert!(is_alone(&found(None, Some("")), 9_000));
        assert!(!is_alone(&found(Some(600), Some("go")), 700));
        assert!(is_alone(&found(Some(600), None), 1_050));
        assert!(!is_alone(&found(Some(600), None), 1_051));
        assert!(!is_alone(&found(None, None), 1_000));
    }

    #[tokio::test]
    async fn an_engine_without_words_leaves_the_utterance_to_be_transcribed() {
        struct Wordless;

        impl WakeEngine for Wordless {
            fn find(&self, _: &[f32], _: &CancellationToken) -> Result<Option<WakeFound>, EngineError> {
                Ok(Some(WakeFound { phrase: "Computer".to_owned(), end_ms: Some(500), rest: None }))
            }
        }

        let (looks_out, mut looks) = mpsc::channel(4);
        let phrases = WakePhrases::new([("Computer", Vec::<String>::new())]).unwrap();
        let mut ear = WakeEar::new(phrases, Arc::new(Wordless), looks_out);
        for (ms, alone) in [(800, true), (2_000, false)] {
            ear.look_at(utterance(ms * 16));
            let look = looks.recv().await.unwrap();
            assert_eq!((look.alone, look.whole), (alone, false), "{ms} ms");
            assert_eq!(look.found.as_ref().unwrap().rest, "");
            assert!(ear.done(&look));
        }
        assert_eq!(ear.after_phrase("Computer, go.").as_deref(), Some("go."));
    }
}
