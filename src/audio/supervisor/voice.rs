//! A listener's JACK client, kept alive, patched, and reported.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use crate::audio::graph::Rules;
use crate::audio::jack::alive::{Down, Next, Stop, Stopped, Supervised, Supervisor};
use crate::audio::jack::{JackClient, JackError, JackSettings};
use crate::audio::patcher::Patcher;
use crate::audio::ring::{Capture, Playback, RingCounts};
use crate::audio::rt_check;
use crate::telemetry::health::Part;
use crate::telemetry::metrics::{DROPPED, JACK_UP, UNDERRUNS, XRUNS};

/// How long to wait for room in the channel of events before looking at `stop` again.
const SEND_WAIT: Duration = Duration::from_millis(20);
/// Events that wait for the consumer. When it is full the supervisor waits for room; JACK does not.
const EVENTS: usize = 16;

/// What happens to a listener's audio.
#[derive(Debug)]
pub enum AudioEvent {
    /// Audio flows, through these rings. Those of an earlier `Up` are closed.
    Up {
        /// The server's sample rate, in Hz.
        rate_hz: u32,
        /// Frames of a period.
        buffer_frames: u32,
        /// What is heard.
        capture: Capture,
        /// What is to be played.
        playback: Playback,
    },
    /// The same rings go on at another rate or period.
    Changed {
        /// The server's sample rate, in Hz.
        rate_hz: u32,
        /// Frames of a period.
        buffer_frames: u32,
    },
    /// No audio until the next `Up`.
    Down {
        /// Why, and what to do about it.
        reason: String,
    },
}

/// How a listener's JACK client is doing, for meters and health checks.
#[derive(Debug, Default)]
pub struct JackStatus {
    up: AtomicBool,
    rate_hz: AtomicU32,
    buffer_frames: AtomicU32,
    playback_latency_frames: AtomicU32,
    xruns: AtomicU64,
    times_up: AtomicU64,
}

impl JackStatus {
    /// Whether audio flows.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The server's sample rate, in Hz; 0 before the first time up.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz.load(Ordering::Acquire)
    }

    /// Frames of a period; 0 before the first time up.
    #[must_use]
    pub fn buffer_frames(&self) -> u32 {
        self.buffer_frames.load(Ordering::Acquire)
    }

    /// How long after it was played a frame is heard, in frames, as of the last change of the graph.
    #[must_use]
    pub fn playback_latency_frames(&self) -> u32 {
        self.playback_latency_frames.load(Ordering::Acquire)
    }

    /// Periods that JACK missed, over all servers so far; up to a second old.
    #[must_use]
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Acquire)
    }

    /// How often a client was opened: 1 without any restart of the server.
    #[must_use]
    pub fn times_up(&self) -> u64 {
        self.times_up.load(Ordering::Acquire)
    }
}

/// The thread that keeps a listener's client. Dropping it closes the client and ends the thread, within 5 s.
#[derive(Debug)]
pub struct JackSupervisor {
    supervisor: Supervisor,
    status: Arc<JackStatus>,
}

impl JackSupervisor {
    /// Starts the thread. JACK need not be there: the first event then is [`AudioEvent::Down`] and says why.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(settings: JackSettings) -> std::io::Result<(Self, Receiver<AudioEvent>)> {
        let (out, events) = mpsc::sync_channel(EVENTS);
        let status = Arc::new(JackStatus::default());
        let listener = settings.client_name.trim_start_matches("sidetone-").to_owned();
        let (part, shown) = (Part::new("jack", &listener), Arc::clone(&status));
        let supervisor = Supervisor::start("jack-supervisor", |stop| Voice {
            settings,
            listener,
            part,
            events: out,
            stop,
            status: shown,
        })?;
        Ok((Self { supervisor, status }, events))
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Arc<JackStatus> {
        Arc::clone(&self.status)
    }
}

impl Drop for JackSupervisor {
    fn drop(&mut self) {
        self.supervisor.close();
    }
}

/// What is kept alive.
struct Voice {
    settings: JackSettings,
    /// The listener, for metrics.
    listener: String,
    part: Part,
    events: SyncSender<AudioEvent>,
    stop: Stop,
    status: Arc<JackStatus>,
}

/// An open client.
struct Open {
    client: JackClient,
    /// Its rings, until they are handed over.
    rings: Option<(Capture, Playback)>,
    patcher: Patcher,
    meters: Meters,
    rate_hz: u32,
    buffer_frames: u32,
    /// Periods that were missed with earlier clients.
    xruns_before: u64,
}

impl Supervised for Voice {
    type Client = Open;

