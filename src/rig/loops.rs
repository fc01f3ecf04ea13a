//! Feedback loops: what we send comes back and triggers itself, for ever and as fast as it can. Pure: times come from outside.
//!
//! A loop shows in its rhythm: the same thing comes, is answered by something that we send, and comes again soon after, over
//! and over, with the same few values. A surface that echoes what it is told does so once and is no loop; a fader that is moved
//! has many values. What looks like a loop is held for a moment: a loop then falls silent, since it lives on our answers, and
//! is told; something that goes on by itself, such as a sensor that sends all the time, is let through from then on.
//!
//! ```text
//! came, sent, came, sent, … ──ROUNDS──▶ held for HOLD ──it went on──▶ let through while it goes on
//!                                            └──it fell silent──▶ a loop: told; free again after REST
//! ```

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

/// So often something must have come back before it looks like a loop.
pub const ROUNDS: u32 = 24;
/// What comes later than this after our answer did not come of it. A network takes less; demisemiquavers at 120 take more, and
/// someone may well play the same note that often.
pub const WINDOW: Duration = Duration::from_millis(60);
/// So long it is held, to see whether it goes on by itself.
pub const HOLD: Duration = Duration::from_millis(160);
/// So long a loop is kept broken.
pub const REST: Duration = Duration::from_secs(2);
/// So long after its last value a stream counts as the same stream.
const STREAM_GAP: Duration = Duration::from_secs(1);
/// Values that a loop goes through, such as on and off.
const VALUES: usize = 4;
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
    state: State,
    /// When it last came.
    came: Duration,
    /// When something was last sent of it, since it last came.
    sent: Option<Duration>,
    rounds: u32,
    values: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Held { since: Duration },
    Broken { since: Duration },
    Stream,
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
            let new = Followed { state: State::Free, came: now, sent: None, rounds: 0, values: vec![value] };
            self.keys.insert(key.clone(), new);
            return Verdict::Act;
        };
        let gap = now.saturating_sub(followed.came);
        followed.came = now;
        match followed.state {
            State::Held { .. } => Verdict::Leave,
            State::Broken { since } if now.saturating_sub(since) < REST => Verdict::Leave,
            State::Stream if gap < STREAM_GAP => Verdict::Act,
            State::Broken { .. } | State::Stream | State::Free => {
                followed.state = State::Free;
                followed.count(value, now)
            }
        }
    }

    /// Something was sent because `key` has come, or to where it would come from.
    pub fn sent(&mut self, key: &K, now: Duration) {
        if let Some(followed) = self.keys.get_mut(key) {
            followed.sent = Some(now);
        }
    }

    /// When [`Loops::settle`] has something to say; `None` while nothing is held.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let held = self.keys.values().filter_map(|followed| match followed.state {
            State::Held { since } => Some(since + HOLD),
            _ => None,
        });
        held.min()
    }

    /// Decides about what was held long enough; gives the loops among it.
    pub fn settle(&mut self, now: Duration) -> Vec<Broken<K>> {
        let mut broken = Vec::new();
        for (key, followed) in &mut self.keys {
            let State::Held { since } = followed.state else { continue };
            if now < since + HOLD {
                continue;
            }
            // What was on its way when it was held has come by then.
            if followed.came > since + WINDOW {
                followed.state = State::Stream;
            } else {
                followed.state = State::Broken { since: now };
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
    fn count(&mut self, value: u64, now: Duration) -> Verdict {
        let is_answer = self.sent.take().is_some_and(|sent| now.saturating_sub(sent) < WINDOW);
        let is_known = self.values.contains(&value);
        if !is_known {
            if self.values.len() == VALUES {
                self.values.clear();
                self.rounds = 0;
            }
            self.values.push(value);
        }
        if !is_answer {
            (self.rounds, self.values) = (0, vec![value]);
            return Verdict::Act;
        }
        if is_known {
            self.rounds += 1;
        }
        if self.rounds < ROUNDS {
            return Verdict::Act;
        }
        self.state = State::Held { since: now };
        Verdict::Leave
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
        for values in [&[7][..], &[0, 1], &[1, 2, 3, 4]] {
            let mut loops = Loops::default();
            let (acted, held) = turn(&mut loops, ms(0), ms(3), values);
            assert!(acted <= ROUNDS + 4, "{acted}");
            assert_eq!((loops.settle(held), loops.next()), (vec![], Some(held + HOLD)));
            assert_eq!(loops.settle(held + HOLD), [Broken { key: KEY, rounds: ROUNDS }]);
            assert_eq!((loops.settle(held + HOLD), loops.next()), (vec![], None));
            // Somebody presses it meanwhile, and later.
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
        assert!((1..=200).contains(&left), "{left} ms of the stream were left out");
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
        fn no_loop_lives_for_ever(trip in 0_u64..58, values in 1_u64..=4, tokens in 1_u64..5) {
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
            prop_assert_eq!(loops.settle(next).len(), 1);
        }
    }
}
