//! What waits for its turn: an outbox for each listener, OSC target and MIDI port that is reached by the bus. Pure.
//!
//! What is in one outbox goes in its order, one effect at a time: a release must follow its press. A destination that does not
//! answer holds up its own outbox alone. What has waited there in the meantime is of three kinds:
//!
//! | [`Urgency`] | such as | grows too old | is cancelled by a stop |
//! | --- | --- | --- | --- |
//! | `Press` | push to talk, say, a note | after [`FRESH`] | yes |
//! | `Value` | a fader, a scene, a program | no | yes |
//! | `Lasting` | a release, a mode, a mute, the end of a note | no | no: something would hang |

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::action::{Destination, Urgency};

/// Outboxes that have something to do at once. What is for a further one is left out, and that is reported.
pub const OUTBOXES: usize = 64;
/// What waits in an outbox. Beyond, what comes is left out; for what lasts the oldest press or value is. Both are reported.
pub const WAITING: usize = 256;
/// A press that is older when its turn comes is left out: it is no longer meant.
pub const FRESH: Duration = Duration::from_secs(1);

/// What comes of something that was put into an outbox.
#[derive(Debug, PartialEq, Eq)]
pub struct Put<T> {
    /// No task empties this outbox yet: one has to begin.
    pub begins: bool,
    /// What was left out for it.
    pub instead: Option<T>,
}

/// It is left out.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut<T> {
    /// What was to be put there.
    pub what: T,
    /// Why.
    pub why: String,
}

/// What is to be done now from an outbox.
#[derive(Debug, PartialEq, Eq)]
pub struct Next<T> {
    /// Presses that have grown too old; they are left out.
    pub late: Vec<T>,
    /// The next; `None`: the outbox is empty, and gone.
    pub next: Option<(T, Urgency)>,
}

#[derive(Debug)]
struct Waiting<T> {
    what: T,
    urgency: Urgency,
    since: Instant,
    stops: u64,
    outranks: bool,
}

impl<T> Waiting<T> {
    fn is_cancelled(&self, stops: u64) -> bool {
        self.stops < stops && self.urgency != Urgency::Lasting
    }
}

#[derive(Debug)]
struct Outbox<T> {
    /// What waits behind what is under way.
    waiting: VecDeque<Waiting<T>>,
    /// What is under way is a stop of this destination.
    is_stopping: bool,
    /// What is under way is to be left for the next.
    hurries: bool,
}

/// All outboxes that have something to do.
#[derive(Debug)]
pub struct Outboxes<T>(HashMap<Destination, Outbox<T>>);

impl<T> Default for Outboxes<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Outboxes<T> {
    fn of(&mut self, to: &Destination) -> Option<(&mut Outbox<T>, bool)> {
        let begins = !self.0.contains_key(to);
        if begins {
            if self.0.len() >= OUTBOXES {
                return None;
            }
            let outbox = Outbox { waiting: VecDeque::new(), is_stopping: false, hurries: false };
            self.0.insert(to.clone(), outbox);
        }
        self.0.get_mut(to).map(|outbox| (outbox, begins))
    }

    /// Puts something at the end of an outbox. `stops` is how many stops there had been when it was set off.
    ///
    /// # Errors
    /// The outbox is full, or there are too many.
    pub fn put(
        &mut self,
        to: &Destination,
        what: T,
        urgency: Urgency,
        stops: u64,
        now: Instant,
    ) -> Result<Put<T>, LeftOut<T>> {
        let Some((outbox, begins)) = self.of(to) else { return Err(no_room(to, what)) };
        outbox.waiting.retain(|waiting| !waiting.is_cancelled(stops));
        let mut instead = None;
        if outbox.waiting.len() >= WAITING {
            let first = |urgency| outbox.waiting.iter().position(|waiting| waiting.urgency == urgency);
            let least = first(Urgency::Press).or_else(|| first(Urgency::Value));
            match least.filter(|_| urgency == Urgency::Lasting).and_then(|at| outbox.waiting.remove(at)) {
                Some(least) => instead = Some(least.what),
                None => {
                    let why = format!(
                        "{WAITING} effects wait for {to} already, which does not keep up; this one is left out"
                    );
                    return Err(LeftOut { what, why });
                }
            }
        }
        outbox.waiting.push_back(Waiting { what, urgency, since: now, stops, outranks: false });
        Ok(Put { begins, instead })
    }

    /// Puts a stop of this destination alone before all else: presses and values that wait are thrown away, and what is under way is
    /// not waited for. One that comes while another is under way says nothing new.
    ///
    /// # Errors
    /// There are too many outboxes.
    pub fn outrank(&mut self, to: &Destination, what: T, stops: u64, now: Instant) -> Result<Put<T>, LeftOut<T>> {
        let Some((outbox, begins)) = self.of(to) else { return Err(no_room(to, what)) };
        outbox.waiting.retain(|waiting| waiting.urgency == Urgency::Lasting);
        if !outbox.is_stopping && outbox.waiting.front().is_none_or(|first| !first.outranks) {
            let urgency = Urgency::Lasting;
            outbox.waiting.push_front(Waiting { what, urgency, since: now, stops, outranks: true });
            outbox.hurries = !begins;
        }
        Ok(Put { begins, instead: None })
    }

    /// What is to be done now from an outbox. `stops` is how many stops there have been.
    pub fn next(&mut self, to: &Destination, stops: u64, now: Instant) -> Next<T> {
        let mut late = Vec::new();
        if let Some(outbox) = self.0.get_mut(to) {
            (outbox.is_stopping, outbox.hurries) = (false, false);
            while let Some(first) = outbox.waiting.pop_front() {
                if first.is_cancelled(stops) {
                    continue;
                }
                if first.urgency == Urgency::Press && now.saturating_duration_since(first.since) > FRESH {
                    late.push(first.what);
                    continue;
                }
                outbox.is_stopping = first.outranks;
                return Next { late, next: Some((first.what, first.urgency)) };
            }
        }
        self.0.remove(to);
        Next { late, next: None }
    }

    /// Whether what is under way from an outbox is to be left for the next.
    #[must_use]
    pub fn hurries(&self, to: &Destination) -> bool {
        self.0.get(to).is_some_and(|outbox| outbox.hurries)
    }
}

fn no_room<T>(to: &Destination, what: T) -> LeftOut<T> {
    let why =
        format!("{OUTBOXES} listeners, OSC targets and MIDI ports have effects waiting already; {to} is left out");
    LeftOut { what, why }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
