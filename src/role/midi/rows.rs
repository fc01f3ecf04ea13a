//! `[[midi.on]]`: from the settings to the table that events are held against, and from an event back to a deed.

use crate::action::{Action, Deed};
use crate::bus::message::midi::Number;
use crate::bus::message::midi::hex;
use crate::bus::message::voice::Control as Told;
use crate::config::{MidiOn, TransportWord};
use crate::midi::clock::Quantum;
use crate::midi::trigger::{Control, Fired, Row, Span, Triggers, When};
use crate::midi::{Message, Note};
use crate::text::template::Slots;

/// The table: what to look for, and what is done.
pub struct Rows {
    /// What to look for.
    pub triggers: Triggers,
    rows: Vec<MidiOn>,
    whens: Vec<When>,
}

/// The slots that an action of the table may have.
const SLOTS: [&str; 9] = ["value", "velocity", "number", "note", "channel", "port", "on", "bytes", "control"];

impl Rows {
    /// Checks the settings.
    ///
    /// # Errors
    /// Which row can't be, and why.
    pub fn new(rows: &[MidiOn], ports: &[String]) -> Result<Self, String> {
        let mut out = Vec::new();
        for (at, on) in rows.iter().enumerate() {
            out.push(row(on, ports).map_err(|e| format!("[[midi.on]] number {}: {e}", at + 1))?);
        }
        let whens = out.iter().map(|row| row.when).collect();
        Ok(Self { triggers: Triggers::new(out), rows: rows.to_vec(), whens })
    }

    /// What row `row` waits for before it is carried out.
    #[must_use]
    pub fn on(&self, row: usize) -> Option<Quantum> {
        self.rows.get(row).and_then(|on| on.on)
    }

    /// What has to be done with the control of row `row`.
    #[must_use]
    pub fn when(&self, row: usize) -> When {
        self.whens.get(row).copied().unwrap_or_default()
    }

