//! What was said and done: the JetStream stream SESSIONS, appended to by [`SessionLog`] and read back by [`SessionReader`].

mod log;
mod queue;
mod read;
mod store;

pub use log::SessionLog;
pub use queue::QueueSettings;
pub use read::{SessionReader, Summary, each, history, ids, last_reply, list};
pub use store::now;
