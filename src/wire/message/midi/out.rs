//! MIDI to be sent, as people write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number::{self, Data, Keys, Number};
use super::transport::Transport;
use crate::midi::clock::Quantum;
use crate::wire::message::{Ask, Message, Replies};
use crate::wire::subject::{Capability, Verb};

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
