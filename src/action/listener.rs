//! What listeners do: answer and speak texts, push to talk, mute, mode.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::kind::ActionKind;
use super::listener_name::ListenerName;
use crate::text::template::{FillError, Slots, Template};
use crate::wire::message::voice::{Control, Mode};

/// Has a listener answer a text as if it had been spoken to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskText {
    /// The text.
    pub text: Template,
    /// Which listener.
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    pub listener: ListenerName,
}

/// Has a listener speak a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SayText {
    /// The text.
    pub text: Template,
    /// Which listener.
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    pub listener: ListenerName,
}

/// Push to talk: pressed and released, or held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushToTalk {
    /// Which listener.
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    pub listener: ListenerName,
    /// Held or released; absent: a tap, or as the control is that sets it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
}

/// Hear nothing, or hear again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMute {
    /// Which listener.
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    pub listener: ListenerName,
    /// Whether to mute; absent: the other of what it is, or as the control is that sets it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<bool>,
}

/// What opens a turn from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMode {
    /// Which listener.
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    pub listener: ListenerName,
    /// The mode.
    pub mode: Mode,
}

impl ActionKind for AskText {
    fn slots(&self) -> Vec<&str> {
        self.text.names().collect()
    }

    fn fill(&self, slots: &Slots) -> Result<Effect, FillError> {
        Ok(effect(&self.listener, Control::Ask { text: self.text.render(slots)? }))
    }
}

impl ActionKind for SayText {
    fn slots(&self) -> Vec<&str> {
        self.text.names().collect()
    }

    fn fill(&self, slots: &Slots) -> Result<Effect, FillError> {
        Ok(effect(&self.listener, Control::Say { text: self.text.render(slots)? }))
    }
}

impl ActionKind for PushToTalk {
    fn can_be_held(&self) -> bool {
        true
    }

    fn fill(&self, _slots: &Slots) -> Result<Effect, FillError> {
        Ok(effect(&self.listener, Control::PushToTalk { held: self.held }))
    }
}

impl ActionKind for SetMute {
    fn can_be_held(&self) -> bool {
        true
    }

    fn fill(&self, _slots: &Slots) -> Result<Effect, FillError> {
        Ok(effect(&self.listener, Control::Mute { on: self.on }))
    }
}

impl ActionKind for SetMode {
    fn fill(&self, _slots: &Slots) -> Result<Effect, FillError> {
        Ok(effect(&self.listener, Control::Mode { mode: self.mode }))
    }
}

fn effect(listener: &ListenerName, control: Control) -> Effect {
    Effect::Listener { listener: listener.clone(), control }
}
