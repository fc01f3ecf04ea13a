//! Where a listener's sound comes from, and where what it says goes.
//!
//! | source | is heard | plays |
//! | --- | --- | --- |
//! | [`Source::jack`] | `voice_in` of a JACK client | by `voice_out` of the same |
//! | [`Source::file`] | an audio file, as it was recorded or as fast as it is read; after its end, silence | by JACK, or nothing |
//! | [`Source::stream`] | chunks of samples that arrive, from whatever connection | chunks of as many samples |
//!
//! All give the same: the events of a sound card that comes and goes, each time with fresh rings. Where there is no card, a
//! [`Card`] takes its place: it calls [`RtSide::process`] for the time that has passed, so playback, flushes, and the
//! reference beside the microphone are as with JACK.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clip::{ClipError, ClipReader};
use super::jack::JackSettings;
use super::jack::alive::Stop;
use super::resample::{ResampleError, Resampler};
use super::ring::{Capture, RtSide, voice_rings};
use super::supervisor::{AudioEvent, JackStatus, JackSupervisor};

/// The period of a card without hardware, in ms.
const PERIOD_MS: u32 = 10;
/// A stream that is behind by more than this is silent: time goes on without it.
const LATE_MAX: Duration = Duration::from_millis(200);
/// A card that was kept from its work for longer begins again from now.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Events that wait for the listener.
const EVENTS: usize = 16;

/// What a listener's setting `source` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// JACK, by the listener's own client.
    Jack,
    /// An audio file.
    File(PathBuf),
}

impl FromStr for SourceKind {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text.split_once(':') {
            None if text == "jack" => Ok(Self::Jack),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(SourceError::Unknown(text.to_owned())),
        }
    }
}

/// How fast a file is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As it was recorded.
    Recorded,
    /// As fast as its samples are taken.
    Fast,
}

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No such kind.
    #[error("there is no source {0:?}; there are: \"jack\", and \"file:PATH\" for a recording")]
    Unknown(String),
    /// The file.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// A rate.
    #[error(transparent)]
    Rate(#[from] ResampleError),
    /// The system has no thread to give.
    #[error("no thread for a source of sound: {0}; end other programs, or raise the limit of processes")]
    Thread(std::io::Error),
}

/// What gives a listener its sound. Dropping it ends its threads and clients, within 5 s.
pub struct Source {
    events: Receiver<AudioEvent>,
    status: Arc<JackStatus>,
    _keep: Keep,
}

/// What must live as long as a source.
enum Keep {
    Jack { _supervisor: JackSupervisor },
    Card { _thread: CardThread },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Source {
    /// A client of JACK, which need not be there yet.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn jack(settings: JackSettings) -> Result<Self, SourceError> {
        let (supervisor, events) = JackSupervisor::start(settings).map_err(SourceError::Thread)?;
        Ok(Self { events, status: supervisor.status(), _keep: Keep::Jack { _supervisor: supervisor } })
    }

    /// A recording. `settings` says how long the rings are, and how the client appears that plays; with `plays`, without
    /// which nothing does.
    ///
    /// # Errors
    /// The file can't be read as audio, or the system has no thread to give.
    pub fn file(path: &Path, pace: Pace, settings: JackSettings, plays: bool) -> Result<Self, SourceError> {
        let reader = ClipReader::open(path)?;
        let recording = Recording {
            resampler: Resampler::new(reader.rate_hz(), reader.rate_hz())?,
            reader,
            ready: Vec::new(),
            has_ended: false,
        };
        let rings = Rings::of(&settings);
        let (sink, status) = if plays {
            let (supervisor, events) = JackSupervisor::start(settings).map_err(SourceError::Thread)?;
            let status = supervisor.status();
            (Sink::Jack { _supervisor: supervisor, events, capture: None }, status)
        } else {
            (Sink::Nothing { is_up: false }, Arc::default())
        };
        Self::on_thread(status, move |out, stop| FileCard { recording, pace, rings, sink, card: None, out }.run(stop))
    }

    /// Mono samples of `rate_hz` that arrive by `chunks`, a bounded channel whose sender waits when it is ahead. For each
    /// stretch that was heard, one of the same length that is to be played goes to `played`, unless that is full. The source is
    /// down when the sender has gone.
    ///
    /// # Errors
    /// A rate that can't be, or the system has no thread to give.
    pub fn stream(
        rate_hz: u32,
        chunks: Receiver<Vec<f32>>,
        played: SyncSender<Vec<f32>>,
        settings: &JackSettings,
    ) -> Result<Self, SourceError> {
        Resampler::new(rate_hz, rate_hz)?;
        let rings = Rings::of(settings);
        Self::on_thread(Arc::default(), move |out, stop| stream(rate_hz, &chunks, &played, rings, &out, stop))
    }

