//! Gear: JACK clients that play and hear MIDI, as a driver or a synthesizer would. Their callbacks neither wait nor
//! allocate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jack::{AsyncClient, Client, Control, MidiIn, MidiOut, Port, ProcessScope, RawMidi};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::jack::{JackServer, open_on};

/// Messages that wait between a callback and the bench.
const ROOM: usize = 65_536;
/// After this a message is not coming any more.
const NOTE_PATIENCE: Duration = Duration::from_secs(1);

/// A message that came in.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// When the callback had it.
    pub at: Instant,
    /// The frame that it came at.
    pub frame: u32,
    /// When its period began by the server's clock, in frames and in µs.
    pub period: (u32, u64),
    /// The first bytes of it.
    pub bytes: [u8; 3],
}

impl Heard {
    /// Whether it begins a note.
    pub fn is_on(&self, channel: u8, note: u8) -> bool {
        self.bytes[..2] == [0x90 | channel, note] && self.bytes[2] > 0
    }

    /// Whether it ends one.
    pub fn is_off(&self, channel: u8, note: u8) -> bool {
        self.bytes[..2] == [0x80 | channel, note] || self.bytes == [0x90 | channel, note, 0]
    }
}

/// Counts the periods that the server missed.
pub struct Xruns(Arc<AtomicU64>);

impl jack::NotificationHandler for Xruns {
    fn xrun(&mut self, _: &Client) -> Control {
        self.0.fetch_add(1, Ordering::Relaxed);
        Control::Continue
    }
}

struct Listen {
    port: Port<MidiIn>,
    heard: Producer<Heard>,
}

impl jack::ProcessHandler for Listen {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        let period = scope.cycle_times().map_or((0, 0), |times| (times.current_frames, times.current_usecs));
        for event in self.port.iter(scope) {
            let mut bytes = [0; 3];
            let length = event.bytes.len().min(3);
            bytes[..length].copy_from_slice(&event.bytes[..length]);
            let frame = scope.last_frame_time().wrapping_add(event.time);
            // Without room the bench waits in vain and says so.
            let _ = self.heard.push(Heard { at: Instant::now(), frame, period, bytes });
        }
        Control::Continue
    }
}

/// Hears MIDI at its port `in`.
pub struct Synth {
    client: AsyncClient<Xruns, Listen>,
    heard: Consumer<Heard>,
    xruns: Arc<AtomicU64>,
}

impl Synth {
    /// Plugs it in.
    pub fn open(server: &JackServer, name: &str) -> Self {
        let client = open_on(server.name(), name);
        let port = client.register_port("in", MidiIn::default()).unwrap();
        let (into, heard) = RingBuffer::new(ROOM);
        let xruns = Arc::<AtomicU64>::default();
        let client = client.activate_async(Xruns(Arc::clone(&xruns)), Listen { port, heard: into }).unwrap();
        Self { client, heard, xruns }
    }

    /// Connects two ports of anybody.
    pub fn connect(&self, source: &str, sink: &str) -> anyhow::Result<()> {
        let client = self.client.as_client();
        super::wait(&format!("{source} and {sink}"), || {
            client.connect_ports_by_name(source, sink).ok().or_else(|| {
                let port = client.port_by_name(source)?;
                port.is_connected_to(sink).unwrap_or(false).then_some(())
            })
        })
        .with_context(|| format!("can't connect {source} to {sink}"))
    }

    /// Periods that the server has missed since this client was opened.
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }

    /// The next message, if one has come.
    pub fn next(&mut self) -> Option<Heard> {
        self.heard.pop().ok()
    }

    /// Waits for a message that `fits`; others are passed over. `None`: it does not come, since JACK drops what is
    /// played in a period that it misses.
    pub fn until(&mut self, fits: impl Fn(&Heard) -> bool) -> Option<Heard> {
        let until = Instant::now() + NOTE_PATIENCE;
        while Instant::now() < until {
            if let Some(heard) = std::iter::from_fn(|| self.next()).find(&fits) {
                return Some(heard);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        None
    }

    /// Forgets what it has heard.
    pub fn forget(&mut self) {
        while self.next().is_some() {}
    }
}

struct Play {
    port: Port<MidiOut>,
    queue: Consumer<[u8; 3]>,
    a_period: usize,
}

impl jack::ProcessHandler for Play {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        let mut writer = self.port.writer(scope);
        for _ in 0..self.a_period {
            let Ok(bytes) = self.queue.pop() else { break };
            // Without room it is missed at the other end, and that is told.
            let _ = writer.write(&RawMidi { time: 0, bytes: &bytes });
        }
        Control::Continue
    }
}

/// Plays MIDI at its port `out`, from a queue that any thread fills, as drivers do.
pub struct Driver {
    _client: AsyncClient<(), Play>,
    queue: Producer<[u8; 3]>,
}

impl Driver {
    /// Plugs it in. It plays at most `a_period` messages in each period.
    pub fn open(server: &JackServer, name: &str, a_period: usize) -> Self {
        let client = open_on(server.name(), name);
        let port = client.register_port("out", MidiOut::default()).unwrap();
        let (queue, taken) = RingBuffer::new(ROOM);
        let client = client.activate_async((), Play { port, queue: taken, a_period }).unwrap();
        Self { _client: client, queue }
    }

    /// Plays a message in the next period; gives when that was asked.
    pub fn play(&mut self, bytes: [u8; 3]) -> anyhow::Result<Instant> {
        let begun = Instant::now();
        self.queue.push(bytes).ok().context("the driver's queue is full: does JACK still run?")?;
        Ok(begun)
    }
}
