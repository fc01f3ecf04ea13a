//! The host's place among the others: its name, its entry, its log of sessions, its answers for itself.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::card::{self, Card};
use super::error::NodeError;
use crate::bus::Bus;
use crate::bus::registry::{Claim, ClaimError, announce};
use crate::bus::service::Server;
use crate::bus::session::{QueueSettings, SessionLog};
use crate::bus::subject::token;
use crate::config::Config;
use crate::home::Home;

/// How long the last session events may take to be kept.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the service and the entry may take to go.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A host that others see.
pub(super) struct Presence {
    bus: Bus,
    card: Card,
    service: Server,
    /// Keeps the entry in NODES, until `leave` fires.
    entry: AbortOnDropHandle<Result<(), ClaimError>>,
    leave: CancellationToken,
    /// The log of sessions, for the roles.
    pub(super) sessions: SessionLog,
}

impl Presence {
    /// Claims the host's name, opens its log, and answers for it from now on.
    ///
    /// # Errors
    /// The name is taken, or the bus refuses.
    pub(super) async fn enter(bus: &Bus, card: Card, config: &Config, home: &Home) -> Result<Self, NodeError> {
        let claim = Claim::make(bus, &card.now()).await?;
        let file = home.state().join("sessions").join(format!("{}.jsonl", token(bus.node())));
        let unkept = !config.bus.hosts.is_empty();
        let settings = QueueSettings { file: Some(file), unkept, ..Default::default() };
        let sessions = SessionLog::start_with(bus, settings).await?;
        let service = card::serve(bus, &card, Duration::from_millis(config.node.drain_timeout_ms)).await?;
        let leave = CancellationToken::new();
        let drains = stream::once(card.stop.clone().cancelled_owned());
        let changes = stream::select(card.offers.changes(), drains).boxed();
        let shown = card.clone();
        let entry = tokio::spawn(claim.keep(move || shown.now(), changes, leave.clone()));
        Ok(Self { bus: bus.clone(), card, service, entry: AbortOnDropHandle::new(entry), leave, sessions })
    }

    /// Completes when the host has lost its name, or may not answer for itself any more.
    pub(super) async fn lost(&mut self) -> NodeError {
        tokio::select! {
            ended = &mut self.entry => match ended {
                Ok(Err(error)) => NodeError::Claim(error),
                Ok(Ok(())) => NodeError::Setting("the entry in NODES was given up".to_owned()),
                Err(error) => NodeError::Setting(error.to_string()),
            },
            error = self.service.refused() => error.into(),
        }
    }

    /// Takes the host off the bus; what its sessions still wait to append is left to the next run.
    pub(super) async fn leave(self) {
        self.service.stop(LEAVE_TIMEOUT).await;
        announce(&self.bus, "down", &self.card.now()).await;
        self.leave.cancel();
        if !self.entry.is_finished() {
            let _ = timeout(LEAVE_TIMEOUT, self.entry).await;
        }
        if self.sessions.flush(FLUSH_TIMEOUT).await {
            return;
        }
        match self.sessions.park() {
            Ok(events) => {
                tracing::warn!(events, "the server did not take the last session events: the next run will append them")
            }
            Err(error) => {
                tracing::error!(%error, "the last session events are lost: the server did not take them in time")
            }
        }
    }
}
