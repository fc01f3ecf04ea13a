//! What configuration says is to be done when gear is touched or a command is spoken; and the same with its slots filled
//! in.
//!
//! ```toml
//! do = "stop"
//! do = { command = { text = "play scene {1}" } }
//! do = { push_to_talk = { listener = "main" } }
//! do = { osc = { target = "lights", address = "/scene", args = ["{1}"] } }
//! do = { midi = { port = "pad", note = "C4", velocity = "{value}" } }
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bus::message::fault::Fault;
use crate::bus::message::voice::{Control, Mode};
use crate::bus::message::{midi, osc};
use crate::text::template::{FillError, Slots, Template, ValueTemplate};

/// What is to be done. One without arguments may be written as its name alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Action {
    /// Runs a text as if it were typed.
    Command {
        /// The text.
        text: Template,
    },
    /// Has a listener answer a text as if it had been spoken to it.
    Ask {
        /// The text.
        text: Template,
        /// Which listener.
        listener: ListenerName,
    },
    /// Has a listener speak a text.
    Say {
        /// The text.
        text: Template,
        /// Which listener.
        listener: ListenerName,
    },
    /// Push to talk: pressed and released, or held.
    PushToTalk {
        /// Which listener.
        listener: ListenerName,
        /// Held or released; absent: a tap.
        held: Option<bool>,
    },
    /// Hear nothing, or hear again.
    Mute {
        /// Which listener.
        listener: ListenerName,
        /// Whether to mute; absent: the other of what it is.
        on: Option<bool>,
    },
    /// What opens a turn from now on.
    Mode {
        /// Which listener.
        listener: ListenerName,
        /// The mode.
        mode: Mode,
    },
    /// Stops everything that sounds or acts.
    Stop,
    /// Sends OSC: [`osc::Out`] with slots.
    Osc(ValueTemplate),
    /// Sends MIDI: [`midi::Out`] with slots.
    Midi(ValueTemplate),
    /// Asks a tool.
    Tool {
        /// Its name.
        name: String,
        /// What it is given.
        input: ValueTemplate,
    },
}

/// The same as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Command(Text),
    Ask(Said),
    Say(Said),
    PushToTalk(Held),
    Mute(Muted),
    Mode(Moded),
    Stop(Nothing),
    Osc(ValueTemplate),
    Midi(ValueTemplate),
    Tool(Tooled),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: Template,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    text: Template,
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    listener: ListenerName,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    listener: ListenerName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Muted {
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    listener: ListenerName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moded {
    #[serde(default, skip_serializing_if = "ListenerName::is_any")]
    listener: ListenerName,
    mode: Mode,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tooled {
    name: String,
    #[serde(default = "nothing")]
    input: ValueTemplate,
}

fn nothing() -> ValueTemplate {
    ValueTemplate::empty()
}

impl TryFrom<Value> for Action {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let value = match value {
            Value::String(name) => Value::Object([(name, Value::Object(serde_json::Map::new()))].into_iter().collect()),
            value => value,
        };
        let action = match serde_json::from_value(value).map_err(|e| e.to_string())? {
            Written::Command(Text { text }) => Self::Command { text },
            Written::Ask(Said { text, listener }) => Self::Ask { text, listener },
            Written::Say(Said { text, listener }) => Self::Say { text, listener },
            Written::PushToTalk(Held { listener, held }) => Self::PushToTalk { listener, held },
            Written::Mute(Muted { listener, on }) => Self::Mute { listener, on },
            Written::Mode(Moded { listener, mode }) => Self::Mode { listener, mode },
            Written::Stop(Nothing {}) => Self::Stop,
            Written::Osc(out) => Self::Osc(out),
            Written::Midi(out) => Self::Midi(out),
            Written::Tool(Tooled { name, input }) => Self::Tool { name, input },
        };
        action.check().map_err(|e| e.to_string())?;
        Ok(action)
    }
}

impl From<Action> for Value {
    fn from(action: Action) -> Self {
        let written = match action {
            Action::Command { text } => Written::Command(Text { text }),
            Action::Ask { text, listener } => Written::Ask(Said { text, listener }),
            Action::Say { text, listener } => Written::Say(Said { text, listener }),
            Action::PushToTalk { listener, held } => Written::PushToTalk(Held { listener, held }),
            Action::Mute { listener, on } => Written::Mute(Muted { listener, on }),
            Action::Mode { listener, mode } => Written::Mode(Moded { listener, mode }),
            Action::Stop => Written::Stop(Nothing {}),
            Action::Osc(out) => Written::Osc(out),
            Action::Midi(out) => Written::Midi(out),
            Action::Tool { name, input } => Written::Tool(Tooled { name, input }),
        };
        // Plain data: there is nothing in it that JSON can't say.
        let value = serde_json::to_value(written).unwrap_or_default();
        // One without arguments is written as its name.
        match &value {
            Value::Object(table)
                if table.values().all(|inner| inner.as_object().is_some_and(serde_json::Map::is_empty)) =>
            {
                table.keys().next().map_or(Value::Null, |name| name.as_str().into())
            }
            _ => value,
        }
    }
}

/// An action with its slots filled in.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a deed is made, done and gone; a box would be one more allocation on the quick path"
)]
pub enum Deed {
    /// Runs a text as if it were typed.
    Command {
        /// The text.
        text: String,
    },
    /// Tells a listener.
    Listener {
        /// Which.
        listener: ListenerName,
        /// What.
        control: Control,
    },
    /// Stops everything that sounds or acts.
    Stop,
    /// Sends OSC.
    Osc(osc::Out),
    /// Sends MIDI.
    Midi(midi::Out),
    /// Asks a tool.
    Tool {
        /// Its name.
        name: String,
        /// What it is given.
        input: Value,
    },
}

