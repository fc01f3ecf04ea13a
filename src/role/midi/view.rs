//! What the role says of itself, and of what came in.

use std::time::Duration;

use super::engine::{EngineState, Received};
use crate::bus::message::midi::{self, ClockState, Controller, In, Key, PortState, hex};
use crate::midi::sounding::Sounding;
use crate::midi::{Message, Note};

/// What sounds, where controllers stand, and which devices are there.
#[must_use]
pub fn state(
    state: &EngineState,
    (node, driver): (&str, &str),
    untold: u64,
    only: Option<usize>,
    now_us: u64,
) -> midi::State {
    let sequencer = &state.sequencer;
    let keys = |sounding: &Sounding| -> Vec<Key> {
        let key = |(channel, note, held): (u8, u8, &crate::midi::sounding::Held)| Key {
            channel,
            note,
            name: Note(note).name(),
            velocity: held.velocity,
            by: held.by.to_string(),
            for_ms: now_us.saturating_sub(held.since_us) / 1_000,
        };
        sounding.notes().map(key).collect()
    };
    let controllers = |sounding: &Sounding| -> Vec<Controller> {
        sounding.controllers().map(|(channel, cc, value)| Controller { channel, cc, value }).collect()
    };
    let ports = sequencer.ports.iter().enumerate().filter(|(at, _)| only.is_none_or(|only| only == *at));
    let ports = ports.map(|(_, port)| PortState {
        name: port.name.clone(),
        inputs: port.inputs.iter().cloned().collect(),
        outputs: port.outputs.iter().cloned().collect(),
        shared_with: port.shared_with.iter().cloned().collect(),
        held: keys(&port.heard),
        sounding: keys(&port.sounding),
        controllers_in: controllers(&port.heard),
        controllers_out: controllers(&port.sounding),
    });
    let (grid, source, running) = sequencer.clock(now_us);
    let (bar, beat) = grid.position(now_us);
    let clock = ClockState {
        source: source.and_then(|port| sequencer.ports.get(port)).map(|port| port.name.clone()).unwrap_or_default(),
        bpm: (grid.bpm() * 100.0).round() / 100.0,
        running,
        bar,
        beat,
        beats_per_bar: grid.beats_per_bar,
    };
    midi::State {
        node: node.to_owned(),
        driver: driver.to_owned(),
        up: sequencer.is_up,
        ports: ports.collect(),
        clock,
        received: sequencer.received,
        sent: sequencer.sent,
        skipped: sequencer.skipped(),
        lost: state.lost(),
        untold,
        waiting: sequencer.waiting() as u64,
    }
}

/// A message as it is published.
#[must_use]
pub fn published(received: &Received, node: &str, port: &str) -> In {
    let message = &received.message;
    let mut published = In {
        node: node.to_owned(),
        port: port.to_owned(),
        kind: message.kind().name().to_owned(),
        channel: message.channel(),
        bytes: hex(message.bytes().as_slice()),
        at: at(received.age),
        ..In::default()
    };
    match *message {
        Message::NoteOn { note, velocity, .. } | Message::NoteOff { note, velocity, .. } => {
            published.note = Some(note);
            published.name = Some(Note(note).name());
            published.on = Some(matches!(message, Message::NoteOn { .. }));
            published.velocity = Some(velocity);
        }
        Message::KeyPressure { note, value, .. } => {
            published.note = Some(note);
            published.name = Some(Note(note).name());
            published.value = Some(i32::from(value));
        }
        Message::Control { controller, value, .. } => {
            published.controller = Some(controller);
            published.value = Some(i32::from(value));
        }
        Message::Program { program, .. } => published.program = Some(program),
        Message::Pressure { value, .. } | Message::SongSelect(value) | Message::TimeCode(value) => {
            published.value = Some(i32::from(value));
        }
        Message::PitchBend { value, .. } => published.value = Some(i32::from(value)),
        Message::SongPosition(value) => published.value = Some(i32::from(value)),
        _ => {}
    }
    let word = match message {
        Message::Start => Some("start"),
        Message::Continue => Some("continue"),
        Message::Stop => Some("stop"),
        Message::SongPosition(_) => Some("position"),
        Message::SongSelect(_) => Some("song"),
        Message::Clock => Some("clock"),
        Message::TimeCode(_) => Some("time_code"),
        Message::TuneRequest => Some("tune_request"),
        Message::ActiveSensing => Some("active_sensing"),
        Message::Reset => Some("reset"),
        _ => None,
    };
    published.name = published.name.or_else(|| word.map(str::to_owned));
    published
}

fn at(age: Duration) -> String {
    let now = jiff::Timestamp::now();
    let then = now.checked_sub(jiff::SignedDuration::try_from(age).unwrap_or_default()).unwrap_or(now);
    format!("{then:.3}")
}
