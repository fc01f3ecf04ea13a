//! Keeps a listener's JACK client alive: opens it, patches it, and brings it back when the server has gone.
//!
//! ```text
//!          ┌─ open fails: Down(reason), once a reason ── wait 0.2 … 2 s ─┐
//!          ▼                                                            │
//!   ──▶ opening ── opened: Up(fresh rings) ──▶ watching ── server gone: Down ──▶ closing ─┘
//!                                                │ ▲
//!                                                └─┘ ports: connect; rate or period: Changed
//! ```

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::graph::Rules;
use super::jack::{JackClient, JackError, JackSettings};
use super::patcher::Patcher;
use super::ring::{Capture, Playback, RingCounts};
use super::rt_check;
use crate::telemetry::health::Part;
use crate::telemetry::metrics::{DROPPED, JACK_UP, UNDERRUNS, XRUNS};

/// How often to look even if JACK reports nothing.
const TICK: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often to find another client closing before it is told.
const CLOSING_TRIES: u32 = 5;
/// How long to wait for room in the channel of events before looking at `stop` again.
const SEND_WAIT: Duration = Duration::from_millis(20);
/// How long stopping may take; closing a client has a deadline below it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
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
    stop: Arc<AtomicBool>,
    status: Arc<JackStatus>,
    thread: Thread,
    ended: Receiver<()>,
}

impl JackSupervisor {
    /// Starts the thread. JACK need not be there: the first event then is [`AudioEvent::Down`] and says why.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(settings: JackSettings) -> std::io::Result<(Self, Receiver<AudioEvent>)> {
        let (events_out, events) = mpsc::sync_channel(EVENTS);
        let (end, ended) = mpsc::sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let status = Arc::new(JackStatus::default());
        let listener = settings.client_name.trim_start_matches("sidetone-").to_owned();
        let part = Part::new("jack", &listener);
        let run =
            Run { settings, listener, part, events: events_out, stop: Arc::clone(&stop), status: Arc::clone(&status) };
        let handle = std::thread::Builder::new().name("jack-supervisor".to_owned()).spawn(move || {
            run.run();
            // Only the drop below listens, and not for ever.
            let _ = end.try_send(());
        })?;
        Ok((Self { stop, status, thread: handle.thread().clone(), ended }, events))
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Arc<JackStatus> {
        Arc::clone(&self.status)
    }
}

impl Drop for JackSupervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.unpark();
        if self.ended.recv_timeout(STOP_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the JACK supervisor does not stop: libjack hangs");
        }
    }
}

/// The consumer of events is gone, or the supervisor is to stop.
struct Stopped;

struct Run {
    settings: JackSettings,
    /// The listener, for metrics.
    listener: String,
    part: Part,
    events: SyncSender<AudioEvent>,
    stop: Arc<AtomicBool>,
    status: Arc<JackStatus>,
}

