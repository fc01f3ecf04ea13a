//! MIDI 1.0 messages, and the bytes they are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The middle of pitch bend on the wire.
const BEND_CENTRE: i16 = 8192;

/// A message. Channels are 1 to 16; data is 0 to 127 where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the specification")]
pub enum Message {
    /// A note ends.
    NoteOff { channel: u8, note: u8, velocity: u8 },
    /// A note begins. With velocity 0 it ends; [`Parser`](super::Parser) gives a [`Message::NoteOff`] then.
    NoteOn { channel: u8, note: u8, velocity: u8 },
    /// Pressure on one key.
    KeyPressure { channel: u8, note: u8, value: u8 },
    /// A controller.
    Control { channel: u8, controller: u8, value: u8 },
    /// A program, 0 to 127 (devices often count from 1).
    Program { channel: u8, program: u8 },
    /// Pressure on the channel.
    Pressure { channel: u8, value: u8 },
    /// The pitch wheel: -8192 to 8191, 0 in the middle.
    PitchBend { channel: u8, value: i16 },
    /// System exclusive: what stands between F0 and F7.
    SysEx(Vec<u8>),
    /// MIDI time code, a quarter frame.
    TimeCode(u8),
    /// Where the song is, in sixteenths (0 to 16383).
    SongPosition(u16),
    /// Which song.
    SongSelect(u8),
    /// Analogue synthesizers are to tune themselves.
    TuneRequest,
    /// One of 24 ticks a quarter note.
    Clock,
    /// Play from the beginning.
    Start,
    /// Play on from where the song is.
    Continue,
    /// Halt.
    Stop,
    /// The sender is there.
    ActiveSensing,
    /// As after power on.
    Reset,
}

/// What sort of message one is: the last token of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A note, on or off.
    Note,
    /// Pressure on one key.
    KeyPressure,
    /// A controller.
    Cc,
    /// A program.
    Program,
    /// Pressure on the channel.
    Pressure,
    /// The pitch wheel.
    Bend,
    /// System exclusive.
    Sysex,
    /// Start, stop, continue, song position and song.
    Transport,
    /// Clock, time code, active sensing and the like.
    Realtime,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Note,
        Self::KeyPressure,
        Self::Cc,
        Self::Program,
        Self::Pressure,
        Self::Bend,
        Self::Sysex,
        Self::Transport,
        Self::Realtime,
    ];

    /// Its name in configurations and subjects.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::KeyPressure => "key_pressure",
            Self::Cc => "cc",
            Self::Program => "program",
            Self::Pressure => "pressure",
            Self::Bend => "bend",
            Self::Sysex => "sysex",
            Self::Transport => "transport",
            Self::Realtime => "realtime",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The bytes of a message: inline, but for system exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes {
    /// One to three.
    Short([u8; 3], u8),
    /// System exclusive, with its F0 and F7.
    Long(Vec<u8>),
}

impl Bytes {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short(bytes, len) => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(bytes) => bytes,
        }
    }
}

const fn short(bytes: &[u8]) -> Bytes {
    match *bytes {
        [a] => Bytes::Short([a, 0, 0], 1),
        [a, b] => Bytes::Short([a, b, 0], 2),
        [a, b, c, ..] => Bytes::Short([a, b, c], 3),
        [] => Bytes::Short([0; 3], 0),
    }
}

const fn voice(status: u8, channel: u8) -> u8 {
    status | (channel.wrapping_sub(1) & 0x0f)
}

const fn low(value: u16) -> u8 {
    (value & 0x7f) as u8
}

const fn high(value: u16) -> u8 {
    ((value >> 7) & 0x7f) as u8
}

