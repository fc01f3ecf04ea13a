//! Cuts speech of any length into pieces that a recognizer takes, at the pauses of the speaker. Pure: samples in, pieces
//! out. The same for a recording and for live speech.
//!
//! The VAD only proposes where to cut. Stretches without speech of more than [`GAP_S`] are left out; everything else goes
//! to the recognizer as it was recorded, and a recording that fits into one piece goes whole: what the VAD did not hear
//! the recognizer may.

use std::ops::Range;

use super::quiet::quietest;
use super::{EndReason, Resampler, Segment, SegmentError, SegmentEvent, SegmentSettings, Segmenter, VAD_RATE_HZ, Vad};
use super::{ResampleError, VadError};

/// The longest piece, in seconds: Whisper hears 30 at a time, and as 16-bit PCM it fits into a message of 1 MiB.
pub const PIECE_MAX_S: u64 = 28;
/// From this length on a piece ends at the next pause, in seconds, so that text comes soon. Shorter ones are merged: the
/// recognizer takes as long for 1 s as for 10.
const PIECE_ENOUGH_S: u64 = 15;
/// A stretch without speech of this length ends a piece, in seconds.
const GAP_S: u64 = 2;
/// Where the speaker does not pause: how far back from the longest piece the quietest place is looked for, in seconds.
const QUIET_S: u64 = 4;

/// Speech is proposed generously, since missed speech is lost; but earshot gives silence up to 0.25.
const SEGMENTS: SegmentSettings = SegmentSettings {
    rate_hz: VAD_RATE_HZ,
    pre_roll_ms: 400,
    start_ms: 48,
    end_silence_ms: 300,
    keep_silence_ms: 250,
    max_ms: 10_000,
    no_speech_ms: 1_000,
    on: 0.4,
    off: 0.3,
};

const fn samples(seconds: u64) -> u64 {
    seconds * VAD_RATE_HZ as u64
}

/// A stretch of the recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Number of its first sample in the recording.
    pub start_sample: u64,
    /// Mono at [`VAD_RATE_HZ`].
    pub samples: Vec<f32>,
}

impl Piece {
    /// Where it begins in the recording, in ms.
    #[must_use]
    pub fn start_ms(&self) -> u64 {
        ms(self.start_sample)
    }

    /// Where it ends in the recording, in ms.
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        ms(self.start_sample + self.samples.len() as u64)
    }
}

/// Samples at [`VAD_RATE_HZ`] in ms.
const fn ms(samples: u64) -> u64 {
    samples * 1_000 / VAD_RATE_HZ as u64
}

/// Cuts one recording. Holds no more of it than about two pieces.
pub struct Cutter {
    vad: Box<dyn Vad>,
    segmenter: Segmenter,
    /// Samples that do not fill a frame of the VAD yet.
    frame: Vec<f32>,
    /// The recording from `audio_start` on.
    audio: Vec<f32>,
    audio_start: u64,
    /// Speech that may still be merged with what follows.
    pending: Option<Range<u64>>,
    /// Whether the last stretch of speech was cut off because it was long.
    cut_off: bool,
    /// Pieces whose ends are settled.
    settled: Vec<Range<u64>>,
}

impl Cutter {
    /// Starts at the beginning of a recording.
    ///
    /// # Errors
    /// [`SegmentError`] if the constants above contradict each other.
    pub fn new(vad: Box<dyn Vad>) -> Result<Self, SegmentError> {
        Ok(Self {
            vad,
            segmenter: Segmenter::new(&SEGMENTS)?,
            frame: Vec::new(),
            audio: Vec::new(),
            audio_start: 0,
            pending: None,
            cut_off: false,
            settled: Vec::new(),
        })
    }

