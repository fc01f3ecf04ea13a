//! What sounds on one cable, who started it, and where controllers stand: what panic needs, and what people ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::message::Message;

/// Pedals and switches that keep notes sounding: sustain, sostenuto, hold 2.
const PEDALS: [u8; 3] = [64, 66, 69];
/// Ends all notes of a channel at once.
pub const ALL_SOUND_OFF: u8 = 120;
/// Puts controllers back.
pub const RESET_CONTROLLERS: u8 = 121;
/// Releases all notes of a channel.
pub const ALL_NOTES_OFF: u8 = 123;

/// A note that sounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who started it.
    pub by: Arc<str>,
    /// When, in µs.
    pub since_us: u64,
    /// Tells it from one of the same key that began before or after.
    pub id: u64,
    /// 1 to 127.
    pub velocity: u8,
}

/// The notes and controllers of one cable. Bounded by MIDI itself: 16 channels with 128 each.
#[derive(Debug, Clone, Default)]
pub struct Sounding {
    notes: BTreeMap<(u8, u8), Held>,
    controllers: BTreeMap<(u8, u8), u8>,
    bends: BTreeMap<u8, i16>,
    programs: BTreeMap<u8, u8>,
    next_id: u64,
}

impl Sounding {
    /// Takes note of a message that `by` sends at `now_us`; gives the id of a note that begins.
    pub fn follow(&mut self, message: &Message, by: &Arc<str>, now_us: u64) -> Option<u64> {
        match *message {
            Message::NoteOn { channel, note, velocity } if velocity > 0 => {
                self.next_id += 1;
                let held = Held { by: Arc::clone(by), since_us: now_us, id: self.next_id, velocity };
                self.notes.insert((channel, note), held);
                return Some(self.next_id);
            }
            Message::NoteOff { channel, note, .. } | Message::NoteOn { channel, note, .. } => {
                self.notes.remove(&(channel, note));
            }
            Message::Control { channel, controller: ALL_SOUND_OFF | 123..=127, .. } => {
                self.notes.retain(|(other, _), _| *other != channel);
            }
            Message::Control { channel, controller: RESET_CONTROLLERS, .. } => {
                self.controllers.retain(|(other, _), _| *other != channel);
                self.bends.remove(&channel);
            }
            Message::Control { channel, controller, value } => {
                self.controllers.insert((channel, controller), value);
            }
            Message::PitchBend { channel, value } => {
                self.bends.insert(channel, value);
            }
            Message::Program { channel, program } => {
                self.programs.insert(channel, program);
            }
            // As after power on.
            Message::Reset => self.forget(),
            _ => {}
        }
        None
    }

    /// Whether the note `id` still sounds: it has neither ended nor begun again.
    #[must_use]
    pub fn sounds(&self, channel: u8, note: u8, id: u64) -> bool {
        self.notes.get(&(channel, note)).is_some_and(|held| held.id == id)
    }

    /// Whether anything sounds on a key.
    #[must_use]
    pub fn is_on(&self, channel: u8, note: u8) -> bool {
        self.notes.contains_key(&(channel, note))
    }

    /// Since when a key sounds, in µs.
    #[must_use]
    pub fn since_us(&self, channel: u8, note: u8) -> Option<u64> {
        self.notes.get(&(channel, note)).map(|held| held.since_us)
    }

    /// All notes that sound: channel, key, and its state.
    pub fn notes(&self) -> impl Iterator<Item = (u8, u8, &Held)> {
        self.notes.iter().map(|((channel, note), held)| (*channel, *note, held))
    }

    /// Controllers: channel, number, value.
    pub fn controllers(&self) -> impl Iterator<Item = (u8, u8, u8)> {
        self.controllers.iter().map(|((channel, controller), value)| (*channel, *controller, *value))
    }

    /// Pitch wheels that are not in the middle.
    pub fn bends(&self) -> impl Iterator<Item = (u8, i16)> {
        self.bends.iter().map(|(channel, value)| (*channel, *value)).filter(|(_, value)| *value != 0)
    }

    /// Programs that were chosen.
    pub fn programs(&self) -> impl Iterator<Item = (u8, u8)> {
        self.programs.iter().map(|(channel, program)| (*channel, *program))
    }

    /// The messages that release what `whose` approves of: its notes, and pedals that are down on the channels of these, if
    /// nothing else sounds there. They are taken as sent.
    pub fn release(&mut self, whose: impl Fn(&Held) -> bool) -> Vec<Message> {
        let ended: Vec<(u8, u8)> = self.notes.iter().filter(|(_, held)| whose(held)).map(|(key, _)| *key).collect();
        let mut out: Vec<Message> = ended
            .iter()
            .map(|(channel, note)| Message::NoteOff { channel: *channel, note: *note, velocity: 64 })
            .collect();
        for key in &ended {
            self.notes.remove(key);
        }
        let is_over = |channel: u8| {
            ended.iter().any(|(other, _)| *other == channel) && !self.notes.keys().any(|(other, _)| *other == channel)
        };
        out.extend(lift(&mut self.controllers, is_over));
        out
    }

    /// The messages that release everything: all notes, and all pedals that are down. They are taken as sent.
    pub fn release_all(&mut self) -> Vec<Message> {
        let mut out = self.release(|_| true);
        out.extend(lift(&mut self.controllers, |_| true));
        out
    }

