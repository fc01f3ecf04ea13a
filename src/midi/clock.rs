//! MIDI clock: 24 ticks a quarter note in, tempo and position out, and the other way; and the grid of beats and bars that
//! actions wait for.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::message::Message;

/// Ticks of a quarter note.
pub const TICKS_PER_BEAT: u64 = 24;
/// Ticks of a sixteenth, in which song positions count.
const TICKS_PER_SIXTEENTH: u64 = 6;
/// Ticks that the tempo is the mean of: two beats.
const WINDOW: usize = 49;
/// A pause after which the clock has stopped: slower than 5 BPM.
const GAP_US: u64 = 500_000;
/// The tempos that there are, in beats a minute.
pub const BPM: std::ops::RangeInclusive<f64> = 5.0..=400.0;

/// When something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantum {
    /// At the next beat.
    Beat,
    /// At the next bar.
    Bar,
}

/// Beats and bars in time, as far as is known now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// A time on which a beat falls, in µs.
    pub beat_at_us: f64,
    /// The number of that beat from the song's beginning.
    pub beat: i64,
    /// How long a beat is, in µs.
    pub beat_us: f64,
    /// Beats a bar.
    pub beats_per_bar: u32,
}

impl Grid {
    /// A grid whose first bar begins at `origin_us`.
    #[must_use]
    pub fn new(origin_us: u64, bpm: f64, beats_per_bar: u32) -> Self {
        Self { beat_at_us: origin_us as f64, beat: 0, beat_us: 60e6 / bpm, beats_per_bar: beats_per_bar.max(1) }
    }

    /// Beats a minute.
    #[must_use]
    pub fn bpm(&self) -> f64 {
        60e6 / self.beat_us
    }

    /// The beat at `now_us`, from the song's beginning, with its fraction.
    #[must_use]
    pub fn beats_at(&self, now_us: u64) -> f64 {
        self.beat as f64 + (now_us as f64 - self.beat_at_us) / self.beat_us
    }

    /// The bar and the beat in it at `now_us`, both from 1.
    #[must_use]
    pub fn position(&self, now_us: u64) -> (i64, u32) {
        let beat = self.beats_at(now_us).floor() as i64;
        let per_bar = i64::from(self.beats_per_bar.max(1));
        (beat.div_euclid(per_bar) + 1, u32::try_from(beat.rem_euclid(per_bar)).unwrap_or(0) + 1)
    }

    /// The first beat or bar at `now_us` or after, in µs.
    #[must_use]
    pub fn next_us(&self, quantum: Quantum, now_us: u64) -> u64 {
        let step = match quantum {
            Quantum::Beat => 1.0,
            Quantum::Bar => f64::from(self.beats_per_bar.max(1)),
        };
        // A microsecond after the beat is on it: times are whole.
        let beats = self.beats_at(now_us) - 1.0 / self.beat_us;
        let at = (beats / step).ceil() * step;
        let at_us = self.beat_at_us + (at - self.beat as f64) * self.beat_us;
        (at_us.round() as u64).max(now_us)
    }
}

/// What a clock that comes in says.
#[derive(Debug, Clone)]
pub struct ClockIn {
    /// The last ticks' times, in µs.
    times: VecDeque<u64>,
    /// The tick that comes next, from the song's beginning.
    next_tick: i64,
    /// Where the song goes on: clocks tick on while it stands still.
    halted_at: Option<i64>,
    running: bool,
    beats_per_bar: u32,
}

impl ClockIn {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(beats_per_bar: u32) -> Self {
        Self {
            times: VecDeque::with_capacity(WINDOW),
            next_tick: 0,
            halted_at: None,
            running: false,
            beats_per_bar: beats_per_bar.max(1),
        }
    }

    /// Takes the next message that came at `at_us`.
    pub fn feed(&mut self, message: &Message, at_us: u64) {
        match message {
            Message::Clock => {
                if self.times.back().is_some_and(|last| at_us.saturating_sub(*last) > GAP_US || at_us < *last) {
                    self.times.clear();
                }
                if self.times.len() == WINDOW {
                    self.times.pop_front();
                }
                self.times.push_back(at_us);
                self.next_tick += 1;
            }
            Message::Start => {
                self.running = true;
                (self.next_tick, self.halted_at) = (0, None);
            }
            Message::Continue => {
                self.running = true;
                self.next_tick = self.halted_at.take().unwrap_or(self.next_tick);
            }
            Message::Stop if self.running => {
                (self.running, self.halted_at) = (false, Some(self.next_tick));
            }
            Message::SongPosition(sixteenths) => {
                self.next_tick = i64::from(*sixteenths) * TICKS_PER_SIXTEENTH.cast_signed();
                self.halted_at = (!self.running).then_some(self.next_tick);
            }
            _ => {}
        }
    }

