//! The state of the sequencer, and what it leaves to be done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::super::mapping::Mapping;
use crate::action::Effect;
use crate::bus::message::fault::Fault;
use crate::bus::message::midi::Transport;
use crate::midi::clock::{ClockIn, ClockOut, Grid, Quantum};
use crate::midi::sounding::Sounding;
use crate::midi::trigger::Fired;
use crate::midi::{Kind, Message, Parser};
use crate::rig::loops::Loops;

/// Messages that may wait for their time; one more is refused.
pub const WAITING_MAX: usize = 10_000;
/// What may trigger itself: a port, a status byte and a number.
pub(super) type LoopKey = (usize, u8, u8);

/// What remains to be done, in this order: `flush`, then `sends`, then the others.
#[derive(Debug, Default)]
pub struct Output {
    /// What has a time and is not sent yet is taken back.
    pub flush: bool,
    /// What goes out.
    pub sends: Vec<Outgoing>,
    /// What the mapping sets off that is not MIDI of this host.
    pub effects: Vec<Triggered>,
    /// What came in and is published: port, message, time.
    pub published: Vec<(usize, Message, u64)>,
    /// Notes that began or ended: port, channel, key, whether it began.
    pub journal: Vec<(usize, u8, u8, bool)>,
    /// What people should know.
    pub notices: Vec<String>,
    /// Toggles and controls whose feedback changed: row, key, on.
    pub lights: Vec<(Fired, bool)>,
}

/// A message to a port.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The port's number.
    pub port: usize,
    /// When, in µs; `None`: at once.
    pub at_us: Option<u64>,
    /// Whether it stays when everything is taken back: ticks, and ends of notes.
    pub keep: bool,
    /// What.
    pub message: Message,
}

/// An effect that a control sets off.
#[derive(Debug, Clone, PartialEq)]
pub struct Triggered {
    /// What remains to be done.
    pub effect: Effect,
    /// What it waits for.
    pub on: Option<Quantum>,
    /// Which control set it off, for logs.
    pub by: String,
}

/// A port of both directions.
#[derive(Debug, Default)]
pub struct SequencerPort {
    /// Its name.
    pub name: String,
    pub(super) parser: Parser,
    /// What came in.
    pub heard: Sounding,
    /// What was sent.
    pub sounding: Sounding,
    /// Devices and programs that play to it, and that it plays.
    pub inputs: BTreeSet<String>,
    /// Those that it plays.
    pub outputs: BTreeSet<String>,
    /// Who else plays them.
    pub shared_with: BTreeSet<String>,
    /// Notes that a device which went still has to be told the end of.
    pub(super) owed: Vec<(u8, u8)>,
    /// Channels of such a device whose pedals were down.
    pub(super) owed_pedals: BTreeSet<u8>,
    /// Ends of notes that were sent ahead, and when they are: nothing of the key may go out before.
    pub(super) ends: BTreeMap<(u8, u8), u64>,
}

/// What waits for its time.
#[derive(Debug, Clone)]
pub(super) enum Pending {
    /// A message.
    Send { port: usize, message: Message, by: Arc<str> },
    /// A note that ends, if it is still the one.
    End { port: usize, channel: u8, note: u8, id: u64 },
    /// Notes that begin, and their length in µs.
    Begin { port: usize, channel: u8, note: u8, velocity: u8, length_us: Option<u64>, by: Arc<str> },
    /// The transport.
    Transport { port: usize, word: Transport },
}