    fn open(&mut self) -> Result<Open, JackError> {
        let (client, capture, playback) = JackClient::open(&self.settings)?;
        let meters = Meters::new(&self.listener, &capture, &playback);
        let (port_in, port_out) = client.port_names();
        let connect = self.settings.patch.rules(port_in, port_out);
        let patcher = Patcher::new(Rules { connect, ..Rules::default() });
        let (rate_hz, buffer_frames) = (client.watch().rate_hz(), client.watch().buffer_frames());
        let (rings, xruns_before) = (Some((capture, playback)), self.status.xruns());
        Ok(Open { client, rings, patcher, meters, rate_hz, buffer_frames, xruns_before })
    }

    fn is_down(open: &Open) -> bool {
        open.client.watch().is_down()
    }

    fn changes(open: &Open) -> u64 {
        open.client.watch().graph_changes()
    }

    fn up(&mut self, open: &mut Open) -> Result<(), Stopped> {
        let (rate_hz, buffer_frames) = (open.rate_hz, open.buffer_frames);
        tracing::info!(port_in = open.client.port_names().0, rate_hz, buffer_frames, "JACK client up");
        self.publish(rate_hz, buffer_frames);
        self.status.up.store(true, Ordering::Release);
        self.part.up();
        self.status.times_up.fetch_add(1, Ordering::AcqRel);
        let Some((capture, playback)) = open.rings.take() else { return Ok(()) };
        self.send(AudioEvent::Up { rate_hz, buffer_frames, capture, playback })
    }

    fn look(&mut self, open: &mut Open, is_due: bool) -> Result<Option<Next>, Stopped> {
        let next = is_due.then(|| {
            let looked = open.patcher.look(open.client.patchbay());
            for ((source, sink), why) in looked.refused {
                tracing::warn!(source, sink, why, "JACK ports take no connection; they are tried again every second");
            }
            Next { within: looked.next, breath: looked.breath }
        });
        self.status.playback_latency_frames.store(open.client.playback_latency_frames(), Ordering::Release);
        self.count(open);
        let watch = open.client.watch();
        if (open.rate_hz, open.buffer_frames) != (watch.rate_hz(), watch.buffer_frames()) {
            let (rate_hz, buffer_frames) = (watch.rate_hz(), watch.buffer_frames());
            (open.rate_hz, open.buffer_frames) = (rate_hz, buffer_frames);
            tracing::info!(rate_hz, buffer_frames, "JACK changed");
            self.publish(rate_hz, buffer_frames);
            self.send(AudioEvent::Changed { rate_hz, buffer_frames })?;
        }
        rt_check::report();
        Ok(next)
    }

    fn close(&mut self, open: Open) {
        self.status.up.store(false, Ordering::Release);
        self.count(&open);
        drop(open);
    }

    fn down(&mut self, why: &Down) -> Result<(), Stopped> {
        let reason = why.to_string();
        tracing::warn!(%reason, "no JACK client");
        self.part.down(&reason);
        self.send(AudioEvent::Down { reason })
    }
}

impl Voice {
    fn publish(&self, rate_hz: u32, buffer_frames: u32) {
        self.status.rate_hz.store(rate_hz, Ordering::Release);
        self.status.buffer_frames.store(buffer_frames, Ordering::Release);
    }

    fn count(&self, open: &Open) {
        self.status.xruns.store(open.xruns_before + open.client.watch().xruns(), Ordering::Release);
        open.meters.count(self.status.xruns());
    }

    fn send(&self, event: AudioEvent) -> Result<(), Stopped> {
        let mut event = event;
        while !self.stop.is_set() {
            match self.events.try_send(event) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Stopped),
                Err(TrySendError::Full(back)) => {
                    event = back;
                    self.stop.wait(SEND_WAIT);
                }
            }
        }
        Err(Stopped)
    }
}

/// What is measured of one JACK client. Dropping it says that the client is gone.
struct Meters {
    up: metrics::Gauge,
    xruns: metrics::Counter,
    underruns: metrics::Counter,
    dropped: metrics::Counter,
    counts: RingCounts,
    /// What has been counted of `counts`, which start at 0 with each client.
    counted: Cell<(u64, u64)>,
}

impl Meters {
    fn new(listener: &str, capture: &Capture, playback: &Playback) -> Self {
        let label = || listener.to_owned();
        let up = metrics::gauge!(JACK_UP, "listener" => label());
        up.set(1.0);
        Self {
            up,
            xruns: metrics::counter!(XRUNS, "listener" => label()),
            underruns: metrics::counter!(UNDERRUNS, "listener" => label()),
            dropped: metrics::counter!(DROPPED, "listener" => label()),
            counts: RingCounts::new(capture, playback),
            counted: Cell::default(),
        }
    }

    fn count(&self, xruns: u64) {
        self.xruns.absolute(xruns);
        let (underruns, dropped) = (self.counts.underruns(), self.counts.dropped_frames());
        let (underruns_before, dropped_before) = self.counted.replace((underruns, dropped));
        self.underruns.increment(underruns.saturating_sub(underruns_before));
        self.dropped.increment(dropped.saturating_sub(dropped_before));
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        self.up.set(0.0);
    }
}
