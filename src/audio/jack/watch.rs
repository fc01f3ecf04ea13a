//! What JACK reports about a client.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use jack::{Client, ClientStatus, Control, Frames, PortId};

use super::table;

/// What JACK has reported about a client.
#[derive(Debug)]
pub struct Watch {
    down: AtomicBool,
    rate_hz: AtomicU32,
    buffer_frames: AtomicU32,
    xruns: AtomicU64,
    graph_changes: AtomicU64,
    came: Mutex<Vec<PortId>>,
    owner: Thread,
}

/// Ports that came and that the owner has not asked about yet; further ones are not told apart from those of before.
const CAME_MAX: usize = 1_024;

impl Watch {
    /// For a client that is about to be activated by the calling thread, which is unparked from now on.
    pub(super) fn of(client: &Client) -> Arc<Self> {
        Arc::new(Self {
            down: AtomicBool::new(false),
            rate_hz: AtomicU32::new(client.sample_rate()),
            buffer_frames: AtomicU32::new(client.buffer_size()),
            xruns: AtomicU64::new(0),
            graph_changes: AtomicU64::new(1),
            came: Mutex::default(),
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

    /// The server has gone. Called as carefully as a signal handler: atomics and a futex wake, no more.
    pub(super) fn went_down(&self) {
        table::note_death();
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

    /// The ports that have come since the last call: one may have the name of one that went too quickly to be missed.
    pub(super) fn take_came(&self) -> Vec<PortId> {
        std::mem::take(&mut *self.came.lock().unwrap_or_else(PoisonError::into_inner))
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
            let mut came = self.0.came.lock().unwrap_or_else(PoisonError::into_inner);
            if came.len() < CAME_MAX {
                came.push(port);
            }
        }
        self.0.graph_changed();
    }

    fn ports_connected(&mut self, _: &Client, _a: PortId, _b: PortId, _are_connected: bool) {
        self.0.graph_changed();
    }

    fn xrun(&mut self, _: &Client) -> Control {
        self.0.missed_a_period();
        Control::Continue
    }
}
