//! What waits for its turn: a lane for each listener, OSC target and MIDI port that is told things by the bus. Pure.
//!
//! What is in one lane goes in its order, one thing at a time: a release must follow its press. Whoever does not answer holds
//! up the own lane alone. What has waited there in the meantime is of three kinds:
//!
//! | [`Kind`] | such as | grows too old | is called off by a stop |
//! | --- | --- | --- | --- |
//! | `Press` | push to talk, say, a note | after [`FRESH`] | yes |
//! | `Value` | a fader, a scene, a program | no | yes |
//! | `Lasting` | a release, a mode, a mute, the end of a note | no | no: something would hang |

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::action::Deed;
use crate::bus::message::midi::{self, Panic, Transport};
use crate::bus::message::osc::Arg;
use crate::bus::message::voice::Control;
use crate::midi::{parse, sounding};

/// Lanes that have something to do at once. What is for a further one is left out, and that is told.
pub const LANES: usize = 64;
/// What waits in a lane. Beyond, what comes is left out; for what lasts the oldest press or value is. Both are told.
pub const WAITING: usize = 256;
/// A press that is older when its turn comes is left out: nobody means it any more.
pub const FRESH: Duration = Duration::from_secs(1);

/// What goes in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// What a listener is told.
    Listener(String),
    /// What an OSC target is sent.
    Osc(String),
    /// What a MIDI port is sent.
    Midi(String),
}

impl Lane {
    /// Where a deed goes in order; `None`: by itself.
    #[must_use]
    pub fn of(deed: &Deed) -> Option<Self> {
        match deed {
            Deed::Listener { listener, .. } => Some(Self::Listener(listener.0.clone())),
            Deed::Osc(out) => Some(Self::Osc(out.target.clone())),
            Deed::Midi(out) => Some(Self::Midi(out.port.clone())),
            Deed::Command { .. } | Deed::Tool { .. } | Deed::Stop => None,
        }
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "the listener {name}"),
            Self::Osc(name) => write!(f, "the OSC target {name}"),
            Self::Midi(name) if name.is_empty() => f.write_str("the MIDI port midi_out"),
            Self::Midi(name) => write!(f, "the MIDI port {name}"),
        }
    }
}

/// What becomes of a deed that has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Worth nothing when it comes late.
    Press,
    /// Better late than never, but not after a stop.
    Value,
    /// Without it something would hang.
    Lasting,
}

impl Kind {
    /// That of a deed.
    #[must_use]
    pub fn of(deed: &Deed) -> Self {
        match deed {
            Deed::Listener { control, .. } => match control {
                Control::PushToTalk { held: None | Some(true) } | Control::Say { .. } | Control::Ask { .. } => {
                    Self::Press
                }
                Control::PushToTalk { held: Some(false) }
                | Control::Mute { .. }
                | Control::Mode { .. }
                | Control::Meter { .. }
                | Control::Stop => Self::Lasting,
            },
            // As a surface sends it: 0 is a button that was let go.
            Deed::Osc(out) if out.args.first().is_some_and(is_off) => Self::Lasting,
            Deed::Osc(_) => Self::Value,
            Deed::Midi(out) if ends(out) => Self::Lasting,
            Deed::Midi(out) if out.note.is_some() || out.chord.is_some() => Self::Press,
            Deed::Midi(_) => Self::Value,
            Deed::Command { .. } | Deed::Tool { .. } | Deed::Stop => Self::Press,
        }
    }
}

fn is_off(arg: &Arg) -> bool {
    match arg {
        Arg::Int(number) => *number == 0,
        Arg::Int64(number) => *number == 0,
        Arg::Float(number) => *number == 0.0,
        Arg::Double(number) => *number == 0.0,
        Arg::Bool(is) => !is,
        _ => false,
    }
}

/// Whether it only ends things: notes, a pedal, a pressure, a bend, a song.
fn ends(out: &midi::Out) -> bool {
    if !out.all.is_empty() {
        return out.all.iter().all(ends);
    }
    let is_zero = |number: Option<midi::Number>| number.is_some_and(|number| number.get() == 0.0);
    let has_value = out.cc.is_some() || out.cc14.is_some() || out.key_pressure.is_some();
    let raw = out.raw.as_ref().and_then(|bytes| parse::all(&bytes.0).ok());
    out.off.is_some()
        || out.transport == Some(Transport::Stop)
        || raw.is_some_and(|all| !all.is_empty() && all.iter().all(sounding::ends))
        || matches!(out.panic, Some(Panic::Ours(true) | Panic::Word(_)))
        || (is_zero(out.velocity) && (out.note.is_some() || out.chord.is_some()))
        || (is_zero(out.value) && has_value)
        || is_zero(out.pressure)
        || is_zero(out.bend)
}

/// What comes of something that was put into a lane.
#[derive(Debug, PartialEq, Eq)]
pub struct Put<T> {
    /// Nobody works on this lane yet: somebody has to begin.
    pub begins: bool,
    /// What was left out for it.
    pub instead: Option<T>,
}

