//! What the role decides: which messages go out when, and what a message that comes in sets off. Knows no driver, no bus and no
//! clock: it is given times, and leaves what remains to be done in [`Output`].
//!
//! | file | what |
//! | --- | --- |
//! | `state` | [`Sequencer`], its ports, what waits |
//! | `play` | what callers ask for |
//! | `send` | what goes out, at once or ahead of its time |
//! | `input` | what comes in, and what it sets off |
//! | `devices` | devices that come and go |

mod devices;
mod input;
mod play;
mod send;
mod state;

pub use state::{Outgoing, Output, Sequencer, Setup};

#[cfg(test)]
mod tests;
