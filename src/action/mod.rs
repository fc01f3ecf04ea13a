//! Actions: the one language in which configuration says what gear and spoken commands set off.
//!
//! ```toml
//! do = "stop"
//! do = { command = { text = "play scene {1}" } }
//! do = { push_to_talk = { listener = "main" } }
//! do = { osc = { target = "lights", address = "/scene", args = ["{1}"] } }
//! do = { midi = { port = "pad", note = "C4", velocity = "{value}" } }
//! ```
//!
//! An [`Action`] is read and checked once, and filled in with the slots of each event: the [`Effect`] that comes of it is
//! carried out by the rig.
//!
//! **A new kind** is a file with its arguments, which implement [`ActionKind`], and a row below with the key that it is written
//! under, what it may touch ([`EffectKind`]) and one line for people. If the rig has no means for it yet, it is an [`Effect`]
//! as well, which `rig/perform.rs` then has to carry out; how it is queued has defaults.

mod effect;
mod kind;
mod listener;
mod listener_name;
mod midi;
mod osc;
mod stop;
mod text;
mod tool;
mod urgency;

use std::fmt;

use schemars::Schema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::text::template::{FillError, Slots};
pub use effect::{Destination, Effect};
pub use kind::{ActionKind, EffectKind};
pub use listener::{AskText, PushToTalk, SayText, SetMode, SetMute};
pub use listener_name::ListenerName;
pub use midi::SendMidi;
pub use osc::SendOsc;
pub use stop::StopAll;
pub use text::RunText;
pub use tool::AskTool;
pub use urgency::Urgency;

/// A row of the table of kinds.
pub struct KindRow {
    /// The key that it is written under.
    pub name: &'static str,
    /// What it may touch.
    pub effect: EffectKind,
    /// One line for people.
    pub about: &'static str,
    /// The JSON schema of its arguments, with the slots filled in.
    pub schema: fn() -> Schema,
    /// Reads its arguments.
    read: fn(Value) -> Result<Action, serde_json::Error>,
}

impl fmt::Debug for KindRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KindRow").field("name", &self.name).field("effect", &self.effect).finish_non_exhaustive()
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident($arguments:ty) = $name:literal, $effect:ident, $about:literal;)*) => {
        /// What is to be done, with slots where an event's values go. One without arguments may be written as its name alone.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "Value", into = "Value")]
        pub enum Action {
            $($(#[$doc])* $variant($arguments),)*
        }

        /// All kinds of actions.
        pub const KINDS: &[KindRow] = &[$(KindRow {
            name: $name,
            effect: EffectKind::$effect,
            about: $about,
            schema: kind::schema::<$arguments>,
            read: |arguments| serde_json::from_value(arguments).map(Action::$variant),
        },)*];

        impl Action {
            /// The key that it is written under, and its arguments.
            fn parts(&self) -> (&'static str, &dyn ActionKind) {
                match self {
                    $(Self::$variant(arguments) => ($name, arguments),)*
                }
            }

            fn arguments(&self) -> Value {
                // Plain data: there is nothing in it that JSON can't say.
                match self {
                    $(Self::$variant(arguments) => serde_json::to_value(arguments).unwrap_or_default(),)*
                }
            }
        }
    };
}

kinds! {
    /// Runs a text as if it were typed.
    Command(RunText) = "command", Write, "runs a text";
    /// Has a listener answer a text as if it had been spoken to it.
    Ask(AskText) = "ask", Sound, "answers a text";
    /// Has a listener speak a text.
    Say(SayText) = "say", Sound, "speaks a text";
    /// Push to talk: pressed and released, or held.
    PushToTalk(PushToTalk) = "push_to_talk", Write, "push to talk";
    /// Hear nothing, or hear again.
    Mute(SetMute) = "mute", Write, "mutes";
    /// What opens a turn from now on.
    Mode(SetMode) = "mode", Write, "sets what opens a turn";
    /// Stops everything that sounds or acts.
    Stop(StopAll) = "stop", Write, "stops everything";
    /// Sends OSC.
    Osc(SendOsc) = "osc", External, "sends OSC";
    /// Sends MIDI.
    Midi(SendMidi) = "midi", External, "sends MIDI";
    /// Asks a tool.
    Tool(AskTool) = "tool", External, "asks the tool";
}

/// The row of the kind that is written as `name`.
#[must_use]
pub fn kind_named(name: &str) -> Option<&'static KindRow> {
    KINDS.iter().find(|row| row.name == name)
}

impl Action {
    /// The row of its kind.
    #[must_use]
    pub fn row(&self) -> &'static KindRow {
        let (name, _) = self.parts();
        // Both come of the same table.
        KINDS.iter().find(|row| row.name == name).unwrap_or(&KINDS[0])
    }

    /// One line for people.
    #[must_use]
    pub fn about(&self) -> String {
        let (about, detail) = (self.row().about, self.parts().1.detail());
        if detail.is_empty() { about.to_owned() } else { format!("{about} {detail}") }
    }

    /// The names of its slots.
    #[must_use]
    pub fn slots(&self) -> Vec<&str> {
        self.parts().1.slots()
    }

    /// Whether what it sends follows the control that sets it off, down to zero: it then takes a release as well as a press.
    #[must_use]
    pub fn follows_release(&self) -> bool {
        self.parts().1.follows_release()
    }

    /// Whether it can be on and off, as long as a control is held.
    #[must_use]
    pub fn can_be_held(&self) -> bool {
        self.parts().1.can_be_held()
    }

    /// Whether the values of an action without slots can be sent; those with slots are only known when they are filled in.
    ///
    /// # Errors
    /// What can't be, and what would do.
    pub fn check_values(&self) -> Result<(), String> {
        if self.slots().is_empty() { self.parts().1.check_values() } else { Ok(()) }
    }

    /// The effect, with the values of the slots put in.
    ///
    /// # Errors
    /// [`FillError`] for a slot that is missing, or holds what can't be sent.
    pub fn fill(&self, slots: &Slots) -> Result<Effect, FillError> {
        self.parts().1.fill(slots)
    }
}

impl TryFrom<Value> for Action {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let (name, arguments) = match value {
            Value::String(name) => (name, Value::Object(Map::new())),
            Value::Object(table) if table.len() == 1 => table.into_iter().next().unwrap_or_default(),
            other => {
                return Err(format!(
                    "{other} is no action: write a name, or a table with one name such as {{ say = {{ text = \"…\" }} }}"
                ));
            }
        };
        let row = kind_named(&name).ok_or_else(|| {
            let names = KINDS.iter().map(|row| format!("`{}`", row.name)).collect::<Vec<_>>().join(", ");
            format!("unknown variant `{name}`, expected one of {names}")
        })?;
        let action = (row.read)(arguments).map_err(|error| format!("`{name}`: {error}"))?;
        action.parts().1.check().map_err(|error| format!("`{name}`: {error}"))?;
        Ok(action)
    }
}

impl From<Action> for Value {
    fn from(action: Action) -> Self {
        let (name, arguments) = (action.parts().0, action.arguments());
        // One without arguments is written as its name.
        match &arguments {
            Value::Object(table) if table.is_empty() => name.into(),
            _ => Value::Object(Map::from_iter([(name.to_owned(), arguments)])),
        }
    }
}

#[cfg(test)]
mod tests;
