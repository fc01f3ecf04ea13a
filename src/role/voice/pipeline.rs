//! From a source of sound to utterances: one thread a listener, that never waits for the bus.
//!
//! ```text
//! source → capture ring → resampler → 16 kHz frames → VAD → segmenter → Heard → listener
//! ```
//!
//! The real-time side can't wake anybody, so the thread looks every few milliseconds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self as std_mpsc, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::meter::Peak;
use crate::audio::ring::Frame;
use crate::audio::{
    AudioEvent, Capture, EndReason, JackStatus, Playback, Resampler, Segment, SegmentEvent, SegmentSettings, Segmenter,
    Source, VAD_RATE_HZ, Vad, build_vad,
};

/// How often to look for audio. It bounds what the thread adds to the end of an utterance.
const POLL: Duration = Duration::from_millis(8);
/// Events that wait for the listener. When it is full, partials are left out; whole utterances wait.
const QUEUE: usize = 64;
/// Commands that wait for the thread.
const COMMANDS: usize = 64;

/// What the thread has heard.
#[derive(Debug)]
pub enum Heard {
    /// The source is there.
    Up {
        /// Samples to play go in here.
        playback: Playback,
        /// The rate of it, in Hz.
        rate_hz: u32,
    },
    /// The source has another rate now.
    Rate(u32),
    /// The source is gone.
    Down(String),
    /// Speech has begun.
    Started,
    /// What was said so far, while the speaker goes on.
    Partial(Partial),
    /// An utterance is over.
    Ended(Utterance),
}

/// A piece of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speech {
    /// The number of its first sample: tells it from others.
    pub start_sample: u64,
    /// When that sample was heard.
    pub began: Instant,
    /// Speech in it.
    pub speech_ms: u32,
}

/// The beginning of an utterance.
#[derive(Debug, Clone)]
pub struct Partial {
    /// Which speech it is.
    pub speech: Speech,
    /// 16 kHz mono, pre-roll first.
    pub samples: Vec<f32>,
}

/// An utterance.
#[derive(Debug, Clone)]
pub struct Utterance {
    /// Which speech it is.
    pub speech: Speech,
    /// 16 kHz mono, pre-roll first.
    pub samples: Vec<f32>,
    /// What ended it.
    pub reason: EndReason,
    /// From the last sample of speech to the decision that it has ended.
    pub endpoint_ms: u64,
    /// When the last sample of speech was heard.
    pub spoken_until: Instant,
}

/// What the listener orders of the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Take an utterance down from now on.
    Listen {
        /// Silence does not end it.
        held: bool,
    },
    /// End it, with what is still on its way.
    End,
    /// Forget it.
    Drop,
    /// Forget what was said so far, but for a pre-roll.
    Trim,
    /// Hear nothing, or hear again.
    Mute(bool),
}

impl Command {
    /// Whether what was heard before is to be forgotten.
    const fn forgets(self) -> bool {
        matches!(self, Self::Drop | Self::Trim | Self::Mute(_))
    }
}

/// What the thread works with.
#[derive(Debug)]
pub struct PipelineSettings {
    /// The thread's name.
    pub name: String,
    /// Where the sound comes from, and goes.
    pub source: Source,
    /// What tells speech from silence.
    pub vad: String,
    /// Where models are.
    pub models: PathBuf,
    /// When an utterance starts and ends.
    pub segments: SegmentSettings,
    /// What is still heard after [`Command::End`], in ms: the end of a word, and what JACK holds of it.
    pub release_ms: u32,
    /// Speech after which partials begin, in ms.
    pub partial_after_ms: u32,
    /// Speech after which there are no more, in ms.
    pub partial_until_ms: u32,
}

/// The listener's end of the thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Pipeline {
    commands: std_mpsc::SyncSender<Command>,
    heard: mpsc::Receiver<(u64, Heard)>,
    /// How many commands were to forget.
    forgets: u64,
    /// How loud it was.
    pub peak: Peak,
    jack: Arc<JackStatus>,
}

