//! What every kind of action says of itself.

use schemars::{JsonSchema, Schema};

use super::effect::Effect;
use crate::text::template::{FillError, Slots};

/// What an action may touch; what has to be asked first goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectKind {
    /// It looks, and changes nothing.
    Read,
    /// It changes something of Sidetone's own.
    Write,
    /// It reaches something outside of Sidetone: what it sends there may come back.
    External,
    /// It has something spoken.
    Sound,
}

/// The arguments of a kind of action, with slots.
pub trait ActionKind {
    /// The names of its slots.
    fn slots(&self) -> Vec<&str> {
        Vec::new()
    }

    /// What one line for people adds to the kind's own.
    fn detail(&self) -> &str {
        ""
    }

    /// See [`Action::follows_release`](super::Action::follows_release).
    fn follows_release(&self) -> bool {
        false
    }

    /// See [`Action::can_be_held`](super::Action::can_be_held).
    fn can_be_held(&self) -> bool {
        false
    }

    /// Whether there can be an effect of it.
    ///
    /// # Errors
    /// [`FillError::Shape`] for a message that is none, whatever its slots hold.
    fn check(&self) -> Result<(), FillError> {
        Ok(())
    }

    /// See [`Action::check_values`](super::Action::check_values); there are no slots.
    ///
    /// # Errors
    /// What can't be, and what would do.
    fn check_values(&self) -> Result<(), String> {
        Ok(())
    }

    /// The effect, with the values of the slots put in.
    ///
    /// # Errors
    /// [`FillError`] for a slot that is missing, or holds what can't be sent.
    fn fill(&self, slots: &Slots) -> Result<Effect, FillError>;
}

/// The schema of a kind's arguments.
pub(super) fn schema<A: JsonSchema>() -> Schema {
    schemars::schema_for!(A)
}
