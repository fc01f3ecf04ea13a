//! Engines that find a wake phrase at the beginning of what is said. Adding one is an implementation and a row.
//!
//! An engine is shown a stretch of speech from its beginning, pre-roll first: while the speaker goes on, again and again,
//! each time with more of it, and once when it is over. It says which phrase it has found, where that ends, and, if it
//! recognizes words, what was said after it.

mod search;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::table::{WAKES, find};
use super::{EngineError, Recognizer, TranscribeOptions, Transcription};
use crate::text::wake::WakePhrases;
pub use search::{WakeEngine, WakeFound};

/// What a wake engine is built from.
#[derive(Clone)]
pub struct WakeSpec {
    /// The phrases, and the spellings in which they are heard as well.
    pub phrases: WakePhrases,
    /// The names of the phrases.
    pub names: Vec<String>,
    /// What transcribes on this host; there for a row that [needs](WakeRow::needs_recognizer) it.
    pub recognizer: Option<Arc<dyn Recognizer>>,
}

type Build = fn(WakeSpec) -> Result<Arc<dyn WakeEngine>, EngineError>;

/// One engine that finds wake phrases.
pub struct WakeRow {
    /// The name that a configuration uses.
    pub name: &'static str,
    /// What it is good for, in a line.
    pub about: &'static str,
    /// The cargo feature that compiles it in; empty for one that always is.
    pub feature: &'static str,
    /// Whether it needs a recognizer on this host.
    pub needs_recognizer: bool,
    build: Option<Build>,
}

/// The engines that find wake phrases; those not compiled in are listed too.
pub const WAKE_ENGINES: &[WakeRow] = &[
    WakeRow {
        name: "transcript",
        about: "transcribes on this host and looks for the phrase in the text: any phrase, no training",
        feature: "",
        needs_recognizer: true,
        build: Some(|spec| Ok(Arc::new(InTranscript::new(spec)?))),
    },
    WakeRow {
        name: "fake",
        about: "for tests: takes the beginning of any speech for the first phrase",
        feature: "fake",
        needs_recognizer: false,
        #[cfg(feature = "fake")]
        build: Some(|spec| Ok(Arc::new(super::fake::AnySpeech::new(&spec.names)?))),
        #[cfg(not(feature = "fake"))]
        build: None,
    },
];

impl WakeRow {
    /// The row of that name, which is compiled in.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for an unknown engine (naming all), [`EngineError::Missing`] for one that is not compiled in.
    pub fn named(name: &str) -> Result<&'static Self, EngineError> {
        find(WAKES, name, WAKE_ENGINES.iter().filter(|row| row.build.is_some()).map(|row| (row.name, row)))
    }

    /// Builds the engine.
    ///
    /// # Errors
    /// It is not compiled in, or lacks what it needs.
    pub fn build(&self, spec: WakeSpec) -> Result<Arc<dyn WakeEngine>, EngineError> {
        let missing = || EngineError::Missing(format!("the {WAKES} engine {} is not compiled in", self.name));
        self.build.ok_or_else(missing)?(spec)
    }
}

/// Finds phrases in what a recognizer on this host makes of the speech.
struct InTranscript {
    phrases: WakePhrases,
    recognizer: Arc<dyn Recognizer>,
    options: TranscribeOptions,
}

impl InTranscript {
    fn new(spec: WakeSpec) -> Result<Self, EngineError> {
        let WakeSpec { phrases, names, recognizer } = spec;
        let recognizer = recognizer.ok_or_else(|| {
            EngineError::Missing("the wake engine transcript needs a recognizer on this host, and has none".to_owned())
        })?;
        // The recognizer spells a name as it is prompted: tiny.en hears 'Jarvis' in 27 of 30 recordings instead of 25,
        // 'computer' in 30 instead of 29, and none of them in other words or in noise.
        let prompt = (!names.is_empty()).then(|| names.join(", "));
        Ok(Self { phrases, recognizer, options: TranscribeOptions { language: None, prompt } })
    }

