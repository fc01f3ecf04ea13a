//! Engines for tests: they answer from a script, fail or dawdle on demand.
//!
//! The model's or voice's name is the script:
//!
//! | name | recognizer | synthesizer | chat model |
//! | --- | --- | --- | --- |
//! | `echo` | says how long the clip is | a tone of 60 ms a character | repeats the last message, word by word |
//! | `say:TEXT` | hears TEXT | speaks TEXT instead | answers TEXT |
//! | `slow:MS` | as `echo`, after MS | as `echo`, MS before each chunk | as `echo`, MS before each word |
//! | `fail` | fails | fails after its first chunk | fails |
//! | `down` | is not available | is not available | is not available |
//! | `cut` | fails | fails after its first chunk | fails after its first word |
//! | `hang` | waits until it is cancelled | as `fail` | says nothing until it is dropped |
//! | `nonsense` | hears odd characters | as `echo` | answers odd characters |
//! | `all` | as `echo` | as `echo` | repeats all that the person has said in the conversation |
//! | `short:MS` | as `echo`, but fails at a longer clip | as `echo` | as `echo` |
//! | `context:BYTES` | as `echo` | as `echo` | as `echo`, but refuses a conversation of more bytes |

use std::future::ready;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt};
use tokio_util::sync::CancellationToken;

use super::stream::{ClipRecognizer, RecognizerStream, StreamOptions, Windows};
use super::wake::{WakeEngine, WakeFound};
use super::{
    ChatDelta, ChatEnd, ChatMessage, ChatModel, ChatRequest, ChatRole, ChatRow, ChatStream, EngineError, Needs,
    RECOGNIZER_RATE_HZ, Reach, Recognizer, RecognizerRow, SpeakOptions, Synthesizer, SynthesizerRow, TranscribeOptions,
    TranscribedSegment, Transcription,
};

const RATE_HZ: u32 = 22_050;
const TONE_HZ: f32 = 440.0;
const MS_PER_CHARACTER: usize = 60;
const CHUNK_MS: usize = 100;
const CANCEL_POLL: Duration = Duration::from_millis(2);
const NONSENSE: &str = "\u{fffd}\u{0}}{\"]<";

const ABOUT: &str = "answers from a script, for tests";

inventory::submit! {
    RecognizerRow {
        name: "fake",
        about: ABOUT,
        needs: Needs::NOTHING,
        build: |spec, _| ready(Fake::new(&spec.model).map(|fake| Arc::new(fake) as Arc<dyn Recognizer>)).boxed(),
        check: None,
    }
}

inventory::submit! {
    SynthesizerRow {
        name: "fake",
        about: ABOUT,
        needs: Needs::NOTHING,
        build: |spec, _| ready(Fake::new(&spec.voice).map(|fake| Arc::new(fake) as Arc<dyn Synthesizer>)).boxed(),
        check: None,
    }
}

inventory::submit! {
    ChatRow {
        name: "fake",
        about: ABOUT,
        needs: Needs::NOTHING,
        build: |spec, _| {
            let fake = Fake::new(spec.model.as_deref().unwrap_or("echo"));
            ready(fake.map(|fake| Arc::new(fake.at(spec.url.as_deref())) as Arc<dyn ChatModel>)).boxed()
        },
        check: None,
    }
}

/// A scripted engine of every kind.
#[derive(Debug, Clone)]
pub struct Fake {
    name: String,
    script: Script,
    reach: Reach,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Script {
    Echo,
    Say(String),
    Slow(Duration),
    Fail,
    Down,
    Cut,
    Hang,
    Nonsense,
    All,
    Context(usize),
    Short(u64),
}

impl Fake {
    /// Reads the script from `name`.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for a name that is no script.
    pub fn new(name: &str) -> Result<Self, EngineError> {
        let script = match name.split_once(':') {
            Some(("say", text)) => Script::Say(text.to_owned()),
            Some(("slow", ms)) if ms.parse::<u32>().is_ok() => {
                Script::Slow(Duration::from_millis(ms.parse().unwrap_or_default()))
            }
            Some(("short", ms)) if ms.parse::<u64>().is_ok() => Script::Short(ms.parse().unwrap_or_default()),
            Some(("context", bytes)) if bytes.parse::<usize>().is_ok() => {
                Script::Context(bytes.parse().unwrap_or_default())
            }
            _ => match name {
                "echo" => Script::Echo,
                "fail" => Script::Fail,
                "down" => Script::Down,
                "cut" => Script::Cut,
                "hang" => Script::Hang,
                "nonsense" => Script::Nonsense,
                "all" => Script::All,
                _ => return Err(EngineError::Invalid(format!("{name:?} is no script of the fake engine"))),
            },
        };
        Ok(Self { name: name.to_owned(), script, reach: Reach::Host })
    }

