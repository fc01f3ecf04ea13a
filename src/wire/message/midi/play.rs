//! From what people write to what is played: every key checked, names looked up.

use super::number::{Data, Keys, Number};
use super::out::{Out, Panic, PanicWord};
use super::transport::Transport;
use crate::midi::clock::{BPM, Quantum};
use crate::midi::{Chord, Message, Note, chord, controller, parse};
use crate::wire::message::fault::{Fault, FaultCode};

/// How many messages one may hold in `all`.
const ALL_MAX: usize = 64;
/// How hard, if nothing is said.
const VELOCITY: u8 = 100;
/// The longest that a note may be asked to sound: an hour.
const LENGTH_MAX_MS: f64 = 3_600_000.0;
/// The longest system exclusive that goes out, in bytes with F0 and F7: a message must fit into one JACK period.
pub const SYSEX_OUT_MAX: usize = 16_000;

/// How long notes sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// Until they are ended.
    Hold,
    /// For a time, in ms.
    Ms(f64),
    /// For beats.
    Beats(f64),
    /// For bars.
    Bars(f64),
}

/// What is to be done on a port.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Notes begin.
    Notes {
        /// Which.
        notes: Vec<Note>,
        /// 1 to 127.
        velocity: u8,
        /// For how long.
        length: Length,
    },
    /// Plain messages.
    Send(Vec<Message>),
    /// The transport, and the clock that goes out with it.
    Transport(Transport),
    /// The tempo of the host's own clock.
    Tempo(f64),
    /// Notes end.
    Panic {
        /// Whether devices are silenced, whoever plays them.
        all: bool,
    },
}

/// A message that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Play {
    /// The port, if one is named.
    pub port: Option<String>,
    /// 1 to 16.
    pub channel: u8,
    /// What it waits for.
    pub on: Option<Quantum>,
    /// Who asks.
    pub by: Option<String>,
    /// What is to be done.
    pub step: Step,
}

fn invalid(text: impl Into<String>) -> Fault {
    Fault::new(FaultCode::Invalid, text.into())
}

/// A whole number from `low` to `high`, or what is wrong with it.
fn whole(key: &str, number: Number, low: i32, high: i32) -> Result<i32, Fault> {
    let value = number.get().round();
    if value < f64::from(low) || value > f64::from(high) {
        return Err(invalid(format!("{key} {} can't be: it goes from {low} to {high}", number.get())));
    }
    Ok(value as i32)
}

fn seven(key: &str, number: Number) -> Result<u8, Fault> {
    whole(key, number, 0, 127).map(|value| value as u8)
}

fn fourteen(key: &str, number: Number, high: i32) -> Result<u16, Fault> {
    whole(key, number, 0, high).map(|value| value as u16)
}

impl Out {
    /// Checks it, and looks up what is named.
    ///
    /// # Errors
    /// [`FaultCode::Invalid`] with what is wrong and what would do.
    pub fn plays(&self) -> Result<Vec<Play>, Fault> {
        if !self.all.is_empty() {
            if !self.keys().is_empty() {
                return Err(invalid("`all` goes with no other message; put that into the list"));
            }
            if self.all.len() > ALL_MAX {
                return Err(invalid(format!("`all` has {} messages; {ALL_MAX} at most", self.all.len())));
            }
            let mut plays = Vec::new();
            for inner in &self.all {
                if !inner.all.is_empty() {
                    return Err(invalid("`all` within `all`: one list is enough"));
                }
                let inner = Self {
                    port: if inner.port.is_empty() { self.port.clone() } else { inner.port.clone() },
                    channel: inner.channel.or(self.channel),
                    on: inner.on.or(self.on),
                    by: inner.by.clone().or_else(|| self.by.clone()),
                    ..inner.clone()
                };
                plays.extend(inner.plays()?);
            }
            return Ok(plays);
        }
        let play = |step| Play {
            port: Some(self.port.clone()).filter(|port| !port.is_empty()),
            channel: 0,
            on: self.on,
            by: self.by.clone(),
            step,
        };
        let channel = match self.channel {
            Some(channel) => whole("channel", channel, 1, 16)? as u8,
            None => 1,
        };
        let step = self.step(channel)?;
        // The tempo first, so that the clock begins with it.
        let tempo = self.bpm.filter(|_| matches!(step, Step::Transport(_))).map(tempo).transpose()?;
        Ok(tempo.into_iter().chain([step]).map(|step| Play { channel, ..play(step) }).collect())
    }

