//! Role `midi`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::midi::Kind;
use crate::midi::clock::Quantum;
use crate::midi::trigger::{Span, When};

/// Role `midi`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MidiConfig {
    /// The name of its client, with the ports `midi_in` and `midi_out`.
    pub client: String,
    /// The tempo of this host's own clock, 5 to 400.
    pub bpm: f64,
    /// Beats a bar.
    pub beats_per_bar: u32,
    /// Whose clock is followed when it ticks: a port, `any`, or empty for none. Else it is this host's own.
    pub clock_from: String,
    /// The ports that the clock goes out on.
    pub clock_to: Vec<String>,
    /// The kinds of messages that are told on the bus as they come in.
    pub publish: Vec<Kind>,
    /// Ports for devices that come and go, by name.
    pub ports: BTreeMap<String, MidiPortConfig>,
    /// What is done when something comes in.
    pub on: Vec<MidiOn>,
}

impl Default for MidiConfig {
    fn default() -> Self {
        Self {
            client: "sidetone-midi".to_owned(),
            bpm: 120.0,
            beats_per_bar: 4,
            clock_from: "any".to_owned(),
            clock_to: Vec::new(),
            publish: Kind::ALL.into_iter().filter(|kind| *kind != Kind::Realtime).collect(),
            ports: BTreeMap::new(),
            on: Vec::new(),
        }
    }
}

/// A port for a device: `<name>_in` and `<name>_out`, connected whenever the device is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MidiPortConfig {
    /// A part of the device's name, or a pattern (`*`, `?`, `[12]`) of all of it; case makes no difference.
    #[serde(rename = "match")]
    pub device: String,
    /// The same for what it plays, if that differs; `-`: nothing is listened to.
    pub input: String,
    /// The same for what plays it; `-`: nothing is played.
    pub output: String,
}

/// What is to be done when something comes in. One of the keys up to `any` says what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MidiOn {
    /// Keys: `60`, `"C4"`, `"C3..B3"`, `"any"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Span>,
    /// Controllers, 0 to 127.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cc: Option<Span>,
    /// Controllers of 14 bits, 0 to 31.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cc14: Option<Span>,
    /// Programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Span>,
    /// The pitch wheel: `"any"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bend: Option<Span>,
    /// Pressure on the channel: `"any"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Span>,
    /// Pressure on keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_pressure: Option<Span>,
    /// Free parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nrpn: Option<Span>,
    /// Registered parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpn: Option<Span>,
    /// `start`, `continue`, `stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<TransportWord>,
    /// Songs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub song: Option<Span>,
    /// Every message but real time, as it is: `{bytes}`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub any: bool,

    /// The port that it comes in on; empty: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port: String,
    /// The channel, 1 to 16; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<u8>,
    /// The values that count, such as velocities; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Span>,
    /// What has to be done with it; absent: `press`, or `change` for the wheel, pressure and `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// How long a long press is.
    #[serde(default = "long_ms", skip_serializing_if = "is_long")]
    pub long_ms: u64,
    /// Within which time a double press comes.
    #[serde(default = "double_ms", skip_serializing_if = "is_double")]
    pub double_ms: u64,
    /// Wait for the next `beat` or `bar`; absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Quantum>,
    /// What is done.
    pub r#do: Action,
    /// What the device is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
}

const fn long_ms() -> u64 {
    500
}

const fn double_ms() -> u64 {
    300
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_long(value: &u64) -> bool {
    *value == long_ms()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_double(value: &u64) -> bool {
    *value == double_ms()
}

/// A word of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportWord {
    /// Play from the beginning.
    Start,
    /// Play on.
    Continue,
    /// Halt.
    Stop,
}

/// What a device is shown, such as the light of a pad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Feedback {
    /// What it follows.
    pub follow: Follow,
    /// Which listener of this host; empty: the first.
    pub listener: String,
    /// The value while it is so.
    pub on: u8,
    /// The value while it is not.
    pub off: u8,
    /// The port; empty: that of the control.
    pub port: String,
    /// The channel; absent: that of the control, or 1.
    pub channel: Option<u8>,
    /// The key; absent: that of the control.
    pub note: Option<Span>,
    /// The controller; absent: that of the control.
    pub cc: Option<u8>,
}

impl Default for Feedback {
    fn default() -> Self {
        Self {
            follow: Follow::Control,
            listener: String::new(),
            on: 127,
            off: 0,
            port: String::new(),
            channel: None,
            note: None,
            cc: None,
        }
    }
}

/// What feedback follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Follow {
    /// Whether the toggle is on, or the control is down.
    #[default]
    Control,
    /// The listener waits.
    Idle,
    /// The listener takes down an utterance.
    Listening,
    /// The listener's utterance is answered.
    Processing,
    /// The listener speaks.
    Speaking,
    /// The listener hears nothing.
    Muted,
}