impl Pipeline {
    /// Starts the thread. The source need not be there yet.
    ///
    /// # Errors
    /// A setting is wrong, or a model missing; the text says which.
    pub fn start(settings: PipelineSettings) -> Result<Self, String> {
        let vad = build_vad(&settings.vad, &settings.models).map_err(|e| e.to_string())?;
        let segmenter = Segmenter::new(&settings.segments).map_err(|e| e.to_string())?;
        let partials = Partials::new(&settings);
        let PipelineSettings { name, source, release_ms, .. } = settings;
        let jack = source.status();
        let (heard_out, heard) = mpsc::channel(QUEUE);
        let (commands, commands_in) = std_mpsc::sync_channel(COMMANDS);
        let peak = Peak::default();
        let run = Run {
            source,
            commands: commands_in,
            heard: heard_out,
            forgets: 0,
            ears: Ears {
                vad,
                segmenter,
                frame: Vec::new(),
                partials,
                muted: false,
                release: u64::from(release_ms) * u64::from(VAD_RATE_HZ) / 1_000,
                ends_at: None,
            },
            capture: None,
            native: Vec::new(),
            mic: Vec::new(),
            resampled: Vec::new(),
            peak: peak.clone(),
        };
        std::thread::Builder::new()
            .name(name)
            .spawn(move || run.run())
            .map_err(|e| format!("no thread for a listener: {e}"))?;
        Ok(Self { commands, heard, forgets: 0, peak, jack })
    }

    /// How long after JACK was given it a sample is heard.
    pub fn playback_latency(&self) -> Duration {
        let frames = f64::from(self.jack.playback_latency_frames());
        Duration::from_secs_f64(frames / f64::from(self.jack.rate_hz().max(1)))
    }

    /// Tells the thread something. It takes commands every few ms; if it does not, it is gone, and [`Pipeline::hear`] says so.
    pub fn tell(&mut self, command: Command) {
        match self.commands.try_send(command) {
            Ok(()) => self.forgets += u64::from(command.forgets()),
            Err(error) => tracing::warn!(?command, %error, "the listener's thread takes no commands"),
        }
    }

    /// What was heard, but for what was to be forgotten and was on its way; `None` once the thread has ended. Safe to drop and
    /// call again.
    pub async fn hear(&mut self) -> Option<Heard> {
        loop {
            let (forgets, heard) = self.heard.recv().await?;
            let is_speech = matches!(heard, Heard::Started | Heard::Partial(_) | Heard::Ended(_));
            if !is_speech || forgets == self.forgets {
                return Some(heard);
            }
        }
    }
}

struct Run {
    source: Source,
    commands: std_mpsc::Receiver<Command>,
    heard: mpsc::Sender<(u64, Heard)>,
    /// How many commands were to forget.
    forgets: u64,
    ears: Ears,
    capture: Option<(Capture, Resampler)>,
    /// What was captured, beside what was played: here is where an echo canceller finds both.
    native: Vec<Frame>,
    mic: Vec<f32>,
    resampled: Vec<f32>,
    peak: Peak,
}

impl Run {
    /// Runs until the listener or the source is gone.
    fn run(mut self) {
        while !self.heard.is_closed() {
            if !(self.take_events() && self.take_commands() && self.take_audio()) {
                return;
            }
            std::thread::sleep(POLL);
        }
    }

    /// `false` when the listener has gone.
    fn send(&self, heard: Heard) -> bool {
        self.heard.blocking_send((self.forgets, heard)).is_ok()
    }

