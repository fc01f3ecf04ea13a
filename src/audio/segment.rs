//! Cuts a stream into utterances: where speech starts and ends, from a VAD's opinion of each frame.
//!
//! ```text
//!            speech for start_ms, or force_start
//!   idle ──────────────────────────────────────▶ running ── end_silence_ms without speech, max_ms, force_end ──▶ idle
//!                                                       ├── max_ms while held ──▶ the next runs
//!                                                       └── cancel ──▶ idle
//! ```
//!
//! Pure: time is counted in samples, there is no clock. Memory is bounded by `pre_roll_ms + start_ms` while idle and by
//! `max_ms` while a segment runs. Segments never overlap, and no sample of speech is lost between two of them: what a
//! segment does not keep is the pre-roll of the next, and one that is held is cut where it is quietest. (Only a rest of speech shorter than `start_ms`, right after a cut at
//! `max_ms`, may start no segment of its own.)

use std::collections::VecDeque;
use std::ops::Range;

use super::quiet::quietest;

/// How far back from the longest segment the place is looked for where a held one is cut, in ms.
const QUIET_MS: usize = 4_000;

/// When a segment starts and ends.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentSettings {
    /// Sample rate of the frames, in Hz.
    pub rate_hz: u32,
    /// Audio from before the speech that a segment starts with, in ms, so that no first syllable is lost.
    pub pre_roll_ms: u32,
    /// Speech that it takes to start a segment, in ms, so that a click does not.
    pub start_ms: u32,
    /// Silence that ends a segment, in ms.
    pub end_silence_ms: u32,
    /// How much of that silence the segment keeps, in ms: recognizers want some.
    pub keep_silence_ms: u32,
    /// The longest segment, pre-roll included, in ms.
    pub max_ms: u32,
    /// How long a segment that was started by hand waits for speech, in ms.
    pub no_speech_ms: u32,
    /// From this probability up a frame is speech.
    pub on: f32,
    /// Speech stays speech down to this probability.
    pub off: f32,
}

impl Default for SegmentSettings {
    fn default() -> Self {
        Self {
            rate_hz: 16_000,
            pre_roll_ms: 300,
            start_ms: 80,
            end_silence_ms: 500,
            keep_silence_ms: 200,
            max_ms: 30_000,
            no_speech_ms: 5_000,
            on: 0.5,
            off: 0.35,
        }
    }
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SegmentError {
    /// The longest segment has no room for what starts it.
    #[error(
        "max_ms ({max_ms}) must be more than pre_roll_ms and start_ms together ({least_ms}); raise it or lower those"
    )]
    TooShort {
        /// The longest segment.
        max_ms: u32,
        /// Pre-roll and start together.
        least_ms: u64,
    },
    /// The thresholds are not in order.
    #[error("the thresholds must be 0 < off <= on <= 1, and are off {off}, on {on}")]
    Thresholds {
        /// The upper threshold.
        on: f32,
        /// The lower threshold.
        off: f32,
    },
    /// A rate of 0 Hz.
    #[error("rate_hz must not be 0; the VADs take 16000")]
    Rate,
}

/// Why a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// There was silence for `end_silence_ms`, or, after [`Segmenter::force_start`], for `no_speech_ms` at all.
    Silence,
    /// It reached `max_ms`. Speech that goes on is in the next segment.
    MaxLength,
    /// It reached `max_ms` while it was held: the next segment runs already, is held, and goes on where this one ends.
    Part,
    /// [`Segmenter::force_end`].
    Forced,
}

/// What a frame led to.
#[derive(Debug, Clone, PartialEq)]
pub enum SegmentEvent {
    /// A segment runs; [`Segmenter::current`] has its audio so far.
    Started,
    /// It is over.
    Ended(Segment),
}

/// A piece of the stream with speech in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// The audio, pre-roll first.
    pub samples: Vec<f32>,
    /// Number of its first sample, counted from the beginning of the stream.
    pub start_sample: u64,
    /// How many of `samples` came before the end of the last frame of speech; 0 without speech.
    pub speech_end: usize,
    /// Speech in it, in ms.
    pub speech_ms: u32,
    /// Why it ended.
    pub reason: EndReason,
}

/// Finds the segments of one stream.
#[derive(Debug)]
pub struct Segmenter {
    sizes: Sizes,
    on: f32,
    off: f32,
    /// Samples pushed so far.
    position: u64,
    state: State,
}

/// The settings in samples.
#[derive(Debug)]
struct Sizes {
    rate_hz: u32,
    pre_roll: usize,
    start: usize,
    end_silence: usize,
    keep_silence: usize,
    max: usize,
    no_speech: usize,
}

#[derive(Debug)]
enum State {
    Idle {
        /// The newest samples: the pre-roll, and the speech so far that may become a segment.
        history: VecDeque<f32>,
        /// Samples since speech was first heard; 0 in silence.
        run: usize,
        /// Whether the last frame was speech.
        voiced: bool,
    },
    Running(Running),
}