    /// Whether the song runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.running
    }

    /// Beats and bars, if ticks come at `now_us`.
    #[must_use]
    pub fn grid(&self, now_us: u64) -> Option<Grid> {
        let (first, last) = (*self.times.front()?, *self.times.back()?);
        if self.times.len() < 3 || now_us.saturating_sub(last) > GAP_US {
            return None;
        }
        let ticks = (self.times.len() - 1) as f64;
        let tick_us = (last - first) as f64 / ticks;
        if tick_us < 1.0 {
            return None;
        }
        // The mean of all ticks of the window lies on the line through them: less jitter than the last one alone.
        let mean = self.times.iter().map(|time| (time - first) as f64).sum::<f64>() / self.times.len() as f64;
        let last_us = first as f64 + mean + tick_us * ticks / 2.0;
        let per_beat = TICKS_PER_BEAT.cast_signed();
        let tick = self.next_tick - 1;
        let beat = tick.div_euclid(per_beat);
        Some(Grid {
            beat_at_us: last_us - tick.rem_euclid(per_beat) as f64 * tick_us,
            beat,
            beat_us: tick_us * TICKS_PER_BEAT as f64,
            beats_per_bar: self.beats_per_bar,
        })
    }
}

/// A clock that goes out: the times of its ticks, without any error that adds up.
#[derive(Debug, Clone)]
pub struct ClockOut {
    grid: Grid,
    /// The tick that comes next, from the grid's origin.
    next: u64,
}

impl ClockOut {
    /// Ticks from `origin_us` on.
    ///
    /// # Errors
    /// When there is no such tempo.
    pub fn new(origin_us: u64, bpm: f64, beats_per_bar: u32) -> Result<Self, String> {
        if !BPM.contains(&bpm) {
            return Err(format!(
                "there is no tempo of {bpm} BPM here; choose one from {} to {}",
                BPM.start(),
                BPM.end()
            ));
        }
        Ok(Self { grid: Grid::new(origin_us, bpm, beats_per_bar), next: 0 })
    }

    /// When the next tick is due, in µs.
    #[must_use]
    pub fn next_us(&self) -> u64 {
        (self.grid.beat_at_us + self.next as f64 * self.grid.beat_us / TICKS_PER_BEAT as f64).round() as u64
    }

    /// The ticks that are due before `until_us`: each once. Those that were missed by far are left out.
    pub fn due(&mut self, now_us: u64, until_us: u64) -> Vec<u64> {
        let tick_us = self.grid.beat_us / TICKS_PER_BEAT as f64;
        let behind = now_us as f64 - self.next_us() as f64;
        if behind > GAP_US as f64 {
            self.next += (behind / tick_us) as u64;
        }
        let mut out = Vec::new();
        while self.next_us() < until_us {
            out.push(self.next_us());
            self.next += 1;
        }
        out
    }

    /// Beats and bars.
    #[must_use]
    pub const fn grid(&self) -> Grid {
        self.grid
    }