    /// Whether a row is a toggle that mutes.
    #[must_use]
    pub fn has_mutes(rows: &[MidiOn]) -> bool {
        rows.iter().any(|on| on.when == Some(When::Toggle) && matches!(on.r#do, Action::Mute { on: None, .. }))
    }

    /// A listener of this host, its first or another, is muted or not, whoever did it: toggles stand as it does.
    pub fn muted(&mut self, listener: &str, is_first: bool, muted: bool) {
        for (at, (on, when)) in self.rows.iter().zip(&self.whens).enumerate() {
            let Action::Mute { listener: meant, on: None } = &on.r#do else { continue };
            if *when == When::Toggle && (meant.0 == listener || (meant.is_any() && is_first)) {
                self.triggers.set(at, muted);
            }
        }
    }

    /// What a row that fired means; `None` if there is nothing to do, such as when the control of a held command is let go.
    ///
    /// # Errors
    /// What the slots hold can't be sent.
    pub fn deed(&self, fired: &Fired, port: &str, message: Option<&Message>) -> Result<Option<Deed>, String> {
        let Some(on) = self.rows.get(fired.row) else { return Ok(None) };
        let when = self.when(fired.row);
        let has_state = matches!(when, When::Held | When::Toggle);
        let number = fired.key.number;
        let note = u8::try_from(number).map(|note| Note(note.min(127)).name()).unwrap_or_default();
        let value = if has_state && !fired.on { 0 } else { fired.value };
        let mut slots = Slots::new();
        let bytes = message.map(|message| hex(message.bytes().as_slice())).unwrap_or_default();
        let values = [
            value.to_string(),
            value.to_string(),
            number.to_string(),
            note,
            fired.key.channel.max(1).to_string(),
            port.to_owned(),
            u8::from(fired.on).to_string(),
            bytes,
            number.to_string(),
        ];
        slots.extend(SLOTS.iter().map(|name| (*name).to_owned()).zip(values));
        let mut deed = on.r#do.fill(&slots).map_err(|e| e.to_string())?;
        match &mut deed {
            Deed::Listener { control: Told::PushToTalk { held: held @ None }, .. } if has_state => {
                *held = Some(fired.on)
            }
            Deed::Listener { control: Told::Mute { on: on @ None }, .. } if has_state => *on = Some(fired.on),
            // Notes sound for as long as the control is down.
            Deed::Midi(out) if has_state && (out.note.is_some() || out.chord.is_some()) => {
                if fired.on {
                    out.hold = out.ms.is_none() && out.beats.is_none() && out.bars.is_none();
                } else {
                    out.velocity = Some(Number::new(0.0));
                    (out.ms, out.beats, out.bars) = (None, None, None);
                }
            }
            // What is the same for on and off is no pedal's: the song would begin anew when it comes up.
            Deed::Midi(_) if when == When::Held && !fired.on && !tells_off(&on.r#do) => return Ok(None),
            // What has no state of its own is done when it begins.
            Deed::Command { .. } | Deed::Stop | Deed::Listener { .. } if when == When::Held && !fired.on => {
                return Ok(match deed {
                    Deed::Listener { control: Told::PushToTalk { .. } | Told::Mute { .. }, .. } => Some(deed),
                    _ => None,
                });
            }
            _ => {}
        }
        Ok(Some(deed))
    }
}

fn row(on: &MidiOn, ports: &[String]) -> Result<Row, String> {
    let transport = on.transport.map(|word| {
        let number = match word {
            TransportWord::Start => 0,
            TransportWord::Continue => 1,
            TransportWord::Stop => 2,
        };
        Span { from: number, to: number }
    });
    let all = [
        ("note", Control::Note, on.note, 127),
        ("cc", Control::Cc, on.cc, 127),
        ("cc14", Control::Cc14, on.cc14, 31),
        ("program", Control::Program, on.program, 127),
        ("bend", Control::Bend, on.bend, 0),
        ("pressure", Control::Pressure, on.pressure, 0),
        ("key_pressure", Control::KeyPressure, on.key_pressure, 127),
        ("nrpn", Control::Nrpn, on.nrpn, 16_382),
        ("rpn", Control::Rpn, on.rpn, 16_382),
        ("transport", Control::Transport, transport, 2),
        ("song", Control::Song, on.song, 127),
        ("any", Control::Any, on.any.then_some(Span::ANY), 0),
    ];
    let mut given = all.into_iter().filter_map(|(key, control, span, most)| Some((key, control, span?, most)));
    let (Some((key, control, number, most)), more) = (given.next(), given.next()) else {
        return Err(
            "nothing says what it is about; give one of note, cc, cc14, program, bend, pressure, key_pressure, \
                    nrpn, rpn, transport, song or any = true"
                .to_owned(),
        );
    };
    if let Some((other, ..)) = more {
        return Err(format!("{key} and {other} in one row; write a row for each"));
    }
    if number != Span::ANY && most == 0 {
        return Err(format!("{key} has no numbers; write {key} = \"any\", and value = \"…\" for a part of its values"));
    }
    if number != Span::ANY && number.to > most {
        return Err(format!("{key} {} can't be: it goes up to {most}", number.to));
    }
    let port = if on.port.is_empty() {
        None
    } else {
        let name = if on.port == "midi_in" { "midi_out" } else { &on.port };
        let found = ports.iter().position(|port| port == name);
        Some(found.ok_or_else(|| {
            format!(
                "there is no port {:?}; there are midi_in, {}",
                on.port,
                ports.get(1..).unwrap_or_default().join(", ")
            )
        })?)
    };
    if let Some(channel) = on.channel.filter(|channel| !(1..=16).contains(channel)) {
        return Err(format!("channel {channel} can't be: it goes from 1 to 16"));
    }
    let changes = matches!(control, Control::Bend | Control::Pressure | Control::KeyPressure | Control::Any);
    let when = on.when.unwrap_or(if changes { When::Change } else { When::Press });
    if control == Control::Any && when != When::Change {
        return Err("any = true has no presses; leave `when` out".to_owned());
    }
    if matches!(control, Control::Program | Control::Transport | Control::Song)
        && matches!(when, When::Held | When::Release | When::Long)
    {
        return Err(format!("{key} is never let go, so it can't be held; use press, toggle or double"));
    }
    for (key, ms) in [("long_ms", on.long_ms), ("double_ms", on.double_ms)] {
        if !(20..=10_000).contains(&ms) {
            return Err(format!("{key} {ms} can't be: it goes from 20 to 10000"));
        }
    }
    let unknown = on.r#do.slots().into_iter().find(|slot| !SLOTS.contains(slot));
    if let Some(slot) = unknown {
        return Err(format!(
            "there is no slot {{{slot}}}; there are {}",
            SLOTS.map(|name| format!("{{{name}}}")).join(", ")
        ));
    }
    check(&on.r#do)?;
    Ok(Row {
        port,
        channel: on.channel,
        control,
        number,
        value: on.value.unwrap_or(Span::ANY),
        when,
        long_us: on.long_ms * 1_000,
        double_us: on.double_ms * 1_000,
    })
}

/// Whether an action is another one when its control is let go.
fn tells_off(action: &Action) -> bool {
    action.slots().iter().any(|slot| matches!(*slot, "value" | "velocity" | "on" | "bytes"))
}

/// What can be told about an action before it is done: MIDI without slots must be MIDI.
fn check(action: &Action) -> Result<(), String> {
    if let Action::Midi(out) = action
        && out.names().is_empty()
    {
        let out: crate::bus::message::midi::Out = out.fill(&Slots::new()).map_err(|e| e.to_string())?;
        out.plays().map_err(|fault| fault.message)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(toml: &str) -> MidiOn {
        toml::from_str(toml).unwrap_or_else(|e| panic!("{toml}: {e}"))
    }

    fn error(toml: &str) -> String {
        let ports = ["midi_out".to_owned(), "pad".to_owned()];
        Rows::new(&[on(toml)], &ports).err().unwrap_or_else(|| panic!("{toml} is taken"))
    }

    #[test]
    fn a_row_that_can_not_be_is_told() {
        for (toml, told) in [
            ("do = 'stop'", "[[midi.on]] number 1: nothing says what it is about"),
            ("note = 60\ncc = 1\ndo = 'stop'", "note and cc in one row"),
            ("note = 200\ndo = 'stop'", "note 200 can't be: it goes up to 127"),
            ("bend = 3\ndo = 'stop'", "write bend = \"any\""),
            ("note = 60\nport = 'x'\ndo = 'stop'", "there is no port \"x\"; there are midi_in, pad"),
            ("note = 60\nchannel = 0\ndo = 'stop'", "channel 0 can't be"),
            ("program = 3\nwhen = 'held'\ndo = 'stop'", "never let go"),
            ("note = 60\nlong_ms = 0\ndo = 'stop'", "long_ms 0 can't be"),
            ("note = 60\ndo = { command = { text = '{words}' } }", "there is no slot {words}"),
            ("note = 60\ndo = { midi = { chord = 'Xyz' } }", "`Xyz` is no chord"),
        ] {
            assert!(error(toml).contains(told), "{toml}: {}", error(toml));
        }
    }

    #[test]
    fn a_row_is_written_as_it_is_read() {
        let toml = "note = \"C3..B3\"\nport = \"pad\"\nwhen = \"held\"\non = \"bar\"\ndo = \"push_to_talk\"\nfeedback = { on = 5 }";
        let row = on(toml);
        let written = toml::to_string(&row).unwrap();
        assert_eq!(on(&written), row, "{written}");
    }
}
