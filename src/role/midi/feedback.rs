//! What devices are shown: the lights of pads, the rings of encoders.

use std::collections::BTreeMap;

use crate::bus::message::voice::TurnState;
use crate::config::{Feedback, Follow, MidiOn};
use crate::midi::Message;
use crate::midi::trigger::{ControlKind, Fired, Span};

/// Where a light is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LightPlace {
    port: usize,
    is_note: bool,
    channel: u8,
    number: u8,
}

impl LightPlace {
    fn message(self, value: u8) -> Message {
        let Self { channel, number, .. } = self;
        if self.is_note {
            Message::NoteOn { channel, note: number, velocity: value }
        } else {
            Message::Control { channel, controller: number, value }
        }
    }
}

/// What a listener does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenerShown {
    /// Where its turn is.
    pub state: TurnState,
    /// Whether it hears nothing.
    pub muted: bool,
}

/// All lights, and what they show.
#[derive(Debug, Default)]
pub struct Lights {
    rows: Vec<Option<(Feedback, Option<usize>, MidiOn)>>,
    /// The first listener of the host: that of feedback which names none.
    first: String,
    shown: BTreeMap<LightPlace, u8>,
}

impl Lights {
    /// Those of the table.
    ///
    /// # Errors
    /// Which row's can't be, and why.
    pub fn new(rows: &[MidiOn], ports: &[String], listeners: &[String]) -> Result<Self, String> {
        let mut out = Vec::new();
        for (at, on) in rows.iter().enumerate() {
            out.push(light(on, ports, listeners).map_err(|e| format!("[[midi.on]] number {}: feedback: {e}", at + 1))?);
        }
        Ok(Self { rows: out, first: listeners.first().cloned().unwrap_or_default(), shown: BTreeMap::new() })
    }

    /// A control is on or off now.
    pub fn control(&mut self, fired: &Fired, on: bool) -> Option<(usize, Message)> {
        let (feedback, port, _) = self.rows.get(fired.row)?.as_ref()?;
        if feedback.follow != Follow::Control {
            return None;
        }
        let number = u8::try_from(fired.key.number).ok();
        let place = LightPlace {
            port: port.unwrap_or(fired.key.port),
            is_note: feedback.note.is_some() || feedback.cc.is_none() && fired.key.control == ControlKind::Note,
            channel: feedback.channel.unwrap_or(fired.key.channel.max(1)),
            number: feedback.cc.or(feedback.note.and_then(single)).or(number)?,
        };
        let value = if on { feedback.on } else { feedback.off };
        self.shown.insert(place, value);
        Some((place.port, place.message(value)))
    }

    /// A listener does something else now.
    pub fn listener(&mut self, name: &str, now: ListenerShown) -> Vec<(usize, Message)> {
        let mut out = Vec::new();
        for (feedback, port, on) in self.rows.iter().flatten() {
            let wanted = if feedback.listener.is_empty() { &self.first } else { &feedback.listener };
            let is = match feedback.follow {
                Follow::Control => continue,
                Follow::Idle => now.state == TurnState::Idle,
                Follow::Listening => matches!(now.state, TurnState::Listening | TurnState::WakeDetected),
                Follow::Processing => now.state == TurnState::Processing,
                Follow::Speaking => now.state == TurnState::Speaking,
                Follow::Muted => now.muted,
            };
            if wanted != name {
                continue;
            }
            let Some((is_note, number)) = place(feedback, on) else { continue };
            let place = LightPlace {
                port: port.unwrap_or(0),
                is_note,
                channel: feedback.channel.or(on.channel).unwrap_or(1),
                number,
            };
            let value = if is { feedback.on } else { feedback.off };
            if self.shown.insert(place, value) != Some(value) {
                out.push((place.port, place.message(value)));
            }
        }
        out
    }

    /// Everything that a port shows: its device is back.
    pub fn all(&self, port: usize) -> Vec<Message> {
        self.shown.iter().filter(|(place, _)| place.port == port).map(|(place, value)| place.message(*value)).collect()
    }
}

fn single(span: Span) -> Option<u8> {
    (span.from == span.to).then(|| u8::try_from(span.from).ok().filter(|number| *number < 128)).flatten()
}