impl Run {
    fn run(&self) {
        let mut wait = FIRST_WAIT;
        // The reason last told: while JACK stays away the consumer need not hear it every two seconds.
        let mut told: Option<String> = None;
        let mut closing = 0;
        while !self.stopping() {
            match JackClient::open(&self.settings) {
                Ok((client, capture, playback)) => {
                    (wait, told, closing) = (FIRST_WAIT, None, 0);
                    if self.watch(client, capture, playback).is_err() {
                        return;
                    }
                }
                // Mostly a matter of moments.
                Err(JackError::Closing) if closing < CLOSING_TRIES => closing += 1,
                Err(err) => {
                    let reason = err.to_string();
                    if told.as_ref() != Some(&reason) {
                        tracing::warn!(%reason, "no JACK client");
                        self.part.down(&reason);
                        told = Some(reason.clone());
                        if self.send(AudioEvent::Down { reason }).is_err() {
                            return;
                        }
                    }
                }
            }
            self.sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Stays with an open client until its server goes.
    fn watch(&self, client: JackClient, capture: Capture, playback: Playback) -> Result<(), Stopped> {
        let watch = client.watch();
        let (mut rate_hz, mut buffer_frames) = (watch.rate_hz(), watch.buffer_frames());
        let xruns_before = self.status.xruns();
        let (port_in, port_out) = client.port_names();
        let connect = self.settings.patch.rules(port_in, port_out);
        tracing::info!(port_in, rate_hz, buffer_frames, "JACK client up");
        self.publish(rate_hz, buffer_frames);
        self.status.up.store(true, Ordering::Release);
        self.part.up();
        let meters = Meters::new(&self.listener, &capture, &playback);
        self.status.times_up.fetch_add(1, Ordering::AcqRel);
        let sent = self.send(AudioEvent::Up { rate_hz, buffer_frames, capture, playback });

        let mut patcher = Patcher::new(Rules { connect, ..Rules::default() });
        let (mut seen_changes, mut next_look) = (0, Instant::now());
        let result = sent.and_then(|()| {
            while !watch.is_down() {
                if self.stopping() {
                    return Err(Stopped);
                }
                let changes = watch.graph_changes();
                if changes != seen_changes || Instant::now() >= next_look {
                    let looked = patcher.look(client.patchbay());
                    for ((source, sink), why) in looked.refused {
                        tracing::warn!(
                            source,
                            sink,
                            why,
                            "JACK ports take no connection; they are tried again every second"
                        );
                    }
                    (seen_changes, next_look) = (changes, Instant::now() + looked.next);
                    std::thread::sleep(looked.breath);
                }
                self.status.playback_latency_frames.store(client.playback_latency_frames(), Ordering::Release);
                self.status.xruns.store(xruns_before + watch.xruns(), Ordering::Release);
                meters.tell(self.status.xruns());
                if (rate_hz, buffer_frames) != (watch.rate_hz(), watch.buffer_frames()) {
                    (rate_hz, buffer_frames) = (watch.rate_hz(), watch.buffer_frames());
                    tracing::info!(rate_hz, buffer_frames, "JACK changed");
                    self.publish(rate_hz, buffer_frames);
                    self.send(AudioEvent::Changed { rate_hz, buffer_frames })?;
                }
                rt_check::report();
                std::thread::park_timeout(next_look.saturating_duration_since(Instant::now()).min(TICK));
            }
            Ok(())
        });
        self.status.up.store(false, Ordering::Release);
        self.status.xruns.store(xruns_before + watch.xruns(), Ordering::Release);
        meters.tell(self.status.xruns());
        drop(client);
        result?;
        let reason = "the JACK server has gone, or threw the client out; start it again, audio comes back by itself";
        tracing::warn!(reason, "JACK client down");
        self.part.down(reason);
        self.send(AudioEvent::Down { reason: reason.to_owned() })
    }

    fn publish(&self, rate_hz: u32, buffer_frames: u32) {
        self.status.rate_hz.store(rate_hz, Ordering::Release);
        self.status.buffer_frames.store(buffer_frames, Ordering::Release);
    }

    fn send(&self, event: AudioEvent) -> Result<(), Stopped> {
        let mut event = event;
        while !self.stopping() {
            match self.events.try_send(event) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Stopped),
                Err(TrySendError::Full(back)) => {
                    event = back;
                    self.sleep(SEND_WAIT);
                }
            }
        }
        Err(Stopped)
    }

    fn sleep(&self, wait: Duration) {
        if !self.stopping() {
            std::thread::park_timeout(wait);
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// What is measured of one JACK client. Dropping it says that the client is gone.
struct Meters {
    up: metrics::Gauge,
    xruns: metrics::Counter,
    underruns: metrics::Counter,
    dropped: metrics::Counter,
    counts: RingCounts,
    /// What has been told of `counts`, which begin anew with each client.
    told: Cell<(u64, u64)>,
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
            told: Cell::default(),
        }
    }

    fn tell(&self, xruns: u64) {
        self.xruns.absolute(xruns);
        let (underruns, dropped) = (self.counts.underruns(), self.counts.dropped_frames());
        let (underruns_told, dropped_told) = self.told.replace((underruns, dropped));
        self.underruns.increment(underruns.saturating_sub(underruns_told));
        self.dropped.increment(dropped.saturating_sub(dropped_told));
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        self.up.set(0.0);
    }
}