    fn take_events(&mut self) -> bool {
        loop {
            let is_sent = match self.source.event() {
                Ok(AudioEvent::Up { rate_hz, capture, playback, .. }) => {
                    self.ears.forget();
                    match Resampler::new(rate_hz, VAD_RATE_HZ) {
                        Ok(resampler) => self.capture = Some((capture, resampler)),
                        Err(error) => tracing::error!(%error, rate_hz, "the source's rate can't be used"),
                    }
                    self.send(Heard::Up { playback, rate_hz })
                }
                Ok(AudioEvent::Changed { rate_hz, .. }) => {
                    if let (Some((_, old)), Ok(new)) = (&mut self.capture, Resampler::new(rate_hz, VAD_RATE_HZ)) {
                        *old = new;
                    }
                    self.send(Heard::Rate(rate_hz))
                }
                Ok(AudioEvent::Down { reason }) => {
                    self.capture = None;
                    self.ears.forget();
                    self.send(Heard::Down(reason))
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            if !is_sent {
                return false;
            }
        }
    }

    fn take_commands(&mut self) -> bool {
        loop {
            let heard = match self.commands.try_recv() {
                Ok(command) => {
                    self.forgets += u64::from(command.forgets());
                    self.ears.obey(command)
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            if !self.pass_on(heard) {
                return false;
            }
        }
    }

    fn take_audio(&mut self) -> bool {
        let Some((capture, resampler)) = &mut self.capture else { return true };
        self.native.clear();
        capture.read_frames(&mut self.native);
        self.mic.clear();
        self.mic.extend(self.native.iter().map(|frame| frame.mic));
        if !self.ears.muted {
            self.peak.hear(&self.mic);
        }
        self.resampled.clear();
        resampler.push(&self.mic, &mut self.resampled);
        let samples = std::mem::take(&mut self.resampled);
        let mut open = true;
        for &sample in &samples {
            if let Some(heard) = self.ears.hear(sample) {
                open = self.pass_on(Some(heard));
            }
        }
        self.resampled = samples;
        open
    }

    /// Partials are left out when the listener is behind; all else waits for it.
    fn pass_on(&self, heard: Option<Heard>) -> bool {
        match heard {
            None => true,
            Some(partial @ Heard::Partial(_)) => {
                !matches!(self.heard.try_send((self.forgets, partial)), Err(mpsc::error::TrySendError::Closed(_)))
            }
            Some(heard) => self.send(heard),
        }
    }
}

/// VAD and segmenter: samples in, what was heard out.
struct Ears {
    vad: Box<dyn Vad>,
    segmenter: Segmenter,
    frame: Vec<f32>,
    partials: Partials,
    muted: bool,
    /// Samples that are heard after [`Command::End`].
    release: u64,
    /// Where the segment ends that [`Command::End`] is to end.
    ends_at: Option<u64>,
}

impl Ears {
    fn hear(&mut self, sample: f32) -> Option<Heard> {
        if self.muted {
            return None;
        }
        self.frame.push(sample);
        if self.frame.len() < self.vad.frame_len() {
            return None;
        }
        let speech = self.vad.speech(&self.frame);
        let event = self.segmenter.push(&self.frame, speech);
        self.frame.clear();
        if matches!(&event, Some(SegmentEvent::Ended(segment)) if segment.reason != EndReason::Part) {
            self.ends_at = None;
        }
        if event.is_none() && self.ends_at.is_some_and(|at| self.segmenter.position() >= at) {
            self.ends_at = None;
            if let Some(ended) = self.segmenter.force_end() {
                return Some(self.event(ended));
            }
        }
        let speech_ms = self.segmenter.speech_ms();
        match event {
            Some(event) => Some(self.event(event)),
            None => {
                let due = self.segmenter.silence_ms() == 0 && self.partials.due(speech_ms);
                let samples = self.segmenter.current().filter(|_| due)?.to_vec();
                let start_sample = self.segmenter.position() - samples.len() as u64;
                let began = ago(millis_of(samples.len() as u64));
                Some(Heard::Partial(Partial { speech: Speech { start_sample, began, speech_ms }, samples }))
            }
        }
    }

    fn event(&mut self, event: SegmentEvent) -> Heard {
        self.partials.restart();
        match event {
            SegmentEvent::Started => Heard::Started,
            SegmentEvent::Ended(segment) => Heard::Ended(self.utterance(segment)),
        }
    }

    fn utterance(&self, segment: Segment) -> Utterance {
        let Segment { start_sample, speech_ms, .. } = segment;
        let position = self.segmenter.position();
        let began = ago(millis_of(position.saturating_sub(start_sample)));
        let endpoint_ms = millis_of(position.saturating_sub(start_sample + segment.speech_end as u64));
        Utterance {
            speech: Speech { start_sample, began, speech_ms },
            samples: segment.samples,
            reason: segment.reason,
            endpoint_ms,
            spoken_until: ago(endpoint_ms),
        }
    }

    fn obey(&mut self, command: Command) -> Option<Heard> {
        match command {
            Command::Listen { held } => {
                // What is started by hand is no news to the listener, which started it.
                self.ends_at = None;
                let _ = self.segmenter.force_start(held);
                None
            }
            Command::End => {
                self.ends_at = Some(self.segmenter.position() + self.release);
                None
            }
            Command::Drop => {
                self.ends_at = None;
                self.segmenter.cancel();
                None
            }
            Command::Trim => {
                self.ends_at = None;
                self.segmenter.trim();
                None
            }
            Command::Mute(on) => {
                self.muted = on;
                self.forget();
                None
            }
        }
    }

    fn forget(&mut self) {
        self.ends_at = None;
        self.segmenter.cancel();
        self.vad.reset();
        self.frame.clear();
        self.partials.restart();
    }
}

/// How long `samples` take.
fn millis_of(samples: u64) -> u64 {
    samples * 1_000 / u64::from(VAD_RATE_HZ)
}

/// When it was `ms` ago.
fn ago(ms: u64) -> Instant {
    let now = Instant::now();
    now.checked_sub(Duration::from_millis(ms)).unwrap_or(now)
}

/// When to take a partial of running speech: after so much of it, and again while it is young.
#[derive(Debug, Clone)]
struct Partials {
    after_ms: u32,
    until_ms: u32,
    next_ms: u32,
}

impl Partials {
    fn new(settings: &PipelineSettings) -> Self {
        let (after_ms, until_ms) = (settings.partial_after_ms.max(100), settings.partial_until_ms);
        Self { after_ms, until_ms, next_ms: after_ms }
    }

    fn restart(&mut self) {
        self.next_ms = self.after_ms;
    }

    fn due(&mut self, speech_ms: u32) -> bool {
        let due = speech_ms >= self.next_ms && speech_ms <= self.until_ms;
        if due {
            self.next_ms = speech_ms + self.after_ms;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{JackSettings, Pace};

    #[tokio::test]
    async fn a_recording_becomes_utterances_without_any_jack() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/computer-01.wav");
        let jack = JackSettings::for_listener("test");
        let source = Source::file(path.as_ref(), Pace::Fast, jack, false).unwrap();
        let settings = PipelineSettings {
            name: "test".to_owned(),
            source,
            vad: "earshot".to_owned(),
            models: PathBuf::new(),
            segments: SegmentSettings::default(),
            release_ms: 120,
            partial_after_ms: 200,
            partial_until_ms: 2_600,
        };
        let mut pipeline = Pipeline::start(settings).unwrap();
        assert!(matches!(pipeline.hear().await, Some(Heard::Up { rate_hz: 16_000, .. })));
        assert!(matches!(pipeline.hear().await, Some(Heard::Started)));
        let mut partials = 0;
        let utterance = loop {
            match pipeline.hear().await {
                Some(Heard::Partial(partial)) => {
                    partials += 1;
                    assert!(partial.speech.speech_ms >= 200);
                }
                Some(Heard::Ended(utterance)) => break utterance,
                other => panic!("unexpected: {other:?}"),
            }
        };
        assert!(partials > 0 && utterance.reason == EndReason::Silence, "{partials} {:?}", utterance.reason);
        assert!(utterance.speech.speech_ms > 300);
        assert_eq!(pipeline.playback_latency(), Duration::ZERO);
    }
}
