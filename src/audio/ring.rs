//! Joins the real-time side and the rest: two bounded rings and a handful of atomics.
//!
//! ```text
//!   JACK in  ─▶ RtSide::process ─▶ capture ring  ─▶ Capture::read_frames
//!                  ▲ reference │
//!   JACK out ◀─────┴───────────┴── playback ring ◀─ Playback::write
//! ```
//!
//! # The reference
//!
//! A frame of the capture ring is a pair, a [`Frame`]: what the microphone gave, and what JACK was given to play at the same
//! frame of the same period, after any fade, with silence where nothing played. Pairs go into the ring, are dropped and are
//! read whole, so the two can't drift apart, whatever is late, full or flushed. That is what an echo canceller needs: the
//! echo of a reference comes later in the microphone, by a time that only the devices and the room determine.
//!
//! # Bounds
//!
//! [`RtSide::process`] is all that the JACK callback does. It does not allocate, lock, log or call the system, and its
//! loops are bounded by the period and by the rings' sizes; `tests/realtime.rs` proves the first and the last by an
//! allocator that aborts and by seccomp. It can wake no thread: the other side polls.
//!
//! When a ring is full: captured frames are dropped and counted ([`Capture::dropped_frames`]); [`Playback::write`] takes
//! fewer frames than it was offered, which is the backpressure.
//!
//! # Flushing
//!
//! Frames are numbered from 0 as they are written. A flush says 'nothing below this number may sound', the number
//! being what has been written by then. The next period fades out over at most [`FADE_MS`] and discards everything
//! below it at once; frames written after the flush are played from the period after. So a flush can be asked for from any
//! thread, more than once, and never takes what comes after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

/// How long the fade at a flush lasts at most, in ms.
pub const FADE_MS: u32 = 5;

/// What both sides see. Counters are in frames and only grow.
#[derive(Debug)]
struct Shared {
    /// Captured frames that found the ring full.
    dropped: AtomicU64,
    /// Frames that the playback ring took, raised before they are visible to the real-time side.
    written: AtomicU64,
    /// Frames that JACK was given.
    played: AtomicU64,
    /// Frames that a flush discarded.
    flushed: AtomicU64,
    /// Frames numbered below this must not sound.
    flush_below: AtomicU64,
    /// Whether more is to come, so that an empty ring is a fault.
    more: AtomicBool,
    /// Times that the ring ran dry while more was to come.
    underruns: AtomicU64,
}

/// What was captured at one frame, and what was played at the same.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Frame {
    /// What the microphone gave.
    pub mic: f32,
    /// What JACK was given to play; 0 where nothing played.
    pub reference: f32,
}

/// The half that belongs to the JACK callback.
#[derive(Debug)]
pub struct RtSide {
    capture: Producer<Frame>,
    playback: Consumer<f32>,
    shared: Arc<Shared>,
    /// Frames taken from the playback ring, played or discarded: the number of the ring's first frame.
    consumed: u64,
    /// Whether the last frame given to JACK came from the ring, so that stopping now would click.
    sounding: bool,
    /// Length of the fade at a flush, in frames.
    fade_frames: usize,
}

/// The captured audio.
#[derive(Debug)]
pub struct Capture {
    ring: Consumer<Frame>,
    shared: Arc<Shared>,
}

/// The audio to be played.
#[derive(Debug)]
pub struct Playback {
    ring: Producer<f32>,
    shared: Arc<Shared>,
}

/// A handle on the playback for other threads: flush and counters.
#[derive(Debug, Clone)]
pub struct PlaybackControl {
    shared: Arc<Shared>,
}

/// What went wrong in a pair of rings, for meters.
#[derive(Debug, Clone)]
pub struct RingCounts {
    capture: Arc<Shared>,
    playback: Arc<Shared>,
}

impl RingCounts {
    /// Of the rings of one client.
    #[must_use]
    pub fn new(capture: &Capture, playback: &Playback) -> Self {
        Self { capture: Arc::clone(&capture.shared), playback: Arc::clone(&playback.shared) }
    }

    /// As [`Capture::dropped_frames`].
    #[must_use]
    pub fn dropped_frames(&self) -> u64 {
        self.capture.dropped.load(Ordering::Relaxed)
    }

    /// As [`PlaybackControl::underruns`].
    #[must_use]
    pub fn underruns(&self) -> u64 {
        self.playback.underruns.load(Ordering::Relaxed)
    }
}