    fn on_thread(
        status: Arc<JackStatus>,
        work: impl FnOnce(SyncSender<AudioEvent>, &Stop) + Send + 'static,
    ) -> Result<Self, SourceError> {
        let (out, events) = mpsc::sync_channel(EVENTS);
        let stop = Stop::default();
        let stopped = stop.clone();
        let handle = std::thread::Builder::new()
            .name("sound-card".to_owned())
            .spawn(move || work(out, &stopped))
            .map_err(SourceError::Thread)?;
        Ok(Self { events, status, _keep: Keep::Card { _thread: CardThread { stop, handle: Some(handle) } } })
    }

    /// What has happened, if anything has. Does not wait.
    ///
    /// # Errors
    /// See [`TryRecvError`]; a source that has gone gives no more events.
    pub fn event(&self) -> Result<AudioEvent, TryRecvError> {
        self.events.try_recv()
    }

    /// How its client of JACK is doing; as one that was never up, if it has none.
    #[must_use]
    pub fn status(&self) -> Arc<JackStatus> {
        Arc::clone(&self.status)
    }
}

/// Ends its thread when it is dropped.
struct CardThread {
    stop: Stop,
    handle: Option<JoinHandle<()>>,
}

impl Drop for CardThread {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            // It panics in no case that is known; then there is nothing to wait for either.
            let _ = handle.join();
        }
    }
}

/// How long rings are, in ms.
#[derive(Debug, Clone, Copy)]
struct Rings {
    capture_ms: u32,
    playback_ms: u32,
}

impl Rings {
    const fn of(settings: &JackSettings) -> Self {
        Self { capture_ms: settings.capture_ms, playback_ms: settings.playback_ms }
    }
}

/// A sound card without hardware, that runs by the clock.
struct Card {
    rt: RtSide,
    rate_hz: u32,
    begun: Instant,
    /// Frames since then.
    frames: u64,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Card {
    /// One whose time begins now, and the rings to it.
    fn open(rate_hz: u32, rings: Rings) -> (Self, Capture, super::ring::Playback) {
        let frames = |ms: u32| (u64::from(rate_hz) * u64::from(ms) / 1_000) as usize;
        let least = 2 * frames(PERIOD_MS);
        let (rt, capture, playback) =
            voice_rings(frames(rings.capture_ms).max(least), frames(rings.playback_ms).max(least), rate_hz);
        let (input, output) = (Vec::new(), Vec::new());
        (Self { rt, rate_hz, begun: Instant::now(), frames: 0, input, output }, capture, playback)
    }

    /// Frames of a period.
    const fn period(&self) -> usize {
        (self.rate_hz * PERIOD_MS / 1_000) as usize
    }

    /// How far the clock is ahead of what was heard.
    fn behind(&mut self) -> Duration {
        let rate_hz = u64::from(self.rate_hz);
        let part = Duration::from_nanos(self.frames % rate_hz * 1_000_000_000 / rate_hz);
        let done = Duration::from_secs(self.frames / rate_hz) + part;
        let behind = self.begun.elapsed().saturating_sub(done);
        if behind <= BEHIND_MAX {
            return behind;
        }
        self.restart();
        Duration::ZERO
    }

    /// Lets its time begin now.
    fn restart(&mut self) {
        (self.begun, self.frames) = (Instant::now(), 0);
    }

    /// Lets so many frames pass; `fill` gives what is heard, over silence. Gives what is played.
    fn pass(&mut self, frames: usize, fill: impl FnOnce(&mut [f32])) -> &[f32] {
        self.input.clear();
        self.input.resize(frames, 0.0);
        self.output.resize(frames, 0.0);
        fill(&mut self.input);
        self.rt.process(&self.input, &mut self.output);
        self.frames += frames as u64;
        &self.output
    }
}

/// A file that is read.
struct Recording {
    reader: ClipReader,
    resampler: Resampler,
    /// Samples at the card's rate that were not heard yet.
    ready: Vec<f32>,
    has_ended: bool,
}

impl Recording {
    /// From here on at the rate of another card.
    fn at_rate(&mut self, rate_hz: u32) -> Result<(), ResampleError> {
        self.resampler = Resampler::new(self.reader.rate_hz(), rate_hz)?;
        Ok(())
    }

    /// Fills as much as there is; the rest stays as it is.
    fn fill(&mut self, input: &mut [f32]) {
        while self.ready.len() < input.len() && !self.has_ended {
            match self.reader.next() {
                Some(Ok(block)) => self.resampler.push(&block, &mut self.ready),
                ended => {
                    if let Some(Err(error)) = ended {
                        tracing::warn!(%error, "the recording is heard no further");
                    }
                    self.resampler.finish(&mut self.ready);
                    self.has_ended = true;
                }
            }
        }
        let frames = self.ready.len().min(input.len());
        input.iter_mut().zip(self.ready.drain(..frames)).for_each(|(to, sample)| *to = sample);
    }

