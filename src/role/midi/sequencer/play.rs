//! Requests: notes, messages, the transport, a panic; and the ends of notes whose host is gone.

use std::sync::Arc;

use super::state::{Pending, Sequencer, WAITING_MAX};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::midi::{Length, Out, Play, Sent, Step};
use crate::midi::sounding::{Held, silence};
use crate::midi::{Message, Note};

impl Sequencer {
    /// Plays a request.
    ///
    /// # Errors
    /// It makes no sense, names a port that is not there, or there is no driver or no room.
    pub fn play(&mut self, out: &Out, now_us: u64) -> Result<Sent, Fault> {
        self.play_at(out, now_us, None)
    }

    pub(super) fn play_at(&mut self, out: &Out, now_us: u64, at_us: Option<u64>) -> Result<Sent, Fault> {
        let plays = out.plays()?;
        let ports = plays
            .iter()
            .map(|play| self.port(play.port.as_deref().unwrap_or_default()))
            .collect::<Result<Vec<_>, _>>()?;
        if !self.is_up && plays.iter().any(|play| !matches!(play.step, Step::Tempo(_) | Step::Panic { .. })) {
            let text = "MIDI is not there at the moment: JACK does not answer; `sidetone doctor` says more";
            return Err(Fault::new(FaultCode::Unavailable, text));
        }
        let room = plays.iter().map(|play| match &play.step {
            Step::Notes { notes, .. } => 2 * notes.len(),
            Step::Send(messages) => messages.len(),
            _ => 1,
        });
        if self.waiting.len() + room.sum::<usize>() > WAITING_MAX {
            let text = format!(
                "{WAITING_MAX} MIDI messages wait for their time already; ask again later, or stop them by {{\"panic\": true}}"
            );
            return Err(Fault::new(FaultCode::Busy, text));
        }
        let mut sent = Sent::default();
        for (play, port) in plays.into_iter().zip(ports) {
            self.play_one(play, port, now_us, at_us, &mut sent);
        }
        Ok(sent)
    }

    fn play_one(&mut self, play: Play, port: usize, now_us: u64, at_us: Option<u64>, sent: &mut Sent) {
        let grid = self.clock(now_us).0;
        let waits = play.on.map(|quantum| grid.next_us(quantum, now_us));
        if let Some(at) = waits {
            sent.in_ms = Some(at.saturating_sub(now_us) / 1_000);
        }
        let begin_us = waits.or(at_us).unwrap_or(now_us);
        let by: Arc<str> = play.by.unwrap_or_default().into();
        let channel = play.channel;
        match play.step {
            Step::Notes { notes, velocity, length } => {
                let length_us = match length {
                    Length::Hold => None,
                    Length::Ms(ms) => Some((ms * 1_000.0) as u64),
                    Length::Beats(beats) => Some((beats * grid.beat_us) as u64),
                    Length::Bars(bars) => Some((bars * grid.beat_us * f64::from(grid.beats_per_bar)) as u64),
                };
                sent.notes.extend(notes.iter().map(|note| note.name()));
                for Note(note) in notes {
                    let by = Arc::clone(&by);
                    if waits.is_some() {
                        self.wait(begin_us, Pending::Begin { port, channel, note, velocity, length_us, by });
                    } else {
                        self.begin(port, (channel, note, velocity), begin_us, at_us, length_us, &by);
                        sent.messages += 1;
                    }
                }
            }
            Step::Send(messages) => {
                for message in messages {
                    if waits.is_some() {
                        self.wait(begin_us, Pending::Send { port, message, by: Arc::clone(&by) });
                    } else {
                        self.send(port, message, begin_us, at_us, &by);
                        sent.messages += 1;
                    }
                }
            }
            Step::Transport(word) => {
                if waits.is_some() {
                    self.wait(begin_us, Pending::Transport { port, word });
                } else {
                    self.transport(port, word, begin_us, at_us);
                    sent.messages += 1;
                }
            }
            Step::Tempo(bpm) => {
                // The tempo was checked; one that can't be leaves the old one.
                let _ = self.own.set_bpm(bpm);
            }
            Step::Panic { all } => {
                let named = play.port.is_some().then_some(port);
                sent.released = Some(sent.released.unwrap_or(0) + self.panic(named, all, now_us));
            }
        }
    }

    /// Ends all notes that were started here, on all ports or on one, and takes back what waits. With `all`, silences the
    /// devices. Gives how many notes ended.
    pub fn panic(&mut self, only: Option<usize>, all: bool, now_us: u64) -> u32 {
        let hit = |port: usize| only.is_none_or(|only| only == port);
        self.waiting.retain(|_, waiting| {
            let (Pending::Send { port, .. }
            | Pending::End { port, .. }
            | Pending::Begin { port, .. }
            | Pending::Transport { port, .. }) = waiting;
            !hit(*port)
        });
        if only.is_none() {
            self.output.flush = true;
            // What was to be sent within this step is taken back as well.
            self.output.sends.retain(|send| send.keep);
        }
        let mut released = 0;
        for at in 0..self.ports.len() {
            if hit(at) {
                released += self.release(at, now_us, None);
                if all {
                    for message in silence() {
                        self.put(at, message, None, false);
                    }
                }
            }
        }
        released
    }

    /// Ends what `by` started: it is gone.
    pub fn release_of(&mut self, by: &str, now_us: u64) -> u32 {
        let before = self.waiting.len();
        self.waiting.retain(|_, waiting| match waiting {
            Pending::Send { by: other, .. } | Pending::Begin { by: other, .. } => **other != *by,
            Pending::End { .. } | Pending::Transport { .. } => true,
        });
        let taken_back = before - self.waiting.len();
        let ended = (0..self.ports.len()).map(|port| self.release(port, now_us, Some(by))).sum();
        if ended > 0 || taken_back > 0 {
            self.output.notices.push(format!("{ended} notes of {by}, which is gone, were ended"));
        }
        ended
    }

    /// Ends what `by` started, or everything.
    fn release(&mut self, port: usize, now_us: u64, by: Option<&str>) -> u32 {
        let whose = |held: &Held| by.is_none_or(|by| *held.by == *by);
        let Some(state) = self.ports.get_mut(port) else { return 0 };
        // A note whose beginning is still on its way must not begin after its end.
        let last = state.sounding.notes().filter(|(_, _, held)| whose(held)).map(|(_, _, held)| held.since_us).max();
        let flushed = self.output.flush;
        let at_us = last.filter(|at| *at > now_us && !flushed);
        let messages = if by.is_none() { state.sounding.release_all() } else { state.sounding.release(whose) };
        let mut ended = 0;
        for message in messages {
            if let Message::NoteOff { channel, note, .. } = message {
                ended += 1;
                self.output.journal.push((port, channel, note, false));
            }
            self.put(port, message, at_us, false);
        }
        ended
    }
}