    /// The same as a chat model whose provider is at `url`, which it does not ask.
    #[must_use]
    pub fn at(self, url: Option<&str>) -> Self {
        Self { reach: Reach::of_address(url.unwrap_or_default()), ..self }
    }

    fn delay(&self) -> Duration {
        if let Script::Slow(delay) = self.script { delay } else { Duration::ZERO }
    }
}

fn failed() -> EngineError {
    EngineError::Failed("the fake engine fails, as its script says".into())
}

fn down() -> EngineError {
    EngineError::Unavailable("the fake engine is down, as its script says".into())
}

impl Recognizer for Fake {
    fn model(&self) -> &str {
        &self.name
    }

    fn languages(&self) -> Vec<String> {
        vec!["en".into()]
    }

    fn open(&self, options: StreamOptions) -> Result<Box<dyn RecognizerStream>, EngineError> {
        Windows::open(Arc::new(self.clone()), options)
    }

    fn transcribe(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        cancel: &CancellationToken,
    ) -> Result<Transcription, EngineError> {
        self.recognize(samples, options, cancel)
    }
}

impl ClipRecognizer for Fake {
    fn recognize(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        cancel: &CancellationToken,
    ) -> Result<Transcription, EngineError> {
        if samples.is_empty() {
            return Err(EngineError::Invalid("there is no audio to transcribe: the clip is empty".into()));
        }
        let length_ms = samples.len() as u64 * 1000 / u64::from(RECOGNIZER_RATE_HZ);
        let mut left = if self.script == Script::Hang { Duration::MAX } else { self.delay() };
        while !cancel.is_cancelled() && !left.is_zero() {
            std::thread::sleep(left.min(CANCEL_POLL));
            left = left.saturating_sub(CANCEL_POLL);
        }
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let text = match &self.script {
            Script::Fail | Script::Cut => return Err(failed()),
            Script::Short(most_ms) if length_ms > *most_ms => return Err(failed()),
            Script::Down => return Err(down()),
            Script::Say(text) => text.clone(),
            Script::Nonsense => NONSENSE.to_owned(),
            _ => format!("{length_ms} milliseconds"),
        };
        let segments = vec![TranscribedSegment { start_ms: 0, end_ms: length_ms, text: text.clone() }];
        Ok(Transcription { text, language: Some(options.language.clone().unwrap_or("en".into())), segments })
    }
}

/// A wake engine that recognizes no words: it takes the beginning of any speech for the first phrase.
pub struct AnySpeech {
    phrase: String,
}

impl AnySpeech {
    /// The least speech, and the end of the phrase in it.
    const PHRASE_MS: u64 = 300;

    /// One that finds the first of `names`.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when there is none.
    pub fn new(names: &[String]) -> Result<Self, EngineError> {
        let phrase = names.first().cloned();
        phrase.map(|phrase| Self { phrase }).ok_or_else(|| EngineError::Invalid("there is no wake phrase".to_owned()))
    }
}

impl WakeEngine for AnySpeech {
    fn find(&self, speech: &[f32], _: &CancellationToken) -> Result<Option<WakeFound>, EngineError> {
        let long = speech.len() as u64 * 1_000 >= Self::PHRASE_MS * u64::from(RECOGNIZER_RATE_HZ);
        let found = || WakeFound { phrase: self.phrase.clone(), end_ms: Some(Self::PHRASE_MS), rest: None };
        Ok(long.then(found))
    }
}

impl Synthesizer for Fake {
    fn voice(&self) -> &str {
        &self.name
    }

    fn language(&self) -> &str {
        "en-US"
    }