    fn is_over(&self) -> bool {
        self.has_ended && self.ready.is_empty()
    }
}

/// What plays beside a recording.
enum Sink {
    Nothing { is_up: bool },
    Jack { _supervisor: JackSupervisor, events: Receiver<AudioEvent>, capture: Option<Capture> },
}

/// A card that hears a recording.
struct FileCard {
    recording: Recording,
    pace: Pace,
    rings: Rings,
    sink: Sink,
    /// `None` while JACK is to play and is away: the recording waits.
    card: Option<Card>,
    out: SyncSender<AudioEvent>,
}

impl FileCard {
    fn run(mut self, stop: &Stop) {
        let period = Duration::from_millis(PERIOD_MS.into());
        let mut unheard = Vec::new();
        while !stop.is_set() && self.follow_sink() {
            if let Sink::Jack { capture: Some(capture), .. } = &mut self.sink {
                unheard.clear();
                capture.read_into(&mut unheard);
            }
            if let Some(card) = &mut self.card {
                let frames = card.period();
                while self.pace == Pace::Fast && !self.recording.is_over() && card.rt.capture_room() >= frames {
                    card.pass(frames, |input| self.recording.fill(input));
                    card.restart();
                }
                while card.behind() >= period {
                    card.pass(frames, |input| self.recording.fill(input));
                }
            }
            stop.wait(period / 2);
        }
    }

    /// Takes note of what plays, and passes it on; `false` when the listener has gone.
    fn follow_sink(&mut self) -> bool {
        loop {
            let event = match &mut self.sink {
                Sink::Nothing { is_up: true } => return true,
                Sink::Nothing { is_up } => {
                    *is_up = true;
                    let rate_hz = self.recording.reader.rate_hz();
                    let (card, capture, playback) = Card::open(rate_hz, self.rings);
                    let buffer_frames = card.period() as u32;
                    self.card = Some(card);
                    AudioEvent::Up { rate_hz, buffer_frames, capture, playback }
                }
                Sink::Jack { events, capture: unheard, .. } => match events.try_recv() {
                    Ok(AudioEvent::Up { rate_hz, buffer_frames, capture, playback }) => {
                        *unheard = Some(capture);
                        let (card, capture, _) = Card::open(rate_hz, self.rings);
                        self.card = Some(card);
                        if let Err(error) = self.recording.at_rate(rate_hz) {
                            tracing::error!(%error, rate_hz, "the recording can't be heard at JACK's rate");
                        }
                        AudioEvent::Up { rate_hz, buffer_frames, capture, playback }
                    }
                    Ok(AudioEvent::Changed { rate_hz, buffer_frames }) => {
                        // The listener takes what it hears for samples of this rate from now on.
                        if let Some(card) = self.card.as_mut().filter(|card| card.rate_hz != rate_hz) {
                            match self.recording.at_rate(rate_hz) {
                                Ok(()) => {
                                    card.rate_hz = rate_hz;
                                    card.restart();
                                }
                                Err(error) => {
                                    tracing::error!(%error, rate_hz, "the recording can't be heard at JACK's rate")
                                }
                            }
                        }
                        AudioEvent::Changed { rate_hz, buffer_frames }
                    }
                    Ok(AudioEvent::Down { reason }) => {
                        (*unheard, self.card) = (None, None);
                        let hint = "set playback_to = [] where a recording is to be heard without JACK";
                        AudioEvent::Down { reason: format!("{reason}; {hint}") }
                    }
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => return false,
                },
            };
            if self.out.send(event).is_err() {
                return false;
            }
        }
    }
}

/// A card that hears chunks as they come, and silence where they stay away.
fn stream(
    rate_hz: u32,
    chunks: &Receiver<Vec<f32>>,
    played: &SyncSender<Vec<f32>>,
    rings: Rings,
    out: &SyncSender<AudioEvent>,
    stop: &Stop,
) {
    let (mut card, capture, playback) = Card::open(rate_hz, rings);
    let frames = card.period();
    if out.send(AudioEvent::Up { rate_hz, buffer_frames: frames as u32, capture, playback }).is_err() {
        return;
    }
    let period = Duration::from_millis(PERIOD_MS.into());
    // Full or gone: the other end is behind, and hears a gap.
    let give = |output: &[f32]| drop(played.try_send(output.to_vec()));
    while !stop.is_set() {
        match chunks.recv_timeout(period) {
            Ok(chunk) => {
                for chunk in chunk.chunks(frames) {
                    while card.rt.capture_room() < chunk.len() && !stop.is_set() {
                        stop.wait(period / 2);
                    }
                    give(card.pass(chunk.len(), |input| input.copy_from_slice(chunk)));
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                while card.behind() > LATE_MAX {
                    give(card.pass(frames, |_| {}));
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let reason = "the stream of sound has ended: the other end has gone".to_owned();
                // The listener hears of it, or has gone as well.
                let _ = out.send(AudioEvent::Down { reason });
                while !stop.is_set() {
                    std::thread::park();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
