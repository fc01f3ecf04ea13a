//! MIDI between the JACK callback and the rest: what comes in with its time, what goes out at its time.
//!
//! Rings join the two: one for what came in, and a few for each port that plays, one of them for messages that go at once.
//! Messages with a time go into the others, each of which has its times in order, and out in the order of all: what is
//! mapped a moment ahead does not wait behind ticks that were sent further ahead. When a ring is full a message is lost and
//! counted; nothing waits. [`MidiRt`] neither allocates nor calls the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

/// Messages that a ring holds: four seconds of a full cable.
const MESSAGES: usize = 4_096;
/// Bytes that a ring holds; a system exclusive must fit.
const BYTES: usize = 128 * 1024;
/// Rings of a port for messages with a time: ticks, notes that wait for a beat, what is mapped, and ends of short notes.
const TIMED: usize = 4;

/// A message in a ring, without its bytes.
#[derive(Debug, Clone, Copy)]
struct Head {
    port: u16,
    len: u32,
    /// The flush that it has not seen; 0: it is not flushed.
    epoch: u32,
    at_us: u64,
    /// Tells which of two with one time was sent first.
    seq: u64,
}

/// A ring of messages: the end that writes.
struct PipeIn {
    heads: Producer<Head>,
    bytes: Producer<u8>,
}

/// The end that reads.
struct PipeOut {
    heads: Consumer<Head>,
    bytes: Consumer<u8>,
}

fn pipe() -> (PipeIn, PipeOut) {
    let ((heads_in, heads_out), (bytes_in, bytes_out)) = (RingBuffer::new(MESSAGES), RingBuffer::new(BYTES));
    (PipeIn { heads: heads_in, bytes: bytes_in }, PipeOut { heads: heads_out, bytes: bytes_out })
}

impl PipeIn {
    /// Whether there was room.
    fn push(&mut self, head: Head, bytes: &[u8]) -> bool {
        if self.heads.is_full() || self.bytes.push_entire_slice(bytes).is_err() {
            return false;
        }
        self.heads.push(head).is_ok()
    }
}

impl PipeOut {
    /// The next message, without its bytes.
    fn head(&self) -> Option<Head> {
        self.heads.peek().ok().copied()
    }

    /// Reads the next message into `scratch` and leaves it where it is.
    fn peek(&mut self, scratch: &mut [u8]) -> Option<(Head, usize)> {
        let head = self.head()?;
        let len = head.len as usize;
        let chunk = self.bytes.read_chunk(len).ok()?;
        let (first, second) = chunk.as_slices();
        if let Some(to) = scratch.get_mut(..first.len()) {
            to.copy_from_slice(first);
        }
        if let Some(to) = scratch.get_mut(first.len()..len) {
            to.copy_from_slice(second);
        }
        Some((head, len))
    }

    /// Takes the next message out.
    fn skip(&mut self) {
        if let Ok(head) = self.heads.pop()
            && let Ok(chunk) = self.bytes.read_chunk(head.len as usize)
        {
            chunk.commit_all();
        }
    }
}

/// What both sides count.
#[derive(Debug, Default)]
pub struct Counts {
    lost: AtomicU64,
    epoch: AtomicU32,
}

impl Counts {
    /// Messages that were lost since there was no room for them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A period: when it begins and ends, in JACK's µs, and how many frames it has.
#[derive(Debug, Clone, Copy)]
pub struct Cycle {
    /// When it begins.
    pub start_us: u64,
    /// When the next one begins.
    pub next_us: u64,
    /// Its frames.
    pub frames: u32,
}

/// By how many periods JACK's count may lie behind what it said before. Beyond, it has begun to count from 0.
const BEHIND_MAX: u64 = 8;

impl Cycle {
    /// The same, but not before `last` is over. After a period that it missed JACK may give one time to two: what came
    /// later must not have an earlier time. The second is squeezed, and the next are where JACK has them again.
    #[must_use]
    pub fn after(self, last: Option<Self>) -> Self {
        let behind = last.map_or(0, |last| last.next_us.saturating_sub(self.start_us));
        if behind > BEHIND_MAX * self.us() {
            return self;
        }
        let start_us = self.start_us + behind;
        Self { start_us, next_us: self.next_us.max(start_us + self.us().div_ceil(2)), ..self }
    }

    fn us(&self) -> u64 {
        self.next_us.saturating_sub(self.start_us).max(1)
    }

