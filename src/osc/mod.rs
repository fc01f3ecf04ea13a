//! OSC as bytes and values: decoding within limits, address patterns, time tags, framing on TCP, the pace of feedback. Pure: it
//! knows neither sockets nor the bus nor a clock of its own.
//!
//! | module | what |
//! | --- | --- |
//! | [`packet`] | datagrams to messages and back, by rosc, within [`Limits`] |
//! | [`pattern`] | address patterns as OSC 1.0 has them |
//! | [`time`] | time tags: now, late, later, or too far away |
//! | [`frame`] | packets on a stream: SLIP (OSC 1.1) and the size in front (OSC 1.0) |
//! | [`pace`] | the latest value of each address, at most so often |

pub mod frame;
pub mod pace;
pub mod packet;
pub mod pattern;
pub mod time;

pub use packet::{DecodeError, EncodeError, Limits, Timed, decode, encode};
pub use rosc::{OscArray, OscColor, OscMessage, OscMidiMessage, OscTime, OscType};
