//! What a role is, and what it works with.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::error::RoleError;
use super::model_cache::ModelCache;
use super::offers::Offers;
use crate::bus::Bus;
use crate::bus::message::node::Offer;
use crate::bus::service::{Load, Server};
use crate::bus::session::SessionLog;
use crate::config::Config;
use crate::fabric::Fabric;
use crate::home::Home;
use crate::http::Http;
use crate::rig::Rig;

/// A part of a host that serves others, or people.
#[async_trait]
pub trait Role: Send {
    /// Works until `context.stop` fires or something breaks. Calls [`RoleContext::up`] once it serves, or
    /// [`RoleContext::ready`] if it serves nothing on the bus.
    ///
    /// # Errors
    /// [`RoleError`] says whether starting it again can help.
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError>;
}

/// What a role works with.
#[derive(Clone)]
pub struct RoleContext {
    /// Where this host is heard and serves.
    pub bus: Bus,
    /// The way to whoever can.
    pub fabric: Fabric,
    /// The host's settings.
    pub config: Arc<Config>,
    /// The host's files.
    pub home: Home,
    /// What is said and done.
    pub sessions: SessionLog,
    /// Models that roles of this host share.
    pub model_cache: ModelCache,
    /// What gear sets off, and what goes out to it; the one stop.
    pub rig: Rig,
    /// The host's HTTP server; a role may mount routes on it.
    pub http: Http,
    /// Fires when the role is to finish.
    pub stop: CancellationToken,
    /// Fires when this run of the role is up.
    pub is_up: CancellationToken,
    /// What the host says of itself.
    pub offers: Offers,
}

impl RoleContext {
    /// Says that the role serves, and what.
    pub fn up(&self, offer: Offer, load: Option<Load>) {
        tracing::info!(models = offer.models.join(","), engine = offer.engine, "up");
        self.offers.set(offer, load, 0);
        self.ready();
    }

    /// Says that the role is up.
    pub fn ready(&self) {
        self.is_up.cancel();
    }

    /// How long the role may take to finish its work.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.config.node.drain_timeout_ms)
    }

    /// Serves until the role is to stop, then finishes the work.
    ///
    /// # Errors
    /// [`BusError::DeniedHearing`] when the server no longer lets this host hear what it serves.
    pub async fn serve_until_stopped(&self, server: Server) -> Result<(), RoleError> {
        let ended = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            error = server.refused() => Err(error.into()),
        };
        if !server.stop(self.drain_timeout()).await {
            tracing::warn!("work was cut off: it was not done within node.drain_timeout_ms");
        }
        ended
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