    /// Where the phrase ends, if a segment ends with it.
    fn end_ms(&self, heard: &Transcription, phrase: &str) -> Option<u64> {
        let mut text = String::new();
        heard.segments.iter().find_map(|segment| {
            text.push_str(&segment.text);
            text.push(' ');
            let found = self.phrases.find(&text)?;
            (found.phrase == phrase && found.rest.is_empty()).then_some(segment.end_ms)
        })
    }
}

impl WakeEngine for InTranscript {
    fn find(&self, speech: &[f32], cancel: &CancellationToken) -> Result<Option<WakeFound>, EngineError> {
        let heard = self.recognizer.transcribe(speech, &self.options, cancel)?;
        Ok(self.phrases.find(&heard.text).map(|found| {
            let end_ms = self.end_ms(&heard, &found.phrase);
            WakeFound { phrase: found.phrase, end_ms, rest: Some(found.rest) }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stream::{RecognizerStream, StreamOptions};
    use crate::engine::{TranscribedSegment, Transcription};

    /// Hears these segments, of a second each.
    struct Scripted(&'static [&'static str]);

    impl Recognizer for Scripted {
        fn model(&self) -> &str {
            "scripted"
        }

        fn languages(&self) -> Vec<String> {
            Vec::new()
        }

        fn open(&self, _: StreamOptions) -> Result<Box<dyn RecognizerStream>, EngineError> {
            Err(EngineError::Failed("not in this test".to_owned()))
        }

        fn transcribe(
            &self,
            _: &[f32],
            options: &TranscribeOptions,
            _: &CancellationToken,
        ) -> Result<Transcription, EngineError> {
            assert_eq!(options.prompt.as_deref(), Some("Computer"));
            let segments = self.0.iter().zip(0..).map(|(text, second)| TranscribedSegment {
                start_ms: second * 1_000,
                end_ms: second * 1_000 + 1_000,
                text: (*text).to_owned(),
            });
            Ok(Transcription { text: self.0.join(" "), language: None, segments: segments.collect() })
        }
    }

    fn spec(recognizer: Option<Arc<dyn Recognizer>>) -> WakeSpec {
        let phrases = WakePhrases::new([("Computer", Vec::<String>::new())]).unwrap();
        WakeSpec { phrases, names: vec!["Computer".to_owned()], recognizer }
    }

    fn found(segments: &'static [&'static str]) -> Option<WakeFound> {
        let engine = WakeRow::named("transcript").unwrap().build(spec(Some(Arc::new(Scripted(segments))))).unwrap();
        engine.find(&[0.1], &CancellationToken::new()).unwrap()
    }

    #[test]
    fn a_transcript_tells_the_phrase_what_follows_and_where_it_ends() {
        let computer =
            |end_ms, rest: &str| Some(WakeFound { phrase: "Computer".to_owned(), end_ms, rest: Some(rest.to_owned()) });
        assert_eq!(found(&["Computer."]), computer(Some(1_000), ""));
        assert_eq!(found(&["Hey", "computer.", "What time is it?"]), computer(Some(2_000), "What time is it?"));
        assert_eq!(found(&["Computer, go."]), computer(None, "go."));
        assert_eq!(found(&["Compute her taxes."]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn an_unknown_engine_names_those_there_are_and_none_works_without_what_it_needs() {
        let error = WakeRow::named("porcupine").err().unwrap().to_string();
        assert!(error.starts_with("there is no wake phrase engine \"porcupine\"; choose from "), "{error}");
        assert!(error.ends_with("transcript"), "{error}");
        let error = WakeRow::named("transcript").unwrap().build(spec(None)).err().unwrap();
        assert!(matches!(error, EngineError::Missing(_)), "{error}");
        let names: std::collections::BTreeSet<_> = WAKE_ENGINES.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), WAKE_ENGINES.len());
    }

    #[cfg(feature = "fake")]
    #[test]
    fn the_fake_engine_takes_any_speech_for_the_first_phrase() {
        let engine = WakeRow::named("fake").unwrap().build(spec(None)).unwrap();
        let find = |ms: usize| engine.find(&vec![0.1; ms * 16], &CancellationToken::new()).unwrap();
        assert_eq!(find(299), None);
        assert_eq!(find(2_000), Some(WakeFound { phrase: "Computer".to_owned(), end_ms: Some(300), rest: None }));
    }
}