    /// Samples taken so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.audio_start + self.audio.len() as u64
    }

    /// Takes more of the recording and gives the pieces that are settled.
    pub fn push(&mut self, samples_in: &[f32]) -> Vec<Piece> {
        self.audio.extend_from_slice(samples_in);
        let mut rest = samples_in;
        while self.frame.len() + rest.len() >= self.vad.frame_len() {
            let (head, tail) = rest.split_at(self.vad.frame_len() - self.frame.len());
            self.frame.extend_from_slice(head);
            rest = tail;
            self.hear();
        }
        self.frame.extend_from_slice(rest);
        // Until then it may turn out to fit into one piece.
        if self.position() <= samples(PIECE_MAX_S) {
            return Vec::new();
        }
        let pieces = self.take_settled();
        self.forget();
        pieces
    }

    /// The audio that is not in a piece yet, if there is speech in it: of this the running text is made.
    #[must_use]
    pub fn running(&self) -> Option<Piece> {
        let spoken = self.pending.is_some() || !self.settled.is_empty() || self.segmenter.current().is_some();
        spoken.then(|| Piece { start_sample: self.audio_start, samples: self.audio.clone() })
    }

    /// Gives the last pieces at the end of the recording.
    #[must_use]
    pub fn finish(mut self) -> Vec<Piece> {
        if self.position() <= samples(PIECE_MAX_S) {
            let samples = self.audio;
            return if samples.is_empty() { Vec::new() } else { vec![Piece { start_sample: 0, samples }] };
        }
        if !self.frame.is_empty() {
            self.hear();
        }
        if let Some(SegmentEvent::Ended(segment)) = self.segmenter.force_end() {
            self.propose(&segment);
        }
        self.settled.extend(self.pending.take());
        self.take_settled()
    }

    /// Shows `frame` to the VAD.
    fn hear(&mut self) {
        let speech = self.vad.speech(&self.frame);
        let event = self.segmenter.push(&self.frame, speech);
        self.frame.clear();
        if let Some(SegmentEvent::Ended(segment)) = event {
            self.propose(&segment);
        }
        // A segment that runs reaches back by its pre-roll; until it ends it can't be too far away.
        let idle = self.segmenter.current().is_none();
        if let Some(pending) =
            self.pending.take_if(|pending| idle && self.segmenter.position() > pending.end + samples(GAP_S))
        {
            self.settled.push(pending);
        }
    }

    /// Merges a stretch of speech with what is pending, or settles that and starts a new one.
    fn propose(&mut self, segment: &Segment) {
        let speech = segment.start_sample..segment.start_sample + segment.samples.len() as u64;
        let cut_off = std::mem::replace(&mut self.cut_off, segment.reason == EndReason::MaxLength);
        let Some(pending) = self.pending.take() else {
            self.pending = Some(speech);
            return;
        };
        let goes_on = cut_off && speech.start <= pending.end;
        let fits = speech.end - pending.start <= samples(PIECE_MAX_S);
        let near = speech.start <= pending.end + samples(GAP_S);
        let short = pending.end - pending.start < samples(PIECE_ENOUGH_S);
        self.pending = Some(if fits && (goes_on || near && short) {
            pending.start..speech.end
        } else if goes_on {
            let cut = self.quietest(pending.start);
            self.settled.push(pending.start..cut);
            cut..speech.end
        } else {
            self.settled.push(pending);
            speech
        });
    }

    /// The middle of the quietest place before the longest piece from `start` ends.
    fn quietest(&self, start: u64) -> u64 {
        let last = start + samples(PIECE_MAX_S);
        let first = last - samples(QUIET_S);
        let window = self.audio.get(self.index(first)..self.index(last)).unwrap_or_default();
        first + quietest(window, VAD_RATE_HZ) as u64
    }

    fn index(&self, sample: u64) -> usize {
        usize::try_from(sample.saturating_sub(self.audio_start)).unwrap_or(usize::MAX).min(self.audio.len())
    }

    fn take_settled(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.settled)
            .into_iter()
            .map(|range| {
                let samples = self.audio.get(self.index(range.start)..self.index(range.end)).unwrap_or_default();
                Piece { start_sample: range.start, samples: samples.to_vec() }
            })
            .collect()
    }

    /// Drops what no piece can reach any more.
    fn forget(&mut self) {
        let heard = self.segmenter.position();
        let running = self.segmenter.current().map_or(0, <[f32]>::len) as u64;
        let idle = u64::from(SEGMENTS.pre_roll_ms + SEGMENTS.start_ms) * u64::from(VAD_RATE_HZ) / 1_000;
        let reach = heard.saturating_sub(running.max(idle));
        let needed = self.pending.as_ref().map_or(reach, |pending| pending.start.min(reach));
        self.audio.drain(..self.index(needed));
        self.audio_start = self.audio_start.max(needed);
    }
}

/// Why a recording can't be cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Its rate is out of range.
    #[error(transparent)]
    Rate(#[from] ResampleError),
    /// The VAD.
    #[error(transparent)]
    Vad(#[from] VadError),
    /// The settings contradict each other.
    #[error(transparent)]
    Segments(#[from] SegmentError),
}

/// A [`Cutter`] for audio of any rate.
pub struct Pieces {
    resampler: Resampler,
    /// Frames that are yet to be dropped: the first of a resampled stream come before its first sample.
    early: usize,
    cutter: Cutter,
    block: Vec<f32>,
}

impl Pieces {
    /// Starts at the beginning of a recording of `rate_hz`.
    ///
    /// # Errors
    /// [`CutError`], which says what is wrong.
    pub fn new(rate_hz: u32, vad: Box<dyn Vad>) -> Result<Self, CutError> {
        let resampler = Resampler::new(rate_hz, VAD_RATE_HZ)?;
        Ok(Self { early: resampler.delay_frames(), resampler, cutter: Cutter::new(vad)?, block: Vec::new() })
    }

    /// Takes more of the recording and gives the pieces that are settled.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Piece> {
        self.resampler.push(samples, &mut self.block);
        self.cut()
    }

    /// As [`Cutter::running`].
    #[must_use]
    pub fn running(&self) -> Option<Piece> {
        self.cutter.running()
    }

    /// How long what was taken so far is, in ms.
    #[must_use]
    pub fn position_ms(&self) -> u64 {
        ms(self.cutter.position())
    }

    /// Gives the last pieces at the end of the recording, and how long it was, in ms.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Piece>, u64) {
        self.resampler.finish(&mut self.block);
        let mut pieces = self.cut();
        let audio_ms = self.position_ms();
        pieces.extend(self.cutter.finish());
        (pieces, audio_ms)
    }

    fn cut(&mut self) -> Vec<Piece> {
        let early = self.early.min(self.block.len());
        self.early -= early;
        let pieces = self.cutter.push(self.block.get(early..).unwrap_or_default());
        self.block.clear();
        pieces
    }
}

#[cfg(test)]
mod tests;