/// Whether a light is a key, and its number.
fn place(feedback: &Feedback, on: &MidiOn) -> Option<(bool, u8)> {
    let cc = feedback.cc.map(|cc| (false, cc));
    let note = feedback.note.and_then(single).map(|note| (true, note));
    let own_note = on.note.and_then(single).map(|note| (true, note));
    let own_cc = on.cc.and_then(single).map(|cc| (false, cc));
    note.or(cc).or(own_note).or(own_cc)
}

fn light(
    on: &MidiOn,
    ports: &[String],
    listeners: &[String],
) -> Result<Option<(Feedback, Option<usize>, MidiOn)>, String> {
    let Some(feedback) = on.feedback.clone() else { return Ok(None) };
    let name = if feedback.port.is_empty() { &on.port } else { &feedback.port };
    let port = if name.is_empty() {
        None
    } else {
        let name = if name == "midi_in" { "midi_out" } else { name };
        let found = ports.iter().position(|port| port == name);
        Some(found.ok_or_else(|| format!("there is no port {name:?}; there are {}", ports.join(", ")))?)
    };
    for (key, value) in [("on", feedback.on), ("off", feedback.off), ("cc", feedback.cc.unwrap_or(0))] {
        if value > 127 {
            return Err(format!("{key} {value} can't be: it goes from 0 to 127"));
        }
    }
    if feedback.channel.is_some_and(|channel| !(1..=16).contains(&channel)) {
        return Err("a channel goes from 1 to 16".to_owned());
    }
    if feedback.note.is_some_and(|note| single(note).is_none()) {
        return Err("`note` must be one key".to_owned());
    }
    if feedback.follow != Follow::Control {
        if place(&feedback, on).is_none() {
            return Err("the row is about several controls, so say which light it is: note = … or cc = …".to_owned());
        }
        let name = &feedback.listener;
        if listeners.is_empty() || !name.is_empty() && !listeners.contains(name) {
            let all = if listeners.is_empty() { "none".to_owned() } else { listeners.join(", ") };
            return Err(format!("it follows a listener, and this host has {all}; set voice.listeners"));
        }
    } else if on
        .when
        .is_some_and(|when| !matches!(when, crate::midi::trigger::When::Held | crate::midi::trigger::When::Toggle))
        || on.when.is_none()
    {
        return Err("a control is shown when it is held or toggled; add when = \"held\" or \"toggle\", or follow = \"listening\"".to_owned());
    }
    Ok(Some((feedback, port, on.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lights(toml: &str) -> Result<Lights, String> {
        Lights::new(&[toml::from_str(toml).unwrap()], &["midi_out".to_owned(), "pad".to_owned()], &["main".to_owned()])
    }

    #[test]
    fn a_light_follows_a_listener_and_is_sent_once() {
        let toml = "port = 'pad'\nnote = 40\ndo = 'push_to_talk'\nfeedback = { follow = 'listening', on = 5, off = 1 }";
        let mut lights = lights(toml).unwrap();
        let listening = ListenerShown { state: TurnState::Listening, muted: false };
        let light = |velocity| vec![(1, Message::NoteOn { channel: 1, note: 40, velocity })];
        assert_eq!(lights.listener("main", listening), light(5));
        assert_eq!(lights.listener("main", listening), []);
        assert_eq!(lights.listener("other", ListenerShown::default()), []);
        assert_eq!(lights.listener("main", ListenerShown::default()), light(1));
        assert_eq!(lights.all(1), [Message::NoteOn { channel: 1, note: 40, velocity: 1 }]);
        assert_eq!(lights.all(0), []);
    }

    #[test]
    fn feedback_that_can_not_be_is_refused() {
        for (toml, part) in [
            ("note = 40\ndo = 'stop'\nfeedback = {}", "add when = \"held\""),
            ("note = 40\nwhen = 'toggle'\ndo = 'stop'\nfeedback = { on = 200 }", "on 200 can't be"),
            ("note = 'any'\ndo = 'stop'\nfeedback = { follow = 'muted' }", "say which light"),
            ("note = 4\ndo = 'stop'\nfeedback = { follow = 'muted', listener = 'x' }", "this host has main"),
            ("note = 4\nwhen = 'held'\ndo = 'stop'\nfeedback = { port = 'x' }", "there is no port \"x\""),
        ] {
            let error = lights(toml).err().unwrap();
            assert!(error.contains(part), "{toml}: {error}");
        }
    }
}
