//! `stt.stream`: what is said is transcribed while it is said.
//!
//! The audio is cut at the speaker's pauses as `sidetone transcribe` cuts a recording; what is not cut off yet is
//! transcribed again and again for the running text. One run of the engine at a time: the next for the running text
//! begins when the last has ended and a while has passed, and a run for text that is settled breaks one off. So it can't
//! fall behind but in what is settled; then audio is not taken any more, and whoever sends it waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Worker, segment};
use crate::audio::{PcmFormat, Piece, Pieces, build_vad, pcm_to_mono};
use crate::bus::ingest::{CHUNKS, Ingest, MAX_CHUNK_BYTES};
use crate::bus::message::SampleFormat;
use crate::bus::message::fault::Fault;
use crate::bus::message::stt::{Segment, Started, Stream, StreamDone, StreamEvent};
use crate::bus::service::Incoming;
use crate::bus::sink::Sink;
use crate::engine::{EngineError, Recognizer, TranscribeOptions, Transcription};
use crate::role::millis;

/// The running text is made anew at most so often …
const PARTIAL_EVERY: Duration = Duration::from_secs(1);
/// … and at most for this share of the time, so that a slow host has time left for others.
const PARTIAL_SHARE: u32 = 2;
/// Settled pieces that may wait for the engine; no more audio is taken when there are so many.
const PIECES: usize = 2;
/// How often the caller is looked for while nothing is sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) async fn listen(self, incoming: Incoming<Stream>) -> Result<StreamEvent, Fault> {
        let Incoming { request, replies, .. } = incoming;
        let options = self.options(request.model.as_deref(), request.language.as_deref(), request.prompt.clone())?;
        let vad = build_vad("earshot", &self.home.models()).map_err(|e| Fault::failed(e.to_string()))?;
        let pieces = Pieces::new(request.rate_hz, vad).map_err(|e| Fault::invalid(e.to_string()))?;
        if request.channels == 0 {
            return Err(Fault::invalid("channels is 0: say how many samples a frame has"));
        }
        let ingest = self.bus.ingest(self.stream_idle).await.map_err(|e| e.to_fault())?;
        let model = self.recognizer.model().to_owned();
        let started = Started {
            ingest: ingest.subject().to_owned(),
            credit: CHUNKS,
            max_bytes: MAX_CHUNK_BYTES,
            idle_ms: millis(self.stream_idle),
            node: self.bus.node().to_owned(),
            model: model.clone(),
        };
        replies.send(&StreamEvent::Started(started)).await?;
        let listener = Listener {
            format: match request.format {
                SampleFormat::S16le => PcmFormat::S16Le,
                SampleFormat::F32le => PcmFormat::F32Le,
            },
            channels: request.channels,
            partials: request.partials,
            recognizer: self.recognizer,
            options,
            replies,
            ingest,
            pieces: Some(pieces),
            settled: VecDeque::new(),
            run: None,
            partial_at: Instant::now() + PARTIAL_EVERY,
            partial_of_ms: 0,
            last_text: String::new(),
            audio_ms: 0,
            engine: Duration::ZERO,
        };
        let (audio_ms, engine_ms) = listener.run().await?;
        Ok(StreamEvent::Done(StreamDone { audio_ms, engine_ms, model }))
    }
}

/// One stream.
struct Listener {
    format: PcmFormat,
    channels: u16,
    partials: bool,
    recognizer: Arc<dyn Recognizer>,
    options: TranscribeOptions,
    replies: Sink<StreamEvent>,
    ingest: Ingest,
    /// `None` once the audio has ended.
    pieces: Option<Pieces>,
    settled: VecDeque<Piece>,
    run: Option<Run>,
    /// When the running text may be made anew, and how much audio there was the last time.
    partial_at: Instant,
    partial_of_ms: u64,
    last_text: String,
    audio_ms: u64,
    engine: Duration,
}

/// A run of the engine. Dropping it breaks it off.
struct Run {
    work: JoinHandle<Result<Transcription, EngineError>>,
    start_ms: u64,
    is_final: bool,
    begun: Instant,
    _cancel: DropGuard,
}

impl Listener {
    /// Listens to the end; gives how long the audio was, and how long the engine worked, in ms.
    async fn run(mut self) -> Result<(u64, u64), Fault> {
        let mut looks = tokio::time::interval_at((Instant::now() + LOOK_EVERY).into(), LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.begin();
            if self.pieces.is_none() && self.run.is_none() {
                return Ok((self.audio_ms, millis(self.engine)));
            }
            let takes = self.pieces.is_some() && self.settled.len() < PIECES;
            let idle = self.run.is_none();
            tokio::select! {
                biased;
                heard = ended(&mut self.run) => self.heard(heard).await?,
                chunk = self.ingest.next(), if takes => match chunk {
                    Some(chunk) => self.take(&chunk?)?,
                    None => self.end(),
                },
                _ = looks.tick() => self.replies.look().await,
                () = tokio::time::sleep_until(self.partial_at.into()), if idle && self.has_news() => {}
            }
        }
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
        let work = tokio::task::spawn_blocking(move || recognizer.transcribe(&piece.samples, &options, &stop));
        self.run = Some(Run { work, start_ms, is_final, begun: Instant::now(), _cancel: cancel.drop_guard() });
    }

    /// Takes a chunk of audio.
    fn take(&mut self, chunk: &[u8]) -> Result<(), Fault> {
        let samples = pcm_to_mono(chunk, self.format, self.channels).map_err(|e| Fault::invalid(e.to_string()))?;
        if let Some(pieces) = &mut self.pieces {
            self.settled.extend(pieces.push(&samples));
        }
        Ok(())
    }

    /// The audio has ended.
    fn end(&mut self) {
        if let Some(pieces) = self.pieces.take() {
            let (last, audio_ms) = pieces.finish();
            self.settled.extend(last);
            self.audio_ms = audio_ms;
        }
        // What the running text would say is settled now.
        self.run.take_if(|run| !run.is_final);
    }

    /// The engine has heard something.
    async fn heard(&mut self, heard: Heard) -> Result<(), Fault> {
        let Heard { result, start_ms, is_final, took } = heard;
        self.engine += took;
        let Transcription { text, language, segments } = result?;
        if is_final {
            self.last_text.clear();
            if text.is_empty() {
                return Ok(());
            }
            let segments: Vec<Segment> = segments.into_iter().map(|heard| segment(heard, start_ms)).collect();
            return self.replies.send(&StreamEvent::Final { text, language, segments }).await;
        }
        self.partial_at = self.partial_at.max(Instant::now() + took * (PARTIAL_SHARE - 1));
        if text == self.last_text {
            return Ok(());
        }
        self.last_text.clone_from(&text);
        self.replies.send(&StreamEvent::Partial { start_ms, text }).await
    }
}

/// What the engine has heard.
struct Heard {
    result: Result<Transcription, EngineError>,
    start_ms: u64,
    is_final: bool,
    took: Duration,
}

/// Waits for the end of a run and takes it out; for ever if there is none.
async fn ended(run: &mut Option<Run>) -> Heard {
    let Some(running) = run else { return std::future::pending().await };
    let result = (&mut running.work).await;
    let result = result.unwrap_or_else(|error| Err(EngineError::Failed(format!("the engine broke: {error}"))));
    let heard = Heard { result, start_ms: running.start_ms, is_final: running.is_final, took: running.begun.elapsed() };
    *run = None;
    heard
}