    /// The keys that say what is sent.
    fn keys(&self) -> Vec<&'static str> {
        let all = [
            ("note", self.note.is_some()),
            ("chord", self.chord.is_some()),
            ("off", self.off.is_some()),
            ("cc", self.cc.is_some()),
            ("cc14", self.cc14.is_some()),
            ("nrpn", self.nrpn.is_some()),
            ("rpn", self.rpn.is_some()),
            ("program", self.program.is_some()),
            ("bend", self.bend.is_some()),
            ("pressure", self.pressure.is_some()),
            ("key_pressure", self.key_pressure.is_some()),
            ("sysex", self.sysex.is_some()),
            ("transport", self.transport.is_some()),
            ("bpm", self.bpm.is_some()),
            ("position", self.position.is_some()),
            ("song", self.song.is_some()),
            ("raw", self.raw.is_some()),
            ("panic", self.panic.is_some()),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(key, _)| key).collect()
    }

    fn step(&self, channel: u8) -> Result<Step, Fault> {
        let keys = self.keys();
        let ([key] | [key @ "transport", "bpm"]) = keys.as_slice() else {
            return Err(invalid(match keys.as_slice() {
                [] => "nothing says what to send; give one of note, chord, off, cc, cc14, nrpn, rpn, program, bend, \
                       pressure, key_pressure, sysex, transport, bpm, position, song, raw, panic or all"
                    .to_owned(),
                many => format!("{} in one message; send them as {{\"all\": [{{…}}, {{…}}]}}", many.join(" and ")),
            }));
        };
        let value = |high: i32| match self.value {
            Some(value) => whole("value", value, 0, high),
            None => Err(invalid(format!("{key} without a value; add \"value\": 0 to {high}"))),
        };
        if let Some(Keys(names)) = &self.note {
            return self.notes(keys_of(names)?);
        }
        if let Some(name) = &self.chord {
            return self.notes(self.chord_notes(name)?);
        }
        let messages = if let Some(Keys(names)) = &self.off {
            let notes = match names.as_slice() {
                [one] if one.parse::<Note>().is_err() => self.chord_notes(one)?,
                // G7 is a note and a chord: what does not sound takes no harm.
                [one] if Chord::spoken(one).is_some() => {
                    let mut both = keys_of(names)?;
                    both.extend(self.chord_notes(one)?);
                    both
                }
                _ => keys_of(names)?,
            };
            notes.into_iter().map(|note| Message::NoteOff { channel, note: note.0, velocity: 64 }).collect()
        } else if let Some(cc) = self.cc {
            let (controller, value) = (seven("cc", cc)?, value(127)? as u8);
            vec![Message::Control { channel, controller, value }]
        } else if let Some(cc) = self.cc14 {
            let controller = whole("cc14", cc, 0, 31)? as u8;
            controller::control_14(channel, controller, value(16_383)? as u16).to_vec()
        } else if let Some(number) = self.nrpn {
            controller::parameter(channel, false, fourteen("nrpn", number, 16_382)?, value(16_383)? as u16).to_vec()
        } else if let Some(number) = self.rpn {
            controller::parameter(channel, true, fourteen("rpn", number, 16_382)?, value(16_383)? as u16).to_vec()
        } else if let Some(program) = self.program {
            let mut all = Vec::new();
            if let Some(bank) = self.bank {
                let bank = fourteen("bank", bank, 16_383)?;
                let [coarse, fine] = controller::control_14(channel, 0, bank);
                all.extend([coarse, fine]);
            }
            all.push(Message::Program { channel, program: seven("program", program)? });
            all
        } else if let Some(bend) = self.bend {
            vec![Message::PitchBend { channel, value: whole("bend", bend, -8192, 8191)? as i16 }]
        } else if let Some(pressure) = self.pressure {
            vec![Message::Pressure { channel, value: seven("pressure", pressure)? }]
        } else if let Some(Keys(names)) = &self.key_pressure {
            let value = value(127)? as u8;
            let pressure = |note: Note| Message::KeyPressure { channel, note: note.0, value };
            keys_of(names)?.into_iter().map(pressure).collect()
        } else if let Some(Data(bytes)) = &self.sysex {
            vec![sysex(bytes)?]
        } else if let Some(position) = self.position {
            vec![Message::SongPosition(fourteen("position", position, 16_383)?)]
        } else if let Some(song) = self.song {
            vec![Message::SongSelect(seven("song", song)?)]
        } else if let Some(Data(bytes)) = &self.raw {
            let all = parse::all(bytes)
                .map_err(|left| invalid(format!("raw: {left} of {} bytes are no whole MIDI message", bytes.len())))?;
            for message in &all {
                if let Message::SysEx(body) = message {
                    sysex(body)?;
                }
            }
            all
        } else if let Some(word) = self.transport {
            return Ok(Step::Transport(word));
        } else if let Some(bpm) = self.bpm {
            return tempo(bpm);
        } else if let Some(panic) = &self.panic {
            return Ok(match panic {
                Panic::Ours(false) => Step::Send(Vec::new()),
                Panic::Ours(true) | Panic::Word(PanicWord::Ours) => Step::Panic { all: false },
                Panic::Word(PanicWord::All) => Step::Panic { all: true },
            });
        } else {
            Vec::new()
        };
        Ok(Step::Send(messages))
    }

    fn notes(&self, notes: Vec<Note>) -> Result<Step, Fault> {
        let velocity = match self.velocity {
            Some(velocity) => seven("velocity", velocity)?,
            None => VELOCITY,
        };
        if velocity == 0 {
            let channel = self.channel.map_or(Ok(1), |channel| whole("channel", channel, 1, 16))? as u8;
            let off = |note: Note| Message::NoteOff { channel, note: note.0, velocity: 64 };
            return Ok(Step::Send(notes.into_iter().map(off).collect()));
        }
        let length = self.length()?;
        Ok(Step::Notes { notes, velocity, length })
    }

    fn length(&self) -> Result<Length, Fault> {
        let given = [("ms", self.ms), ("beats", self.beats), ("bars", self.bars)];
        let mut given = given.into_iter().filter_map(|(key, number)| Some((key, number?.get())));
        let (first, second) = (given.next(), given.next());
        if let (Some((a, _)), Some((b, _))) = (first, second) {
            return Err(invalid(format!("{a} and {b} both say how long; leave one out")));
        }
        match first {
            Some((key, _)) if self.hold => {
                Err(invalid(format!("{key} says when the notes end, and hold that they do not; leave one out")))
            }
            Some((key, value)) if value <= 0.0 || value > LENGTH_MAX_MS => {
                Err(invalid(format!("{key} {value} can't be: notes sound for more than 0 and at most an hour")))
            }
            Some(("ms", value)) => Ok(Length::Ms(value)),
            Some(("bars", value)) => Ok(Length::Bars(value)),
            Some((_, value)) => Ok(Length::Beats(value)),
            None if self.hold => Ok(Length::Hold),
            None => Ok(Length::Beats(1.0)),
        }
    }

    fn chord_notes(&self, name: &str) -> Result<Vec<Note>, Fault> {
        let chord = match Chord::spoken(name) {
            Some(chord) => chord,
            None => Chord::parse(name).map_err(|error| invalid(error.to_string()))?,
        };
        let octave = self.octave.map_or(Ok(chord::OCTAVE), |octave| whole("octave", octave, -1, 9))?;
        let inversion = self.inversion.map_or(Ok(0), |inversion| whole("inversion", inversion, 0, 12))?;
        chord.notes(octave, usize::try_from(inversion).unwrap_or(0)).map_err(|error| invalid(error.to_string()))
    }
}

