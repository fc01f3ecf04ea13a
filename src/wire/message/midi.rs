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
mod out;
mod play;
mod transport;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
pub use crate::midi::clock::Quantum;
use crate::wire::subject::{Capability, Verb};
pub use number::{Data, Keys, Number, hex};
pub use out::{Out, Panic, PanicWord, Sent};
pub use play::{Length, Play, SYSEX_OUT_MAX, Step};
pub use transport::Transport;

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
