//! `[[midi.on]]`: from the settings to the table that events are held against, and from an event to its effect.

use crate::action::{Action, Effect, SetMute};
use crate::bus::message::midi::hex;
use crate::config::{MidiOn, TransportWord};
use crate::midi::clock::Quantum;
use crate::midi::trigger::{ControlKind, Fired, Span, TriggerRow, Triggers, When};
use crate::midi::{Message, Note};
use crate::text::template::Slots;

/// The table: what to look for, and what to do then.
pub struct Mapping {
    /// What to look for.
    pub triggers: Triggers,
    rows: Vec<MidiOn>,
    whens: Vec<When>,
}

/// The slots that an action of the table may have.
const SLOTS: [&str; 9] = ["value", "velocity", "number", "note", "channel", "port", "on", "bytes", "control"];

impl Mapping {
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
        rows.iter().any(|on| on.when == Some(When::Toggle) && matches!(on.r#do, Action::Mute(SetMute { on: None, .. })))
    }

    /// A listener of this host, its first or another, is muted or not, whatever muted it: toggles stand as it does.
    pub fn muted(&mut self, listener: &str, is_first: bool, muted: bool) {
        for (at, (on, when)) in self.rows.iter().zip(&self.whens).enumerate() {
            let Action::Mute(SetMute { listener: meant, on: None }) = &on.r#do else { continue };
            if *when == When::Toggle && (meant.0 == listener || (meant.is_any() && is_first)) {
                self.triggers.set(at, muted);
            }
        }
    }

    /// What a row that fired means; `None` if there is nothing to do, such as when the control of a held command is let go.
    ///
    /// # Errors
    /// What the slots hold can't be sent.
    pub fn effect(&self, fired: &Fired, port: &str, message: Option<&Message>) -> Result<Option<Effect>, String> {
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
        let effect = on.r#do.fill(&slots).map_err(|e| e.to_string())?;
        if !has_state {
            return Ok(Some(effect));
        }
        let is_let_go = when == When::Held && !fired.on;
        let effect = effect.switched(fired.on);
        Ok((!is_let_go || effect.follows(tells_release(&on.r#do))).then_some(effect))
    }
}

fn row(on: &MidiOn, ports: &[String]) -> Result<TriggerRow, String> {
    let transport = on.transport.map(|word| {
        let number = match word {
            TransportWord::Start => 0,
            TransportWord::Continue => 1,
            TransportWord::Stop => 2,
        };
        Span { from: number, to: number }
    });
    let all = [
        ("note", ControlKind::Note, on.note, 127),
        ("cc", ControlKind::Cc, on.cc, 127),
        ("cc14", ControlKind::Cc14, on.cc14, 31),
        ("program", ControlKind::Program, on.program, 127),
        ("bend", ControlKind::Bend, on.bend, 0),
        ("pressure", ControlKind::Pressure, on.pressure, 0),
        ("key_pressure", ControlKind::KeyPressure, on.key_pressure, 127),
        ("nrpn", ControlKind::Nrpn, on.nrpn, 16_382),
        ("rpn", ControlKind::Rpn, on.rpn, 16_382),
        ("transport", ControlKind::Transport, transport, 2),
        ("song", ControlKind::Song, on.song, 127),
        ("any", ControlKind::Any, on.any.then_some(Span::ANY), 0),
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
    let changes =
        matches!(control, ControlKind::Bend | ControlKind::Pressure | ControlKind::KeyPressure | ControlKind::Any);
    let when = on.when.unwrap_or(if changes { When::Change } else { When::Press });
    if control == ControlKind::Any && when != When::Change {
        return Err("any = true has no presses; leave `when` out".to_owned());
    }
    if matches!(control, ControlKind::Program | ControlKind::Transport | ControlKind::Song)
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
    on.r#do.check_values()?;
    Ok(TriggerRow {
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
fn tells_release(action: &Action) -> bool {
    action.slots().iter().any(|slot| matches!(*slot, "value" | "velocity" | "on" | "bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(toml: &str) -> MidiOn {
        toml::from_str(toml).unwrap_or_else(|e| panic!("{toml}: {e}"))
    }

    fn error(toml: &str) -> String {
        let ports = ["midi_out".to_owned(), "pad".to_owned()];
        Mapping::new(&[on(toml)], &ports).err().unwrap_or_else(|| panic!("{toml} is taken"))
    }

    #[test]
    fn a_row_that_can_not_be_is_refused() {
        for (toml, part) in [
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
            assert!(error(toml).contains(part), "{toml}: {}", error(toml));
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
