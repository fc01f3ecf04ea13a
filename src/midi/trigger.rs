//! Which event does what: rows of a table against what comes in. Held, toggled, long and double pressed.
//!
//! ```text
//!              down                     up                     later
//! press        fires, or waits for the gestures below that the same control has
//! held         fires, on                fires, off
//! toggle       fires, on and off in turn
//! release                               fires
//! long                                                         fires while it is still down
//! double       the second within time fires
//! change       fires with every value
//! ```
//!
//! A control that has a long press fires `press` when it is let go in time; one that has a double press fires it when no
//! second one came in time. [`Triggers::next_us`] says when to ask again.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::controller::{Controllers, Wide};
use super::message::{Kind, Message};
use super::note::Note;

/// A controller from here on is down, as the specification has it for switches.
const DOWN: u8 = 64;
/// How many controls one source may have under watch at once; what a source could make up beyond is not followed.
const CONTROLS_MAX: usize = 4096;

/// Numbers from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SpanText", into = "SpanText")]
pub struct Span {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

/// How a span is written: `60`, `"C4"`, `"C3..B3"`, `"20..27"`, `"any"`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum SpanText {
    Number(u16),
    Text(String),
}

impl Span {
    /// All there are.
    pub const ANY: Self = Self { from: 0, to: 16_383 };

    /// Whether `value` lies in it.
    #[must_use]
    pub const fn has(&self, value: u16) -> bool {
        self.from <= value && value <= self.to
    }
}

impl TryFrom<SpanText> for Span {
    type Error = String;

    fn try_from(text: SpanText) -> Result<Self, String> {
        let text = match text {
            SpanText::Number(number) if number <= Self::ANY.to => return Ok(Self { from: number, to: number }),
            SpanText::Number(number) => number.to_string(),
            SpanText::Text(text) => text,
        };
        let bound = |text: &str| -> Result<u16, String> {
            if let Some(number) = text.trim().parse::<u16>().ok().filter(|number| *number <= Self::ANY.to) {
                return Ok(number);
            }
            text.parse::<Note>().map(|note| u16::from(note.0)).map_err(|_| {
                format!(
                    "`{text}` is neither a number from 0 to 16383 nor a note; write 60, \"C4\", \"C3..B3\" or \"any\""
                )
            })
        };
        if text == "any" {
            return Ok(Self::ANY);
        }
        let (from, to) = match text.split_once("..") {
            Some((from, to)) => (bound(from)?, bound(to.trim_start_matches('='))?),
            None => (bound(&text)?, bound(&text)?),
        };
        if from > to {
            return Err(format!("`{text}` ends before it begins; turn it round"));
        }
        Ok(Self { from, to })
    }
}

impl From<Span> for SpanText {
    fn from(span: Span) -> Self {
        match span {
            Span::ANY => Self::Text("any".to_owned()),
            Span { from, to } if from == to => Self::Number(from),
            Span { from, to } => Self::Text(format!("{from}..{to}")),
        }
    }
}

/// What sort of control a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ControlKind {
    /// Keys, by number.
    Note,
    /// Controllers, by number.
    Cc,
    /// Controllers of 14 bits, by number 0 to 31.
    Cc14,
    /// Programs, by number.
    Program,
    /// The pitch wheel.
    Bend,
    /// Pressure on the channel.
    Pressure,
    /// Pressure on a key, by number.
    KeyPressure,
    /// Free parameters, by number.
    Nrpn,
    /// Registered parameters, by number.
    Rpn,
    /// Start (0), continue (1), stop (2).
    Transport,
    /// Songs, by number.
    Song,
    /// Every message but real time; it only changes.
    Any,
}

/// What has to be done with a control.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// It goes down.
    #[default]
    Press,
    /// It goes down, and up again: momentary.
    Held,
    /// It goes down: on and off in turn.
    Toggle,
    /// It comes up.
    Release,
    /// It stays down for a while.
    Long,
    /// It goes down twice in a short time.
    Double,
    /// Its value changes.
    Change,
}

/// A row: what to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerRow {
    /// The port's number; `None`: any.
    pub port: Option<usize>,
    /// The channel, 1 to 16; `None`: any.
    pub channel: Option<u8>,
    /// The sort of control.
    pub control: ControlKind,
    /// Its numbers.
    pub number: Span,
    /// The values that count: velocities for keys.
    pub value: Span,
    /// What has to be done with it.
    pub when: When,
    /// How long a long press is, in µs.
    pub long_us: u64,
    /// Within which time a double press comes, in µs.
    pub double_us: u64,
}

