//! The one stop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::kind::ActionKind;
use crate::text::template::{FillError, Slots};

/// Stops everything that sounds or acts, on every host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopAll {}

impl ActionKind for StopAll {
    fn fill(&self, _slots: &Slots) -> Result<Effect, FillError> {
        Ok(Effect::Stop)
    }
}
