//! A message by OSC.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::kind::ActionKind;
use crate::text::template::{FillError, Slots, ValueTemplate};
use crate::wire::message::osc::Out;

/// Sends OSC: [`Out`] with slots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SendOsc(#[schemars(with = "Out")] pub ValueTemplate);

impl ActionKind for SendOsc {
    fn slots(&self) -> Vec<&str> {
        self.0.names()
    }

    fn follows_release(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FillError> {
        self.0.check::<Out>()
    }

    fn fill(&self, slots: &Slots) -> Result<Effect, FillError> {
        Ok(Effect::Osc(self.0.fill(slots)?))
    }
}
