//! Turns: what a person wants, to its end.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
use crate::wire::subject::{Capability, Verb};

const fn yes() -> bool {
    true
}

/// A person's turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// What the person said or wrote.
    pub text: String,
    /// The session that it belongs to; absent: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The turn's id (a ULID), if the caller has begun it; absent: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// Whether the answer comes as events (the default) or as the last of them alone.
    #[serde(default = "yes")]
    pub stream: bool,
    /// Where it was heard; absent: it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Heard>,
    /// What of the answer another host has given before it broke off; the answer goes on from there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
}

/// Where and how a turn was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heard {
    /// The host.
    pub node: String,
    /// The listener on it.
    pub listener: String,
    /// How long the utterance was.
    pub audio_ms: u64,
}

impl Message for Run {
    const SCHEMA: &'static str = "agent.run/1";

    fn example() -> Self {
        Self {
            text: "What time is it?".to_owned(),
            session: Some("main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE".to_owned()),
            turn: Some("01KB3Z7DC1V5W2J0Q8H6F4D2B0".to_owned()),
            stream: true,
            heard: Some(Heard { node: "studio".to_owned(), listener: "main".to_owned(), audio_ms: 1_240 }),
            said: String::new(),
        }
    }
}

impl Ask for Run {
    const VERB: Verb = Verb::new(Capability::Agent, "run");
    const ABOUT: &'static str = "a person's turn → events to its end, or the last of them with \"stream\": false";
    const REPLIES: Replies = Replies::Stream;
    type Reply = RunEvent;

    fn wants_stream(&self) -> bool {
        self.stream
    }
}

/// What happens in a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The turn is known and logged.
    Started {
        /// Its session.
        session: String,
        /// Its id.
        turn: String,
    },
    /// The text is a command; it is done without a model.
    Command {
        /// The command's name.
        name: String,
        /// The pattern or alias that fits.
        pattern: String,
        /// What its slots hold.
        slots: BTreeMap<String, String>,
    },
    /// More of the answer, to be spoken or shown.
    Text {
        /// The new text only.
        text: String,
    },
    /// Everything that sounds or acts is to stop, this turn's speech included.
    Stop,
    /// The end of a turn that did not fail.
    Done(RunDone),
}

/// How a turn ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunDone {
    /// Its session.
    pub session: String,
    /// Its id.
    pub turn: String,
    /// The whole answer.
    pub text: String,
    /// The command that it was, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The model that answered, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Tokens of the model's prompt, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Those of them that it had read for an earlier request, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
    /// From the request's arrival to the first text.
    pub first_text_ms: u64,
    /// From the request's arrival to the end.
    pub total_ms: u64,
}

impl Message for RunEvent {
    const SCHEMA: &'static str = "agent.event/1";

    fn example() -> Self {
        Self::Done(RunDone {
            session: "main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE".to_owned(),
            turn: "01KB3Z7DC1V5W2J0Q8H6F4D2B0".to_owned(),
            text: "It is 10:27 AM.".to_owned(),
            command: Some("time".to_owned()),
            model: None,
            prompt_tokens: None,
            cached_tokens: None,
            first_text_ms: 1,
            total_ms: 2,
        })
    }
}

/// Asks which command a text would match, without doing it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Commands {
    /// The text; absent: all commands are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Message for Commands {
    const SCHEMA: &'static str = "agent.commands/1";

    fn example() -> Self {
        Self { text: Some("say good evening".to_owned()) }
    }
}

impl Ask for Commands {
    const VERB: Verb = Verb::new(Capability::Agent, "commands");
    const ABOUT: &'static str = "which command a text would match, and why (a dry run)";
    const REPLIES: Replies = Replies::One;
    type Reply = CommandList;
    const COUNTS: bool = false;
}

/// The commands that were looked at, best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandList {
    /// The command that would run; none: the chat model would answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<String>,
    /// Every command.
    pub commands: Vec<CommandLook>,
}

/// One command, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandLook {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its patterns and aliases.
    pub patterns: Vec<String>,
    /// Why it fits or not; empty where there was no text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What its slots would hold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, String>,
}

impl Message for CommandList {
    const SCHEMA: &'static str = "agent.command-list/1";

    fn example() -> Self {
        Self {
            matched: Some("say".to_owned()),
            commands: vec![CommandLook {
                name: "say".to_owned(),
                description: "Says a text.".to_owned(),
                patterns: vec!["say <text>".to_owned()],
                why: "fits `say <text>` with 1 literal word".to_owned(),
                slots: BTreeMap::from([("text".to_owned(), "good evening".to_owned())]),
            }],
        }
    }
}
