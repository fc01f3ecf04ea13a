//! What a role says of its service, and what arrives at it.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::engines::Engines;
use super::sink::Sink;
use crate::wire::message::Ask;
use crate::wire::message::node::{Offer, Privacy};
use crate::wire::subject::Capability;

/// What a role says of itself to `nats micro`.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// What it does.
    pub capability: Capability,
    /// One line for people.
    pub about: &'static str,
    /// Who does the work.
    pub engine: String,
    /// The models, voices or listeners on offer; each is served on its `.m.` subject as well.
    pub models: Vec<String>,
    /// How many requests are worked on at once; one more is refused with 429.
    pub slots: usize,
}

impl ServiceSpec {
    /// The same as the host says it of itself in NODES; idle.
    #[must_use]
    pub fn offer(&self) -> Offer {
        Offer {
            role: self.capability.token().to_owned(),
            models: self.models.clone(),
            engine: self.engine.clone(),
            slots: self.slots,
            warm: self.models.clone(),
            ..Offer::default()
        }
    }
}

/// What tells an engine from the others of its capability on this host.
#[derive(Debug, Clone)]
pub struct EngineSpec {
    /// The same as the host says it of itself in NODES.
    pub offer: Offer,
    /// Its place in the order of the settings, which is that in which they are asked.
    pub rank: usize,
    /// All of them.
    pub engines: Engines,
}

impl EngineSpec {
    /// The only one.
    #[must_use]
    pub fn only(offer: Offer) -> Self {
        Self { offer, rank: 0, engines: Engines::default() }
    }
}

/// A request that has arrived.
#[derive(Debug)]
pub struct Incoming<A: Ask> {
    /// The request.
    pub request: A,
    /// Where replies go before the last, which the handler returns.
    pub replies: Sink<A::Reply>,
    /// The turn that it belongs to, if the caller says so.
    pub turn: Option<Ulid>,
    /// How far it may travel.
    pub privacy: Privacy,
    /// When the caller stops waiting.
    pub until: Instant,
    /// Fires when the caller is gone, the deadline has passed, everything is to stop, or the handler has ended. The
    /// handler's future is dropped then; blocking work must look at it.
    pub cancel: CancellationToken,
}

impl<A: Ask> Incoming<A> {
    /// The time that is left.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
