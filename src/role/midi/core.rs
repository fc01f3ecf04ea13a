//! What the role decides: which messages go out when, what what comes in sets off. Knows no driver, no bus and no clock: it
//! is given times, and leaves what is to be done in [`Effects`].

mod devices;
mod input;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::rows::Rows;
use crate::action::Deed;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::midi::{Length, Out, Play, Sent, Step, Transport};
use crate::midi::clock::{ClockIn, ClockOut, Grid, Quantum};
use crate::midi::sounding::{Held, Sounding, ends, silence};
use crate::midi::trigger::Fired;
use crate::midi::{Kind, Message, Note, Parser};
use crate::rig::loops::Loops;

/// Messages that may wait for their time; one more is refused.
pub const WAITING_MAX: usize = 10_000;
/// After a start, the first tick comes this much later, so that a device is ready for it.
const START_LEAD_US: u64 = 1_000;

/// What may trigger itself: a port, a status byte and a number.
type LoopKey = (usize, u8, u8);

/// What is to be done, in this order: `flush`, then `sends`, then the others.
#[derive(Debug, Default)]
pub struct Effects {
    /// What has a time and is not sent yet is taken back.
    pub flush: bool,
    /// What goes out.
    pub sends: Vec<Send>,
    /// Deeds of the table.
    pub deeds: Vec<Todo>,
    /// What came in and is told: port, message, time.
    pub told: Vec<(usize, Message, u64)>,
    /// Notes that began or ended: port, channel, key, whether it began.
    pub kept: Vec<(usize, u8, u8, bool)>,
    /// What people should know.
    pub notices: Vec<String>,
    /// Toggles and controls whose feedback changed: row, key, on.
    pub shown: Vec<(Fired, bool)>,
}

/// A message to a port.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// The port's number.
    pub port: usize,
    /// When, in µs; `None`: at once.
    pub at_us: Option<u64>,
    /// Whether it stays when everything is taken back: ticks, and ends of notes.
    pub keep: bool,
    /// What.
    pub message: Message,
}

/// A deed that is not MIDI of this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Todo {
    /// What is to be done.
    pub deed: Deed,
    /// What it waits for.
    pub on: Option<Quantum>,
    /// Which control set it off, for logs.
    pub by: String,
}

/// A port of both directions.
#[derive(Debug, Default)]
pub struct PortCore {
    /// Its name.
    pub name: String,
    parser: Parser,
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
    owed: Vec<(u8, u8)>,
    /// Channels of such a device whose pedals were down.
    owed_pedals: BTreeSet<u8>,
    /// Ends of notes that were sent ahead, and when they are: nothing of the key may go out before.
    ends: BTreeMap<(u8, u8), u64>,
}

