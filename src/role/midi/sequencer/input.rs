//! What comes in, and what it sets off.

use std::sync::Arc;
use std::time::Duration;

use super::state::{Sequencer, Triggered};
use crate::action::Effect;
use crate::bus::message::midi::Out;
use crate::midi::Message;
use crate::midi::trigger::{Fired, When};
use crate::rig::loops::{self, Verdict};

/// What comes again within this time may have come of what was sent: a loop through JACK takes two periods, and a person does
/// not strike the same key equally hard so often.
const ROUND_MAX_US: u64 = 50_000;
/// Controls that are followed for loops at once.
const FOLLOWED_MAX: usize = 1_024;

impl Sequencer {
    /// What came in on a port at `at_us`, in whatever pieces.
    pub fn input(&mut self, port: usize, at_us: u64, bytes: &[u8]) {
        let Some(state) = self.ports.get_mut(port) else { return };
        let mut messages = Vec::new();
        state.parser.feed(bytes, |message| messages.push(message));
        for message in messages {
            self.received += 1;
            self.message(port, message, at_us);
        }
    }

    pub(super) fn message(&mut self, port: usize, message: Message, at_us: u64) {
        if let Some(state) = self.ports.get_mut(port) {
            state.heard.follow(&message, &Arc::from(""), at_us);
        }
        if let Some(clock) = self.clocks.get_mut(port) {
            clock.feed(&message, at_us);
        }
        if message == Message::Clock && self.source(at_us).is_some_and(|(source, _)| source == port) {
            // Passed on with the time between ticks as it is.
            for to in self.clocked() {
                if to != port {
                    self.put(to, Message::Clock, Some(at_us + self.period_us), true);
                }
            }
        }
        let fired = self.mapping.triggers.feed(port, &message, at_us);
        let is_let_through = !fired.is_empty() && self.is_let_through(port, &message, at_us);
        for fired in fired {
            // A release never begins a loop, and leaving it would let a held thing go on: a note, a pedal, a word to a listener.
            if is_let_through || (!fired.on && self.mapping.when(fired.row) == When::Held) {
                self.fired(fired, Some(&message));
            }
        }
        if self.publish.contains(&message.kind()) {
            self.output.published.push((port, message, at_us));
        }
    }

    /// Whether a message that sets something off does not come of what it set off before.
    fn is_let_through(&mut self, port: usize, message: &Message, at_us: u64) -> bool {
        let bytes = message.bytes();
        let bytes = bytes.as_slice();
        let key = (port, bytes.first().copied().unwrap_or_default(), bytes.get(1).copied().unwrap_or_default());
        let now = Duration::from_micros(at_us);
        let verdict = self.loops.came(&key, loops::value(&bytes), now);
        if self.came.len() >= FOLLOWED_MAX {
            self.came.clear();
        }
        let before = self.came.insert(key, at_us);
        if verdict == Verdict::Act && before.is_some_and(|before| at_us.saturating_sub(before) < ROUND_MAX_US) {
            self.loops.sent(&key, now);
        }
        // The end of a note never begins a loop, and leaving it would let the note sound on.
        verdict == Verdict::Act || matches!(message, Message::NoteOff { .. })
    }

    /// A listener is muted or not.
    pub fn muted(&mut self, listener: &str, is_first: bool, muted: bool) {
        self.mapping.muted(listener, is_first, muted);
    }

    /// Does what a row says; without a message when time has passed or a device has gone.
    pub(super) fn fired(&mut self, fired: Fired, message: Option<&Message>) {
        let own = if message.is_none() { fired.message() } else { None };
        let message = message.or(own.as_ref());
        let port = self.ports.get(fired.key.port).map(|port| port.name.clone()).unwrap_or_default();
        let (on, when) = (self.mapping.on(fired.row), self.mapping.when(fired.row));
        if matches!(when, When::Held | When::Toggle) {
            self.output.lights.push((fired, fired.on));
        }
        let effect = match self.mapping.effect(&fired, &port, message) {
            Ok(Some(effect)) => effect,
            Ok(None) => return,
            Err(error) => return self.output.notices.push(error),
        };
        let by = format!("midi:{port}");
        match effect {
            Effect::Midi(out) if self.port(&out.port).is_ok() => {
                let out = Out { on: out.on.or(on), by: out.by.clone().or(Some(by.clone())), ..out };
                // A period later than it came, and so as far apart as they came.
                if let Err(fault) = self.play_at(&out, fired.at_us, Some(fired.at_us + self.period_us)) {
                    self.output.notices.push(format!("{by}: {}", fault.message));
                }
            }
            effect => self.output.effects.push(Triggered { effect, on, by }),
        }
    }
}
