//! Every wire type, a file a family.
//!
//! Fields are only ever added, with defaults: yesterday's message is read by today's host. [`contract`](super::contract)
//! renders this module as `subjects/`.

pub mod agent;
pub mod audio;
pub mod fault;
pub mod job;
pub mod llm;
pub mod midi;
pub mod node;
pub mod osc;
pub mod session;
pub mod stt;
pub mod tts;
pub mod voice;

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::subject::Verb;
use fault::Fault;

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

/// Bytes such as PCM: base64 in JSON, a plain bin in MessagePack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Cow::<'de, str>::deserialize(deserializer)?;
            let bytes =
                BASE64_STANDARD.decode(text.as_bytes()).map_err(|e| D::Error::custom(format!("base64: {e}")))?;
            Ok(Self(bytes.into()))
        } else {
            Ok(Self(serde_bytes::ByteBuf::deserialize(deserializer)?.into_vec().into()))
        }
    }
}

impl JsonSchema for Blob {
    fn schema_name() -> Cow<'static, str> {
        "Blob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes: base64 in JSON, bin in MessagePack.",
            "type": "string",
            "contentEncoding": "base64",
        })
    }
}

/// How samples are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampleFormat {
    /// Signed 16-bit, little endian.
    #[default]
    S16le,
    /// 32-bit float, little endian, −1…1.
    F32le,
}

/// Raw samples, interleaved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pcm {
    /// How samples are written.
    #[serde(default)]
    pub format: SampleFormat,
    /// Frames a second.
    pub rate_hz: u32,
    /// Samples a frame.
    #[serde(default = "one")]
    pub channels: u16,
    /// The samples.
    pub data: Blob,
}

const fn one() -> u16 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_base64_in_json_and_bin_in_messagepack() {
        let blob = Blob(Bytes::from_static(&[0, 1, 255]));
        assert_eq!(serde_json::to_string(&blob).unwrap(), "\"AAH/\"");
        let packed = rmp_serde::to_vec_named(&blob).unwrap();
        assert_eq!(packed, [0xc4, 3, 0, 1, 255]);
        assert_eq!(rmp_serde::from_slice::<Blob>(&packed).unwrap(), blob);
        assert_eq!(serde_json::from_str::<Blob>("\"AAH/\"").unwrap(), blob);
        assert!(serde_json::from_str::<Blob>("\"A*\"").is_err());
    }
}
