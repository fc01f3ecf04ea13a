//! A message by MIDI.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::kind::ActionKind;
use crate::text::template::{FillError, Slots, ValueTemplate};
use crate::wire::message::midi::Out;

/// Sends MIDI: [`Out`] with slots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SendMidi(#[schemars(with = "Out")] pub ValueTemplate);

impl ActionKind for SendMidi {
    fn slots(&self) -> Vec<&str> {
        self.0.names()
    }

    fn follows_release(&self) -> bool {
        true
    }

    fn can_be_held(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), FillError> {
        self.0.check::<Out>()
    }

    fn check_values(&self) -> Result<(), String> {
        let out: Out = self.0.fill(&Slots::new()).map_err(|error| error.to_string())?;
        out.plays().map(drop).map_err(|fault| fault.message)
    }

    fn fill(&self, slots: &Slots) -> Result<Effect, FillError> {
        Ok(Effect::Midi(self.0.fill(slots)?))
    }
}
