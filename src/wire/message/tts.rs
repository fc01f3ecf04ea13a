//! Text to speech.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::{Fault, FaultCode};
use super::{Ask, Blob, Message, Pcm, Replies};
use crate::wire::subject::{Capability, Verb};

/// What to say, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Say {
    /// What to say.
    pub text: String,
    /// The voice; absent: the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// 1.0 is the voice's own pace; 0.5 to 2.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f32>,
}

/// Text to be spoken, answered by a whole WAV.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Request(pub Say);

impl Message for Request {
    const SCHEMA: &'static str = "tts.request/1";

    fn example() -> Self {
        Self(Say { text: "Hello, and welcome.".to_owned(), voice: None, speed: Some(1.1) })
    }
}

impl Ask for Request {
    const VERB: Verb = Verb::new(Capability::Tts, "request");
    const ABOUT: &'static str = "text → a whole WAV (with Accept: application/json: JSON that holds it)";
    const REPLIES: Replies = Replies::One;
    type Reply = Speech;

    fn model(&self) -> Option<&str> {
        self.0.voice.as_deref()
    }
}

/// Speech as a WAV file (16-bit, mono): a bare `audio/wav` body unless the caller names another `Accept`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Speech {
    /// The WAV file; absent if it is in CLIPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wav: Option<Blob>,
    /// Its name in the object store CLIPS, when it is over the server's max_payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<String>,
    /// How long it sounds.
    pub audio_ms: u64,
    /// The voice that speaks.
    pub voice: String,
}

impl Message for Speech {
    const SCHEMA: &'static str = "tts.speech/1";

    fn example() -> Self {
        Self {
            wav: None,
            clip: Some("01KB3Z7D5YAZ9W1N4CV2T8Q6RE".to_owned()),
            audio_ms: 41_300,
            voice: "en_US-joe-medium".to_owned(),
        }
    }

    fn to_raw(&self) -> Option<Result<(&'static str, Bytes), Fault>> {
        self.wav.as_ref().map(|wav| Ok(("audio/wav", wav.0.clone())))
    }

    fn from_raw(content_type: &str, body: &Bytes) -> Option<Result<Self, Fault>> {
        (content_type == "audio/wav").then(|| {
            let reader = hound::WavReader::new(body.as_ref())
                .map_err(|e| Fault::new(FaultCode::Failed, format!("the reply is no WAV file: {e}")))?;
            let audio_ms = u64::from(reader.duration()) * 1_000 / u64::from(reader.spec().sample_rate.max(1));
            Ok(Self { wav: Some(Blob(body.clone())), clip: None, audio_ms, voice: String::new() })
        })
    }
}

/// Text to be spoken, answered by PCM as it is made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Stream(pub Say);

impl Message for Stream {
    const SCHEMA: &'static str = "tts.stream/1";

    fn example() -> Self {
        let text = "Hello, and welcome. This comes sentence by sentence.".to_owned();
        Self(Say { text, voice: None, speed: None })
    }
}

impl Ask for Stream {
    const VERB: Verb = Verb::new(Capability::Tts, "stream");
    const ABOUT: &'static str = "text → PCM chunks as they are made, sentence by sentence";
    const REPLIES: Replies = Replies::Audio;
    type Reply = Chunk;

    fn model(&self) -> Option<&str> {
        self.0.voice.as_deref()
    }
}

/// A piece of speech. The last one has `done` and may have no samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chunk {
    /// Mono samples; at most 200 ms.
    pub pcm: Pcm,
    /// The summary, on the last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Spoken>,
}

/// What was spoken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spoken {
    /// How long all of it sounds.
    pub audio_ms: u64,
    /// How long the engine worked.
    pub engine_ms: u64,
    /// From the request's arrival to the first chunk.
    pub first_audio_ms: u64,
    /// The voice that spoke.
    pub voice: String,
}

impl Message for Chunk {
    const SCHEMA: &'static str = "tts.chunk/1";

    fn example() -> Self {
        Self {
            pcm: Pcm {
                rate_hz: 22_050,
                channels: 1,
                data: Blob(Bytes::from_static(b"\0\0\0 \0@\0 ")),
                ..Pcm::default()
            },
            done: Some(Spoken {
                audio_ms: 1_840,
                engine_ms: 310,
                first_audio_ms: 190,
                voice: "en_US-joe-medium".to_owned(),
            }),
        }
    }
}