/// What waits for its time.
#[derive(Debug, Clone)]
enum Waiting {
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
pub struct Core {
    /// The ports; the first is `midi_in` and `midi_out`.
    pub ports: Vec<PortCore>,
    rows: Rows,
    publish: BTreeSet<Kind>,
    own: ClockOut,
    running: bool,
    clocks: Vec<ClockIn>,
    clock_from: ClockFrom,
    /// Ports that the clock goes out on: by configuration, and since somebody started them.
    clock_to: BTreeSet<usize>,
    started: BTreeSet<usize>,
    waiting: BTreeMap<(u64, u64), Waiting>,
    next_seq: u64,
    loops: Loops<LoopKey>,
    came: HashMap<LoopKey, u64>,
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
    /// What is to be done.
    pub effects: Effects,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClockFrom {
    None,
    Any,
    Port(usize),
}

/// What the core is built of.
pub struct Setup {
    /// The ports' names, `midi_out` first.
    pub ports: Vec<String>,
    /// The table.
    pub rows: Rows,
    /// What is told.
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

impl Core {
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
        let ports = setup.ports.iter().map(|name| PortCore { name: name.clone(), ..PortCore::default() }).collect();
        Ok(Self {
            ports,
            rows: setup.rows,
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
            effects: Effects::default(),
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

    fn source(&self, now_us: u64) -> Option<(usize, Grid)> {
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

    /// Plays what somebody asks for.
    ///
    /// # Errors
    /// It makes no sense, names a port that is not there, or there is no driver or no room.
    pub fn play(&mut self, out: &Out, now_us: u64) -> Result<Sent, Fault> {
        self.play_at(out, now_us, None)
    }

    fn play_at(&mut self, out: &Out, now_us: u64, at_us: Option<u64>) -> Result<Sent, Fault> {
        let plays = out.plays()?;
        let ports = plays
            .iter()
            .map(|play| self.port(play.port.as_deref().unwrap_or_default()))
            .collect::<Result<Vec<_>, _>>()?;
        if !self.is_up && plays.iter().any(|play| !matches!(play.step, Step::Tempo(_) | Step::Panic { .. })) {
            let text = "MIDI is not there at the moment: JACK does not answer; `sidetone doctor` says more";
            return Err(Fault::new(FaultCode::Unavailable, text));
        }
        let room = plays.iter().map(|play| match &play.step {
            Step::Notes { notes, .. } => 2 * notes.len(),
            Step::Send(messages) => messages.len(),
            _ => 1,
        });
        if self.waiting.len() + room.sum::<usize>() > WAITING_MAX {
            let text = format!(
                "{WAITING_MAX} MIDI messages wait for their time already; ask again later, or stop them by {{\"panic\": true}}"
            );
            return Err(Fault::new(FaultCode::Busy, text));
        }
        let mut sent = Sent::default();
        for (play, port) in plays.into_iter().zip(ports) {
            self.play_one(play, port, now_us, at_us, &mut sent);
        }
        Ok(sent)
    }

    fn play_one(&mut self, play: Play, port: usize, now_us: u64, at_us: Option<u64>, sent: &mut Sent) {
        let grid = self.clock(now_us).0;
        let waits = play.on.map(|quantum| grid.next_us(quantum, now_us));
        if let Some(at) = waits {
            sent.in_ms = Some(at.saturating_sub(now_us) / 1_000);
        }
        let begin_us = waits.or(at_us).unwrap_or(now_us);
        let by: Arc<str> = play.by.unwrap_or_default().into();
        let channel = play.channel;
        match play.step {
            Step::Notes { notes, velocity, length } => {
                let length_us = match length {
                    Length::Hold => None,
                    Length::Ms(ms) => Some((ms * 1_000.0) as u64),
                    Length::Beats(beats) => Some((beats * grid.beat_us) as u64),
                    Length::Bars(bars) => Some((bars * grid.beat_us * f64::from(grid.beats_per_bar)) as u64),
                };
                sent.notes.extend(notes.iter().map(|note| note.name()));
                for Note(note) in notes {
                    let by = Arc::clone(&by);
                    if waits.is_some() {
                        self.wait(begin_us, Waiting::Begin { port, channel, note, velocity, length_us, by });
                    } else {
                        self.begin(port, (channel, note, velocity), begin_us, at_us, length_us, &by);
                        sent.messages += 1;
                    }
                }
            }
            Step::Send(messages) => {
                for message in messages {
                    if waits.is_some() {
                        self.wait(begin_us, Waiting::Send { port, message, by: Arc::clone(&by) });
                    } else {
                        self.send(port, message, begin_us, at_us, &by);
                        sent.messages += 1;
                    }
                }
            }
            Step::Transport(word) => {
                if waits.is_some() {
                    self.wait(begin_us, Waiting::Transport { port, word });
                } else {
                    self.transport(port, word, begin_us, at_us);
                    sent.messages += 1;
                }
            }
            Step::Tempo(bpm) => {
                // The tempo was checked; one that can't be leaves the old one.
                let _ = self.own.set_bpm(bpm);
            }
            Step::Panic { all } => {
                let named = play.port.is_some().then_some(port);
                sent.released = Some(sent.released.unwrap_or(0) + self.panic(named, all, now_us));
            }
        }
    }

    /// Ends all notes that were started here, on all ports or on one, and takes back what waits. With `all`, silences the
    /// devices. Gives how many notes ended.
    pub fn panic(&mut self, only: Option<usize>, all: bool, now_us: u64) -> u32 {
        let hit = |port: usize| only.is_none_or(|only| only == port);
        self.waiting.retain(|_, waiting| {
            let (Waiting::Send { port, .. }
            | Waiting::End { port, .. }
            | Waiting::Begin { port, .. }
            | Waiting::Transport { port, .. }) = waiting;
            !hit(*port)
        });
        if only.is_none() {
            self.effects.flush = true;
            // What was to be sent within this step is taken back as well.
            self.effects.sends.retain(|send| send.keep);
        }
        let mut released = 0;
        for at in 0..self.ports.len() {
            if hit(at) {
                released += self.release(at, now_us, None);
                if all {
                    for message in silence() {
                        self.put(at, message, None, false);
                    }
                }
            }
        }
        released
    }

    /// Ends what `by` started: it is gone.
    pub fn release_of(&mut self, by: &str, now_us: u64) -> u32 {
        let before = self.waiting.len();
        self.waiting.retain(|_, waiting| match waiting {
            Waiting::Send { by: other, .. } | Waiting::Begin { by: other, .. } => **other != *by,
            Waiting::End { .. } | Waiting::Transport { .. } => true,
        });
        let taken_back = before - self.waiting.len();
        let ended = (0..self.ports.len()).map(|port| self.release(port, now_us, Some(by))).sum();
        if ended > 0 || taken_back > 0 {
            self.effects.notices.push(format!("{ended} notes of {by}, which is gone, were ended"));
        }
        ended
    }

    /// Ends what `by` started, or everything.
    fn release(&mut self, port: usize, now_us: u64, by: Option<&str>) -> u32 {
        let whose = |held: &Held| by.is_none_or(|by| *held.by == *by);
        let Some(state) = self.ports.get_mut(port) else { return 0 };
        // A note whose beginning is still on its way must not begin after its end.
        let last = state.sounding.notes().filter(|(_, _, held)| whose(held)).map(|(_, _, held)| held.since_us).max();
        let flushed = self.effects.flush;
        let at_us = last.filter(|at| *at > now_us && !flushed);
        let messages = if by.is_none() { state.sounding.release_all() } else { state.sounding.release(whose) };
        let mut ended = 0;
        for message in messages {
            if let Message::NoteOff { channel, note, .. } = message {
                ended += 1;
                self.effects.kept.push((port, channel, note, false));
            }
            self.put(port, message, at_us, false);
        }
        ended
    }

    /// A note begins, at once or at `at_us`, and ends after `length_us`.
    fn begin(
        &mut self,
        port: usize,
        key: (u8, u8, u8),
        begin_us: u64,
        at_us: Option<u64>,
        length_us: Option<u64>,
        by: &Arc<str>,
    ) {
        let (channel, note, velocity) = key;
        let Some(state) = self.ports.get_mut(port) else { return };
        // Struck anew: a device counts two beginnings as two notes, and would need two ends.
        let since = state.sounding.since_us(channel, note);
        let was_on = since.is_some();
        // The end of the one before was sent ahead, or its beginning was: this one goes out after it.
        let end = state.ends.get(&(channel, note)).copied().filter(|end| *end + self.period_us > begin_us);
        let (begin_us, at_us) = match end.max(since.filter(|since| *since > begin_us)) {
            Some(last) => (begin_us.max(last), Some(begin_us.max(last))),
            None => (begin_us, at_us),
        };
        let on = Message::NoteOn { channel, note, velocity };
        let id = state.sounding.follow(&on, by, begin_us);
        if was_on {
            self.put(port, Message::NoteOff { channel, note, velocity: 64 }, at_us, false);
        }
        self.effects.kept.push((port, channel, note, true));
        self.put(port, on, at_us, false);
        if let (Some(length), Some(id)) = (length_us, id) {
            self.wait(begin_us + length.max(1_000), Waiting::End { port, channel, note, id });
        }
    }

    /// A message goes out, at once or at `at_us`; what it does to notes is taken down.
    fn send(&mut self, port: usize, message: Message, now_us: u64, at_us: Option<u64>, by: &Arc<str>) {
        let Some(state) = self.ports.get_mut(port) else { return };
        let mut at_us = at_us;
        match message {
            Message::NoteOn { channel, note, velocity } => {
                return self.begin(port, (channel, note, velocity), now_us, at_us, None, by);
            }
            Message::NoteOff { channel, note, .. } => {
                let begins = state.sounding.since_us(channel, note);
                at_us = begins.filter(|begins| *begins > now_us).max(at_us);
                self.effects.kept.push((port, channel, note, false));
            }
            Message::Control { controller: 120 | 123..=127, .. } | Message::Reset => {
                let all = message.channel();
                let ended = state.sounding.notes().filter(|(channel, ..)| all.is_none_or(|all| all == *channel));
                let ended: Vec<_> = ended.map(|(channel, note, held)| (channel, note, held.since_us)).collect();
                // Notes whose beginning is still on its way must not begin after it.
                let last = ended.iter().map(|(.., since_us)| *since_us).max().filter(|last| *last > now_us);
                at_us = last.max(at_us);
                self.effects.kept.extend(ended.into_iter().map(|(channel, note, _)| (port, channel, note, false)));
            }
            _ => {}
        }
        state.sounding.follow(&message, by, now_us);
        self.put(port, message, at_us, false);
    }

    fn put(&mut self, port: usize, message: Message, at_us: Option<u64>, keep: bool) {
        self.sent += 1;
        // What ends something that has begun must not be taken back with what waits.
        let keep = keep || ends(&message);
        if let (Message::NoteOff { channel, note, .. }, Some(at), Some(state)) =
            (&message, at_us, self.ports.get_mut(port))
        {
            let end = state.ends.entry((*channel, *note)).or_default();
            *end = at.max(*end);
        }
        self.effects.sends.push(Send { port, at_us, keep, message });
    }

    fn wait(&mut self, at_us: u64, waiting: Waiting) {
        self.next_seq += 1;
        self.waiting.insert((at_us, self.next_seq), waiting);
    }

    fn transport(&mut self, port: usize, word: Transport, begin_us: u64, at_us: Option<u64>) {
        let message = match word {
            Transport::Start => Message::Start,
            Transport::Continue => Message::Continue,
            Transport::Stop => Message::Stop,
        };
        // The first tick has to be ahead as far as any other, or it would come late and the rest in time.
        let begin_us = at_us.unwrap_or(begin_us + self.lead_us);
        self.put(port, message, Some(begin_us), true);
        match word {
            Transport::Stop => {
                self.started.remove(&port);
                self.running = !self.started.is_empty();
            }
            Transport::Start | Transport::Continue => {
                self.started.insert(port);
                self.running = true;
                if word == Transport::Start {
                    let grid = self.own.grid();
                    // The song begins: its first tick is the first beat of the first bar.
                    if let Ok(own) = ClockOut::new(begin_us + START_LEAD_US, grid.bpm(), grid.beats_per_bar) {
                        self.own = own;
                    }
                }
            }
        }
    }

    fn clocked(&self) -> Vec<usize> {
        self.clock_to.union(&self.started).copied().collect()
    }

    /// Time has passed: what is due is done.
    pub fn poll(&mut self, now_us: u64) {
        for fired in self.rows.triggers.poll(now_us) {
            self.fired(fired, None);
        }
        for broken in self.loops.settle(Duration::from_micros(now_us)) {
            let (port, status, number) = broken.key;
            let name = self.ports.get(port).map_or("", |port| port.name.as_str());
            let text = format!(
                "MIDI port {name}: {status:02X} {number:02X} has triggered itself {} times, and is not acted on for a while; see what {name} is connected to",
                broken.rounds
            );
            self.effects.notices.push(text);
        }
        for port in &mut self.ports {
            port.ends.retain(|_, end| *end + self.period_us > now_us);
        }
        let until_us = now_us + self.lead_us;
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= until_us) {
            let ((at, _), waiting) = entry.remove_entry();
            let at_us = (at > now_us).then_some(at);
            match waiting {
                Waiting::Send { port, message, by } => self.send(port, message, at, at_us, &by),
                Waiting::Begin { port, channel, note, velocity, length_us, by } => {
                    self.begin(port, (channel, note, velocity), at, at_us, length_us, &by);
                }
                Waiting::Transport { port, word } => self.transport(port, word, at, at_us),
                Waiting::End { port, channel, note, id } => {
                    let sounds = self.ports.get(port).is_some_and(|port| port.sounding.sounds(channel, note, id));
                    if sounds {
                        self.send(port, Message::NoteOff { channel, note, velocity: 64 }, at, at_us, &Arc::from(""));
                    }
                }
            }
        }
        let to = self.clocked();
        if !to.is_empty() && self.source(now_us).is_none() {
            for at in self.own.due(now_us, until_us + 1) {
                for port in &to {
                    self.put(*port, Message::Clock, Some(at), true);
                }
            }
        }
    }

    /// When to [`Core::poll`] again, in µs; `None`: not before something comes.
    #[must_use]
    pub fn next_us(&self, now_us: u64) -> Option<u64> {
        let waiting = self.waiting.first_key_value().map(|((at, _), _)| at.saturating_sub(self.lead_us));
        let ticks = !self.clocked().is_empty() && self.source(now_us).is_none();
        let tick = ticks.then(|| self.own.next_us().saturating_sub(self.lead_us));
        let held = self.loops.next().and_then(|next| u64::try_from(next.as_micros()).ok());
        [waiting, tick, held, self.rows.triggers.next_us()].into_iter().flatten().min()
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
