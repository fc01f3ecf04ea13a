//! An action with its slots filled in, and how it is to be carried out: in which order, how soon, with which control.

use std::fmt;

use serde_json::Value;

use super::listener_name::ListenerName;
use super::urgency::{self, Urgency, has_notes};
use crate::midi::clock::Quantum;
use crate::wire::message::voice::Control;
use crate::wire::message::{midi, osc};

/// An action with the values of its slots put in.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "an effect is made, carried out and gone; a box would be one more allocation on the quick path"
)]
pub enum Effect {
    /// A text is run as if it were typed.
    Command {
        /// The text.
        text: String,
    },
    /// A listener is controlled.
    Listener {
        /// Which.
        listener: ListenerName,
        /// What it is to do.
        control: Control,
    },
    /// Everything that sounds or acts stops.
    Stop,
    /// OSC is sent.
    Osc(osc::Out),
    /// MIDI is sent.
    Midi(midi::Out),
    /// A tool is asked.
    Tool {
        /// Its name.
        name: String,
        /// What it is given.
        input: Value,
    },
}

/// Where effects go in order, one at a time: a release must follow its press.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A listener.
    Listener(String),
    /// An OSC target.
    Osc(String),
    /// A MIDI port; empty: the host's own.
    Midi(String),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "the listener {name}"),
            Self::Osc(name) => write!(f, "the OSC target {name}"),
            Self::Midi(name) if name.is_empty() => f.write_str("the MIDI port midi_out"),
            Self::Midi(name) => write!(f, "the MIDI port {name}"),
        }
    }
}

impl Effect {
    /// Where it goes in order; `None`: beside all else.
    #[must_use]
    pub fn destination(&self) -> Option<Destination> {
        match self {
            Self::Listener { listener, .. } => Some(Destination::Listener(listener.0.clone())),
            Self::Osc(out) => Some(Destination::Osc(out.target.clone())),
            Self::Midi(out) => Some(Destination::Midi(out.port.clone())),
            _ => None,
        }
    }

    /// What becomes of it when it has to wait.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        match self {
            Self::Listener { control, .. } => urgency::of_control(control),
            Self::Osc(out) => urgency::of_osc(out),
            Self::Midi(out) => urgency::of_midi(out),
            _ => Urgency::Press,
        }
    }

    /// With the beat or bar that it is to wait for, where its player waits itself, to the frame; else the wait is given back.
    #[must_use]
    pub fn timed(self, on: Option<Quantum>) -> (Self, Option<Quantum>) {
        match self {
            Self::Midi(out) => (Self::Midi(midi::Out { on: out.on.or(on), ..out }), None),
            other => (other, on),
        }
    }

    /// As the control is that sets it off, held down or toggled on, or not: where the settings leave that open.
    #[must_use]
    pub fn switched(mut self, is_on: bool) -> Self {
        match &mut self {
            Self::Listener {
                control: Control::PushToTalk { held: open @ None } | Control::Mute { on: open @ None },
                ..
            } => *open = Some(is_on),
            Self::Midi(out) if has_notes(out) => switch(out, is_on),
            _ => {}
        }
        self
    }

    /// Whether it is carried out when its control is let go, too. `tells` says whether its slots tell a release from a press:
    /// what is the same for both is no pedal's, a song would begin anew when it comes up.
    #[must_use]
    pub const fn follows(&self, tells: bool) -> bool {
        match self {
            Self::Listener { control: Control::PushToTalk { .. } | Control::Mute { .. }, .. } => true,
            Self::Osc(_) | Self::Tool { .. } => true,
            Self::Midi(out) => tells || has_notes(out),
            _ => false,
        }
    }
}

/// Notes that begin when a control goes down sound until it comes up, and end then.
fn switch(out: &mut midi::Out, is_on: bool) {
    if is_on {
        out.hold = out.ms.is_none() && out.beats.is_none() && out.bars.is_none();
    } else {
        out.velocity = Some(midi::Number::new(0.0));
        (out.ms, out.beats, out.bars) = (None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_settings_leave_open_goes_as_the_control() {
        let control = |control| Effect::Listener { listener: ListenerName::default(), control };
        let (open, held) = (Control::PushToTalk { held: None }, Control::PushToTalk { held: Some(true) });
        assert_eq!(control(open).switched(true), control(held.clone()));
        assert_eq!(control(held.clone()).switched(false), control(held), "the settings say it");
        let midi = |json: &str| Effect::Midi(serde_json::from_str(json).unwrap());
        assert_eq!(midi(r#"{"note":60}"#).switched(true), midi(r#"{"note":60,"hold":true}"#));
        assert_eq!(midi(r#"{"note":60,"ms":5}"#).switched(true), midi(r#"{"note":60,"ms":5}"#));
        assert_eq!(midi(r#"{"note":60,"ms":5}"#).switched(false), midi(r#"{"note":60,"velocity":0}"#));
        assert_eq!(midi(r#"{"program":3}"#).switched(false), midi(r#"{"program":3}"#));
        assert!(!midi(r#"{"program":3}"#).follows(false) && midi(r#"{"program":3}"#).follows(true));
        assert!(!Effect::Stop.follows(true) && midi(r#"{"chord":"C"}"#).follows(false));
    }
}
