//! What goes out: notes and their ends, messages, the clock, at once or ahead of their time.

use std::sync::Arc;
use std::time::Duration;

use super::state::{Outgoing, Pending, Sequencer};
use crate::bus::message::midi::Transport;
use crate::midi::Message;
use crate::midi::clock::ClockOut;
use crate::midi::sounding::ends;

/// After a start, the first tick comes this much later, so that a device is ready for it.
const START_LEAD_US: u64 = 1_000;

impl Sequencer {
    /// A note begins, at once or at `at_us`, and ends after `length_us`.
    pub(super) fn begin(
        &mut self,
        port: usize,
        key: (u8, u8, u8),
        begin_us: u64,
        at_us: Option<u64>,
        length_us: Option<u64>,
        by: &Arc<str>,
    ) {
        let (channel, note, velocity) = key;
        let Some(state) = self.ports.get_mut(port) else { return };
        // Struck again: a device counts two beginnings as two notes, and would need two ends.
        let since = state.sounding.since_us(channel, note);
        let was_on = since.is_some();
        // The end of the one before was sent ahead, or its beginning was: this one goes out after it.
        let end = state.ends.get(&(channel, note)).copied().filter(|end| *end + self.period_us > begin_us);
        let (begin_us, at_us) = match end.max(since.filter(|since| *since > begin_us)) {
            Some(last) => (begin_us.max(last), Some(begin_us.max(last))),
            None => (begin_us, at_us),
        };
        let on = Message::NoteOn { channel, note, velocity };
        let id = state.sounding.follow(&on, by, begin_us);
        if was_on {
            self.put(port, Message::NoteOff { channel, note, velocity: 64 }, at_us, false);
        }
        self.output.journal.push((port, channel, note, true));
        self.put(port, on, at_us, false);
        if let (Some(length), Some(id)) = (length_us, id) {
            self.wait(begin_us + length.max(1_000), Pending::End { port, channel, note, id });
        }
    }

    /// A message goes out, at once or at `at_us`; what it does to notes is taken down.
    pub(super) fn send(&mut self, port: usize, message: Message, now_us: u64, at_us: Option<u64>, by: &Arc<str>) {
        let Some(state) = self.ports.get_mut(port) else { return };
        let mut at_us = at_us;
        match message {
            Message::NoteOn { channel, note, velocity } => {
                return self.begin(port, (channel, note, velocity), now_us, at_us, None, by);
            }
            Message::NoteOff { channel, note, .. } => {
                let begins = state.sounding.since_us(channel, note);
                at_us = begins.filter(|begins| *begins > now_us).max(at_us);
                self.output.journal.push((port, channel, note, false));
            }
            Message::Control { controller: 120 | 123..=127, .. } | Message::Reset => {
                let all = message.channel();
                let ended = state.sounding.notes().filter(|(channel, ..)| all.is_none_or(|all| all == *channel));
                let ended: Vec<_> = ended.map(|(channel, note, held)| (channel, note, held.since_us)).collect();
                // Notes whose beginning is still on its way must not begin after it.
                let last = ended.iter().map(|(.., since_us)| *since_us).max().filter(|last| *last > now_us);
                at_us = last.max(at_us);
                self.output.journal.extend(ended.into_iter().map(|(channel, note, _)| (port, channel, note, false)));
            }
            _ => {}
        }
        state.sounding.follow(&message, by, now_us);
        self.put(port, message, at_us, false);
    }

    pub(super) fn put(&mut self, port: usize, message: Message, at_us: Option<u64>, keep: bool) {
        self.sent += 1;
        // What ends something that has begun must not be taken back with what waits.
        let keep = keep || ends(&message);
        if let (Message::NoteOff { channel, note, .. }, Some(at), Some(state)) =
            (&message, at_us, self.ports.get_mut(port))
        {
            let end = state.ends.entry((*channel, *note)).or_default();
            *end = at.max(*end);
        }
        self.output.sends.push(Outgoing { port, at_us, keep, message });
    }

