//! MIDI that is to be sent, MIDI that came in, and what sounds.
//!
//! [`Out`] is written by hand: one key says what is sent, the others how.
//!
//! ```text
//! nats req midi.out '{"chord": "G7", "beats": 8}'
//! nats req midi.out '{"note": ["C4", "E4"], "velocity": 80, "ms": 500, "port": "synth", "channel": 2}'
//! nats req midi.out '{"cc": 74, "value": 100}'
//! nats req midi.out '{"panic": true}'
//! ```

mod number;
mod play;
mod transport;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
pub use crate::midi::clock::Quantum;
use crate::wire::subject::{Capability, Verb};
pub use number::{Data, Keys, Number, hex};
pub use play::{Length, Play, SYSEX_OUT_MAX, Step};
pub use transport::Transport;

/// What is to be sent. One of the keys up to `all` says what (`bpm` may go with `transport`); the others say how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Out {
    /// Notes: `60`, `"C4"`, `["C4", "Eb4"]`. C4 is 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Keys>,
    /// A chord by name: `"C"`, `"Am"`, `"F#m7b5"`, `"C/E"`, `"G seven"`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "number::some_text")]
    pub chord: Option<String>,
    /// Notes that are to end, or the name of a chord.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<Keys>,
    /// A controller, 0 to 127; `value` goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cc: Option<Number>,
    /// A controller of 14 bits, 0 to 31; `value` is 0 to 16383.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cc14: Option<Number>,
    /// A free parameter, 0 to 16382; `value` is 0 to 16383.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nrpn: Option<Number>,
    /// A registered parameter, 0 to 16382 (0: bend range); `value` is 0 to 16383.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpn: Option<Number>,
    /// A program, 0 to 127; with `bank`, after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Number>,
    /// The pitch wheel, -8192 to 8191.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bend: Option<Number>,
    /// Pressure on the channel, 0 to 127.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Number>,
    /// Pressure on keys; `value` goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_pressure: Option<Keys>,
    /// System exclusive: `"7E 7F 06 01"` or `[126, 127, 6, 1]`, with or without F0 and F7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysex: Option<Data>,
    /// Transport and clock of the port: `start`, `stop`, `continue`. `bpm` may go with it: the clock has that tempo from
    /// now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// The tempo of this host's own clock, 5 to 400 BPM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpm: Option<Number>,
    /// Where the song is to be, in sixteenths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Number>,
    /// Which song.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub song: Option<Number>,
    /// Whole messages as bytes: `"90 3C 40"` or `[144, 60, 64]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Data>,
    /// `true`: ends all notes that this host started, on all ports or on `port`. `"all"`: silences the devices as well,
    /// whoever plays them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic: Option<Panic>,
    /// Several, at once; at most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<Out>,

    /// The port; absent: `midi_out`, the host's own.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "number::text")]
    pub port: String,
    /// The channel, 1 to 16; absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Number>,
    /// How hard, 0 to 127; 0 ends the notes. Absent: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub velocity: Option<Number>,
    /// The value of what has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Number>,
    /// The bank of a program, 0 to 16383.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bank: Option<Number>,
    /// Where a chord's root lies, -1 to 9; absent: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octave: Option<Number>,
    /// How many notes of the chord go up an octave, from the lowest on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inversion: Option<Number>,
    /// How long notes sound, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<Number>,
    /// The same in beats, by the clock. Without `ms`, `beats`, `bars` and `hold`, notes sound for a beat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beats: Option<Number>,
    /// The same in bars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bars: Option<Number>,
    /// Whether notes sound until they are ended.
    #[serde(skip_serializing_if = "is_false")]
    pub hold: bool,
    /// `"beat"` or `"bar"`: wait for the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Quantum>,
    /// Who asks, so that its notes end when it is gone; absent: nobody in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// How much is to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Panic {
    /// What this host started; `false` does nothing.
    Ours(bool),
    /// `"all"`.
    Word(PanicWord),
}

/// A word that says how much is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PanicWord {
    /// What this host started.
    Ours,
    /// Everything.
    All,
}

impl Message for Out {
    const SCHEMA: &'static str = "midi.out/1";

    fn example() -> Self {
        Self {
            chord: Some("G7".to_owned()),
            beats: Some(Number::new(8.0)),
            port: "pad".to_owned(),
            channel: Some(Number::new(2.0)),
            velocity: Some(Number::new(90.0)),
            on: Some(Quantum::Bar),
            by: Some("studio".to_owned()),
            ..Self::default()
        }
    }
}

impl Ask for Out {
    const VERB: Verb = Verb::new(Capability::Midi, "out");
    const ABOUT: &'static str = "MIDI to be sent: notes, chords by name, controllers, programs, clock, panic, bytes";
    const REPLIES: Replies = Replies::One;
    type Reply = Sent;
}

/// What was sent, or waits for its time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// How many messages went out at once.
    pub messages: u32,
    /// The notes, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// In how many ms it begins, if it waits for a beat or bar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_ms: Option<u64>,
    /// How many notes panic ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<u32>,
}

impl Message for Sent {
    const SCHEMA: &'static str = "midi.sent/1";

    fn example() -> Self {
        let notes = ["G4", "B4", "D5", "F5"].map(str::to_owned).to_vec();
        Self { messages: 4, notes, in_ms: Some(480), released: None }
    }
}