    /// Channels whose pedals are down.
    pub fn pedals(&self) -> impl Iterator<Item = u8> {
        let down = self.controllers.iter().filter(|((_, number), value)| PEDALS.contains(number) && **value >= 64);
        down.map(|((channel, _), _)| *channel)
    }

    /// Nothing is known any more: the device has gone, and its state with it.
    pub fn forget(&mut self) {
        *self = Self { next_id: self.next_id, ..Self::default() };
    }
}

/// Lifts pedals that are down on channels that `on` approves of.
fn lift(controllers: &mut BTreeMap<(u8, u8), u8>, on: impl Fn(u8) -> bool) -> Vec<Message> {
    let mut out = Vec::new();
    for ((channel, controller), value) in controllers {
        if PEDALS.contains(controller) && *value >= 64 && on(*channel) {
            *value = 0;
            out.push(Message::Control { channel: *channel, controller: *controller, value: 0 });
        }
    }
    out
}

/// Whether a message lifts a pedal, and so ends what sounds by it.
#[must_use]
pub fn lifts_pedal(message: &Message) -> bool {
    matches!(message, Message::Control { controller, value: 0..64, .. } if PEDALS.contains(controller))
}

/// Whether a message ends what sounds: a note, a pedal, all notes of a channel. (Controllers 120 and 123 to 127: MIDI 1.0,
/// channel mode messages.)
#[must_use]
pub fn ends(message: &Message) -> bool {
    lifts_pedal(message)
        || matches!(
            message,
            Message::NoteOff { .. } | Message::Reset | Message::Control { controller: 120 | 123..=127, .. }
        )
}

/// What lifts all pedals of a channel.
pub fn pedals_up(channel: u8) -> impl Iterator<Item = Message> {
    PEDALS.into_iter().map(move |controller| Message::Control { channel, controller, value: 0 })
}

/// What silences any device, whichever program plays it: pedals up, all sound off and all notes off, on all channels.
pub fn silence() -> impl Iterator<Item = Message> {
    (1..=16).flat_map(|channel| {
        [(64, 0), (ALL_SOUND_OFF, 0), (ALL_NOTES_OFF, 0)].map(|(controller, value)| Message::Control {
            channel,
            controller,
            value,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::strategy::message;
    use super::*;

    #[test]
    fn an_off_that_is_late_does_not_end_the_next_note() {
        let (mut state, me) = (Sounding::default(), Arc::from("me"));
        let on = Message::NoteOn { channel: 1, note: 60, velocity: 9 };
        let first = state.follow(&on, &me, 0).unwrap();
        let second = state.follow(&on, &me, 5).unwrap();
        assert!(!state.sounds(1, 60, first) && state.sounds(1, 60, second));
    }

    #[test]
    fn pedals_go_up_with_the_last_note() {
        let (mut state, me, you) = (Sounding::default(), Arc::from("me"), Arc::from("you"));
        state.follow(&Message::NoteOn { channel: 1, note: 60, velocity: 9 }, &me, 0);
        state.follow(&Message::NoteOn { channel: 1, note: 61, velocity: 9 }, &you, 0);
        state.follow(&Message::Control { channel: 1, controller: 64, value: 127 }, &me, 0);
        let mine = state.release(|held| &*held.by == "me");
        assert_eq!(mine, [Message::NoteOff { channel: 1, note: 60, velocity: 64 }]);
        let rest = state.release(|_| true);
        assert_eq!(rest.len(), 2);
        assert_eq!(rest.last(), Some(&Message::Control { channel: 1, controller: 64, value: 0 }));
    }

    #[test]
    fn who_leaves_lifts_no_pedals_of_others() {
        let (mut state, me) = (Sounding::default(), Arc::from("me"));
        state.follow(&Message::Control { channel: 1, controller: 64, value: 127 }, &me, 0);
        state.follow(&Message::NoteOn { channel: 2, note: 60, velocity: 9 }, &Arc::from("you"), 0);
        assert_eq!(state.release(|held| &*held.by == "somebody"), []);
        assert_eq!(state.release(|held| &*held.by == "you").len(), 1);
        assert_eq!(state.release_all(), [Message::Control { channel: 1, controller: 64, value: 0 }]);
        assert_eq!(state.release_all(), []);
    }

    proptest! {
        /// Whatever was sent, nothing sounds after all was released, and nothing is released that did not sound.
        #[test]
        fn nothing_sounds_after_a_release(messages in prop::collection::vec(message(), 0..200)) {
            let (mut state, me) = (Sounding::default(), Arc::from("me"));
            let mut model = std::collections::BTreeSet::new();
            for message in &messages {
                state.follow(message, &me, 0);
                match *message {
                    Message::NoteOn { channel, note, .. } => { model.insert((channel, note)); }
                    Message::NoteOff { channel, note, .. } => { model.remove(&(channel, note)); }
                    Message::Control { channel, controller: 120 | 123..=127, .. } => model.retain(|(other, _)| *other != channel),
                    Message::Reset => model.clear(),
                    _ => {}
                }
            }
            let sent: std::collections::BTreeSet<_> = state.release(|_| true).into_iter().filter_map(|message| match message {
                Message::NoteOff { channel, note, .. } => Some((channel, note)),
                _ => None,
            }).collect();
            prop_assert_eq!(sent, model);
            prop_assert_eq!(state.notes().count(), 0);
            prop_assert!(state.release(|_| true).is_empty());
        }
    }
}