    pub(super) fn wait(&mut self, at_us: u64, waiting: Pending) {
        self.next_seq += 1;
        self.waiting.insert((at_us, self.next_seq), waiting);
    }

    pub(super) fn transport(&mut self, port: usize, word: Transport, begin_us: u64, at_us: Option<u64>) {
        let message = match word {
            Transport::Start => Message::Start,
            Transport::Continue => Message::Continue,
            Transport::Stop => Message::Stop,
        };
        // The first tick has to be ahead as far as any other, or it would come late and the rest in time.
        let begin_us = at_us.unwrap_or(begin_us + self.lead_us);
        self.put(port, message, Some(begin_us), true);
        match word {
            Transport::Stop => {
                self.started.remove(&port);
                self.running = !self.started.is_empty();
            }
            Transport::Start | Transport::Continue => {
                self.started.insert(port);
                self.running = true;
                if word == Transport::Start {
                    let grid = self.own.grid();
                    // The song begins: its first tick is the first beat of the first bar.
                    if let Ok(own) = ClockOut::new(begin_us + START_LEAD_US, grid.bpm(), grid.beats_per_bar) {
                        self.own = own;
                    }
                }
            }
        }
    }

    pub(super) fn clocked(&self) -> Vec<usize> {
        self.clock_to.union(&self.started).copied().collect()
    }

    /// Time has passed: all that is due is done.
    pub fn poll(&mut self, now_us: u64) {
        for fired in self.mapping.triggers.poll(now_us) {
            self.fired(fired, None);
        }
        for broken in self.loops.settle(Duration::from_micros(now_us)) {
            let (port, status, number) = broken.key;
            let name = self.ports.get(port).map_or("", |port| port.name.as_str());
            let text = format!(
                "MIDI port {name}: {status:02X} {number:02X} has triggered itself {} times, and is not acted on for a while; see what {name} is connected to",
                broken.rounds
            );
            self.output.notices.push(text);
        }
        for port in &mut self.ports {
            port.ends.retain(|_, end| *end + self.period_us > now_us);
        }
        let until_us = now_us + self.lead_us;
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= until_us) {
            let ((at, _), waiting) = entry.remove_entry();
            let at_us = (at > now_us).then_some(at);
            match waiting {
                Pending::Send { port, message, by } => self.send(port, message, at, at_us, &by),
                Pending::Begin { port, channel, note, velocity, length_us, by } => {
                    self.begin(port, (channel, note, velocity), at, at_us, length_us, &by);
                }
                Pending::Transport { port, word } => self.transport(port, word, at, at_us),
                Pending::End { port, channel, note, id } => {
                    let sounds = self.ports.get(port).is_some_and(|port| port.sounding.sounds(channel, note, id));
                    if sounds {
                        self.send(port, Message::NoteOff { channel, note, velocity: 64 }, at, at_us, &Arc::from(""));
                    }
                }
            }
        }
        let to = self.clocked();
        if !to.is_empty() && self.source(now_us).is_none() {
            for at in self.own.due(now_us, until_us + 1) {
                for port in &to {
                    self.put(*port, Message::Clock, Some(at), true);
                }
            }
        }
    }

    /// When to [`Sequencer::poll`] again, in µs; `None`: not before something comes.
    #[must_use]
    pub fn next_us(&self, now_us: u64) -> Option<u64> {
        let waiting = self.waiting.first_key_value().map(|((at, _), _)| at.saturating_sub(self.lead_us));
        let ticks = !self.clocked().is_empty() && self.source(now_us).is_none();
        let tick = ticks.then(|| self.own.next_us().saturating_sub(self.lead_us));
        let held = self.loops.next().and_then(|next| u64::try_from(next.as_micros()).ok());
        [waiting, tick, held, self.mapping.triggers.next_us()].into_iter().flatten().min()
    }
}
