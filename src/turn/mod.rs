//! A talk between a person and a listener, as pure decisions: what happened goes in with its time, what to do comes out.
//! No clock, no I/O, no audio: sound is an opaque value `C` that goes in with an utterance and comes out to be looked at or
//! transcribed, and why work failed is an opaque `F`.
//!
//! ```text
//!            wake phrase                    speech goes on, or is awaited
//!   ┌──────┐────────────▶┌───────────────┐────────────▶┌───────────┐
//!   │ idle │             │ wake_detected │             │ listening │◀─ only the wake phrase was said
//!   └──────┘──push to talk, or any speech in mode open─▶└───────────┘
//!    ▲ ▲ ▲                                                 │     │ utterance over
//!    │ │ └──────────── nothing said ───────────────────────┘     ▼
//!    │ │                                                  ┌─ processing ───────────────────────┐
//!    │ │                                                  │ transcribing ──▶ waiting           │──▶ listening
//!    │ └─ no words twice, failed, no sound ───────────────│      │  unfinished │ not gone on   │    (goes on)
//!    │                                                    │      └──────▶ answering ◀──────────┘
//!    │                          ┌──────────┐              └──────────────────│─────────────────┘
//!    └─ last sample, failed ────│ speaking │◀─────────── first sample ───────┘
//!                               └──────────┘◀── say; a text to be answered leads to answering
//! ```
//!
//! A transcript that looks unfinished is not answered at once: for a while its speaker may go on. A stop leads from
//! everywhere to idle. A wake phrase, push to talk, `say` or `ask` during processing or speaking interrupts the turn and
//! opens the next (barge-in). Work carries the number of its turn, so what comes of it after the turn's end does nothing.
//!
//! | module | what |
//! | --- | --- |
//! | [`input`](Input) | what can happen |
//! | [`effect`](Effect) | what the driver is to do |
//! | `talk` | [`Talk`]: takes an input, gives effects, and says when it wants to be called next |
//! | `hearing` | utterances, their parts, looks for the wake phrase, who goes on after a pause |
//! | `stage` | where a turn stands, with the data of each stage |
//! | `own_words` | what the assistant said itself: its own wake phrase does not count |
//! | [`finished`] | whether a request looks whole by its words |
//!
//! Talks that a person can read are in `tests/timelines/`.

mod effect;
pub mod finished;
mod hearing;
mod input;
mod own_words;
mod stage;
mod talk;
#[cfg(test)]
mod tests;

pub use effect::{Effect, Failure, Outcome, Phase, Refusal, StageTimes};
pub use input::{
    AfterPhrase, AnswerTimes, Found, Input, LookResult, Now, OpensOn, Pedal, Settings, SpeechSpan, Utterance,
    UtteranceEnd, Work,
};
pub use talk::Talk;
