//! Devices by the ALSA sequencer, through midir. It has no times: what has one is sent when it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use midir::os::unix::{VirtualInput as _, VirtualOutput as _};
use midir::{MidiInput, MidiInputConnection, MidiOutput, MidiOutputConnection};

use super::driver::{Driver, Matcher, PortPlan};
use super::engine::Engine;
use crate::telemetry::health::Part;

/// Messages that came in and were not read yet; four seconds of a full cable.
const INBOX: usize = 4_096;
/// How often to look for devices: midir does not report ALSA's.
const LOOK: Duration = Duration::from_millis(500);

/// A message that came in: port, time, bytes.
type Arrival = (usize, Instant, Vec<u8>);

/// Connections to the ALSA sequencer as a driver.
struct AlsaDriver {
    begun: Instant,
    inbox: Receiver<Arrival>,
    outputs: Vec<BTreeMap<String, MidiOutputConnection>>,
    lost: Arc<AtomicU64>,
    /// What has to be connected or was disconnected meanwhile.
    changes: Receiver<Change>,
}

/// A device that came or went.
enum Change {
    Came(usize, String, MidiOutputConnection),
    Went(usize, String),
}

impl AlsaDriver {
    fn take_changes(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            match change {
                Change::Came(port, device, connection) => {
                    if let Some(outputs) = self.outputs.get_mut(port) {
                        outputs.insert(device, connection);
                    }
                }
                Change::Went(port, device) => {
                    if let Some(outputs) = self.outputs.get_mut(port) {
                        outputs.remove(&device);
                    }
                }
            }
        }
    }
}

impl Driver for AlsaDriver {
    fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn period_us(&self) -> u64 {
        0
    }

    fn lead_us(&self) -> u64 {
        0
    }

