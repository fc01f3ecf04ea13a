//! A text that is run as if it were typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::kind::ActionKind;
use crate::text::template::{FillError, Slots, Template};

/// Runs a text as if it were typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunText {
    /// The text.
    pub text: Template,
}

impl ActionKind for RunText {
    fn slots(&self) -> Vec<&str> {
        self.text.names().collect()
    }

    fn fill(&self, slots: &Slots) -> Result<Effect, FillError> {
        Ok(Effect::Command { text: self.text.render(slots)? })
    }
}
