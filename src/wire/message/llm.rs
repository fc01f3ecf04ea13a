//! Chat models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
use crate::wire::subject::{Capability, Verb};

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// A chat to go on with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chat {
    /// The conversation so far, oldest first.
    pub messages: Vec<ChatMessage>,
    /// The model; absent: the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the answer comes as deltas (the default) or as one reply.
    #[serde(default = "yes")]
    pub stream: bool,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// The most tokens to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// A JSON Schema that the answer must satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<serde_json::Value>,
    /// How many messages after the instructions the next request of this conversation will leave out. Once a host has
    /// answered and has nothing else to do, it may read what will be left, so that its next answer begins as soon.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_next: usize,
}

impl Message for Chat {
    const SCHEMA: &'static str = "llm.chat/1";

    fn example() -> Self {
        Self {
            messages: vec![
                ChatMessage::new(Role::System, "Answer in one short sentence."),
                ChatMessage::new(Role::User, "Say hello."),
            ],
            model: Some("smollm2-135m-instruct".to_owned()),
            stream: true,
            temperature: Some(0.2),
            max_tokens: Some(64),
            format: None,
            cut_next: 0,
        }
    }
}

impl Ask for Chat {
    const VERB: Verb = Verb::new(Capability::Llm, "chat");
    const ABOUT: &'static str = "a conversation → deltas, or one reply with \"stream\": false";
    const REPLIES: Replies = Replies::Stream;
    type Reply = Answer;

    fn wants_stream(&self) -> bool {
        self.stream
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

/// A piece of an answer. The last one has `done` and, as `text`, the whole answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// More text; on the last piece, all of it.
    pub text: String,
    /// The summary, on the last piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// The model that answered.
    pub model: String,
    /// Who runs it: `ollama`, `llama.cpp`, `openai`.
    pub provider: String,
    /// Why it stopped: `stop`, `length`, …
    pub finish: String,
    /// Tokens read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Those of them that had been read for an earlier request, if the provider says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
    /// Tokens written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u32>,
    /// From the request's arrival to the first text.
    pub first_text_ms: u64,
    /// How long the engine worked.
    pub engine_ms: u64,
}

impl Message for Answer {
    const SCHEMA: &'static str = "llm.answer/1";

    fn example() -> Self {
        Self {
            text: "Hello! How can I help?".to_owned(),
            done: Some(Done {
                model: "smollm2-135m-instruct".to_owned(),
                provider: "llama.cpp".to_owned(),
                finish: "stop".to_owned(),
                prompt_tokens: Some(31),
                cached_tokens: Some(14),
                completion_tokens: Some(7),
                first_text_ms: 84,
                engine_ms: 141,
            }),
        }
    }
}

/// Asks what chat models are on offer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListModels {}

impl Message for ListModels {
    const SCHEMA: &'static str = "llm.models/1";

    fn example() -> Self {
        Self {}
    }
}

impl Ask for ListModels {
    const VERB: Verb = Verb::new(Capability::Llm, "models");
    const ABOUT: &'static str = "what chat models are on offer";
    const REPLIES: Replies = Replies::One;
    type Reply = Models;
    const COUNTS: bool = false;
}

/// The chat models on offer at one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Models {
    /// Their names.
    pub models: Vec<String>,
    /// The one used when a request names none.
    pub default: String,
    /// Who runs them.
    pub provider: String,
}

impl Message for Models {
    const SCHEMA: &'static str = "llm.model-list/1";

    fn example() -> Self {
        Self {
            models: vec!["llama3:8b".to_owned(), "smollm2-135m-instruct".to_owned()],
            default: "llama3:8b".to_owned(),
            provider: "ollama".to_owned(),
        }
    }
}
