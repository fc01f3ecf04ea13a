//! What was said and done, as it is kept in the stream SESSIONS.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Message;
use super::fault::FaultCode;
use super::voice::TurnState;

/// One event of a session, on `session.<id>.<kind>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionEvent {
    /// Its own id (a ULID); an event with an id that is there already is not kept twice.
    pub id: String,
    /// The session.
    pub session: String,
    /// The turn, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// When it happened, in RFC 3339.
    pub at: String,
    /// The host that says so.
    pub node: String,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened in a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A person said or wrote something.
    Utterance {
        /// The words.
        text: String,
        /// The listener that heard it; absent: it was written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<String>,
        /// How long it was, if it was heard.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audio_ms: Option<u64>,
    },
    /// It was a command.
    Command {
        /// The command's name.
        name: String,
        /// What its slots hold.
        #[serde(default)]
        slots: BTreeMap<String, String>,
        /// What the chat model is asked instead of the words, if the command asks it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt: Option<String>,
    },
    /// The answer.
    Reply {
        /// The words.
        text: String,
        /// The model that found them, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// A listener's state changed.
    State {
        /// The listener.
        listener: String,
        /// Its state.
        state: TurnState,
        /// What brought it there.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// How long each stage of a spoken turn took.
    Times(Times),
    /// A turn failed, or part of it.
    Error {
        /// What kind of thing went wrong.
        code: FaultCode,
        /// What was tried, on what, and what to do about it.
        message: String,
        /// The part of the turn: `stt`, `agent`, `tts`, `audio`, `bus`.
        stage: String,
    },
}

impl What {
    /// The last token of its subject.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Utterance { .. } => "utterance",
            Self::Command { .. } => "command",
            Self::Reply { .. } => "reply",
            Self::State { .. } => "state",
            Self::Times(_) => "times",
            Self::Error { .. } => "error",
        }
    }
}

/// How long each stage of a spoken turn took, in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// From the last sample of speech to the decision that it has ended.
    pub endpoint_ms: u64,
    /// The request to the recognizer, there and back.
    pub stt_ms: u64,
    /// From the transcript to the first sentence of the answer.
    pub first_sentence_ms: u64,
    /// From the first sentence to its first audio.
    pub first_audio_ms: u64,
    /// From the first audio to the first sample in JACK.
    pub first_sample_ms: u64,
    /// From the last sample of speech to the first sample out.
    pub total_ms: u64,
    /// How long the answer sounded.
    pub spoken_ms: u64,
}

impl Times {
    /// Each stage with its name.
    #[must_use]
    pub const fn stages(&self) -> [(&'static str, u64); 7] {
        [
            ("endpoint", self.endpoint_ms),
            ("stt", self.stt_ms),
            ("first_sentence", self.first_sentence_ms),
            ("first_audio", self.first_audio_ms),
            ("first_sample", self.first_sample_ms),
            ("total", self.total_ms),
            ("spoken", self.spoken_ms),
        ]
    }
}

impl Message for SessionEvent {
    const SCHEMA: &'static str = "session.event/1";

    fn example() -> Self {
        Self {
            id: "01KB3Z7DF3M5E7K9N1Q3S5V7X9".to_owned(),
            session: "main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE".to_owned(),
            turn: Some("01KB3Z7DC1V5W2J0Q8H6F4D2B0".to_owned()),
            at: "2026-11-24T10:27:04.310Z".to_owned(),
            node: "studio".to_owned(),
            what: What::Utterance {
                text: "What time is it?".to_owned(),
                listener: Some("main".to_owned()),
                audio_ms: Some(1_240),
            },
        }
    }
}
