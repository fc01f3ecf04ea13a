//! Answers and errors to peers that have sent something, within limits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::addresses::ROOT;
use super::net::Peer;
use super::tally::{AnswerLimit, Problem, Tally};
use crate::osc::{OscMessage, OscType};

/// Answers peers.
#[derive(Debug)]
pub struct Replies {
    tally: Arc<Tally>,
    /// Errors answered in this second.
    limit: Mutex<AnswerLimit>,
    begun: Instant,
}

impl Replies {
    /// What can't be sent is counted by `tally`.
    #[must_use]
    pub fn new(tally: Arc<Tally>) -> Self {
        Self { tally, limit: Mutex::default(), begun: Instant::now() }
    }

    /// Sends a message to a peer.
    pub fn send(&self, peer: &Peer, message: &OscMessage) {
        if let Err(fault) = peer.message(message) {
            self.tally.count(Problem::Unsent, || fault.message);
        }
    }

    /// Sends a text to `/assistant/<name>` of a peer.
    pub fn text(&self, peer: &Peer, name: &str, text: &str) {
        // OSC ends a text at NUL.
        let text = OscType::String(text.replace('\0', " "));
        self.send(peer, &OscMessage { addr: format!("{ROOT}{name}"), args: vec![text] });
    }

    /// Tells a peer what went wrong.
    pub fn error(&self, peer: &Peer, why: &str) {
        if self.limit.lock().unwrap_or_else(PoisonError::into_inner).may(peer.at.ip(), self.begun.elapsed()) {
            self.text(peer, "error", why);
        }
    }

    /// A packet has come that is none.
    pub fn unreadable(&self, peer: &Peer, why: &str) {
        self.tally.count(Problem::Unreadable, || format!("from {}: {why}", peer.at));
        self.error(peer, why);
    }

    /// A message that came is not carried out.
    pub fn left_out(&self, peer: &Peer, why: &str) {
        self.tally.count(Problem::Flood, || format!("from {}: {why}", peer.at));
        self.error(peer, why);
    }
}