/// One control of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The port's number.
    pub port: usize,
    /// The channel; 0 for what has none.
    pub channel: u8,
    /// The sort.
    pub control: ControlKind,
    /// Its number.
    pub number: u16,
}

/// A row that is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    /// Which row.
    pub row: usize,
    /// What was touched.
    pub key: Key,
    /// The value: a velocity, a controller's value, -8192 to 8191 for the wheel.
    pub value: i32,
    /// Whether it is on now: `false` when a held control came up or a toggle went off.
    pub on: bool,
    /// When the event came that made it fire, in µs.
    pub at_us: u64,
}

impl Fired {
    /// The message that it stands for, as it fires without any: the time has come, or the device has gone. `None` if several
    /// messages make one value.
    #[must_use]
    pub fn message(&self) -> Option<Message> {
        let Key { channel, control, number, .. } = self.key;
        let (number, value) = (u8::try_from(number & 0x7f).ok()?, u8::try_from(self.value.clamp(0, 127)).ok()?);
        Some(match control {
            ControlKind::Note if self.on => Message::NoteOn { channel, note: number, velocity: value.max(1) },
            ControlKind::Note => Message::NoteOff { channel, note: number, velocity: value },
            ControlKind::Cc => Message::Control { channel, controller: number, value },
            ControlKind::Program => Message::Program { channel, program: number },
            ControlKind::Bend => {
                Message::PitchBend { channel, value: i16::try_from(self.value.clamp(-8192, 8191)).ok()? }
            }
            ControlKind::Pressure => Message::Pressure { channel, value },
            ControlKind::KeyPressure => Message::KeyPressure { channel, note: number, value },
            ControlKind::Transport => {
                [Message::Start, Message::Continue, Message::Stop].get(usize::from(number))?.clone()
            }
            ControlKind::Song => Message::SongSelect(number),
            ControlKind::Cc14 | ControlKind::Nrpn | ControlKind::Rpn | ControlKind::Any => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct ControlState {
    is_down: bool,
    value: i32,
    /// A press that waits whether it becomes a long or a double one.
    tap: Option<u64>,
    /// When a long press is one.
    long: Option<u64>,
    /// The gesture was something else: coming up is no press.
    is_spent: bool,
}

/// The table, and what it remembers of each control.
#[derive(Debug, Clone)]
pub struct Triggers {
    rows: Vec<TriggerRow>,
    toggles: Vec<bool>,
    states: HashMap<Key, ControlState>,
    wide: HashMap<usize, Controllers>,
}

impl Triggers {
    /// A table of which nothing has been touched.
    #[must_use]
    pub fn new(rows: Vec<TriggerRow>) -> Self {
        Self { toggles: vec![false; rows.len()], rows, states: HashMap::new(), wide: HashMap::new() }
    }

    /// Whether row `row`, a toggle, is on.
    #[must_use]
    pub fn is_on(&self, row: usize) -> bool {
        self.toggles.get(row).copied().unwrap_or_default()
    }

    /// Sets a toggle, since the thing that it stands for was changed in another way.
    pub fn set(&mut self, row: usize, on: bool) {
        if let Some(toggle) = self.toggles.get_mut(row) {
            *toggle = on;
        }
    }

    /// Takes the next message of a source, and says what fires. Also asks what was due before `at_us`.
    pub fn feed(&mut self, port: usize, message: &Message, at_us: u64) -> Vec<Fired> {
        let mut out = self.poll(at_us);
        let key = |channel, control, number: u16| Key { port, channel, control, number };
        let wide = self.wide.entry(port).or_default().feed(message);
        if message.kind() != Kind::Realtime {
            self.fire(key(message.channel().unwrap_or(0), ControlKind::Any, 0), When::Change, 0, at_us, &mut out);
        }
        match *message {
            Message::NoteOn { channel, note, velocity } => {
                self.down(key(channel, ControlKind::Note, u16::from(note)), i32::from(velocity), at_us, &mut out);
            }
            Message::NoteOff { channel, note, velocity } => {
                self.up(key(channel, ControlKind::Note, u16::from(note)), i32::from(velocity), at_us, &mut out);
            }
            Message::Control { channel, controller, value } => {
                self.level(
                    key(channel, ControlKind::Cc, u16::from(controller)),
                    i32::from(value),
                    value >= DOWN,
                    at_us,
                    &mut out,
                );
            }
            Message::Program { channel, program } => {
                self.pulse(key(channel, ControlKind::Program, u16::from(program)), i32::from(program), at_us, &mut out);
            }
            Message::PitchBend { channel, value } => {
                self.level(key(channel, ControlKind::Bend, 0), i32::from(value), value >= 4096, at_us, &mut out);
            }
            Message::Pressure { channel, value } => {
                self.level(key(channel, ControlKind::Pressure, 0), i32::from(value), value >= DOWN, at_us, &mut out);
            }
            Message::KeyPressure { channel, note, value } => {
                let key = key(channel, ControlKind::KeyPressure, u16::from(note));
                self.level(key, i32::from(value), value >= DOWN, at_us, &mut out);
            }
            Message::Start => self.pulse(key(0, ControlKind::Transport, 0), 0, at_us, &mut out),
            Message::Continue => self.pulse(key(0, ControlKind::Transport, 1), 1, at_us, &mut out),
            Message::Stop => self.pulse(key(0, ControlKind::Transport, 2), 2, at_us, &mut out),
            Message::SongSelect(song) => {
                self.pulse(key(0, ControlKind::Song, u16::from(song)), i32::from(song), at_us, &mut out);
            }
            _ => {}
        }
        match wide {
            Some(Wide::Control { channel, controller, value }) => {
                let key = key(channel, ControlKind::Cc14, u16::from(controller));
                self.level(key, i32::from(value), value >= 8192, at_us, &mut out);
            }
            Some(Wide::Parameter { channel, registered, number, value }) => {
                let control = if registered { ControlKind::Rpn } else { ControlKind::Nrpn };
                self.level(key(channel, control, number), i32::from(value), value >= 8192, at_us, &mut out);
            }
            None => {}
        }
        out
    }

    /// What has become due by `now_us` without any event.
    pub fn poll(&mut self, now_us: u64) -> Vec<Fired> {
        let mut out = Vec::new();
        if self.next_us().is_none_or(|next| next > now_us) {
            return out;
        }
        let mut due: Vec<Key> = self
            .states
            .iter()
            .filter(|(_, state)| state.long.into_iter().chain(state.tap).any(|at| at <= now_us))
            .map(|(key, _)| *key)
            .collect();
        due.sort_unstable();
        for key in due {
            let Some(state) = self.states.get_mut(&key) else { continue };
            let value = state.value;
            if let Some(at) = state.long.filter(|at| *at <= now_us) {
                *state = ControlState { long: None, tap: None, is_spent: true, ..*state };
                self.fire(key, When::Long, value, at, &mut out);
                continue;
            }
            if let Some(at) = state.tap.filter(|at| *at <= now_us) {
                state.tap = None;
                // Still down with a long press to come: that, or coming up, decides.
                if state.long.is_none() {
                    state.is_spent = true;
                    self.press(key, value, at, &mut out);
                }
            }
        }
        out
    }

    /// When to ask [`Triggers::poll`] again, in µs; `None`: not before the next event.
    #[must_use]
    pub fn next_us(&self) -> Option<u64> {
        self.states.values().flat_map(|state| state.long.into_iter().chain(state.tap)).min()
    }

    /// Everything of a port comes up: its device has gone.
    pub fn release(&mut self, port: usize, at_us: u64) -> Vec<Fired> {
        let mut down: Vec<Key> =
            self.states.iter().filter(|(key, state)| key.port == port && state.is_down).map(|(key, _)| *key).collect();
        down.sort_unstable();
        let mut out = Vec::new();
        for key in down {
            if let Some(state) = self.states.get_mut(&key) {
                // It was not let go on purpose: no press comes of it.
                *state = ControlState { is_down: true, is_spent: true, tap: None, long: None, value: state.value };
            }
            self.up(key, 0, at_us, &mut out);
        }
        self.states.retain(|key, _| key.port != port);
        self.wide.remove(&port);
        out
    }

    fn rows(&self, key: Key, value: Option<i32>) -> impl Iterator<Item = (usize, When)> {
        let hits = move |row: &TriggerRow| {
            row.port.is_none_or(|port| port == key.port)
                && row.channel.is_none_or(|channel| channel == key.channel || key.channel == 0)
                && row.control == key.control
                && row.number.has(key.number)
                && value.is_none_or(|value| {
                    row.value == Span::ANY || u16::try_from(value.max(0)).is_ok_and(|value| row.value.has(value))
                })
        };
        self.rows.iter().enumerate().filter(move |(_, row)| hits(row)).map(|(at, row)| (at, row.when))
    }

    /// How long to wait for a gesture on a control, if any row has it.
    fn wait(&self, key: Key, when: When) -> Option<u64> {
        let waits = |row: &TriggerRow| if when == When::Long { row.long_us } else { row.double_us };
        self.rows(key, None)
            .filter(|(_, other)| *other == when)
            .filter_map(|(at, _)| self.rows.get(at).map(waits))
            .max()
    }

    fn fire(&mut self, key: Key, when: When, value: i32, at_us: u64, out: &mut Vec<Fired>) {
        let found: Vec<usize> =
            self.rows(key, Some(value)).filter(|(_, other)| *other == when).map(|(at, _)| at).collect();
        out.extend(found.into_iter().map(|row| Fired { row, key, value, on: true, at_us }));
    }

    /// A press that is no other gesture: rows of `press` and of `toggle`, in their order.
    fn press(&mut self, key: Key, value: i32, at_us: u64, out: &mut Vec<Fired>) {
        let found: Vec<(usize, When)> =
            self.rows(key, Some(value)).filter(|(_, when)| matches!(when, When::Press | When::Toggle)).collect();
        for (row, when) in found {
            let on = match self.toggles.get_mut(row).filter(|_| when == When::Toggle) {
                Some(toggle) => {
                    *toggle = !*toggle;
                    *toggle
                }
                None => true,
            };
            out.push(Fired { row, key, value, on, at_us });
        }
    }

    fn down(&mut self, key: Key, value: i32, at_us: u64, out: &mut Vec<Fired>) {
        self.fire(key, When::Change, value, at_us, out);
        let has_rows = self.rows(key, Some(value)).next().is_some();
        let mut state = self.states.get(&key).copied().unwrap_or_default();
        let is_known = self.states.contains_key(&key);
        if !has_rows || !is_known && self.states.len() >= CONTROLS_MAX {
            return;
        }
        if state.is_down {
            // Struck again without having come up: the same gesture goes on.
            state.value = value;
            self.states.insert(key, state);
            return;
        }
        let (long, double) = (self.wait(key, When::Long), self.wait(key, When::Double));
        let second = state.tap.take().is_some();
        let next = ControlState { is_down: true, value, ..ControlState::default() };
        self.fire(key, When::Held, value, at_us, out);
        let next = if second {
            self.fire(key, When::Double, value, at_us, out);
            ControlState { is_spent: true, ..next }
        } else {
            if long.is_none() && double.is_none() {
                self.press(key, value, at_us, out);
            }
            ControlState { long: long.map(|wait| at_us + wait), tap: double.map(|wait| at_us + wait), ..next }
        };
        self.states.insert(key, next);
    }

    fn up(&mut self, key: Key, value: i32, at_us: u64, out: &mut Vec<Fired>) {
        let Some(state) = self.states.get(&key).copied().filter(|state| state.is_down) else { return };
        // The rows are those that the press met: a release has a velocity of its own.
        let found: Vec<(usize, When)> =
            self.rows(key, Some(state.value)).filter(|(_, when)| matches!(when, When::Held | When::Release)).collect();
        for (row, when) in found {
            out.push(Fired { row, key, value, on: when != When::Held, at_us });
        }
        // Let go in time: a press, unless a second one may still come.
        let was_long = state.long.is_some() && !state.is_spent;
        if was_long && state.tap.is_none() {
            self.press(key, state.value, at_us, out);
        }
        match state.tap {
            Some(_) => self.states.insert(key, ControlState { is_down: false, long: None, ..state }),
            None => self.states.remove(&key),
        };
    }

    /// A control with a value, which is down from some value on.
    fn level(&mut self, key: Key, value: i32, is_down: bool, at_us: u64, out: &mut Vec<Fired>) {
        let was_down = self.states.get(&key).is_some_and(|state| state.is_down);
        match (was_down, is_down) {
            (false, true) => self.down(key, value, at_us, out),
            (true, false) => {
                self.fire(key, When::Change, value, at_us, out);
                self.up(key, value, at_us, out);
            }
            _ => self.fire(key, When::Change, value, at_us, out),
        }
    }

    /// A control that is touched and has no end.
    fn pulse(&mut self, key: Key, value: i32, at_us: u64, out: &mut Vec<Fired>) {
        self.down(key, value, at_us, out);
        // A second press of the same may follow; it does not stay down, so there is no long one.
        if let Some(state) = self.states.get_mut(&key) {
            state.is_down = false;
            let has_tap = state.tap.is_some();
            let long = state.long.take();
            if !has_tap {
                self.states.remove(&key);
                if long.is_some() {
                    self.press(key, value, at_us, out);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "trigger_tests.rs"]
mod tests;
