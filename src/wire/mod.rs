//! The messages of the bus, whatever carries them: subjects, types, how bodies are written, the contract of it all.
//!
//! Nothing here knows NATS, a connection or a task: values, texts and bytes go in and come out.

pub mod codec;
pub mod contract;
pub mod message;
pub mod pack;
pub mod storage;
pub mod stream;
pub mod subject;
