//! MIDI without any device: messages and their bytes, names of notes and chords, what sounds, the clock, and which event
//! does what. Pure: values and times in, values out; knows neither bus nor tokio, nor JACK nor ALSA.
//!
//! | module | what |
//! | --- | --- |
//! | [`message`] | [`Message`] and its bytes |
//! | [`parse`] | a stream of bytes → messages |
//! | [`note`], [`chord`], `spoken` | `C4`, `Bb3`; `F#m7b5/E`; "F sharp 3", "a minor" |
//! | [`controller`] | 14-bit controllers, RPN and NRPN, out of three or four messages and back |
//! | [`sounding`] | which notes sound, and who started them |
//! | [`trigger`] | an event → which row of a table, toggled, held, long or double pressed |
//! | [`clock`] | MIDI clock → tempo, beat and bar, and the other way |
//!
//! Channels are 1 to 16 everywhere, as people and devices count them. Times are in µs from an origin that the caller chooses.

pub mod chord;
pub mod clock;
pub mod controller;
pub mod message;
pub mod note;
pub mod parse;
pub mod sounding;
mod spoken;
pub mod trigger;

pub use chord::Chord;
pub use message::{Kind, Message};
pub use note::Note;
pub use parse::Parser;
