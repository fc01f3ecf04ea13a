//! Feedback loops: what we send comes back and triggers itself, for ever and as fast as it can. Pure: times come from outside.
//!
//! A loop shows in its rhythm: the same thing comes, is answered by something that we send, and comes again soon after, over
//! and over, with the same few values. A surface that echoes its feedback does so once and is no loop; a fader that is moved
//! takes no value again and again. What looks like a loop is held for a moment: a loop then falls silent, since it lives on our
//! answers, and is reported, even if a person presses it meanwhile; something that goes on by itself as fast as before, such as a
//! sensor that sends all the time, is let through for a while, and then looked at again.
//!
//! ```text
//! came, sent, came, sent, … ──ROUNDS──▶ held for HOLD ──it went on──▶ let through for STREAM
//!                                            └──it fell silent──▶ a loop: reported; free again after REST
//! ```

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

/// So often each of its values must have come back before it looks like a loop.
pub const ROUNDS: u32 = 24;
/// What comes later than this after our answer did not come of it. A network takes less; demisemiquavers at 120 take more, and
/// someone may well play the same note that often.
pub const WINDOW: Duration = Duration::from_millis(60);
/// So long it is held, to see whether it goes on by itself.
pub const HOLD: Duration = Duration::from_millis(160);
/// So long a loop is kept broken.
pub const REST: Duration = Duration::from_secs(2);
/// So long a stream is let through before it is looked at again.
const STREAM: Duration = Duration::from_secs(2);
/// A stream comes at least so often while it is held as it came before, as a part of that.
const GOES_ON: u32 = 2;
/// Values that a loop goes through, such as on and off. One with more is taken for something new all the time.
const VALUES: usize = 64;
/// Things that are followed at once; the one that has been quiet for longest goes for a new one.
const KEYS: usize = 1_024;

/// What to do with something that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Act on it.
    Act,
    /// Leave it.
    Leave,
}

/// A loop that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken<K> {
    /// What triggered itself.
    pub key: K,
    /// How often, before it was broken.
    pub rounds: u32,
}

/// What comes and goes. `K` says what and from where, such as a host and an address, or a port, a channel and a number.
#[derive(Debug)]
pub struct Loops<K> {
    keys: HashMap<K, Followed>,
}

#[derive(Debug)]
struct Followed {
    state: LoopState,
    /// When it last came.
    came: Duration,
    /// When something was last sent of it, since it last came.
    sent: Option<Duration>,
    rounds: u32,
    /// Since when the rounds are counted, and how often it came since then.
    begun: Duration,
    comes: u32,
    values: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoopState {
    Free,
    /// Since when, and how often it came after what was on its way then.
    Held {
        since: Duration,
        comes: u32,
    },
    Broken {
        since: Duration,
    },
    Stream {
        since: Duration,
    },
}

impl<K> Default for Loops<K> {
    fn default() -> Self {
        Self { keys: HashMap::new() }
    }
}

/// A value, to compare it with others.
#[must_use]
pub fn value(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

impl<K: Hash + Eq + Clone> Loops<K> {
    /// Something has come, with a value made by [`value`].
    pub fn came(&mut self, key: &K, value: u64, now: Duration) -> Verdict {
        let Some(followed) = self.keys.get_mut(key) else {
            self.make_room();
            self.keys.insert(key.clone(), Followed::new(value, now));
            return Verdict::Act;
        };
        followed.came = now;
        match &mut followed.state {
            LoopState::Held { since, comes } => {
                // What was on its way when it was held comes before that.
                *comes += u32::from(now > *since + WINDOW);
                Verdict::Leave
            }
            LoopState::Broken { since } if now.saturating_sub(*since) < REST => Verdict::Leave,
            LoopState::Stream { since } if now.saturating_sub(*since) < STREAM => Verdict::Act,
            LoopState::Broken { .. } | LoopState::Stream { .. } => {
                *followed = Followed::new(value, now);
                Verdict::Act
            }
            LoopState::Free => followed.count(value, now),
        }
    }

    /// Something was sent because `key` has come, or to where it would come from.
    pub fn sent(&mut self, key: &K, now: Duration) {
        if let Some(followed) = self.keys.get_mut(key) {
            followed.sent = followed.sent.max(Some(now));
        }
    }

    /// When [`Loops::settle`] has something to say; `None` while nothing is held.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let held = self.keys.values().filter_map(|followed| match followed.state {
            LoopState::Held { since, .. } => Some(since + HOLD),
            _ => None,
        });
        held.min()
    }

    /// Decides about what was held long enough; gives the loops among it.
    pub fn settle(&mut self, now: Duration) -> Vec<Broken<K>> {
        let mut broken = Vec::new();
        for (key, followed) in &mut self.keys {
            let LoopState::Held { since, comes } = followed.state else { continue };
            if now < since + HOLD {
                continue;
            }
            if followed.goes_on(since, comes) {
                followed.state = LoopState::Stream { since: now };
            } else {
                followed.state = LoopState::Broken { since: now };
                broken.push(Broken { key: key.clone(), rounds: followed.rounds });
            }
            (followed.rounds, followed.sent) = (0, None);
        }
        broken
    }

    fn make_room(&mut self) {
        if self.keys.len() >= KEYS {
            let oldest = self.keys.iter().min_by_key(|(_, followed)| followed.came).map(|(key, _)| key.clone());
            oldest.map(|key| self.keys.remove(&key));
        }
    }
}

