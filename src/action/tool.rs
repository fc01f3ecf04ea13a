//! A tool: a program on the bus that takes and gives JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::kind::ActionKind;
use crate::text::template::{FillError, Slots, ValueTemplate};

/// Asks a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskTool {
    /// Its name.
    pub name: String,
    /// What it is given; absent: an empty table.
    #[serde(default = "ValueTemplate::empty")]
    pub input: ValueTemplate,
}

impl ActionKind for AskTool {
    fn slots(&self) -> Vec<&str> {
        self.input.names()
    }

    fn detail(&self) -> &str {
        &self.name
    }

    fn fill(&self, slots: &Slots) -> Result<Effect, FillError> {
        Ok(Effect::Tool { name: self.name.clone(), input: self.input.fill(slots)? })
    }
}