impl Action {
    /// The names of its slots.
    #[must_use]
    pub fn slots(&self) -> Vec<&str> {
        match self {
            Self::Command { text } | Self::Ask { text, .. } | Self::Say { text, .. } => text.names().collect(),
            Self::Osc(value) | Self::Midi(value) | Self::Tool { input: value, .. } => value.names(),
            Self::PushToTalk { .. } | Self::Mute { .. } | Self::Mode { .. } | Self::Stop => Vec::new(),
        }
    }

    /// Whether there can be a deed of it.
    ///
    /// # Errors
    /// [`FillError::Shape`] for a message that is none, whatever its slots hold.
    fn check(&self) -> Result<(), FillError> {
        match self {
            Self::Osc(value) => value.check::<osc::Out>(),
            Self::Midi(value) => value.check::<midi::Out>(),
            _ => Ok(()),
        }
    }

    /// The deed, with the values of the slots put in.
    ///
    /// # Errors
    /// [`FillError`] for a slot that is missing, or holds what can't be sent.
    pub fn fill(&self, slots: &Slots) -> Result<Deed, FillError> {
        let listener = |listener: &ListenerName, control| Deed::Listener { listener: listener.clone(), control };
        Ok(match self {
            Self::Command { text } => Deed::Command { text: text.render(slots)? },
            Self::Ask { text, listener: name } => listener(name, Control::Ask { text: text.render(slots)? }),
            Self::Say { text, listener: name } => listener(name, Control::Say { text: text.render(slots)? }),
            Self::PushToTalk { listener: name, held } => listener(name, Control::PushToTalk { held: *held }),
            Self::Mute { listener: name, on } => listener(name, Control::Mute { on: *on }),
            Self::Mode { listener: name, mode } => listener(name, Control::Mode { mode: *mode }),
            Self::Stop => Deed::Stop,
            Self::Osc(value) => Deed::Osc(value.fill(slots)?),
            Self::Midi(value) => Deed::Midi(value.fill(slots)?),
            Self::Tool { name, input } => Deed::Tool { name: name.clone(), input: input.fill(slots)? },
        })
    }
}

/// A listener as configuration names it: `main` on this host, `studio/main` on another, or empty for this host's first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListenerName(pub String);