/// It is left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T> {
    /// What was to be put there.
    pub what: T,
    /// Why.
    pub why: String,
}

/// What is to be done now in a lane.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn<T> {
    /// Presses that have grown too old; they are left out.
    pub late: Vec<T>,
    /// The next; `None`: the lane is at its end, and gone.
    pub next: Option<(T, Kind)>,
}

#[derive(Debug)]
struct Waiting<T> {
    what: T,
    kind: Kind,
    since: Instant,
    stops: u64,
    outranks: bool,
}

impl<T> Waiting<T> {
    fn is_called_off(&self, stops: u64) -> bool {
        self.stops < stops && self.kind != Kind::Lasting
    }
}

#[derive(Debug)]
struct Queue<T> {
    /// What waits behind what is under way.
    waiting: VecDeque<Waiting<T>>,
    /// What is under way is a stop of this lane.
    is_stopping: bool,
    /// What is under way is to be left for the next.
    hurries: bool,
}

/// All lanes that have something to do.
#[derive(Debug)]
pub struct Lanes<T>(HashMap<Lane, Queue<T>>);

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Lanes<T> {
    fn queue(&mut self, lane: &Lane) -> Option<(&mut Queue<T>, bool)> {
        let begins = !self.0.contains_key(lane);
        if begins {
            if self.0.len() >= LANES {
                return None;
            }
            let queue = Queue { waiting: VecDeque::new(), is_stopping: false, hurries: false };
            self.0.insert(lane.clone(), queue);
        }
        self.0.get_mut(lane).map(|queue| (queue, begins))
    }

    /// Puts something at the end of a lane. `stops` is how many stops there had been when it was set off.
    ///
    /// # Errors
    /// The lane is full, or there are too many.
    pub fn put(&mut self, lane: &Lane, what: T, kind: Kind, stops: u64, now: Instant) -> Result<Put<T>, Full<T>> {
        let Some((queue, begins)) = self.queue(lane) else { return Err(no_lane(lane, what)) };
        queue.waiting.retain(|waiting| !waiting.is_called_off(stops));
        let mut instead = None;
        if queue.waiting.len() >= WAITING {
            let first = |kind| queue.waiting.iter().position(|waiting| waiting.kind == kind);
            let least = first(Kind::Press).or_else(|| first(Kind::Value));
            match least.filter(|_| kind == Kind::Lasting).and_then(|at| queue.waiting.remove(at)) {
                Some(least) => instead = Some(least.what),
                None => {
                    let why = format!(
                        "{WAITING} deeds wait for {lane} already, which does not keep up; this one is left out"
                    );
                    return Err(Full { what, why });
                }
            }
        }
        queue.waiting.push_back(Waiting { what, kind, since: now, stops, outranks: false });
        Ok(Put { begins, instead })
    }

    /// Puts a stop of this lane alone before all else: presses and values that wait are thrown away, and what is under way is
    /// not waited for. One that comes while another is under way says nothing new.
    ///
    /// # Errors
    /// There are too many lanes.
    pub fn outrank(&mut self, lane: &Lane, what: T, stops: u64, now: Instant) -> Result<Put<T>, Full<T>> {
        let Some((queue, begins)) = self.queue(lane) else { return Err(no_lane(lane, what)) };
        queue.waiting.retain(|waiting| waiting.kind == Kind::Lasting);
        if !queue.is_stopping && queue.waiting.front().is_none_or(|first| !first.outranks) {
            let kind = Kind::Lasting;
            queue.waiting.push_front(Waiting { what, kind, since: now, stops, outranks: true });
            queue.hurries = !begins;
        }
        Ok(Put { begins, instead: None })
    }

    /// What is to be done now in a lane. `stops` is how many stops there have been.
    pub fn next(&mut self, lane: &Lane, stops: u64, now: Instant) -> Turn<T> {
        let mut late = Vec::new();
        if let Some(queue) = self.0.get_mut(lane) {
            (queue.is_stopping, queue.hurries) = (false, false);
            while let Some(first) = queue.waiting.pop_front() {
                if first.is_called_off(stops) {
                    continue;
                }
                if first.kind == Kind::Press && now.saturating_duration_since(first.since) > FRESH {
                    late.push(first.what);
                    continue;
                }
                queue.is_stopping = first.outranks;
                return Turn { late, next: Some((first.what, first.kind)) };
            }
        }
        self.0.remove(lane);
        Turn { late, next: None }
    }

    /// Whether what is under way in a lane is to be left for the next.
    #[must_use]
    pub fn hurries(&self, lane: &Lane) -> bool {
        self.0.get(lane).is_some_and(|queue| queue.hurries)
    }
}

fn no_lane<T>(lane: &Lane, what: T) -> Full<T> {
    let why = format!("{LANES} listeners, OSC targets and MIDI ports are told things already; {lane} is left out");
    Full { what, why }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