#[derive(Debug)]
struct Running {
    samples: Vec<f32>,
    start_sample: u64,
    speech: Runs,
    silence: usize,
    voiced: bool,
    /// Only [`Segmenter::force_end`] ends it; at the maximum it goes on as the next.
    held: bool,
}

/// Where in a segment there is speech, in samples.
#[derive(Debug, Default)]
struct Runs(Vec<Range<usize>>);

impl Runs {
    fn add(&mut self, run: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => self.0.push(run),
        }
    }

    fn len(&self) -> usize {
        self.0.iter().map(Range::len).sum()
    }

    fn end(&self) -> usize {
        self.0.last().map_or(0, |run| run.end)
    }

    /// Takes off what lies beyond `cut`, counted from there.
    fn split_off(&mut self, cut: usize) -> Self {
        let beyond = self.0.iter().filter(|run| run.end > cut);
        let beyond = Self(beyond.map(|run| run.start.saturating_sub(cut)..run.end - cut).collect());
        self.0.retain_mut(|run| {
            run.end = run.end.min(cut);
            run.start < run.end
        });
        beyond
    }
}

impl Segmenter {
    /// Starts at the beginning of a stream.
    ///
    /// # Errors
    /// [`SegmentError`] when the settings contradict each other.
    pub fn new(settings: &SegmentSettings) -> Result<Self, SegmentError> {
        let &SegmentSettings { rate_hz, on, off, max_ms, .. } = settings;
        if rate_hz == 0 {
            return Err(SegmentError::Rate);
        }
        if !(off > 0.0 && off <= on && on <= 1.0) {
            return Err(SegmentError::Thresholds { on, off });
        }
        let least_ms = u64::from(settings.pre_roll_ms) + u64::from(settings.start_ms);
        if u64::from(max_ms) <= least_ms {
            return Err(SegmentError::TooShort { max_ms, least_ms });
        }
        let samples = |ms: u32| (u64::from(ms) * u64::from(rate_hz) / 1000) as usize;
        let sizes = Sizes {
            rate_hz,
            pre_roll: samples(settings.pre_roll_ms),
            start: samples(settings.start_ms).max(1),
            end_silence: samples(settings.end_silence_ms).max(1),
            keep_silence: samples(settings.keep_silence_ms),
            max: samples(max_ms).max(1),
            no_speech: samples(settings.no_speech_ms).max(1),
        };
        Ok(Self { sizes, on, off, position: 0, state: State::idle() })
    }

    /// Takes the next frame, of any length, and the probability that it is speech. After a frame longer than
    /// `start_ms`, an `Ended` by length may leave the next segment running already, without its own `Started`.
    pub fn push(&mut self, frame: &[f32], speech: f32) -> Option<SegmentEvent> {
        self.position += frame.len() as u64;
        match &mut self.state {
            State::Idle { history, run, voiced } => {
                *voiced = if *voiced { speech >= self.off } else { speech >= self.on };
                *run = if *voiced { *run + frame.len() } else { 0 };
                history.extend(frame);
                if *run >= self.sizes.start {
                    let run = *run;
                    self.start(run, false);
                    // One frame may be longer than the longest segment.
                    return self.cut_at_max().or(Some(SegmentEvent::Started));
                }
                let surplus = history.len().saturating_sub(self.sizes.pre_roll + *run);
                history.drain(..surplus);
                None
            }
            State::Running(running) => {
                let start = running.samples.len();
                running.samples.extend_from_slice(frame);
                running.voiced = if running.voiced { speech >= self.off } else { speech >= self.on };
                if running.voiced {
                    running.speech.add(start..running.samples.len());
                    running.silence = 0;
                } else {
                    running.silence += frame.len();
                }
                let patience = if running.speech.len() > 0 { self.sizes.end_silence } else { self.sizes.no_speech };
                let over = !running.held && running.silence >= patience;
                self.cut_at_max().or_else(|| if over { self.finish(EndReason::Silence) } else { None })
            }
        }
    }

    /// Starts a segment now, with the pre-roll, whether or not anybody speaks. If `held` (push to talk) silence does not
    /// end it. A segment that runs already goes on, and is held if `held`: then this gives `None`.
    pub fn force_start(&mut self, held: bool) -> Option<SegmentEvent> {
        match &mut self.state {
            State::Running(running) => {
                running.held |= held;
                None
            }
            State::Idle { run, .. } => {
                let run = *run;
                self.start(run, held);
                Some(SegmentEvent::Started)
            }
        }
    }

    /// Ends the running segment now; `None` when none runs.
    pub fn force_end(&mut self) -> Option<SegmentEvent> {
        self.finish(EndReason::Forced)
    }