/// A message that came in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct In {
    /// The host that it came to.
    pub node: String,
    /// The port on it.
    pub port: String,
    /// `note`, `key_pressure`, `cc`, `program`, `pressure`, `bend`, `sysex`, `transport` or `realtime`.
    pub kind: String,
    /// The channel, 1 to 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<u8>,
    /// The key, 0 to 127.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<u8>,
    /// The key's name, such as `C4`; the word of a transport message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the note begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<bool>,
    /// How hard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub velocity: Option<u8>,
    /// The controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<u8>,
    /// The program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<u8>,
    /// The value: of a controller, pressure, the wheel (-8192 to 8191), the song position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<i32>,
    /// The message's bytes, in hexadecimal.
    pub bytes: String,
    /// When, in RFC 3339.
    pub at: String,
}

impl Message for In {
    const SCHEMA: &'static str = "midi.in/1";

    fn example() -> Self {
        Self {
            node: "stage".to_owned(),
            port: "pad".to_owned(),
            kind: "note".to_owned(),
            channel: Some(1),
            note: Some(60),
            name: Some("C4".to_owned()),
            on: Some(true),
            velocity: Some(100),
            bytes: "90 3C 64".to_owned(),
            at: "2026-11-24T10:27:03.120Z".to_owned(),
            ..Self::default()
        }
    }
}

/// Asks what sounds, where controllers stand and which devices are there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StateQuery {
    /// One port only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

impl Message for StateQuery {
    const SCHEMA: &'static str = "midi.query/1";

    fn example() -> Self {
        Self { port: Some("pad".to_owned()) }
    }
}

impl Ask for StateQuery {
    const VERB: Verb = Verb::new(Capability::Midi, "state");
    const ABOUT: &'static str = "which notes sound, where controllers stand, the clock, which devices are there";
    const REPLIES: Replies = Replies::One;
    type Reply = State;
    const COUNTS: bool = false;
}

/// What a host's MIDI does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct State {
    /// The host.
    pub node: String,
    /// `jack` or `alsa`.
    pub driver: String,
    /// Whether the driver is there.
    pub up: bool,
    /// The ports.
    pub ports: Vec<PortState>,
    /// Beats and bars.
    pub clock: ClockState,
    /// Messages that came in since the start.
    pub received: u64,
    /// Messages that went out.
    pub sent: u64,
    /// Bytes that came in and made no message.
    pub skipped: u64,
    /// Messages that were lost for want of room.
    pub lost: u64,
    /// Messages that came in and could not be told on the bus, which was too slow.
    pub untold: u64,
    /// Messages that wait for their time.
    pub waiting: u64,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PortState {
    /// Its name.
    pub name: String,
    /// Devices and programs that play to it.
    pub inputs: Vec<String>,
    /// Devices and programs that it plays.
    pub outputs: Vec<String>,
    /// Who else plays these devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<String>,
    /// Keys that are down there.
    pub held: Vec<Key>,
    /// Notes that were started here and still sound.
    pub sounding: Vec<Key>,
    /// Controllers that came in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controllers_in: Vec<Controller>,
    /// Controllers that went out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controllers_out: Vec<Controller>,
}

/// A key that is down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Key {
    /// 1 to 16.
    pub channel: u8,
    /// 0 to 127.
    pub note: u8,
    /// Its name.
    pub name: String,
    /// 1 to 127.
    pub velocity: u8,
    /// Who started it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// For how long.
    pub for_ms: u64,
}

/// A controller and where it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Controller {
    /// 1 to 16.
    pub channel: u8,
    /// 0 to 127.
    pub cc: u8,
    /// 0 to 127.
    pub value: u8,
}

/// Beats and bars.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClockState {
    /// The port whose clock is followed; empty: this host's own.
    pub source: String,
    /// Beats a minute.
    pub bpm: f64,
    /// Whether the song runs.
    pub running: bool,
    /// The bar, from 1.
    pub bar: i64,
    /// The beat in it, from 1.
    pub beat: u32,
    /// Beats a bar.
    pub beats_per_bar: u32,
}

impl Message for State {
    const SCHEMA: &'static str = "midi.state/1";

    fn example() -> Self {
        let key =
            Key { channel: 1, note: 60, name: "C4".to_owned(), velocity: 100, by: "studio".to_owned(), for_ms: 120 };
        Self {
            node: "stage".to_owned(),
            driver: "jack".to_owned(),
            up: true,
            ports: vec![PortState {
                name: "pad".to_owned(),
                inputs: vec!["a2j:pad capture".to_owned()],
                outputs: vec!["a2j:pad playback".to_owned()],
                shared_with: vec!["other:midi_out".to_owned()],
                held: vec![Key { by: String::new(), ..key.clone() }],
                sounding: vec![key],
                controllers_in: vec![Controller { channel: 1, cc: 1, value: 64 }],
                controllers_out: vec![Controller { channel: 1, cc: 74, value: 100 }],
            }],
            clock: ClockState {
                source: "pad".to_owned(),
                bpm: 120.0,
                running: true,
                bar: 3,
                beat: 2,
                beats_per_bar: 4,
            },
            received: 812,
            sent: 97,
            skipped: 0,
            lost: 0,
            untold: 0,
            waiting: 1,
        }
    }
}

#[cfg(test)]
#[path = "midi/tests.rs"]
mod tests;