    fn send(&mut self, port: usize, _at_us: Option<u64>, _keep: bool, bytes: &[u8]) -> bool {
        self.take_changes();
        let Some(outputs) = self.outputs.get_mut(port) else { return false };
        let mut all = true;
        for connection in outputs.values_mut() {
            all &= connection.send(bytes).is_ok();
        }
        if !all {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        all
    }

    fn flush(&mut self) {}

    fn receive(&mut self, take: &mut dyn FnMut(usize, u64, &[u8])) {
        while let Ok((port, at, bytes)) = self.inbox.try_recv() {
            let at_us = at.saturating_duration_since(self.begun).as_micros();
            take(port, u64::try_from(at_us).unwrap_or(u64::MAX), &bytes);
        }
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        true
    }
}

/// What the supervisor works with.
pub struct DriverSupervisor {
    /// The client's name.
    pub client: String,
    /// The ports and their devices.
    pub plans: Vec<PortPlan>,
    /// Who plays.
    pub engine: Engine,
    /// Fires when it is to end.
    pub stop: Arc<AtomicBool>,
}

/// Takes what comes in on a port.
#[derive(Clone)]
struct Ear {
    port: usize,
    to: SyncSender<Arrival>,
    lost: Arc<AtomicU64>,
    wake: Thread,
}

impl Ear {
    fn hear(&self, bytes: &[u8]) {
        if self.to.try_send((self.port, Instant::now(), bytes.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.wake.unpark();
    }
}

impl DriverSupervisor {
    /// Works until it is stopped. The sequencer need not be there.
    pub fn run(self) {
        let part = Part::new("midi", &self.client);
        let mut reported = None;
        while !self.stop.load(Ordering::Acquire) {
            if let Err(reason) = self.work(&part) {
                part.down(&reason);
                if reported.as_ref() != Some(&reason) {
                    self.engine.report(format!("no MIDI: {reason}"));
                    reported = Some(reason);
                }
                std::thread::park_timeout(LOOK);
            }
        }
    }

    fn work(&self, part: &Part) -> Result<(), String> {
        let no_sequencer = |error: midir::InitError| {
            format!(
                "the ALSA sequencer can't be reached ({error}); load it: 'modprobe snd-seq', and see that /dev/snd/seq may be opened"
            )
        };
        let lost = Arc::<AtomicU64>::default();
        let (to, inbox) = sync_channel(INBOX);
        let (change, changes) = sync_channel(64);
        let ear = |port| Ear { port, to: to.clone(), lost: Arc::clone(&lost), wake: self.engine.thread() };
        let (virtual_in, virtual_out) =
            (MidiInput::new(&self.client).map_err(no_sequencer)?, MidiOutput::new(&self.client).map_err(no_sequencer)?);
        let first = ear(0);
        let _own = virtual_in
            .create_virtual("midi_in", move |_, bytes, ()| first.hear(bytes), ())
            .map_err(|e| format!("midi_in can't be made: {e}"))?;
        let own = virtual_out.create_virtual("midi_out").map_err(|e| format!("midi_out can't be made: {e}"))?;
        let mut outputs: Vec<BTreeMap<String, MidiOutputConnection>> =
            self.plans.iter().map(|_| BTreeMap::new()).collect();
        if let Some(first) = outputs.first_mut() {
            first.insert("midi_out".to_owned(), own);
        }
        let driver = AlsaDriver { begun: Instant::now(), inbox, outputs, lost: Arc::clone(&lost), changes };
        self.engine.attach(Box::new(driver));
        part.up();
        let mut inputs: Vec<BTreeMap<String, MidiInputConnection<()>>> =
            self.plans.iter().map(|_| BTreeMap::new()).collect();
        let mut played: Vec<BTreeSet<String>> = self.plans.iter().map(|_| BTreeSet::new()).collect();
        while !self.stop.load(Ordering::Acquire) {
            for (at, plan) in self.plans.iter().enumerate() {
                let (Some(inputs), Some(played)) = (inputs.get_mut(at), played.get_mut(at)) else { continue };
                let came = self.listen(plan, &ear(at), inputs) | self.play(at, plan, played, &change);
                if came {
                    self.engine.connected(at, inputs.keys().cloned().collect(), played.clone(), BTreeSet::new());
                }
            }
            std::thread::park_timeout(LOOK);
        }
        drop(self.engine.detach());
        Ok(())
    }

    /// Listens to the devices that are there; gives whether that has changed.
    fn listen(&self, plan: &PortPlan, ear: &Ear, inputs: &mut BTreeMap<String, MidiInputConnection<()>>) -> bool {
        let Some(matcher) = &plan.input else { return false };
        let Ok(search) = MidiInput::new(&self.client) else { return false };
        let there = self.found(matcher, search.ports().iter().filter_map(|port| search.port_name(port).ok()));
        let before = inputs.len();
        inputs.retain(|name, _| there.contains(name));
        let mut changed = inputs.len() != before;
        for port in search.ports() {
            let Ok(name) = search.port_name(&port) else { continue };
            if !there.contains(&name) || inputs.contains_key(&name) {
                continue;
            }
            let (Ok(input), ear) = (MidiInput::new(&self.client), ear.clone()) else { continue };
            match input.connect(&port, &plan.ends().0, move |_, bytes, ()| ear.hear(bytes), ()) {
                Ok(connection) => changed |= inputs.insert(name, connection).is_none(),
                Err(error) => tracing::debug!(name, %error, "MIDI device not connected yet"),
            }
        }
        changed
    }

    /// Plays the devices that are there; gives whether that has changed.
    fn play(&self, at: usize, plan: &PortPlan, played: &mut BTreeSet<String>, change: &SyncSender<Change>) -> bool {
        let Some(matcher) = &plan.output else { return false };
        let Ok(search) = MidiOutput::new(&self.client) else { return false };
        let there = self.found(matcher, search.ports().iter().filter_map(|port| search.port_name(port).ok()));
        let gone: Vec<String> = played.difference(&there).cloned().collect();
        let mut changed = !gone.is_empty();
        for name in gone {
            played.remove(&name);
            let _ = change.try_send(Change::Went(at, name));
        }
        for port in search.ports() {
            let Ok(name) = search.port_name(&port) else { continue };
            if !there.contains(&name) || played.contains(&name) {
                continue;
            }
            let Ok(output) = MidiOutput::new(&self.client) else { continue };
            match output.connect(&port, &plan.ends().1) {
                Ok(connection) => {
                    if change.try_send(Change::Came(at, name.clone(), connection)).is_ok() {
                        changed |= played.insert(name);
                    }
                }
                Err(error) => tracing::debug!(name, %error, "MIDI device not connected yet"),
            }
        }
        changed
    }

    fn found(&self, matcher: &Matcher, names: impl Iterator<Item = String>) -> BTreeSet<String> {
        names.filter(|name| !name.starts_with(&self.client) && matcher.hits([name.as_str()])).collect()
    }
}
