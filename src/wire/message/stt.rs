//! Speech to text.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::pcm::one;
use super::{Ask, Blob, Message, Pcm, Replies, SampleFormat};
use crate::wire::subject::{Capability, Verb};

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

    fn language(&self) -> Option<&str> {
        self.language.as_deref()
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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

impl Transcript {
    /// Adds what was heard in a piece that begins at `start_ms`. Its own note is of the piece, and left out.
    pub fn add(&mut self, start_ms: u64, piece: Self) {
        let Self { text, language, segments, audio_ms, engine_ms, model, note: _ } = piece;
        if !self.text.is_empty() && !text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(&text);
        self.segments.extend(segments.into_iter().map(|segment| Segment {
            start_ms: start_ms + segment.start_ms,
            end_ms: start_ms + segment.end_ms,
            text: segment.text,
        }));
        self.language = language.or(self.language.take());
        self.audio_ms = start_ms + audio_ms;
        self.engine_ms += engine_ms;
        self.model = model;
    }
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

/// Opens a stream: what is said is transcribed while it is said. The first reply names where the audio goes: raw samples
/// as described here, to `<ingest>.0`, `<ingest>.1` and so on, each message a whole number of frames; an empty one ends
/// the stream. A number that is left out is an error, and so is a pause: silence is audio as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stream {
    /// Frames a second.
    #[serde(default = "usual_rate")]
    pub rate_hz: u32,
    /// Samples a frame; all are mixed.
    #[serde(default = "one")]
    pub channels: u16,
    /// How samples are written.
    #[serde(default)]
    pub format: SampleFormat,
    /// Whether the running text is wanted before it is settled.
    #[serde(default = "yes")]
    pub partials: bool,
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

const fn usual_rate() -> u32 {
    16_000
}

const fn yes() -> bool {
    true
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            rate_hz: usual_rate(),
            channels: one(),
            format: SampleFormat::default(),
            partials: yes(),
            language: None,
            model: None,
            prompt: None,
        }
    }
}

impl Stream {
    /// The size of one sample of all channels, in bytes.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        let sample = match self.format {
            SampleFormat::S16le => 2,
            SampleFormat::F32le => 4,
        };
        sample * usize::from(self.channels.max(1))
    }
}

impl Message for Stream {
    const SCHEMA: &'static str = "stt.stream/1";

    fn example() -> Self {
        Self { rate_hz: 48_000, language: Some("en".to_owned()), ..Self::default() }
    }
}

impl Ask for Stream {
    const VERB: Verb = Verb::new(Capability::Stt, "stream");
    const ABOUT: &'static str = "audio while it is spoken → the running text, and what is settled of it";
    const REPLIES: Replies = Replies::Talk;
    type Reply = StreamEvent;
    const COUNTS: bool = false;

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn language(&self) -> Option<&str> {
        self.language.as_deref()
    }
}

/// What happens in a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StreamEvent {
    /// Audio is waited for.
    Started(Started),
    /// The running text: that of all audio that is not settled yet. It replaces the one before.
    Partial {
        /// Where it begins, from the beginning of the stream.
        start_ms: u64,
        /// The text so far.
        text: String,
    },
    /// Text that will not change any more: one for a stream of up to 28 s, else one for each stretch between two pauses.
    Final {
        /// The text.
        text: String,
        /// The language heard or asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<String>,
        /// The text in stretches; times are from the beginning of the stream.
        #[serde(default)]
        segments: Vec<Segment>,
    },
    /// The end of a stream that did not fail.
    Done(StreamDone),
}

/// Where the audio goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// The subject before a message's number.
    pub ingest: String,
    /// How many messages may be on the way. One that has a reply subject is acknowledged there, with all before it; whoever
    /// gives none must not send faster than is spoken.
    pub credit: u64,
    /// The largest message, in bytes.
    pub max_bytes: usize,
    /// The stream is given up when no message comes for so long.
    pub idle_ms: u64,
    /// The host that listens.
    pub node: String,
    /// The model that it uses.
    pub model: String,
}

/// What was heard in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamDone {
    /// How long the audio was.
    pub audio_ms: u64,
    /// How long the engine worked, the running text included.
    pub engine_ms: u64,
    /// The model that heard it.
    pub model: String,
}

impl Message for StreamEvent {
    const SCHEMA: &'static str = "stt.event/1";

    fn example() -> Self {
        Self::Started(Started {
            ingest: "_INBOX.uZTd5nB7cW3fQk1L9xYvM2".to_owned(),
            credit: 64,
            max_bytes: 65_536,
            idle_ms: 10_000,
            node: "studio".to_owned(),
            model: "whisper-tiny.en".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_placed_in_the_whole_recording() {
        let heard = |text: &str| Transcript {
            text: text.to_owned(),
            segments: vec![Segment { start_ms: 100, end_ms: 900, text: text.to_owned() }],
            audio_ms: 1_000,
            engine_ms: 3,
            ..Transcript::example()
        };
        let mut whole = Transcript::default();
        whole.add(0, heard("One."));
        whole.add(20_000, Transcript { segments: Vec::new(), language: None, ..heard("") });
        whole.add(40_000, heard("Two."));
        assert_eq!(whole.text, "One. Two.");
        let times: Vec<_> = whole.segments.iter().map(|segment| (segment.start_ms, segment.end_ms)).collect();
        assert_eq!(times, [(100, 900), (40_100, 40_900)]);
        assert_eq!((whole.audio_ms, whole.engine_ms), (41_000, 9));
        assert_eq!((whole.model.as_str(), whole.language.as_deref()), ("whisper-tiny.en", Some("en")));
    }
}
