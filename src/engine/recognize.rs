//! Speech to text: what a recognizer is, and its streams of live speech.

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::error::EngineError;
use crate::audio::{Vad, usual_vad};

/// The sample rate of everything a [`Recognizer`] hears, in Hz.
pub const RECOGNIZER_RATE_HZ: u32 = 16_000;
/// How much of a clip is pushed at a time where it is recognized by a stream, in samples.
const BLOCK: usize = RECOGNIZER_RATE_HZ as usize;

/// Options of one transcription.
#[derive(Debug, Clone, Default)]
pub struct TranscribeOptions {
    /// BCP 47 primary language, such as `en`; `None` lets the model decide.
    pub language: Option<String>,
    /// Words that are likely to occur, such as names; steers spelling.
    pub prompt: Option<String>,
}

/// A stretch of a transcription.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscribedSegment {
    /// Start from the beginning of the clip, in ms.
    pub start_ms: u64,
    /// End from the beginning of the clip, in ms.
    pub end_ms: u64,
    /// What was said in it.
    pub text: String,
}

/// What was said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcription {
    /// The whole text, trimmed; empty when nothing was said.
    pub text: String,
    /// The language that was heard or asked for, if the model tells.
    pub language: Option<String>,
    /// The text in stretches.
    pub segments: Vec<TranscribedSegment>,
}

impl Transcription {
    /// Adds what was said after it, with times from the same beginning.
    pub fn add(&mut self, next: Self) {
        let Self { text, language, segments } = next;
        if !self.text.is_empty() && !text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(&text);
        self.segments.extend(segments);
        self.language = language.or(self.language.take());
    }

    /// Makes all times later by `ms`.
    pub fn shift(&mut self, ms: u64) {
        for segment in &mut self.segments {
            segment.start_ms += ms;
            segment.end_ms += ms;
        }
    }
}

/// Speech to text.
pub trait Recognizer: Send + Sync {
    /// The model's name, as in the catalogue.
    fn model(&self) -> &str;
    /// Languages it understands (BCP 47 primary tags); empty means any.
    fn languages(&self) -> Vec<String>;
    /// Opens a stream of live speech, for text before it has ended.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for options that can't be, else [`EngineError::Failed`].
    fn open(&self, options: StreamOptions) -> Result<Box<dyn RecognizerStream>, EngineError>;

    /// Transcribes `samples` (mono, [`RECOGNIZER_RATE_HZ`], −1…1) as a whole; by a stream, unless the engine has a better way.
    /// Blocks; looks at `cancel` while it works.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for no samples, [`EngineError::Cancelled`] when `cancel` fired, else [`EngineError::Failed`].
    fn transcribe(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        cancel: &CancellationToken,
    ) -> Result<Transcription, EngineError> {
        whole(self, samples, options, cancel)
    }
}

/// How to open a stream.
pub struct StreamOptions {
    /// The rate of the samples to come, in Hz.
    pub rate_hz: u32,
    /// Whether the running text is wanted before it is settled.
    pub partials: bool,
    /// What is asked of the recognizer.
    pub transcribe: TranscribeOptions,
    /// Where to cut, for an engine that does not find pauses itself.
    pub vad: Box<dyn Vad>,
}

/// What is heard in a stream. Times are from its beginning.
#[derive(Debug, Clone, PartialEq)]
pub enum Recognized {
    /// The running text: that of all audio that is not settled yet. It replaces the one before.
    Partial {
        /// Where it begins, in ms.
        start_ms: u64,
        /// The text so far.
        text: String,
    },
    /// Text that will not change any more; never empty.
    Final(Transcription),
}

/// What a stream has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// How long the audio was, in ms; known when it has ended.
    pub audio_ms: u64,
    /// How long the engine worked, the running text included.
    pub engine: Duration,
}

/// One stream of speech. Dropping it breaks off what the engine does for it.
#[async_trait]
pub trait RecognizerStream: Send {
    /// Whether more audio is taken. One that takes none does again after [`RecognizerStream::next`].
    fn is_ready(&self) -> bool;

    /// Takes more audio (mono, at the rate of the options, −1…1). Does not wait for the engine.
    fn push(&mut self, samples: &[f32]);

    /// No more audio comes.
    fn finish(&mut self);

    /// What is heard next; `None` when all was heard after [`RecognizerStream::finish`]. Until then it waits. Safe to drop and
    /// call again, in a runtime of tokio with timers.
    ///
    /// # Errors
    /// As [`Recognizer::transcribe`]; nothing comes after it.
    async fn next(&mut self) -> Option<Result<Recognized, EngineError>>;

    /// What it has come to so far.
    fn totals(&self) -> StreamTotals;
}

/// Recognizes a clip by a stream of `recognizer`: [`Recognizer::transcribe`], where an engine has nothing better.
fn whole<R: Recognizer + ?Sized>(
    recognizer: &R,
    samples: &[f32],
    options: &TranscribeOptions,
    cancel: &CancellationToken,
) -> Result<Transcription, EngineError> {
    if samples.is_empty() {
        return Err(EngineError::Invalid("there is no audio to transcribe: the clip is empty".into()));
    }
    let options =
        StreamOptions { rate_hz: RECOGNIZER_RATE_HZ, partials: false, transcribe: options.clone(), vad: usual_vad() };
    let mut stream = recognizer.open(options)?;
    let work = async {
        let (mut heard, mut left) = (Transcription::default(), samples);
        loop {
            while stream.is_ready() && !left.is_empty() {
                let (block, rest) = left.split_at(BLOCK.min(left.len()));
                stream.push(block);
                left = rest;
                if left.is_empty() {
                    stream.finish();
                }
            }
            match stream.next().await.transpose()? {
                Some(Recognized::Final(piece)) => heard.add(piece),
                Some(Recognized::Partial { .. }) => {}
                None => return Ok(heard),
            }
        }
    };
    futures::executor::block_on(async {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            heard = work => heard,
        }
    })
}
