//! Every wire type, a file a family.
//!
//! Fields are only ever added, with defaults: yesterday's message is read by today's host. [`contract`](super::contract)
//! renders this module as `subjects/`.

pub mod agent;
pub mod audio;
mod blob;
pub mod fault;
pub mod job;
pub mod llm;
pub mod midi;
pub mod node;
pub mod osc;
mod pcm;
pub mod session;
pub mod stt;
mod traits;
pub mod tts;
pub mod voice;

pub use blob::Blob;
pub(super) use blob::sharing;
pub use pcm::{Pcm, SampleFormat};
pub use traits::{Ask, Message, Replies};
