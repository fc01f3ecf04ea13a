//! A MIDI device on a real JACK server: a client of its own, with `keys` that play and `synth` that listens.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jack::{Client, Control, MidiIn, MidiOut, Port, ProcessScope, RawMidi};

use super::host::PATIENCE;
use super::jack::{JackServer, Xruns, open_on};

/// A message with the frame that it came at, counted from the server's start.
pub type Heard = (u64, Vec<u8>);
/// Messages of one period, each with its frame in it.
pub type Period = Vec<(u32, Vec<u8>)>;

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<Heard>>,
    /// What is to be played: one group a period, each with its frame in it.
    play: Mutex<VecDeque<Period>>,
}

struct Process {
    synth: Port<MidiIn>,
    keys: Port<MidiOut>,
    shared: Arc<Shared>,
}

impl jack::ProcessHandler for Process {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        let begin = u64::from(scope.last_frame_time());
        let mut heard = self.shared.heard.lock().unwrap();
        heard.extend(self.synth.iter(scope).map(|event| (begin + u64::from(event.time), event.bytes.to_vec())));
        let mut writer = self.keys.writer(scope);
        for (time, bytes) in self.shared.play.lock().unwrap().pop_front().unwrap_or_default() {
            writer.write(&RawMidi { time, bytes: &bytes }).unwrap();
        }
        Control::Continue
    }
}

/// The device. Dropping it unplugs it.
pub struct Device {
    client: jack::AsyncClient<Xruns, Process>,
    shared: Arc<Shared>,
    xruns: Arc<AtomicU64>,
}

impl Device {
    /// Plugs it in.
    pub fn plug(server: &JackServer, name: &str) -> Self {
        let client = open_on(server.name(), name);
        let synth = client.register_port("synth", MidiIn::default()).unwrap();
        let keys = client.register_port("keys", MidiOut::default()).unwrap();
        let (shared, xruns) = (Arc::<Shared>::default(), Arc::<AtomicU64>::default());
        let process = Process { synth, keys, shared: Arc::clone(&shared) };
        Self { client: client.activate_async(Xruns(Arc::clone(&xruns)), process).unwrap(), shared, xruns }
    }

    /// How many periods the server has missed: then its frames jump.
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }

    /// Plays messages, all in the next period.
    pub fn play(&self, messages: &[&[u8]]) {
        self.play_in_periods(vec![messages.iter().map(|bytes| (0, bytes.to_vec())).collect()]);
    }

    /// Plays groups of messages, one a period, each at its frame.
    pub fn play_in_periods(&self, periods: Vec<Period>) {
        self.shared.play.lock().unwrap().extend(periods);
    }

    /// Waits until the host's port `port` (`pad` for `pad_in` and `pad_out`) is connected both ways.
    pub async fn connected(&self, port: &str) {
        let (into, out) = (format!("sidetone-midi:{port}_in"), format!("sidetone-midi:{port}_out"));
        let name = self.client.as_client().name().to_owned();
        self.until("the device to be connected", || {
            let ends = |of: &str| {
                let port = self.client.as_client().port_by_name(&format!("{name}:{of}"));
                port.map(|port| port.get_connections()).unwrap_or_default()
            };
            ends("keys").contains(&into) && ends("synth").contains(&out)
        })
        .await;
    }

    /// Connects two ports of anybody.
    pub fn connect(&self, source: &str, sink: &str) {
        self.client.as_client().connect_ports_by_name(source, sink).unwrap();
    }

    /// What it has heard so far.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.shared.heard.lock().unwrap().iter().map(|(_, bytes)| bytes.clone()).collect()
    }

    /// The same with frames.
    pub fn heard_at(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Forgets what it has heard.
    pub fn forget(&self) {
        self.shared.heard.lock().unwrap().clear();
    }

    /// Waits until it has heard `count` messages; gives them.
    pub async fn hears(&self, count: usize) -> Vec<Vec<u8>> {
        self.until(&format!("{count} messages"), || self.heard().len() >= count).await;
        self.heard()
    }

    /// Waits until it has heard this.
    pub async fn hears_this(&self, bytes: &[u8]) {
        self.until(&format!("{bytes:02x?}"), || self.heard().iter().any(|heard| heard == bytes)).await;
    }

    /// The keys that were begun and not ended, by channel (0 to 15) and key.
    pub fn sounding(&self) -> Vec<(u8, u8)> {
        let mut on = std::collections::BTreeSet::new();
        for bytes in self.heard() {
            match bytes.as_slice() {
                [status @ 0x90..=0x9f, key, 1..=127] => {
                    on.insert((status & 0x0f, *key));
                }
                [status @ 0x80..=0x9f, key, _] => {
                    on.remove(&(status & 0x0f, *key));
                }
                _ => {}
            }
        }
        on.into_iter().collect()
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "waited in vain for {what}; heard {:02x?}", self.heard());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