impl Message {
    /// The bytes, in full: no running status. Data beyond 7 bits is cut to 7.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match *self {
            Self::NoteOff { channel, note, velocity } => short(&[voice(0x80, channel), note & 0x7f, velocity & 0x7f]),
            Self::NoteOn { channel, note, velocity } => short(&[voice(0x90, channel), note & 0x7f, velocity & 0x7f]),
            Self::KeyPressure { channel, note, value } => short(&[voice(0xa0, channel), note & 0x7f, value & 0x7f]),
            Self::Control { channel, controller, value } => {
                short(&[voice(0xb0, channel), controller & 0x7f, value & 0x7f])
            }
            Self::Program { channel, program } => short(&[voice(0xc0, channel), program & 0x7f]),
            Self::Pressure { channel, value } => short(&[voice(0xd0, channel), value & 0x7f]),
            Self::PitchBend { channel, value } => {
                let value = value.clamp(-BEND_CENTRE, BEND_CENTRE - 1) + BEND_CENTRE;
                short(&[voice(0xe0, channel), low(value.cast_unsigned()), high(value.cast_unsigned())])
            }
            Self::SysEx(ref body) => {
                let inner = body.iter().map(|byte| byte & 0x7f);
                Bytes::Long(std::iter::once(0xf0).chain(inner).chain([0xf7]).collect())
            }
            Self::TimeCode(value) => short(&[0xf1, value & 0x7f]),
            Self::SongPosition(value) => short(&[0xf2, low(value), high(value)]),
            Self::SongSelect(value) => short(&[0xf3, value & 0x7f]),
            Self::TuneRequest => short(&[0xf6]),
            Self::Clock => short(&[0xf8]),
            Self::Start => short(&[0xfa]),
            Self::Continue => short(&[0xfb]),
            Self::Stop => short(&[0xfc]),
            Self::ActiveSensing => short(&[0xfe]),
            Self::Reset => short(&[0xff]),
        }
    }

    /// The message of a status byte and its data; `None` if the status is none of a whole short message.
    #[must_use]
    pub(super) fn short(status: u8, a: u8, b: u8) -> Option<Self> {
        let channel = (status & 0x0f) + 1;
        let wide = u16::from(a) | u16::from(b) << 7;
        Some(match status {
            0x80..=0x8f => Self::NoteOff { channel, note: a, velocity: b },
            0x90..=0x9f if b == 0 => Self::NoteOff { channel, note: a, velocity: 64 },
            0x90..=0x9f => Self::NoteOn { channel, note: a, velocity: b },
            0xa0..=0xaf => Self::KeyPressure { channel, note: a, value: b },
            0xb0..=0xbf => Self::Control { channel, controller: a, value: b },
            0xc0..=0xcf => Self::Program { channel, program: a },
            0xd0..=0xdf => Self::Pressure { channel, value: a },
            0xe0..=0xef => Self::PitchBend { channel, value: wide.cast_signed() - BEND_CENTRE },
            0xf1 => Self::TimeCode(a),
            0xf2 => Self::SongPosition(wide),
            0xf3 => Self::SongSelect(a),
            0xf6 => Self::TuneRequest,
            0xf8 => Self::Clock,
            0xfa => Self::Start,
            0xfb => Self::Continue,
            0xfc => Self::Stop,
            0xfe => Self::ActiveSensing,
            0xff => Self::Reset,
            _ => return None,
        })
    }

    /// What sort it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NoteOff { .. } | Self::NoteOn { .. } => Kind::Note,
            Self::KeyPressure { .. } => Kind::KeyPressure,
            Self::Control { .. } => Kind::Cc,
            Self::Program { .. } => Kind::Program,
            Self::Pressure { .. } => Kind::Pressure,
            Self::PitchBend { .. } => Kind::Bend,
            Self::SysEx(_) => Kind::Sysex,
            Self::SongPosition(_) | Self::SongSelect(_) | Self::Start | Self::Continue | Self::Stop => Kind::Transport,
            Self::TimeCode(_) | Self::TuneRequest | Self::Clock | Self::ActiveSensing | Self::Reset => Kind::Realtime,
        }
    }

    /// The channel, 1 to 16, if it is for one.
    #[must_use]
    pub const fn channel(&self) -> Option<u8> {
        match *self {
            Self::NoteOff { channel, .. }
            | Self::NoteOn { channel, .. }
            | Self::KeyPressure { channel, .. }
            | Self::Control { channel, .. }
            | Self::Program { channel, .. }
            | Self::Pressure { channel, .. }
            | Self::PitchBend { channel, .. } => Some(channel),
            _ => None,
        }
    }

    /// How many data bytes follow a status byte; `None` for F0, F7 and undefined ones.
    #[must_use]
    pub(super) const fn data_bytes(status: u8) -> Option<usize> {
        match status {
            0x80..=0xbf | 0xe0..=0xef | 0xf2 => Some(2),
            0xc0..=0xdf | 0xf1 | 0xf3 => Some(1),
            0xf6 | 0xf8 | 0xfa..=0xfc | 0xfe | 0xff => Some(0),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod strategy {
    use proptest::prelude::*;

    use super::Message;

    /// Any message that is its own bytes.
    pub fn message() -> impl Strategy<Value = Message> {
        let (ch, d) = (1..=16u8, 0..128u8);
        let pair = (ch.clone(), d.clone(), d.clone());
        prop_oneof![
            pair.clone().prop_map(|(channel, note, velocity)| Message::NoteOff { channel, note, velocity }),
            (ch.clone(), d.clone(), 1..128u8).prop_map(|(channel, note, velocity)| Message::NoteOn {
                channel,
                note,
                velocity
            }),
            pair.clone().prop_map(|(channel, note, value)| Message::KeyPressure { channel, note, value }),
            pair.prop_map(|(channel, controller, value)| Message::Control { channel, controller, value }),
            (ch.clone(), d.clone()).prop_map(|(channel, program)| Message::Program { channel, program }),
            (ch.clone(), d.clone()).prop_map(|(channel, value)| Message::Pressure { channel, value }),
            (ch, -8192..8192i16).prop_map(|(channel, value)| Message::PitchBend { channel, value }),
            prop::collection::vec(d.clone(), 0..40).prop_map(Message::SysEx),
            d.clone().prop_map(Message::TimeCode),
            (0..16384u16).prop_map(Message::SongPosition),
            d.prop_map(Message::SongSelect),
            Just(Message::TuneRequest),
            realtime(),
        ]
    }

    /// What may stand between the bytes of another.
    pub fn realtime() -> impl Strategy<Value = Message> {
        prop_oneof![
            Just(Message::Clock),
            Just(Message::Start),
            Just(Message::Continue),
            Just(Message::Stop),
            Just(Message::ActiveSensing),
            Just(Message::Reset),
        ]
    }
}