    /// When frame `offset` of it is.
    #[must_use]
    pub fn at_us(&self, offset: u32) -> u64 {
        self.start_us + (u64::from(offset) * self.us()).div_ceil(u64::from(self.frames.max(1)))
    }

    /// The frame of it that a time falls on; what is late goes first.
    #[must_use]
    pub fn offset(&self, at_us: u64) -> u32 {
        let frame = at_us.saturating_sub(self.start_us) * u64::from(self.frames) / self.us();
        u32::try_from(frame).unwrap_or(u32::MAX).min(self.frames.saturating_sub(1))
    }
}

/// What goes out on a port: the end that reads.
struct LaneOut {
    now: PipeOut,
    timed: Vec<PipeOut>,
}

impl LaneOut {
    /// The ring with the earliest message before `until_us`; what a flush has taken back is left out, and is gone.
    fn earliest(&mut self, epoch: u32, until_us: u64) -> Option<(&mut PipeOut, u64)> {
        let mut first: Option<(&mut PipeOut, Head)> = None;
        for pipe in &mut self.timed {
            while pipe.head().is_some_and(|head| head.epoch != 0 && head.epoch != epoch) {
                pipe.skip();
            }
            let Some(head) = pipe.head().filter(|head| head.at_us < until_us) else { continue };
            if first.as_ref().is_none_or(|(_, other)| (head.at_us, head.seq) < (other.at_us, other.seq)) {
                first = Some((pipe, head));
            }
        }
        first.map(|(pipe, head)| (pipe, head.at_us))
    }
}

/// The end that writes.
struct LaneIn {
    now: PipeIn,
    /// With the time of each ring's last message.
    timed: Vec<(PipeIn, u64)>,
    seq: u64,
}

impl LaneIn {
    /// Whether there was room.
    fn push_at(&mut self, mut head: Head, bytes: &[u8]) -> bool {
        self.seq += 1;
        head.seq = self.seq;
        // The one whose last is the latest before it, so that the others stay open for what is earlier.
        let mut order: [usize; TIMED] = std::array::from_fn(|at| at);
        let last = |at: &usize| self.timed.get(*at).map_or(0, |(_, last)| *last);
        // Behind something later it is late, but not lost.
        order.sort_unstable_by_key(|at| {
            let last = last(at);
            (last > head.at_us, last.abs_diff(head.at_us))
        });
        for at in order {
            let Some((pipe, last)) = self.timed.get_mut(at) else { continue };
            if pipe.push(head, bytes) {
                *last = head.at_us.max(*last);
                return true;
            }
        }
        false
    }
}

/// The real-time side: all that a callback does.
pub struct MidiRt {
    input: PipeIn,
    lanes: Vec<LaneOut>,
    scratch: Vec<u8>,
    counts: Arc<Counts>,
}

impl MidiRt {
    /// A message came in.
    pub fn receive(&mut self, port: u16, at_us: u64, bytes: &[u8]) {
        let Ok(len) = u32::try_from(bytes.len()) else { return };
        if !self.input.push(Head { port, len, epoch: 0, at_us, seq: 0 }, bytes) {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what is due in `cycle` on port `port` by `write`, which takes a frame and bytes and says whether there was room.
    /// What finds no room waits for the next period; what finds none in an empty one is lost.
    pub fn send(&mut self, port: usize, cycle: Cycle, mut write: impl FnMut(u32, &[u8]) -> bool) {
        let Some(lane) = self.lanes.get_mut(port) else { return };
        let mut written = 0_u32;
        let mut put = |pipe: &mut PipeOut, offset: u32, bytes: &[u8]| {
            if write(offset, bytes) {
                written += 1;
            } else if written > 0 {
                return false;
            } else {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
            pipe.skip();
            true
        };
        while let Some((_, len)) = lane.now.peek(&mut self.scratch) {
            if !put(&mut lane.now, 0, self.scratch.get(..len).unwrap_or_default()) {
                return;
            }
        }
        // Only now: who has seen an end that a flush came before must see the flush, or a beginning that was taken back would
        // follow the end.
        let epoch = self.counts.epoch.load(Ordering::Acquire);
        let mut last = 0;
        while let Some((pipe, at_us)) = lane.earliest(epoch, cycle.next_us) {
            let Some((_, len)) = pipe.peek(&mut self.scratch) else { return };
            last = cycle.offset(at_us).max(last);
            if !put(pipe, last, self.scratch.get(..len).unwrap_or_default()) {
                return;
            }
        }
    }
}

/// The other side.
pub struct MidiRings {
    input: PipeOut,
    lanes: Vec<LaneIn>,
    scratch: Vec<u8>,
    counts: Arc<Counts>,
}

/// A pair of sides for `outputs` ports.
#[must_use]
pub fn midi_rings(outputs: usize) -> (MidiRt, MidiRings) {
    let counts = Arc::new(Counts { lost: AtomicU64::new(0), epoch: AtomicU32::new(1) });
    let (input_in, input_out) = pipe();
    let (mut ins, mut outs) = (Vec::new(), Vec::new());
    for _ in 0..outputs {
        let (now_in, now_out) = pipe();
        let (timed_in, timed_out): (Vec<_>, Vec<_>) = (0..TIMED).map(|_| pipe()).unzip();
        ins.push(LaneIn { now: now_in, timed: timed_in.into_iter().map(|pipe| (pipe, 0)).collect(), seq: 0 });
        outs.push(LaneOut { now: now_out, timed: timed_out });
    }
    let rt = MidiRt { input: input_in, lanes: outs, scratch: vec![0; BYTES], counts: Arc::clone(&counts) };
    (rt, MidiRings { input: input_out, lanes: ins, scratch: vec![0; BYTES], counts })
}

impl MidiRings {
    /// Hands everything that came in to `take`: port, time in JACK's µs, bytes.
    pub fn receive(&mut self, mut take: impl FnMut(usize, u64, &[u8])) {
        while let Some((head, len)) = self.input.peek(&mut self.scratch) {
            take(usize::from(head.port), head.at_us, self.scratch.get(..len).unwrap_or_default());
            self.input.skip();
        }
    }

    /// Sends at the beginning of the next period. `false`: there is no room, or no such port.
    pub fn send(&mut self, port: usize, bytes: &[u8]) -> bool {
        self.push(port, None, 0, bytes)
    }

    /// Sends at a time in JACK's µs. [`MidiRings::flush`] takes it back unless `keep`.
    pub fn send_at(&mut self, port: usize, at_us: u64, keep: bool, bytes: &[u8]) -> bool {
        let epoch = if keep { 0 } else { self.counts.epoch.load(Ordering::Relaxed) };
        self.push(port, Some(at_us), epoch, bytes)
    }

    fn push(&mut self, port: usize, at_us: Option<u64>, epoch: u32, bytes: &[u8]) -> bool {
        let Ok(len) = u32::try_from(bytes.len()) else { return false };
        let Some(lane) = self.lanes.get_mut(port) else { return false };
        let head = Head { port: 0, len, epoch, at_us: at_us.unwrap_or(0), seq: 0 };
        let pushed = if at_us.is_some() { lane.push_at(head, bytes) } else { lane.now.push(head, bytes) };
        if !pushed {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Takes back what has a time and is not sent yet.
    pub fn flush(&mut self) {
        // 0 is for what is kept.
        let next = self.counts.epoch.load(Ordering::Relaxed).wrapping_add(1).max(1);
        self.counts.epoch.store(next, Ordering::Release);
    }

    /// Whether all that was to go at once has gone.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.now.heads.slots() == lane.now.heads.buffer().capacity())
    }

    /// What is counted.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CYCLE: Cycle = Cycle { start_us: 10_000, next_us: 20_000, frames: 480 };

    fn sent(rt: &mut MidiRt, cycle: Cycle) -> Vec<(u32, Vec<u8>)> {
        let mut out = Vec::new();
        rt.send(0, cycle, |offset, bytes| {
            out.push((offset, bytes.to_vec()));
            true
        });
        out
    }

    #[test]
    fn each_goes_out_at_its_frame() {
        let (mut rt, mut rings) = midi_rings(1);
        assert!(rings.send_at(0, 9_000, false, &[1]) && rings.send_at(0, 15_000, false, &[2]));
        assert!(rings.send_at(0, 20_000, false, &[3]) && rings.send(0, &[4]));
        assert_eq!(sent(&mut rt, CYCLE), [(0, vec![4]), (0, vec![1]), (240, vec![2])]);
        let next = Cycle { start_us: 20_000, next_us: 30_000, frames: 480 };
        assert_eq!(sent(&mut rt, next), [(0, vec![3])]);
        assert_eq!(
            (CYCLE.at_us(240), CYCLE.offset(CYCLE.at_us(479)), CYCLE.offset(u64::MAX / 1_000)),
            (15_000, 479, 479)
        );
    }

    #[test]
    fn what_is_mapped_does_not_wait_behind_ticks_that_were_sent_ahead() {
        let (mut rt, mut rings) = midi_rings(1);
        for at in [12_000, 22_000, 32_000] {
            assert!(rings.send_at(0, at, true, &[0xf8]));
        }
        // A note of the table, the end of a shorter one, and what goes at once.
        assert!(rings.send_at(0, 15_000, false, &[0x90, 60, 64]));
        assert!(rings.send_at(0, 11_000, true, &[0x80, 59, 64]) && rings.send(0, &[0xb0, 1, 2]));
        let all = [(0, vec![0xb0, 1, 2]), (48, vec![0x80, 59, 64]), (96, vec![0xf8]), (240, vec![0x90, 60, 64])];
        assert_eq!(sent(&mut rt, CYCLE), all);
        let next = Cycle { start_us: 20_000, next_us: 30_000, frames: 480 };
        assert_eq!(sent(&mut rt, next), [(96, vec![0xf8])]);
    }

    #[test]
    fn two_periods_of_one_time_do_not_put_off_those_after_them() {
        let mut last = None;
        for start_us in [10_000, 10_000, 20_000, 30_000, 40_000] {
            last = Some(Cycle { start_us, next_us: start_us + 10_000, frames: 480 }.after(last));
        }
        assert_eq!(last.map(|last| (last.start_us, last.next_us)), Some((40_000, 50_000)));
    }

    #[test]
    fn what_came_later_never_has_an_earlier_time() {
        let (mut rt, mut rings) = midi_rings(1);
        let mut last = None;
        // The second has the times of the first, as after a period that was missed; the fourth overlaps the third.
        for (n, start_us) in [10_000, 10_000, 35_000, 44_000, 54_000].into_iter().enumerate() {
            let cycle = Cycle { start_us, next_us: start_us + 10_000, frames: 480 }.after(last);
            last = Some(cycle);
            for offset in [0, 240, 479] {
                rt.receive(0, cycle.at_us(offset), &[n as u8, offset as u8]);
            }
        }
        let mut came = Vec::new();
        rings.receive(|_, at, bytes| came.push((at, bytes.to_vec())));
        assert!(came.windows(2).all(|pair| pair[0].0 < pair[1].0), "{came:?}");
        let before = Cycle { start_us: 1_000_000, next_us: 1_010_000, frames: 480 };
        let anew = Cycle { start_us: 5, next_us: 10_005, frames: 480 };
        assert_eq!(anew.after(Some(before)).start_us, 5, "its clock has begun anew");
    }

    #[test]
    fn of_two_with_one_time_the_first_goes_first() {
        let (mut rt, mut rings) = midi_rings(1);
        for (at, byte) in [(14_000, 1), (12_000, 2), (14_000, 3), (12_000, 4), (14_000, 5), (11_000, 6), (12_000, 7)] {
            assert!(rings.send_at(0, at, false, &[byte]));
        }
        let order: Vec<u8> = sent(&mut rt, CYCLE).into_iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(order, [6, 2, 4, 7, 1, 3, 5]);
    }

    #[test]
    fn a_ring_that_is_full_leaves_the_rest_to_the_next() {
        let (mut rt, mut rings) = midi_rings(1);
        let all = MESSAGES * TIMED;
        let pushed = (0..all + 10).filter(|_| rings.send_at(0, 11_000, false, &[0xf8])).count();
        assert_eq!((pushed, rings.counts().lost(), sent(&mut rt, CYCLE).len()), (all, 10, all));
    }

    #[test]
    fn what_is_flushed_is_not_sent_but_what_is_kept() {
        let (mut rt, mut rings) = midi_rings(1);
        rings.send_at(0, 11_000, false, &[1]);
        rings.send_at(0, 12_000, true, &[2]);
        rings.flush();
        rings.send_at(0, 13_000, false, &[3]);
        assert_eq!(sent(&mut rt, CYCLE), [(96, vec![2]), (144, vec![3])]);
    }

    #[test]
    fn what_finds_no_room_waits_and_what_never_will_is_lost() {
        let (mut rt, mut rings) = midi_rings(1);
        rings.send(0, &[1; 40]);
        rings.send(0, &[2; 4]);
        rings.send(0, &[3; 4]);
        // Room for one message of up to 8 bytes a period.
        let period = |rt: &mut MidiRt| {
            let mut out = Vec::new();
            rt.send(0, CYCLE, |_, bytes| {
                let fits = bytes.len() <= 8 && out.is_empty();
                if fits {
                    out.extend_from_slice(bytes);
                }
                fits
            });
            out
        };
        assert_eq!(period(&mut rt), [2; 4]);
        assert_eq!(rings.counts().lost(), 1);
        assert_eq!(period(&mut rt), [3; 4]);
        assert!(period(&mut rt).is_empty());
    }

    #[test]
    fn a_full_ring_loses_and_counts() {
        let (mut rt, mut rings) = midi_rings(1);
        for _ in 0..MESSAGES + 10 {
            rt.receive(0, 0, &[0x90, 60, 64]);
        }
        assert_eq!(rings.counts().lost(), 10);
        let mut got = 0;
        rings.receive(|_, _, _| got += 1);
        assert_eq!(got, MESSAGES);
        assert!(!rings.send(0, &vec![0; BYTES + 1]) && !rings.send(7, &[1]));
    }

    proptest! {
        /// Nothing is lost, doubled or changed, whatever the lengths and however often it is read.
        #[test]
        fn what_goes_in_comes_out(messages in prop::collection::vec((0..3u16, prop::collection::vec(any::<u8>(), 0..600)), 0..300), every in 1..20usize) {
            let (mut rt, mut rings) = midi_rings(1);
            let mut got = Vec::new();
            for (n, (port, bytes)) in messages.iter().enumerate() {
                rt.receive(*port, n as u64, bytes);
                if n % every == 0 {
                    rings.receive(|port, at, bytes| got.push((port as u16, at, bytes.to_vec())));
                }
            }
            rings.receive(|port, at, bytes| got.push((port as u16, at, bytes.to_vec())));
            let expected: Vec<_> = messages.into_iter().enumerate().map(|(n, (port, bytes))| (port, n as u64, bytes)).collect();
            prop_assert_eq!(got, expected);
        }

        /// Each of a few sources that send in their own order goes out at its frame, whatever the others do.
        #[test]
        fn sources_do_not_wait_for_each_other(steps in prop::collection::vec((0..TIMED as u64, 0..900u64), 0..200)) {
            let (mut rt, mut rings) = midi_rings(1);
            // Each has its own stretch of time, so that they overlap in no order at all.
            let mut times: Vec<u64> = (0..TIMED as u64).map(|source| 10_000 + source * 2_400).collect();
            let mut expected = Vec::new();
            for (source, step) in steps {
                let at = &mut times[source as usize];
                *at = (*at + step).min(10_000 + source * 2_400 + 2_399);
                prop_assert!(rings.send_at(0, *at, false, &[source as u8]));
                expected.push((CYCLE.offset(*at), source as u8));
            }
            expected.sort_by_key(|(offset, _)| *offset);
            let sent: Vec<_> = sent(&mut rt, CYCLE).into_iter().map(|(offset, bytes)| (offset, bytes[0])).collect();
            let offsets = |all: &[(u32, u8)]| all.iter().map(|(offset, _)| *offset).collect::<Vec<_>>();
            prop_assert_eq!(offsets(&sent), offsets(&expected));
        }

        /// JACK wants frames of a port that never go back, within the period.
        #[test]
        fn frames_ascend(times in prop::collection::vec(0..40_000u64, 0..60)) {
            let (mut rt, mut rings) = midi_rings(1);
            let mut times = times;
            times.sort_unstable();
            for at in &times {
                rings.send_at(0, *at, false, &[0xf8]);
                rings.send(0, &[0xfa]);
            }
            let offsets: Vec<u32> = sent(&mut rt, CYCLE).into_iter().map(|(offset, _)| offset).collect();
            prop_assert!(offsets.windows(2).all(|pair| pair[0] <= pair[1]) && offsets.iter().all(|offset| *offset < 480));
            prop_assert_eq!(offsets.len(), times.len() + times.iter().filter(|at| **at < 20_000).count());
        }
    }
}
