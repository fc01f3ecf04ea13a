//! What JACK reports about a client.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use jack::{Client, ClientStatus, Control, Frames, PortId};

/// What JACK has reported about a client.
#[derive(Debug)]
pub struct Watch {
    down: AtomicBool,
    rate_hz: AtomicU32,
    buffer_frames: AtomicU32,
    xruns: AtomicU64,
    graph_changes: AtomicU64,
    fresh: Mutex<Fresh>,
    renamed: AtomicBool,
    departures: AtomicU64,
    owner: Thread,
}

/// Ports that came and that the owner has not asked about yet. Beyond, all ports count as new.
const FRESH_MAX: usize = 8_192;

/// Ports that came since the owner last asked.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) ids: Vec<PortId>,
    /// There were too many to note.
    pub(super) all: bool,
}

impl Watch {
    /// For a client that is about to be activated by the calling thread, which is unparked from now on.
    pub(super) fn of(client: &Client) -> Arc<Self> {
        Arc::new(Self {
            down: AtomicBool::new(false),
            rate_hz: AtomicU32::new(client.sample_rate()),
            buffer_frames: AtomicU32::new(client.buffer_size()),
            xruns: AtomicU64::new(0),
            graph_changes: AtomicU64::new(1),
            fresh: Mutex::default(),
            renamed: AtomicBool::new(true),
            departures: AtomicU64::new(0),
            owner: std::thread::current(),
        })
    }

    /// Whether the server has died or thrown the client out.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// The server's sample rate, in Hz.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz.load(Ordering::Acquire)
    }

    /// Frames of a period.
    #[must_use]
    pub fn buffer_frames(&self) -> u32 {
        self.buffer_frames.load(Ordering::Acquire)
    }

    /// Periods that JACK missed since the client was opened.
    #[must_use]
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }

    /// Grows whenever a port comes, goes, or is connected.
    #[must_use]
    pub fn graph_changes(&self) -> u64 {
        self.graph_changes.load(Ordering::Acquire)
    }

    /// How many ports have gone. Of one that goes and comes again, JACK tells in that order.
    #[must_use]
    pub fn departures(&self) -> u64 {
        self.departures.load(Ordering::Acquire)
    }

    /// The server has gone. Called as carefully as a signal handler: atomics and a futex wake, no more.
    pub(super) fn went_down(&self) {
        self.down.store(true, Ordering::Release);
        self.owner.unpark();
    }

    pub(super) fn has_rate(&self, rate_hz: Frames) {
        self.rate_hz.store(rate_hz, Ordering::Release);
        self.owner.unpark();
    }

    pub(super) fn has_period(&self, frames: Frames) {
        self.buffer_frames.store(frames, Ordering::Release);
        self.owner.unpark();
    }

    pub(super) fn graph_changed(&self) {
        self.graph_changes.fetch_add(1, Ordering::AcqRel);
        self.owner.unpark();
    }

    /// A port came, or has another name now. JACK tells of a port when its client is active, and not before.
    pub(super) fn port_came(&self, port: PortId) {
        {
            let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            if fresh.ids.len() < FRESH_MAX {
                fresh.ids.push(port);
            } else {
                fresh.all = true;
            }
        }
        self.graph_changed();
    }

    pub(super) fn port_went(&self) {
        self.departures.fetch_add(1, Ordering::AcqRel);
        self.graph_changed();
    }

    /// The names that people should see may be others now.
    pub(super) fn was_renamed(&self) {
        self.renamed.store(true, Ordering::Release);
        self.graph_changed();
    }

    /// The ports that have come since the last call: one may have the name of one that went too quickly to be missed.
    pub(super) fn take_fresh(&self) -> Fresh {
        std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the names that people should see may have changed since the last call.
    pub(super) fn take_renamed(&self) -> bool {
        self.renamed.swap(false, Ordering::AcqRel)
    }

    pub(super) fn missed_a_period(&self) {
        self.xruns.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the `jack` crate calls.
pub(super) struct Notices(pub(super) Arc<Watch>);

impl jack::NotificationHandler for Notices {
    unsafe fn shutdown(&mut self, _status: ClientStatus, _reason: &str) {
        self.0.went_down();
    }

    fn sample_rate(&mut self, _: &Client, rate_hz: Frames) -> Control {
        self.0.has_rate(rate_hz);
        Control::Continue
    }

    fn port_registration(&mut self, _: &Client, port: PortId, is_registered: bool) {
        if is_registered {
            self.0.port_came(port);
        } else {
            self.0.port_went();
        }
    }

    fn ports_connected(&mut self, _: &Client, _a: PortId, _b: PortId, _are_connected: bool) {
        self.0.graph_changed();
    }

    fn xrun(&mut self, _: &Client) -> Control {
        self.0.missed_a_period();
        Control::Continue
    }
}
