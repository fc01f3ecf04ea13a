//! A need is met by the host that the [router](crate::router) chooses, and by the next one when that
//! refuses, is silent or dies.
//!
//! ```text
//! bucket NODES ─▶ Roster ─▶ View ─▶ Router::decide ─▶ Route: ask the first, then the next … ─▶ Health
//! ```
//!
//! A role says what it needs (`stt`, English, a person waits), never which host.

mod ask;
mod departures;
mod listen;
mod liveness;
mod route;
mod state;
mod stream;
mod view;

pub use listen::{SpeechIn, Texts, Whom};
pub use route::Choice;
pub use state::Fabric;
pub use stream::FabricStream;
pub use view::{need, privacy_of, wire_privacy};