/// The state of the role.
pub struct Sequencer {
    /// The ports; the first is `midi_in` and `midi_out`.
    pub ports: Vec<SequencerPort>,
    pub(super) mapping: Mapping,
    pub(super) publish: BTreeSet<Kind>,
    pub(super) own: ClockOut,
    pub(super) running: bool,
    pub(super) clocks: Vec<ClockIn>,
    pub(super) clock_from: ClockFrom,
    /// Ports that the clock goes out on: by configuration, and since they were started.
    pub(super) clock_to: BTreeSet<usize>,
    pub(super) started: BTreeSet<usize>,
    pub(super) waiting: BTreeMap<(u64, u64), Pending>,
    pub(super) next_seq: u64,
    pub(super) loops: Loops<LoopKey>,
    pub(super) came: HashMap<LoopKey, u64>,
    /// Messages that came in, and that went out.
    pub received: u64,
    /// Those that went out.
    pub sent: u64,
    /// Whether there is a driver.
    pub is_up: bool,
    /// How far ahead messages with a time are sent, and how long a period is, in µs.
    pub lead_us: u64,
    /// How long a period is, in µs.
    pub period_us: u64,
    /// What remains to be done.
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockFrom {
    None,
    Any,
    Port(usize),
}

/// What the sequencer is built of.
pub struct Setup {
    /// The ports' names, `midi_out` first.
    pub ports: Vec<String>,
    /// `[[midi.on]]`.
    pub mapping: Mapping,
    /// The kinds of messages that are published as they come in.
    pub publish: BTreeSet<Kind>,
    /// The tempo.
    pub bpm: f64,
    /// Beats a bar.
    pub beats_per_bar: u32,
    /// Whose clock is followed: a port, `any`, or empty.
    pub clock_from: String,
    /// Where the clock goes.
    pub clock_to: Vec<String>,
}

impl Sequencer {
    /// At its beginning.
    ///
    /// # Errors
    /// A setting that can't be.
    pub fn new(setup: Setup, now_us: u64) -> Result<Self, String> {
        let port = |name: &String| {
            setup
                .ports
                .iter()
                .position(|port| port == name)
                .ok_or_else(|| format!("midi has no port {name:?}; there are {}", setup.ports.join(", ")))
        };
        let clock_from = match setup.clock_from.as_str() {
            "" => ClockFrom::None,
            "any" => ClockFrom::Any,
            _ => ClockFrom::Port(port(&setup.clock_from).map_err(|e| format!("midi.clock_from: {e}"))?),
        };
        let clock_to =
            setup.clock_to.iter().map(port).collect::<Result<_, _>>().map_err(|e| format!("midi.clock_to: {e}"))?;
        let own = ClockOut::new(now_us, setup.bpm, setup.beats_per_bar).map_err(|e| format!("midi.bpm: {e}"))?;
        let clocks = setup.ports.iter().map(|_| ClockIn::new(setup.beats_per_bar)).collect();
        let ports =
            setup.ports.iter().map(|name| SequencerPort { name: name.clone(), ..SequencerPort::default() }).collect();
        Ok(Self {
            ports,
            mapping: setup.mapping,
            publish: setup.publish,
            own,
            running: false,
            clocks,
            clock_from,
            clock_to,
            started: BTreeSet::new(),
            waiting: BTreeMap::new(),
            next_seq: 0,
            loops: Loops::default(),
            came: HashMap::new(),
            received: 0,
            sent: 0,
            is_up: false,
            lead_us: 0,
            period_us: 0,
            output: Output::default(),
        })
    }

    /// Beats and bars, whose they are, and whether the song runs.
    #[must_use]
    pub fn clock(&self, now_us: u64) -> (Grid, Option<usize>, bool) {
        match self.source(now_us) {
            Some((port, grid)) => (grid, Some(port), self.clocks.get(port).is_some_and(ClockIn::is_running)),
            None => (self.own.grid(), None, self.running),
        }
    }

    pub(super) fn source(&self, now_us: u64) -> Option<(usize, Grid)> {
        let grid = |port: usize| Some((port, self.clocks.get(port)?.grid(now_us)?));
        match self.clock_from {
            ClockFrom::None => None,
            ClockFrom::Port(port) => grid(port),
            ClockFrom::Any => (0..self.clocks.len()).find_map(grid),
        }
    }

    /// How many messages wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes that came in and made no message.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.ports.iter().map(|port| port.parser.skipped()).sum()
    }

    /// The number of a port that messages go to.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn port(&self, name: &str) -> Result<usize, Fault> {
        if name.is_empty() || name == "midi_in" {
            return Ok(0);
        }
        self.ports.iter().position(|port| port.name == name).ok_or_else(|| {
            let all: Vec<&str> = self.ports.iter().map(|port| port.name.as_str()).collect();
            Fault::not_found(format!("this host has no MIDI port {name:?}; it has {}", all.join(", ")))
        })
    }
}
