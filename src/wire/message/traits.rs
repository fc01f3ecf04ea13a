//! What every message is, and what asks.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault::{Fault, FaultCode};
use crate::wire::subject::Verb;

/// Anything that crosses the bus.
pub trait Message: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Its name with the version of its format, as in the header `Schema`, such as `llm.chat/1`.
    const SCHEMA: &'static str;

    /// A real one, for the contract and its tests.
    fn example() -> Self;

    /// The message as a bare body of its own content type, for callers who name no `Accept`; `None` for most.
    ///
    /// # Errors
    /// A [`Fault`] when it has no such form.
    fn to_raw(&self) -> Option<Result<(&'static str, Bytes), Fault>> {
        None
    }

    /// Reads a bare body of content type `content_type`; `None` if that is not understood.
    fn from_raw(content_type: &str, body: &Bytes) -> Option<Result<Self, Fault>> {
        let _ = (content_type, body);
        None
    }
}

/// A message that asks for something.
pub trait Ask: Message {
    /// What is asked.
    const VERB: Verb;
    /// One line for people.
    const ABOUT: &'static str;
    /// Whether it is answered by a stream of replies or by one.
    const REPLIES: Replies;
    /// What answers: the one reply, or each of the stream.
    type Reply: Message;
    /// Whether its time counts into the usual one of the capability, by which hosts are compared: not that of a look at what is
    /// there, nor of what lasts as long as somebody speaks.
    const COUNTS: bool = true;

    /// Whether this caller wants the stream; only asked where [`Ask::REPLIES`] is [`Replies::Stream`].
    fn wants_stream(&self) -> bool {
        true
    }

    /// The model or voice that it names, if any.
    fn model(&self) -> Option<&str> {
        None
    }

    /// The language that it names, if any.
    fn language(&self) -> Option<&str> {
        None
    }
}

/// How a verb is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// By one reply.
    One,
    /// By a stream: chunks, of which the last is the summary; by the summary alone if the request says `"stream": false`.
    Stream,
    /// By a stream of audio, which goes over a connection of its own.
    Audio,
    /// By a stream of events, while the requester sends audio to where the first of them says.
    Talk,
}

impl Message for Fault {
    const SCHEMA: &'static str = "fault/1";

    fn example() -> Self {
        Self::new(FaultCode::Busy, "all 2 slots of stt on studio are taken: try again, or ask another host")
    }
}