impl Followed {
    fn new(value: u64, now: Duration) -> Self {
        Self { state: LoopState::Free, came: now, sent: None, rounds: 0, begun: now, comes: 0, values: vec![value] }
    }

    fn count(&mut self, value: u64, now: Duration) -> Verdict {
        let is_answer = self.sent.take().is_some_and(|sent| now.saturating_sub(sent) < WINDOW);
        let is_known = self.values.contains(&value);
        if !is_answer || (!is_known && self.values.len() == VALUES) {
            *self = Self::new(value, now);
            return Verdict::Act;
        }
        self.comes = self.comes.saturating_add(1);
        if !is_known {
            self.values.push(value);
            return Verdict::Act;
        }
        self.rounds += 1;
        let values = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        if self.rounds < ROUNDS.saturating_mul(values) {
            return Verdict::Act;
        }
        self.state = LoopState::Held { since: now, comes: 0 };
        Verdict::Leave
    }

    /// Whether it came while it was held about as fast as before; a loop did not, but a person may have pressed it.
    fn goes_on(&self, since: Duration, comes: u32) -> bool {
        let before = since.saturating_sub(self.begun).max(Duration::from_millis(1));
        let looked = HOLD.saturating_sub(WINDOW);
        // comes / looked >= self.comes / before / GOES_ON, of whole numbers.
        comes > 0
            && u128::from(comes) * before.as_micros() * u128::from(GOES_ON)
                >= u128::from(self.comes) * looked.as_micros()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "10.0.0.2 /toggle";

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A loop that takes `trip` to come back, with the values in turn; gives how often it was acted on until it fell silent.
    fn turn(loops: &mut Loops<&'static str>, begin: Duration, trip: Duration, values: &[u64]) -> (u32, Duration) {
        let (mut now, mut acted) = (begin, 0);
        for value in values.iter().cycle().take(10_000) {
            if loops.came(&KEY, *value, now) == Verdict::Leave {
                return (acted, now);
            }
            acted += 1;
            loops.sent(&KEY, now);
            now += trip;
        }
        panic!("the loop goes on");
    }

    #[test]
    fn a_loop_is_broken_told_and_free_again() {
        let many: Vec<u64> = (0..64).collect();
        for values in [&[7][..], &[0, 1], &[1, 2, 3, 4, 5], &many] {
            let rounds = ROUNDS * u32::try_from(values.len()).unwrap();
            let mut loops = Loops::default();
            let (acted, held) = turn(&mut loops, ms(0), ms(3), values);
            assert!(acted <= rounds + 64, "{acted}");
            assert_eq!((loops.settle(held), loops.next()), (vec![], Some(held + HOLD)));
            assert_eq!(loops.settle(held + HOLD), [Broken { key: KEY, rounds }]);
            assert_eq!((loops.settle(held + HOLD), loops.next()), (vec![], None));
            // A person presses it meanwhile, and later.
            assert_eq!(loops.came(&KEY, 7, held + HOLD + ms(10)), Verdict::Leave);
            let later = held + HOLD + REST;
            assert_eq!(loops.came(&KEY, 7, later), Verdict::Act);
            loops.sent(&KEY, later);
            // It still loops, and is broken again.
            let (_, held) = turn(&mut loops, later + ms(3), ms(3), values);
            assert_eq!(loops.settle(held + HOLD).len(), 1);
        }
    }

    #[test]
    fn a_stream_that_is_answered_goes_on() {
        let mut loops = Loops::default();
        let mut left = 0;
        for at in (0..10_000).step_by(20) {
            assert_eq!(loops.settle(ms(at)), []);
            match loops.came(&KEY, at % 2, ms(at)) {
                Verdict::Act => loops.sent(&KEY, ms(at)),
                Verdict::Leave => left += 20,
            }
        }
        assert!((1..=800).contains(&left), "{left} ms of the stream were left out");
    }

    #[test]
    fn who_presses_while_it_is_held_does_not_let_a_loop_through() {
        let mut loops = Loops::default();
        let (_, held) = turn(&mut loops, ms(0), ms(3), &[0, 1]);
        assert_eq!(loops.came(&KEY, 1, held + WINDOW + ms(20)), Verdict::Leave);
        assert_eq!(loops.settle(held + HOLD).len(), 1);
    }

    #[test]
    fn a_stream_that_becomes_a_loop_is_broken() {
        let mut loops = Loops::default();
        let mut at = 0;
        loop {
            loops.settle(ms(at));
            match loops.came(&KEY, 1, ms(at)) {
                Verdict::Act => loops.sent(&KEY, ms(at)),
                Verdict::Leave if loops.next().is_none() => panic!("the stream was broken"),
                Verdict::Leave => {}
            }
            if matches!(loops.keys[KEY].state, LoopState::Stream { .. }) {
                break;
            }
            at += 20;
        }
        // The sensor is gone, and what it has set off goes round.
        let (_, held) = turn(&mut loops, ms(at), ms(3), &[1]);
        assert_eq!(loops.settle(held + HOLD).len(), 1);
    }

    #[test]
    fn faders_echoes_and_people_are_let_through() {
        let mut loops = Loops::default();
        // A fader, each value of which is echoed and answered.
        for step in 0..1_000 {
            assert_eq!(loops.came(&"fader", step, ms(step * 8)), Verdict::Act);
            loops.sent(&"fader", ms(step * 8 + 1));
        }
        // Taps, as fast as people can, each echoed once.
        for tap in 0..1_000 {
            assert_eq!(loops.came(&"tap", 1, ms(tap * 300)), Verdict::Act);
            loops.sent(&"tap", ms(tap * 300));
            assert_eq!(loops.came(&"tap", 1, ms(tap * 300 + 5)), Verdict::Act);
        }
        // A sequencer that plays one note, as fast as music has it.
        for step in 0..1_000 {
            assert_eq!(loops.came(&"note", 64, ms(step * 62)), Verdict::Act);
            loops.sent(&"note", ms(step * 62));
        }
        // What nothing is sent for.
        for at in 0..1_000 {
            assert_eq!(loops.came(&"beat", 1, ms(at)), Verdict::Act);
        }
        assert_eq!(loops.next(), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut loops = Loops::default();
        for key in 0..5_000_u64 {
            loops.came(&key, 0, ms(key));
            assert!(loops.keys.len() <= KEYS);
        }
        assert!(loops.keys.contains_key(&4_999));
    }

    proptest! {
        #[test]
        fn no_loop_lives_for_ever(trip in 0_u64..58, values in 1_u64..=20, tokens in 1_u64..12, press in 0_u64..200) {
            let mut loops = Loops::default();
            // Several messages that go round at once.
            let mut due: Vec<u64> = (0..tokens).collect();
            let mut acted = 0;
            while !due.is_empty() {
                due.sort_unstable();
                let at = due.remove(0);
                if loops.came(&KEY, at % values, ms(at)) == Verdict::Act {
                    loops.sent(&KEY, ms(at));
                    due.push(at + trip.max(1));
                    acted += 1;
                    prop_assert!(acted < 5_000, "it goes on");
                }
            }
            let next = loops.next().expect("something was held");
            // A person presses it meanwhile: that is less than half of what came before, but for the slowest loops.
            if trip < 40 && press < 160 {
                prop_assert_eq!(loops.came(&KEY, 0, next - HOLD + ms(press)), Verdict::Leave);
            }
            prop_assert_eq!(loops.settle(next).len(), 1);
        }
    }
}
