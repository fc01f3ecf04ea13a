//! The caller's side: one reply, a stream of replies, or transcripts of speech as it is spoken.

mod call;
mod cancel;
pub mod listen;
mod request;
pub mod stream;

pub use call::Call;
pub(in crate::bus) use call::MAX_DEADLINE;
