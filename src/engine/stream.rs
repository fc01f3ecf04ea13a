//! Recognition of live speech: samples in, the running text and what is settled of it out.
//!
//! An engine that hears as it goes implements [`RecognizerStream`]. One that hears a clip at a time is a [`ClipRecognizer`],
//! of which [`Windows`] makes a stream: the audio is cut at the speaker's pauses, and what is not cut off yet is transcribed
//! again and again for the running text. One run of the engine at a time: the next for the running text begins when the
//! last has ended and a while has passed, and a run for text that is settled breaks one off. So it can't fall behind but in
//! what is settled; then it takes no more audio.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::EngineError;
pub use super::recognize::{Recognized, RecognizerStream, StreamOptions, StreamTotals};
use super::recognize::{TranscribeOptions, Transcription};
use crate::audio::{Piece, Pieces};

/// The running text is made again at most so often …
const PARTIAL_EVERY: Duration = Duration::from_secs(1);
/// … and at most for this share of the time, so that a slow host has time left for others.
const PARTIAL_SHARE: u32 = 2;
/// Settled pieces that may wait for the engine; no more audio is taken when there are so many.
const PIECES: usize = 2;

/// What hears one clip at a time.
pub trait ClipRecognizer: Send + Sync + 'static {
    /// Transcribes `samples` (mono, [`RECOGNIZER_RATE_HZ`](super::RECOGNIZER_RATE_HZ), −1…1). Blocks; looks at `cancel` while it works.
    ///
    /// # Errors
    /// As [`Recognizer::transcribe`](super::Recognizer::transcribe).
    fn recognize(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        cancel: &CancellationToken,
    ) -> Result<Transcription, EngineError>;
}

/// A stream by growing windows of what hears one clip at a time. Needs a runtime of tokio.
pub struct Windows {
    recognizer: Arc<dyn ClipRecognizer>,
    options: TranscribeOptions,
    partials: bool,
    /// `None` once the audio has ended.
    pieces: Option<Pieces>,
    settled: VecDeque<Piece>,
    run: Option<Run>,
    /// When the running text may be made again, and how much audio there was the last time.
    partial_at: Instant,
    partial_of_ms: u64,
    last_text: String,
    totals: StreamTotals,
}

/// A run of the engine. Dropping it breaks it off.
struct Run {
    work: JoinHandle<Result<Transcription, EngineError>>,
    start_ms: u64,
    is_final: bool,
    begun: Instant,
    _cancel: DropGuard,
}

/// How a run has ended.
struct Ended {
    result: Result<Transcription, EngineError>,
    start_ms: u64,
    is_final: bool,
    took: Duration,
}

impl Windows {
    /// Opens a stream.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for a rate that can't be.
    pub fn open(
        recognizer: Arc<dyn ClipRecognizer>,
        options: StreamOptions,
    ) -> Result<Box<dyn RecognizerStream>, EngineError> {
        let StreamOptions { rate_hz, partials, transcribe, vad } = options;
        let pieces = Pieces::new(rate_hz, vad).map_err(|error| EngineError::Invalid(error.to_string()))?;
        Ok(Box::new(Self {
            recognizer,
            options: transcribe,
            partials,
            pieces: Some(pieces),
            settled: VecDeque::new(),
            run: None,
            partial_at: Instant::now() + PARTIAL_EVERY,
            partial_of_ms: 0,
            last_text: String::new(),
            totals: StreamTotals::default(),
        }))
    }

    /// Begins a run of the engine, if there is something to do and it is free or can be freed.
    fn begin(&mut self) {
        if !self.settled.is_empty() {
            self.run.take_if(|run| !run.is_final);
        }
        if self.run.is_some() {
            return;
        }
        if let Some(piece) = self.settled.pop_front() {
            self.start(piece, true);
        } else if self.has_news() && Instant::now() >= self.partial_at {
            let running = self.pieces.as_ref().and_then(Pieces::running);
            self.partial_of_ms = self.position_ms();
            self.partial_at = Instant::now() + PARTIAL_EVERY;
            if let Some(running) = running {
                self.start(running, false);
            }
        }
    }

    /// Whether there is audio of which no running text was made.
    fn has_news(&self) -> bool {
        self.partials && self.position_ms() > self.partial_of_ms
    }

    fn position_ms(&self) -> u64 {
        self.pieces.as_ref().map_or(0, Pieces::position_ms)
    }

    fn start(&mut self, piece: Piece, is_final: bool) {
        let cancel = CancellationToken::new();
        let (recognizer, options, stop) = (Arc::clone(&self.recognizer), self.options.clone(), cancel.clone());
        let start_ms = piece.start_ms();
        let work = tokio::task::spawn_blocking(move || recognizer.recognize(&piece.samples, &options, &stop));
        self.run = Some(Run { work, start_ms, is_final, begun: Instant::now(), _cancel: cancel.drop_guard() });
    }

    /// What there is to say of what the engine has heard.
    fn heard(&mut self, ended: Ended) -> Result<Option<Recognized>, EngineError> {
        let Ended { result, start_ms, is_final, took } = ended;
        self.totals.engine += took;
        let mut heard = result?;
        if is_final {
            self.last_text.clear();
            heard.shift(start_ms);
            return Ok((!heard.text.is_empty()).then_some(Recognized::Final(heard)));
        }
        self.partial_at = self.partial_at.max(Instant::now() + took * (PARTIAL_SHARE - 1));
        if heard.text == self.last_text {
            return Ok(None);
        }
        self.last_text.clone_from(&heard.text);
        Ok(Some(Recognized::Partial { start_ms, text: heard.text }))
    }
}

#[async_trait]
impl RecognizerStream for Windows {
    fn is_ready(&self) -> bool {
        self.pieces.is_some() && self.settled.len() < PIECES
    }

    fn push(&mut self, samples: &[f32]) {
        if let Some(pieces) = &mut self.pieces {
            self.settled.extend(pieces.push(samples));
        }
    }

    fn finish(&mut self) {
        if let Some(pieces) = self.pieces.take() {
            let (last, audio_ms) = pieces.finish();
            self.settled.extend(last);
            self.totals.audio_ms = audio_ms;
        }
        // What the running text would say is settled now.
        self.run.take_if(|run| !run.is_final);
    }

    async fn next(&mut self) -> Option<Result<Recognized, EngineError>> {
        loop {
            self.begin();
            if self.pieces.is_none() && self.run.is_none() {
                return None;
            }
            let is_idle = self.run.is_none();
            tokio::select! {
                biased;
                ended = ended(&mut self.run) => {
                    if let Some(heard) = self.heard(ended).transpose() {
                        return Some(heard);
                    }
                }
                () = tokio::time::sleep_until(self.partial_at.into()), if is_idle && self.has_news() => {}
            }
        }
    }

    fn totals(&self) -> StreamTotals {
        self.totals
    }
}

/// Waits for the end of a run and takes it out; for ever if there is none.
async fn ended(run: &mut Option<Run>) -> Ended {
    let Some(running) = run else { return std::future::pending().await };
    let result = (&mut running.work).await;
    let result = result.unwrap_or_else(|error| Err(EngineError::Failed(format!("the engine broke: {error}"))));
    let ended = Ended { result, start_ms: running.start_ms, is_final: running.is_final, took: running.begun.elapsed() };
    *run = None;
    ended
}

#[cfg(test)]
mod tests;
