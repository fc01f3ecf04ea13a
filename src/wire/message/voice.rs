//! Listeners: what they are told, and what they say of themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
use crate::wire::subject::{Capability, Verb};

/// A command to a listener. Works as a plain publish as well as a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Control {
    /// Listen now, without a wake phrase.
    PushToTalk {
        /// `true`: until told `false`; `false`: what was said since `true` is the utterance; absent: silence ends it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<bool>,
    },
    /// Hear nothing, or hear again.
    Mute {
        /// Whether to mute; absent: the other of what it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<bool>,
    },
    /// Speak a text; breaks off what it is speaking.
    Say {
        /// What to say.
        text: String,
    },
    /// Answer a text as if it had been spoken; breaks off what it is speaking.
    Ask {
        /// What to answer.
        text: String,
    },
    /// Stop speaking and drop the turn.
    Stop,
    /// Publish how loud the microphone is, on `voice.<node>.<listener>.level`. Who shows it asks again before the time is over.
    Meter {
        /// For so long; 0: no more, unless others asked. Ten seconds at most.
        ms: u64,
    },
    /// What opens a turn from now on.
    Mode {
        /// The mode.
        mode: Mode,
    },
}

impl Control {
    /// Whether it is for all listeners where none is named; all else is for the first.
    #[must_use]
    pub const fn is_for_all(&self) -> bool {
        matches!(self, Self::Stop | Self::Mute { .. } | Self::Mode { .. })
    }
}

/// What opens a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A wake phrase, or push to talk.
    #[default]
    Wake,
    /// Any speech.
    Open,
    /// Push to talk only.
    PushToTalk,
}

impl Message for Control {
    const SCHEMA: &'static str = "voice.control/1";

    fn example() -> Self {
        Self::PushToTalk { held: None }
    }
}

impl Ask for Control {
    const VERB: Verb = Verb::new(Capability::Voice, "control");
    const ABOUT: &'static str = "a command to a listener: push to talk, mute, say, ask, stop, mode";
    const REPLIES: Replies = Replies::One;
    type Reply = State;
}

/// Where a listener is in its turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    /// Waits for a wake phrase or push to talk.
    #[default]
    Idle,
    /// The wake phrase was heard.
    WakeDetected,
    /// Takes down an utterance.
    Listening,
    /// The utterance is transcribed and answered.
    Processing,
    /// The answer sounds.
    Speaking,
}

impl TurnState {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::WakeDetected => "wake_detected",
            Self::Listening => "listening",
            Self::Processing => "processing",
            Self::Speaking => "speaking",
        }
    }
}

/// A listener's state, published at every change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// The host.
    pub node: String,
    /// The listener on it.
    pub listener: String,
    /// Where it is in its turn.
    pub state: TurnState,
    /// What brought it there, such as `wake phrase "Computer"`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// When, in RFC 3339.
    pub at: String,
    /// The session, if a turn is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The turn, if one is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// What opens a turn.
    #[serde(default)]
    pub mode: Mode,
    /// Whether it hears nothing.
    #[serde(default)]
    pub muted: bool,
    /// Whether it has JACK.
    #[serde(default)]
    pub audio: bool,
}

impl Message for State {
    const SCHEMA: &'static str = "voice.state/1";

    fn example() -> Self {
        Self {
            node: "studio".to_owned(),
            listener: "main".to_owned(),
            state: TurnState::Listening,
            why: "wake phrase \"Computer\"".to_owned(),
            at: "2026-11-24T10:27:03.120Z".to_owned(),
            session: Some("main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE".to_owned()),
            turn: Some("01KB3Z7DC1V5W2J0Q8H6F4D2B0".to_owned()),
            mode: Mode::Wake,
            muted: false,
            audio: true,
        }
    }
}

/// How loud a listener's microphone is; published some 30 times a second while somebody has asked for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Level {
    /// The host.
    pub node: String,
    /// The listener on it.
    pub listener: String,
    /// The loudest sample since the last one, 0 to 1.
    pub level: f32,
}

impl Message for Level {
    const SCHEMA: &'static str = "voice.level/1";

    fn example() -> Self {
        Self { node: "studio".to_owned(), listener: "main".to_owned(), level: 0.25 }
    }
}