    /// Goes on at another tempo from the tick that comes next.
    ///
    /// # Errors
    /// When there is no such tempo.
    pub fn set_bpm(&mut self, bpm: f64) -> Result<(), String> {
        let at_us = self.next_us();
        let (ticks, beats) = (self.next % TICKS_PER_BEAT, (self.next / TICKS_PER_BEAT).cast_signed());
        let fresh = Self::new(at_us, bpm, self.grid.beats_per_bar)?;
        let back = ticks as f64 * fresh.grid.beat_us / TICKS_PER_BEAT as f64;
        let beat = self.grid.beat + beats;
        self.grid = Grid { beat_at_us: at_us as f64 - back, beat, ..fresh.grid };
        self.next = ticks;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK_US: u64 = 20_833;

    fn run(clock: &mut ClockIn, from_us: u64, ticks: u64) -> u64 {
        for n in 0..ticks {
            clock.feed(&Message::Clock, from_us + n * TICK_US);
        }
        from_us + (ticks - 1) * TICK_US
    }

    #[test]
    fn a_clock_tells_tempo_and_position() {
        let mut clock = ClockIn::new(4);
        assert_eq!(clock.grid(0), None);
        clock.feed(&Message::Start, 1_000);
        let last = run(&mut clock, 2_000, 24 * 5 + 1);
        let grid = clock.grid(last).unwrap();
        assert!((grid.bpm() - 120.0).abs() < 0.1, "{}", grid.bpm());
        assert_eq!(grid.position(last + 10), (2, 2));
        assert!(clock.is_running());
        // Beat 6 is a beat after `last`, bar 3 begins three beats after.
        assert!(grid.next_us(Quantum::Beat, last + 100).abs_diff(last + 24 * TICK_US) < 20);
        assert!(grid.next_us(Quantum::Bar, last + 100).abs_diff(last + 3 * 24 * TICK_US) < 20);
        clock.feed(&Message::Stop, last);
        assert!(!clock.is_running());
        assert_eq!(clock.grid(last + 600_000), None, "no ticks, no grid");
    }

    #[test]
    fn a_song_position_is_where_the_next_tick_is() {
        let mut clock = ClockIn::new(3);
        clock.feed(&Message::SongPosition(24), 0);
        clock.feed(&Message::Continue, 0);
        let last = run(&mut clock, 0, 25);
        // 24 sixteenths are 6 beats: the third bar of 3/4; one beat later it is its second beat.
        assert_eq!(clock.grid(last).unwrap().position(last + 10), (3, 2));
    }

    #[test]
    fn a_song_goes_on_where_it_stopped_though_the_clock_ticked_on() {
        let mut clock = ClockIn::new(4);
        clock.feed(&Message::Start, 0);
        let last = run(&mut clock, 0, 24 * 2);
        clock.feed(&Message::Stop, last);
        let last = run(&mut clock, last + TICK_US, 31);
        // There are beats to wait for while it stands still.
        assert!(clock.grid(last).is_some() && !clock.is_running());
        clock.feed(&Message::Continue, last);
        let last = run(&mut clock, last + TICK_US, 1);
        assert_eq!(clock.grid(last).unwrap().position(last + 10), (1, 3));

        // Sent elsewhere meanwhile, it goes on from there.
        clock.feed(&Message::Stop, last);
        clock.feed(&Message::SongPosition(16), last);
        let last = run(&mut clock, last + TICK_US, 10);
        clock.feed(&Message::Continue, last);
        let last = run(&mut clock, last + TICK_US, 1);
        assert_eq!(clock.grid(last).unwrap().position(last + 10), (2, 1));
    }

    #[test]
    fn a_tempo_that_changes_keeps_the_position() {
        let mut out = ClockOut::new(0, 120.0, 4).unwrap();
        assert_eq!(out.due(0, 1_000_000).len(), 48);
        let next = out.next_us();
        out.set_bpm(60.0).unwrap();
        assert_eq!(out.next_us(), next);
        let ticks = out.due(next, next + 2_000_000);
        assert_eq!(ticks.len(), 48);
        assert_eq!(out.grid().position(next + 10), (1, 3));
        assert!(out.set_bpm(0.0).is_err() && out.set_bpm(f64::NAN).is_err());
    }

    #[test]
    fn ticks_that_were_missed_are_not_made_up_for() {
        let mut out = ClockOut::new(0, 120.0, 4).unwrap();
        assert!(out.due(60_000_000, 60_020_000).len() <= 26);
    }

    proptest! {
        /// What goes out comes in with the same tempo, and beats fall on the same times, whatever the jitter of a period.
        #[test]
        fn out_and_in_agree(bpm in 40.0..250.0f64, period_us in 0..6_000u64, origin in 0..10_000_000u64) {
            let mut out = ClockOut::new(origin, bpm, 4).unwrap();
            let mut clock = ClockIn::new(4);
            clock.feed(&Message::Start, origin);
            let ticks = out.due(origin, origin + 8_000_000);
            for (n, at) in ticks.iter().enumerate() {
                clock.feed(&Message::Clock, at + (n as u64 * 7_919) % period_us.max(1));
            }
            let last = *ticks.last().unwrap() + period_us;
            let grid = clock.grid(last).unwrap();
            prop_assert!((grid.bpm() - bpm).abs() / bpm < 0.02, "{} {bpm}", grid.bpm());
            let (heard, sent) = (grid.next_us(Quantum::Beat, last + 7_000), out.grid().next_us(Quantum::Beat, last + 7_000));
            let off = (heard as f64 - sent as f64).rem_euclid(grid.beat_us);
            let off = off.min(grid.beat_us - off);
            prop_assert!(off <= period_us as f64 + 0.02 * grid.beat_us, "{off}");
        }

        /// The n-th tick is where it belongs to the microsecond, after any time, in whatever pieces it was asked for.
        #[test]
        fn ticks_do_not_drift(bpm in 20.0..300.0f64, steps in prop::collection::vec(1..50_000u64, 1..300)) {
            let mut out = ClockOut::new(0, bpm, 4).unwrap();
            let (mut now, mut all) = (0, Vec::new());
            for step in steps {
                all.extend(out.due(now, now + step));
                now += step;
            }
            for (n, at) in all.iter().enumerate() {
                prop_assert!((*at as f64 - n as f64 * 60e6 / bpm / 24.0).abs() <= 0.5 + 1e-6);
                prop_assert!(*at < now);
            }
        }

        #[test]
        fn the_next_beat_is_within_a_beat(bpm in 5.0..400.0f64, origin in 0..1_000_000u64, now in 0..100_000_000u64, per_bar in 1..9u32) {
            let grid = Grid::new(origin, bpm, per_bar);
            let beat = grid.next_us(Quantum::Beat, now);
            let bar = grid.next_us(Quantum::Bar, now);
            prop_assert!(beat >= now && (beat - now) as f64 <= grid.beat_us + 2.0);
            prop_assert!(bar >= beat.saturating_sub(2) && (bar - now) as f64 <= grid.beat_us * f64::from(per_bar) + 2.0);
            prop_assert_eq!(grid.position(bar + 2).1, 1);
        }
    }
}