    fn rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn speak(
        &self,
        text: &str,
        options: &SpeakOptions,
        chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        if self.script == Script::Down {
            return Err(down());
        }
        let text = if let Script::Say(text) = &self.script { text } else { text };
        let characters = text.chars().filter(|c| c.is_alphanumeric()).count();
        let samples_per_ms = RATE_HZ as usize / 1000;
        let total = (characters * MS_PER_CHARACTER * samples_per_ms) as f32 / options.speed.clamp(0.5, 2.0);
        let step = std::f32::consts::TAU * TONE_HZ / RATE_HZ as f32;
        let tone: Vec<f32> = (0..total as u32).map(|at| 0.3 * (at as f32 * step).sin()).collect();
        for samples in tone.chunks(CHUNK_MS * samples_per_ms) {
            std::thread::sleep(self.delay());
            if chunk(samples).is_break() {
                return Err(EngineError::Cancelled);
            }
            if matches!(self.script, Script::Fail | Script::Cut | Script::Hang) {
                return Err(failed());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ChatModel for Fake {
    fn provider(&self) -> &str {
        "fake"
    }

    fn default_model(&self) -> &str {
        &self.name
    }

    fn reach(&self) -> Reach {
        self.reach
    }

    async fn models(&self) -> Result<Vec<String>, EngineError> {
        if self.script == Script::Down { Err(down()) } else { Ok(vec![self.name.clone()]) }
    }

    async fn warm(&self) -> Result<(), EngineError> {
        self.models().await.map(drop)
    }

    async fn chat(&self, request: ChatRequest) -> Result<ChatStream, EngineError> {
        if let Some(model) = request.model.filter(|model| *model != self.name) {
            return Err(EngineError::Missing(format!("there is no model {model:?}; offered: {}", self.name)));
        }
        let said = |message: &&ChatMessage| message.role == ChatRole::User;
        let asked = request.messages.iter().rev().find(said);
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let text = match &self.script {
            Script::Fail => return Err(failed()),
            Script::Down => return Err(down()),
            Script::Say(text) => text.clone(),
            Script::Nonsense => NONSENSE.to_owned(),
            Script::Context(most) if bytes > *most => {
                return Err(EngineError::TooLarge(format!("the fake model holds {most} bytes, and was given {bytes}")));
            }
            Script::All => {
                let all: Vec<_> =
                    request.messages.iter().filter(said).map(|message| message.content.as_str()).collect();
                all.join(" ")
            }
            _ => asked.map(|message| message.content.clone()).unwrap_or_default(),
        };
        // As a model does that is shown the beginning of its answer: it goes on from there.
        let begun = request.messages.last().filter(|last| last.role == ChatRole::Assistant);
        let text = begun.and_then(|begun| text.strip_prefix(&begun.content)).map_or(text.clone(), str::to_owned);
        if text.is_empty() && begun.is_none() {
            return Err(EngineError::Failed("the fake model has nothing to answer".into()));
        }
        let mut pieces: Vec<_> = text.split_inclusive(' ').map(|word| Ok(ChatDelta::Text(word.to_owned()))).collect();
        let count = |words: usize| Some(u32::try_from(words).unwrap_or(u32::MAX));
        let end = ChatEnd {
            model: self.name.clone(),
            finish: "stop".into(),
            prompt_tokens: count(request.messages.len()),
            cached_tokens: None,
            completion_tokens: count(pieces.len()),
        };
        if self.script == Script::Cut {
            pieces.truncate(1);
            pieces.push(Err(failed()));
        } else {
            pieces.push(Ok(ChatDelta::Done(end)));
        }
        let delay = self.delay();
        let pieces = futures::stream::iter(pieces).then(move |piece| async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            piece
        });
        Ok(if self.script == Script::Hang { futures::stream::pending().boxed() } else { pieces.boxed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ChatMessage;

    #[tokio::test]
    async fn it_follows_its_script() {
        let ask = |name: &str| {
            let fake = Fake::new(name).unwrap();
            let messages = vec![ChatMessage { role: ChatRole::User, content: "one two".into() }];
            async move {
                let pieces = fake.chat(ChatRequest { messages, ..ChatRequest::default() }).await?;
                Ok::<_, EngineError>(pieces.map(|piece| piece.is_ok()).collect::<Vec<_>>().await)
            }
        };
        assert_eq!(ask("echo").await.unwrap(), [true, true, true]);
        assert_eq!(ask("say:hello").await.unwrap(), [true, true]);
        assert_eq!(ask("cut").await.unwrap(), [true, false]);
        assert!(matches!(ask("down").await, Err(EngineError::Unavailable(_))));
        assert!(Fake::new("whatever").is_err());
    }

    #[test]
    fn a_tone_is_as_long_as_its_text() {
        let mut length = 0;
        let mut count = |samples: &[f32]| {
            length += samples.len();
            ControlFlow::Continue(())
        };
        Fake::new("echo").unwrap().speak("ten letters!", &SpeakOptions::default(), &mut count).unwrap();
        assert_eq!(length, 10 * 60 * 22);
    }

    #[test]
    fn waiting_ends_when_cancelled() {
        let cancel = CancellationToken::new();
        let fake = Fake::new("hang").unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| fake.transcribe(&[0.0], &TranscribeOptions::default(), &cancel));
            cancel.cancel();
            assert!(matches!(waiting.join().unwrap(), Err(EngineError::Cancelled)));
        });
    }
}