    /// Forgets the running segment and the pre-roll.
    pub fn cancel(&mut self) {
        self.state = State::idle();
    }

    /// Forgets the running segment but for its latest audio, which is a pre-roll.
    pub fn trim(&mut self) {
        if let Some(running) = self.take_running() {
            let mut history: VecDeque<f32> = running.samples.into();
            history.drain(..history.len().saturating_sub(self.sizes.pre_roll));
            self.state = State::Idle { history, run: 0, voiced: running.voiced };
        }
    }

    /// The audio of the running segment so far, pre-roll first.
    #[must_use]
    pub fn current(&self) -> Option<&[f32]> {
        match &self.state {
            State::Running(running) => Some(&running.samples),
            State::Idle { .. } => None,
        }
    }

    /// Speech in the running segment so far, in ms; 0 when none runs.
    #[must_use]
    pub fn speech_ms(&self) -> u32 {
        match &self.state {
            State::Running(running) => self.sizes.ms(running.speech.len()),
            State::Idle { .. } => 0,
        }
    }

    /// Silence since the last speech of the running segment, in ms; 0 when none runs.
    #[must_use]
    pub fn silence_ms(&self) -> u32 {
        match &self.state {
            State::Running(running) => self.sizes.ms(running.silence),
            State::Idle { .. } => 0,
        }
    }

    /// Samples pushed since the beginning of the stream.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Turns the history into a running segment, the last `speech` samples of it being speech.
    fn start(&mut self, speech: usize, held: bool) {
        let State::Idle { history, .. } = &mut self.state else { return };
        let surplus = history.len().saturating_sub(self.sizes.pre_roll + speech);
        let samples: Vec<f32> = history.drain(surplus..).collect();
        let mut runs = Runs::default();
        if speech > 0 {
            runs.add(samples.len().saturating_sub(speech)..samples.len());
        }
        self.state = State::Running(Running {
            start_sample: self.position - samples.len() as u64,
            speech: runs,
            silence: 0,
            voiced: speech > 0,
            held,
            samples,
        });
    }

    /// Ends the running segment if it is too long; what is beyond the maximum stays for the next.
    fn cut_at_max(&mut self) -> Option<SegmentEvent> {
        let State::Running(running) = &mut self.state else { return None };
        if running.samples.len() < self.sizes.max {
            return None;
        }
        if running.held {
            let part = self.sizes.part(running);
            return Some(self.ended(part, EndReason::Part));
        }
        let rest = running.samples.split_off(self.sizes.max);
        running.speech.split_off(self.sizes.max);
        let run = if running.voiced { rest.len() } else { 0 };
        let running = self.take_running()?;
        self.state = State::Idle { history: rest.into(), run, voiced: running.voiced };
        if run >= self.sizes.start {
            self.start(run, false);
        }
        Some(self.ended(running, EndReason::MaxLength))
    }

    fn finish(&mut self, reason: EndReason) -> Option<SegmentEvent> {
        let mut running = self.take_running()?;
        let keep = running.samples.len() - running.silence.saturating_sub(self.sizes.keep_silence);
        let mut history: VecDeque<f32> = running.samples.split_off(keep).into();
        history.drain(..history.len().saturating_sub(self.sizes.pre_roll));
        self.state = State::Idle { history, run: 0, voiced: false };
        Some(self.ended(running, reason))
    }

    fn take_running(&mut self) -> Option<Running> {
        match std::mem::replace(&mut self.state, State::idle()) {
            State::Running(running) => Some(running),
            idle @ State::Idle { .. } => {
                self.state = idle;
                None
            }
        }
    }

    fn ended(&self, running: Running, reason: EndReason) -> SegmentEvent {
        SegmentEvent::Ended(Segment {
            speech_ms: self.sizes.ms(running.speech.len()),
            speech_end: running.speech.end(),
            start_sample: running.start_sample,
            samples: running.samples,
            reason,
        })
    }
}

impl State {
    fn idle() -> Self {
        Self::Idle { history: VecDeque::new(), run: 0, voiced: false }
    }
}

impl Sizes {
    /// Takes the beginning off a segment that is too long: up to the quietest place in its latest part.
    fn part(&self, running: &mut Running) -> Running {
        let first = self.max - (QUIET_MS * self.rate_hz as usize / 1_000).min(self.max / 2);
        let cut = first + quietest(&running.samples[first..self.max], self.rate_hz);
        let rest = running.samples.split_off(cut);
        let next = Running {
            silence: running.silence.min(rest.len()),
            samples: rest,
            start_sample: running.start_sample + cut as u64,
            speech: running.speech.split_off(cut),
            ..*running
        };
        std::mem::replace(running, next)
    }

    fn ms(&self, samples: usize) -> u32 {
        u32::try_from(samples as u64 * 1000 / u64::from(self.rate_hz)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
