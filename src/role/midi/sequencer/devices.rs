//! Devices that come and go, and the notes that they are owed the end of.

use std::collections::BTreeSet;

use super::state::Sequencer;
use crate::midi::Message;
use crate::midi::sounding::pedals_up;

impl Sequencer {
    /// The device connections of a port are these now.
    pub fn connected(
        &mut self,
        port: usize,
        inputs: BTreeSet<String>,
        outputs: BTreeSet<String>,
        shared: BTreeSet<String>,
        now_us: u64,
    ) {
        let Some(state) = self.ports.get_mut(port) else { return };
        let name = state.name.clone();
        let gone_in: Vec<String> = state.inputs.difference(&inputs).cloned().collect();
        let gone_out: Vec<String> = state.outputs.difference(&outputs).cloned().collect();
        let came_out = outputs.difference(&state.outputs).next().is_some();
        for other in shared.difference(&state.shared_with) {
            let text = format!(
                "MIDI port {name}: {other} plays the same device; notes and lights of the two get in each other's way"
            );
            self.output.notices.push(text);
        }
        (state.inputs, state.outputs, state.shared_with) = (inputs, outputs, shared);
        // Which of several devices on the port held what is not known: what one holds too long is worse than a key cut short.
        if !gone_in.is_empty() {
            let down = state.heard.notes().count();
            let released = state.heard.release_all();
            state.heard.forget();
            state.parser.reset();
            if down > 0 {
                let gone = gone_in.join(", ");
                self.output.notices.push(format!(
                    "MIDI port {name}: {gone} has gone with {down} keys down; they are taken as released"
                ));
            }
            for fired in self.mapping.triggers.release(port, now_us) {
                self.fired(fired, None);
            }
            // For rows that pass everything on, and for those who listen on the bus.
            for message in released {
                self.message(port, message, now_us);
            }
        }
        let Some(state) = self.ports.get_mut(port) else { return };
        if !gone_out.is_empty() {
            let sounding: Vec<(u8, u8)> = state.sounding.notes().map(|(channel, note, _)| (channel, note)).collect();
            state.owed_pedals.extend(state.sounding.pedals());
            if !sounding.is_empty() {
                let (gone, notes) = (gone_out.join(", "), sounding.len());
                self.output.notices.push(format!(
                    "MIDI port {name}: {gone} has gone while {notes} notes sounded; they are ended when it is back"
                ));
                state.owed.extend(sounding);
                state.owed.sort_unstable();
                state.owed.dedup();
            }
            if state.outputs.is_empty() {
                state.sounding.forget();
            }
        }
        if came_out && !(state.owed.is_empty() && state.owed_pedals.is_empty()) {
            self.pay(port);
        }
    }

    /// Ends notes that a device still has from before.
    fn pay(&mut self, port: usize) {
        let Some(state) = self.ports.get_mut(port) else { return };
        let owed = std::mem::take(&mut state.owed);
        // Pedals that were down then are pressed still if they have not been lifted since the device is away.
        let mut pedals = std::mem::take(&mut state.owed_pedals);
        pedals.extend(owed.iter().map(|(channel, _)| *channel));
        for channel in state.sounding.pedals() {
            pedals.remove(&channel);
        }
        let name = state.name.clone();
        let due: Vec<(u8, u8)> =
            owed.into_iter().filter(|(channel, note)| !state.sounding.is_on(*channel, *note)).collect();
        if !due.is_empty() {
            self.output.notices.push(format!("MIDI port {name}: {} notes from before were ended", due.len()));
        }
        for (channel, note) in due {
            self.output.journal.push((port, channel, note, false));
            self.put(port, Message::NoteOff { channel, note, velocity: 64 }, None, false);
        }
        for message in pedals.into_iter().flat_map(pedals_up) {
            self.put(port, message, None, false);
        }
    }

    /// Notes of a run before this one, which was killed: they end as soon as their device is there.
    pub fn owe(&mut self, port: usize, notes: Vec<(u8, u8)>) {
        if let Some(state) = self.ports.get_mut(port) {
            state.owed.extend(notes);
        }
    }

    /// The driver is there, or has gone: its connections with it.
    pub fn set_up(&mut self, is_up: bool, now_us: u64) {
        if !is_up {
            for port in 0..self.ports.len() {
                self.connected(port, BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), now_us);
            }
        }
        self.is_up = is_up;
    }
}