/// Makes the two rings, of `capture_frames` and `playback_frames` frames (at least 1 each), and the three that share them.
///
/// `rate_hz` is the rate of both; it sets the length of the fade.
#[must_use]
pub fn voice_rings(capture_frames: usize, playback_frames: usize, rate_hz: u32) -> (RtSide, Capture, Playback) {
    let (capture_in, capture_out) = touched_ring(capture_frames.max(1));
    let (playback_in, playback_out) = touched_ring(playback_frames.max(1));
    let shared = Arc::new(Shared {
        dropped: AtomicU64::new(0),
        written: AtomicU64::new(0),
        played: AtomicU64::new(0),
        flushed: AtomicU64::new(0),
        flush_below: AtomicU64::new(0),
        more: AtomicBool::new(false),
        underruns: AtomicU64::new(0),
    });
    let rt = RtSide {
        capture: capture_in,
        playback: playback_out,
        shared: Arc::clone(&shared),
        consumed: 0,
        sounding: false,
        fade_frames: (rate_hz * FADE_MS / 1000).max(1) as usize,
    };
    let capture = Capture { ring: capture_out, shared: Arc::clone(&shared) };
    (rt, capture, Playback { ring: playback_in, shared })
}

/// A ring whose pages have been written once, so that the real-time side does not fault them in.
fn touched_ring<T: Copy + Default>(frames: usize) -> (Producer<T>, Consumer<T>) {
    let (mut producer, mut consumer) = RingBuffer::new(frames);
    if let Ok(chunk) = producer.write_chunk_uninit(frames) {
        chunk.fill_from_iter(std::iter::repeat_n(T::default(), frames));
    }
    if let Ok(chunk) = consumer.read_chunk(frames) {
        chunk.commit_all();
    }
    (producer, consumer)
}

impl RtSide {
    /// One period: `output` is filled from the playback ring, and goes into the capture ring beside `input`.
    ///
    /// Where the two differ in length, frames beyond the end of `output` have silence for a reference; JACK gives as many of
    /// both.
    ///
    /// This is the whole of the JACK callback. Keep it free of allocation, locks, logs, system calls and unbounded
    /// loops: it has a fraction of a period (2.7 ms for 128 frames at 48 kHz), and whatever blocks here is heard.
    pub fn process(&mut self, input: &[f32], output: &mut [f32]) {
        self.give_out(output);
        self.take_in(input, output);
    }

    /// Frames that the capture ring has room for: further ones would be dropped.
    #[must_use]
    pub fn capture_room(&self) -> usize {
        self.capture.slots()
    }

    fn take_in(&mut self, input: &[f32], output: &[f32]) {
        let frames = input.len().min(self.capture.slots());
        let references = output.iter().copied().chain(std::iter::repeat(0.0));
        let pairs = input.iter().zip(references).map(|(&mic, reference)| Frame { mic, reference });
        // There is room for as many: only this side takes it.
        let taken = self.capture.write_chunk_uninit(frames).map_or(0, |chunk| chunk.fill_from_iter(pairs));
        if taken < input.len() {
            self.shared.dropped.fetch_add((input.len() - taken) as u64, Ordering::Relaxed);
        }
    }

    fn give_out(&mut self, output: &mut [f32]) {
        let flush_below = self.shared.flush_below.load(Ordering::Acquire);
        let flushing = flush_below > self.consumed;
        let filled = if flushing {
            self.fade_and_discard(flush_below, output)
        } else {
            let (filled, _) = self.playback.pop_partial_slice(output);
            filled.len()
        };
        self.consumed += filled as u64;
        let silent = output.split_at_mut(filled).1;
        silent.fill(0.0);
        self.shared.played.fetch_add(filled as u64, Ordering::Release);

        let ran_dry = !flushing && !silent.is_empty() && (self.sounding || filled > 0);
        if ran_dry && self.shared.more.load(Ordering::Relaxed) {
            self.shared.underruns.fetch_add(1, Ordering::Relaxed);
        }
        self.sounding = !flushing && filled > 0 && silent.is_empty();
    }

    /// Fades out what is next in the ring, if something sounds, and discards the rest up to `flush_below`.
    /// Returns how many frames of `output` it filled.
    fn fade_and_discard(&mut self, flush_below: u64, output: &mut [f32]) -> usize {
        let doomed = usize::try_from(flush_below - self.consumed).unwrap_or(usize::MAX);
        let wanted = if self.sounding { self.fade_frames.min(output.len()).min(doomed) } else { 0 };
        let faded = match output.get_mut(..wanted) {
            Some(head) => {
                let (filled, _) = self.playback.pop_partial_slice(head);
                let len = filled.len();
                for (index, sample) in filled.iter_mut().enumerate() {
                    *sample *= 1.0 - (index + 1) as f32 / len as f32;
                }
                len
            }
            None => 0,
        };
        // What was announced but is not in the ring yet is discarded in the next period: `consumed` still says so.
        let discard = (doomed - faded).min(self.playback.slots());
        if let Ok(chunk) = self.playback.read_chunk(discard) {
            chunk.commit_all();
            self.consumed += discard as u64;
            self.shared.flushed.fetch_add(discard as u64, Ordering::Release);
        }
        faded
    }
}

impl Capture {
    /// Appends everything that was captured since the last call to `out`, beside what was played; returns how many frames.
    /// Samples that are not numbers become 0: a broken client upstream must not poison filters and models.
    pub fn read_frames(&mut self, out: &mut Vec<Frame>) -> usize {
        let whole = |frame: Frame| Frame { mic: finite(frame.mic), reference: finite(frame.reference) };
        self.read(|frames| out.extend(frames.map(whole)))
    }

