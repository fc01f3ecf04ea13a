//! Between arguments as OSC has them and as the bus does.

use crate::bus::message::Blob;
use crate::bus::message::osc::Arg;
use crate::osc::{OscArray, OscColor, OscMidiMessage, OscTime, OscType};

/// As the bus has it.
#[must_use]
pub fn to_wire(arg: OscType) -> Arg {
    match arg {
        OscType::Int(number) => Arg::Int(number),
        OscType::Float(number) => Arg::Float(number),
        OscType::String(text) => Arg::Text(text),
        OscType::Blob(bytes) => Arg::Blob(Blob(bytes.into())),
        OscType::Time(OscTime { seconds, fractional }) => Arg::Time(seconds, fractional),
        OscType::Long(number) => Arg::Int64(number),
        OscType::Double(number) => Arg::Double(number),
        OscType::Char(char) => Arg::Char(char),
        OscType::Color(OscColor { red, green, blue, alpha }) => Arg::Color([red, green, blue, alpha]),
        OscType::Midi(OscMidiMessage { port, status, data1, data2 }) => Arg::Midi([port, status, data1, data2]),
        OscType::Bool(is) => Arg::Bool(is),
        OscType::Array(array) => Arg::Array(array.content.into_iter().map(to_wire).collect()),
        OscType::Nil => Arg::Nil,
        OscType::Inf => Arg::Infinitum,
    }
}

/// As OSC has it.
#[must_use]
pub fn to_osc(arg: Arg) -> OscType {
    match arg {
        Arg::Int(number) => OscType::Int(number),
        Arg::Float(number) => OscType::Float(number),
        Arg::Text(text) => OscType::String(text),
        Arg::Blob(blob) => OscType::Blob(blob.0.to_vec()),
        Arg::Time(seconds, fractional) => OscType::Time(OscTime { seconds, fractional }),
        Arg::Int64(number) => OscType::Long(number),
        Arg::Double(number) => OscType::Double(number),
        Arg::Char(char) => OscType::Char(char),
        Arg::Color([red, green, blue, alpha]) => OscType::Color(OscColor { red, green, blue, alpha }),
        Arg::Midi([port, status, data1, data2]) => OscType::Midi(OscMidiMessage { port, status, data1, data2 }),
        Arg::Bool(is) => OscType::Bool(is),
        Arg::Array(args) => OscType::Array(OscArray { content: args.into_iter().map(to_osc).collect() }),
        Arg::Nil => OscType::Nil,
        Arg::Infinitum => OscType::Inf,
    }
}

/// Whether it is what a button sends when it is let go: a number that is 0, or false.
#[must_use]
pub fn is_off(arg: &OscType) -> bool {
    matches!(arg, OscType::Bool(false)) || number(arg) == Some(0.0)
}

/// As a number, if it is one, or true or false.
#[must_use]
pub fn number(arg: &OscType) -> Option<f64> {
    match arg {
        OscType::Int(number) => Some(f64::from(*number)),
        OscType::Float(number) => Some(f64::from(*number)),
        #[expect(clippy::cast_precision_loss, reason = "values set by OSC have no 53 bits")]
        OscType::Long(number) => Some(*number as f64),
        OscType::Double(number) => Some(*number),
        OscType::Bool(is) => Some(f64::from(u8::from(*is))),
        _ => None,
    }
}
