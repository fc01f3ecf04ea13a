//! What performers' gear sets off, and what goes out to it: shared by the roles that hear gear (`osc`, `midi`) and those
//! that play it.
//!
//! ```text
//! osc, midi ─▶ Action + slots ─▶ Effect ─▶ Effects ─▶ Rig ─┬─ osc, midi plugged in on this host: at once, no bus in between
//! agent: a command's action ───────────────────────▶ Rig ─┴─ else the host that has the target or port, by the fabric
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | `perform` | [`Rig`]: what is done on this host at once, and what by the bus |
//! | [`effects`], [`outbox`] | for callers that must not wait: at once, else queued; what of it goes in order |
//! | [`clock`] | beats and bars, for what waits for one |
//! | [`stop`] | the one stop |
//! | [`loops`] | what triggers itself is broken |

pub mod clock;
pub mod effects;
pub mod loops;
pub mod outbox;
mod perform;
pub mod stop;

pub use perform::{Plugged, Rig, Sender};
