//! Speech to text.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::{Ask, Blob, Message, Pcm, Replies};
use crate::bus::subject::{Capability, Verb};

/// A clip to transcribe: exactly one of `pcm`, `file` and `clip`. A body of any `Content-Type: audio/…` is taken as `file`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Raw samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcm: Option<Pcm>,
    /// A whole audio file (WAV, FLAC, Ogg Vorbis or MP3; any rate, any number of channels).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Blob>,
    /// The name of an audio file in the object store CLIPS, for what is over the server's max_payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<String>,
    /// BCP 47 primary language; absent: the host's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The model; absent: the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Words that are likely to occur, such as names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

impl Message for Request {
    const SCHEMA: &'static str = "stt.request/1";

    fn example() -> Self {
        Self {
            pcm: Some(Pcm {
                rate_hz: 16_000,
                channels: 1,
                data: Blob(Bytes::from_static(b"\0\0\0 \0@\0 \0\0")),
                ..Pcm::default()
            }),
            language: Some("en".to_owned()),
            ..Self::default()
        }
    }

    fn from_raw(content_type: &str, body: &Bytes) -> Option<Result<Self, Fault>> {
        content_type.starts_with("audio/").then(|| Ok(Self { file: Some(Blob(body.clone())), ..Self::default() }))
    }
}

impl Ask for Request {
    const VERB: Verb = Verb::new(Capability::Stt, "request");
    const ABOUT: &'static str = "one clip → transcript; the body may be a bare WAV with Content-Type: audio/wav";
    const REPLIES: Replies = Replies::One;
    type Reply = Transcript;

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

/// A stretch of a transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    /// Start from the beginning of the clip.
    pub start_ms: u64,
    /// End from the beginning of the clip.
    pub end_ms: u64,
    /// What was said in it.
    pub text: String,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transcript {
    /// The whole text; empty when nothing was said.
    pub text: String,
    /// The language heard or asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The text in stretches.
    #[serde(default)]
    pub segments: Vec<Segment>,
    /// How long the clip was.
    pub audio_ms: u64,
    /// How long the engine worked.
    pub engine_ms: u64,
    /// The model that heard it.
    pub model: String,
    /// What was odd about the clip, such as a file that ends too early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Message for Transcript {
    const SCHEMA: &'static str = "stt.transcript/1";

    fn example() -> Self {
        Self {
            text: "What time is it?".to_owned(),
            language: Some("en".to_owned()),
            segments: vec![Segment { start_ms: 0, end_ms: 1_240, text: "What time is it?".to_owned() }],
            audio_ms: 1_240,
            engine_ms: 262,
            model: "whisper-tiny.en".to_owned(),
            note: None,
        }
    }
}