    /// The same without what was played.
    pub fn read_into(&mut self, out: &mut Vec<f32>) -> usize {
        self.read(|frames| out.extend(frames.map(|frame| finite(frame.mic))))
    }

    fn read(&mut self, take: impl FnOnce(rtrb::chunks::ReadChunkIntoIter<'_, Frame>)) -> usize {
        let frames = self.ring.slots();
        match self.ring.read_chunk(frames) {
            Ok(chunk) => {
                take(chunk.into_iter());
                frames
            }
            Err(_) => 0,
        }
    }

    /// Frames that wait to be read.
    #[must_use]
    pub fn queued_frames(&self) -> usize {
        self.ring.slots()
    }

    /// Frames that were lost because the reader was late.
    #[must_use]
    pub fn dropped_frames(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether the JACK client is gone: nothing more will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_abandoned()
    }
}

impl Playback {
    /// Queues as much of `samples` as there is room for and returns how many frames that is; offer the rest again later.
    /// Samples that are not numbers become 0. Says at the same time that more is to come, see [`Playback::end`].
    pub fn write(&mut self, samples: &[f32]) -> usize {
        let frames = samples.len().min(self.ring.slots());
        let Some(samples) = samples.get(..frames).filter(|samples| !samples.is_empty()) else { return 0 };
        // Raised first, so that a flush asked for after this write covers it whatever the other threads have seen.
        self.shared.written.fetch_add(frames as u64, Ordering::AcqRel);
        self.shared.more.store(true, Ordering::Relaxed);
        match self.ring.write_chunk_uninit(frames) {
            Ok(chunk) => chunk.fill_from_iter(samples.iter().copied().map(finite)),
            Err(_) => 0,
        }
    }

    /// Says that what was written is all for now, so that the empty ring that follows is no underrun.
    pub fn end(&self) {
        self.shared.more.store(false, Ordering::Relaxed);
    }

    /// Silences what is queued within a period, see [`PlaybackControl::flush`].
    pub fn flush(&self) {
        flush(&self.shared);
    }

    /// Whether the JACK client is gone: nothing more will be played.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_abandoned()
    }

    /// A handle for other threads.
    #[must_use]
    pub fn control(&self) -> PlaybackControl {
        PlaybackControl { shared: Arc::clone(&self.shared) }
    }

    /// See [`PlaybackControl::written_frames`].
    #[must_use]
    pub fn written_frames(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    /// See [`PlaybackControl::played_frames`].
    #[must_use]
    pub fn played_frames(&self) -> u64 {
        self.shared.played.load(Ordering::Acquire)
    }

    /// See [`PlaybackControl::queued_frames`].
    #[must_use]
    pub fn queued_frames(&self) -> u64 {
        queued(&self.shared)
    }

    /// See [`PlaybackControl::is_drained`].
    #[must_use]
    pub fn is_drained(&self) -> bool {
        queued(&self.shared) == 0
    }
}

impl PlaybackControl {
    /// Silences everything that was written so far: the next period fades out over at most [`FADE_MS`] and the rest is
    /// discarded. Returns at once; [`PlaybackControl::is_drained`] tells when it has happened.
    pub fn flush(&self) {
        flush(&self.shared);
    }

    /// Frames that were queued since the rings were made.
    #[must_use]
    pub fn written_frames(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    /// Frames that JACK was given. They are heard later by the port's playback latency.
    #[must_use]
    pub fn played_frames(&self) -> u64 {
        self.shared.played.load(Ordering::Acquire)
    }

    /// Frames that were discarded by flushes.
    #[must_use]
    pub fn flushed_frames(&self) -> u64 {
        self.shared.flushed.load(Ordering::Acquire)
    }

    /// Frames that wait to be played.
    #[must_use]
    pub fn queued_frames(&self) -> u64 {
        queued(&self.shared)
    }

    /// Whether every frame that was written has been given to JACK or flushed.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        queued(&self.shared) == 0
    }

    /// Times that the queue ran dry while more was to come: audible gaps.
    #[must_use]
    pub fn underruns(&self) -> u64 {
        self.shared.underruns.load(Ordering::Relaxed)
    }
}

fn flush(shared: &Shared) {
    shared.flush_below.fetch_max(shared.written.load(Ordering::Acquire), Ordering::AcqRel);
    shared.more.store(false, Ordering::Relaxed);
}

fn queued(shared: &Shared) -> u64 {
    // Read in this order, so that the difference is never below 0: consumed frames were written before.
    let consumed = shared.played.load(Ordering::Acquire) + shared.flushed.load(Ordering::Acquire);
    shared.written.load(Ordering::Acquire).saturating_sub(consumed)
}

fn finite(sample: f32) -> f32 {
    if sample.is_finite() { sample } else { 0.0 }
}

#[cfg(test)]
mod tests;