impl ListenerName {
    /// Whether none is named.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// The hosts and listeners that are meant on host `here` with its own `listeners`: if none is named the first, or all
    /// for what silences.
    ///
    /// # Errors
    /// There is none of that name, or none at all.
    pub fn resolve(&self, here: &str, listeners: &[String], control: &Control) -> Result<Vec<(String, String)>, Fault> {
        if let Some((node, listener)) = self.0.split_once('/') {
            return Ok(vec![(node.to_owned(), listener.to_owned())]);
        }
        let own = |name: &String| (here.to_owned(), name.clone());
        let found: Vec<_> = if self.is_any() {
            listeners.iter().take(if control.is_for_all() { usize::MAX } else { 1 }).map(own).collect()
        } else {
            listeners.iter().filter(|name| **name == self.0).map(own).collect()
        };
        if !found.is_empty() {
            return Ok(found);
        }
        Err(Fault::not_found(if listeners.is_empty() {
            format!("this host has no listener {:?}: name one of another host as HOST/LISTENER", self.0)
        } else {
            format!("this host has no listener {:?}; it has {}", self.0, listeners.join(", "))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Action, String> {
        #[derive(Deserialize)]
        struct On {
            r#do: Action,
        }
        toml::from_str::<On>(toml).map(|on| on.r#do).map_err(|e| e.to_string())
    }

    #[test]
    fn an_action_is_a_name_or_a_table() {
        assert_eq!(read("do = 'stop'").unwrap().fill(&Slots::new()).unwrap(), Deed::Stop);
        let tap = Control::PushToTalk { held: None };
        let deed = Deed::Listener { listener: ListenerName::default(), control: tap };
        assert_eq!(read("do = 'push_to_talk'").unwrap().fill(&Slots::new()).unwrap(), deed);
        let slots = Slots::from([("1".to_owned(), "two".to_owned())]);
        let say = read("do = { say = { text = 'scene {1}', listener = 'stage/main' } }").unwrap();
        let control = Control::Say { text: "scene two".to_owned() };
        let deed = Deed::Listener { listener: ListenerName("stage/main".to_owned()), control };
        assert_eq!(say.fill(&slots).unwrap(), deed);
        assert_eq!(say.slots(), ["1"]);
    }

    #[test]
    fn osc_takes_slots_as_numbers_and_texts() {
        let osc = read("do = { osc = { target = 'lights', address = '/scene/{1}', args = ['{1}', 'go'] } }").unwrap();
        let deed = osc.fill(&Slots::from([("1".to_owned(), "3".to_owned())])).unwrap();
        let Deed::Osc(out) = deed else { panic!("{deed:?}") };
        assert_eq!((out.target.as_str(), out.address.as_str()), ("lights", "/scene/3"));
        assert_eq!(serde_json::to_value(&out.args).unwrap(), serde_json::json!([3, "go"]));
        assert!(matches!(osc.fill(&Slots::new()), Err(FillError::NoSlot { .. })));
    }

    #[test]
    fn what_can_never_be_done_is_refused_when_it_is_read() {
        for (bad, part) in [
            ("do = 'dance'", "unknown variant `dance`"),
            ("do = { say = { words = 'x' } }", "words"),
            ("do = { mode = { mode = 'party' } }", "party"),
            ("do = { osc = { target = 'lights', adress = '/x' } }", "adress"),
            ("do = { say = { text = '{open' } }", "never closed"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }

    #[test]
    fn an_action_is_written_as_it_is_read() {
        for toml in
            ["do = 'stop'", "do = { mute = { on = true } }", "do = { osc = { target = 'a', address = '/{x}' } }"]
        {
            let action = read(toml).unwrap();
            let json = serde_json::to_string(&action).unwrap();
            assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), action, "{json}");
        }
    }

    #[test]
    fn a_listener_is_found_by_its_name() {
        let own = ["main".to_owned(), "booth".to_owned()];
        let find = |name: &str, control: &Control| ListenerName(name.to_owned()).resolve("stage", &own, control);
        let (tap, stop) = (Control::PushToTalk { held: None }, Control::Stop);
        let on = |node: &str, listener: &str| (node.to_owned(), listener.to_owned());
        assert_eq!(find("", &tap).unwrap(), [on("stage", "main")]);
        assert_eq!(find("", &stop).unwrap(), [on("stage", "main"), on("stage", "booth")]);
        assert_eq!(find("booth", &tap).unwrap(), [on("stage", "booth")]);
        assert_eq!(find("studio/main", &tap).unwrap(), [on("studio", "main")]);
        assert!(find("desk", &tap).unwrap_err().message.contains("it has main, booth"));
        let none = ListenerName::default().resolve("wall", &[], &tap).unwrap_err();
        assert!(none.message.contains("HOST/LISTENER"), "{}", none.message);
    }
}