fn tempo(bpm: Number) -> Result<Step, Fault> {
    let bpm = bpm.get();
    if !BPM.contains(&bpm) {
        return Err(invalid(format!("bpm {bpm} can't be: it goes from {} to {}", BPM.start(), BPM.end())));
    }
    Ok(Step::Tempo(bpm))
}

fn keys_of(names: &[String]) -> Result<Vec<Note>, Fault> {
    let read = |name: &String| {
        let note = name.parse::<Note>();
        note.or_else(|error| Note::spoken(name, chord::OCTAVE).ok_or(error)).map_err(|error| invalid(error.to_string()))
    };
    let mut notes = names.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if notes.is_empty() {
        return Err(invalid("an empty list of notes; name one"));
    }
    notes.sort_unstable();
    notes.dedup();
    Ok(notes)
}

/// System exclusive with or without its first and last byte.
fn sysex(bytes: &[u8]) -> Result<Message, Fault> {
    let body = bytes.strip_prefix(&[0xf0]).unwrap_or(bytes);
    let body = body.strip_suffix(&[0xf7]).unwrap_or(body);
    if let Some(wrong) = body.iter().find(|byte| **byte > 0x7f) {
        return Err(invalid(format!("sysex: {wrong:02X} can't stand within it; its bytes are 00 to 7F")));
    }
    if body.len() + 2 > SYSEX_OUT_MAX {
        return Err(invalid(format!("sysex of {} bytes; {SYSEX_OUT_MAX} at most, send it in several", body.len() + 2)));
    }
    Ok(Message::SysEx(body.to_vec()))
}
