//! The host: connects to the bus, claims its name, starts the rows of [`ROLES`](crate::role::ROLES), restarts what
//! fails, and drains under a deadline.

mod card;
mod connect;
mod error;
mod health;
mod presence;
mod supervise;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use connect::access;
pub use error::NodeError;

use crate::bus::Bus;
use crate::bus::message::node::NodeInfo;
use crate::bus::registry::announce;
use crate::bus::session::SessionLog;
use crate::bus::subject::Capability;
use crate::config::Config;
use crate::fabric::Fabric;
use crate::home::Home;
use crate::memory;
use crate::rig::Rig;
use crate::rig::clock::Clock;
use crate::rig::stop::Stops;
use crate::role::model_cache::ModelCache;
use crate::role::{self, Offers, RoleContext, RoleRow};
use card::Card;
use health::Health;
use presence::Presence;
use supervise::RoleTasks;

/// How long the embedded server may take to end.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);
/// What a drain may take beyond node.drain_timeout_ms, to be cut off in order.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Runs a host until `stop` fires, be it by a request of the bus, then drains it. `up` is called once everything serves.
///
/// # Errors
/// [`NodeError`] when it can't start; a role that breaks later is started again.
pub async fn run(
    config: Config,
    home: Home,
    stop: CancellationToken,
    up: impl FnOnce(&NodeInfo),
) -> Result<(), NodeError> {
    let rows = role::find(&config.node.roles).map_err(|why| NodeError::Setting(format!("node.roles: {why}")))?;
    run_roles(rows, config, home, stop, up).await
}

/// The same with these roles, whatever the settings say.
///
/// # Errors
/// As [`run`].
pub async fn run_roles(
    rows: Vec<&'static RoleRow>,
    config: Config,
    home: Home,
    stop: CancellationToken,
    up: impl FnOnce(&NodeInfo),
) -> Result<(), NodeError> {
    let host = PreparedHost::prepare(rows, config, home, stop).await?;
    let name = host.config.node_name();
    let connected = connect::connect(&host.config, &host.home, &name, &host.stop).await?;
    let Some((server, bus)) = connected else { return Ok(()) };
    let result = host.serve(&bus, up).await;
    drop(bus);
    if let Some(server) = server {
        server.stop(SERVER_TIMEOUT).await;
    }
    result
}

/// A host with its settings, before it is on the bus.
struct PreparedHost {
    config: Arc<Config>,
    home: Home,
    rows: Vec<&'static RoleRow>,
    model_cache: ModelCache,
    health: Health,
    stop: CancellationToken,
    begun: Instant,
}

impl PreparedHost {
    /// Shows over HTTP that the host is starting.
    async fn prepare(
        rows: Vec<&'static RoleRow>,
        config: Config,
        home: Home,
        stop: CancellationToken,
    ) -> Result<Self, NodeError> {
        let begun = Instant::now();
        for hint in &config.hints {
            tracing::warn!("{hint}");
        }
        let model_cache = ModelCache::new(&home)?;
        let names = rows.iter().map(|row| row.name).collect();
        let health = Health::start(&config.http.listen, &config.node_name(), names).await?;
        Ok(Self { config: Arc::new(config), home, rows, model_cache, health, stop, begun })
    }

    /// Enters the bus, runs the roles until the host is to stop or has to, and leaves in order.
    async fn serve(self, bus: &Bus, up: impl FnOnce(&NodeInfo)) -> Result<(), NodeError> {
        let offers = Offers::default();
        let card = Card::new(bus.node(), &self.config.node, &offers, &self.stop);
        self.health.on_bus(bus, &card);
        let mut presence = Presence::enter(bus, card.clone(), &self.config, &self.home).await?;
        let context = self.context(bus, offers, presence.sessions.clone()).await?;
        let mut roles = RoleTasks::start(&self.rows, &context);
        let _tidy = AbortOnDropHandle::new(tokio::spawn(memory::tidy()));

        // Up to here nothing is promised: a role that can't start ends the host with its reason.
        let outcome = match roles.until_up(&self.stop).await {
            Ok(true) => {
                let info = card.now();
                tracing::info!(node = info.node, ms = self.begun.elapsed().as_millis(), "the host is up");
                announce(bus, "up", &info).await;
                up(&info);
                tokio::select! {
                    () = self.stop.cancelled() => Ok(()),
                    error = presence.lost() => Err(error),
                    error = roles.failed() => Err(error),
                }
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        tracing::info!("draining");
        self.stop.cancel();
        roles.drain(Duration::from_millis(self.config.node.drain_timeout_ms) + DRAIN_GRACE).await;
        presence.leave().await;
        tracing::info!("the host is down");
        outcome
    }

    /// What the roles share.
    async fn context(&self, bus: &Bus, offers: Offers, sessions: SessionLog) -> Result<RoleContext, NodeError> {
        let fabric = Fabric::start(bus, bus.node(), &self.config);
        let hears = self.rows.iter().any(|row| row.serves.contains(&Capability::Voice));
        let listeners = self.config.voice.listeners.iter().filter(|_| hears).map(|listener| listener.name.clone());
        let rig = Rig::new(
            &fabric,
            listeners.collect(),
            Stops::listen(bus).await?,
            Clock::new(self.config.midi.bpm, self.config.midi.beats_per_bar),
        );
        Ok(RoleContext {
            bus: bus.clone(),
            fabric,
            config: Arc::clone(&self.config),
            home: self.home.clone(),
            sessions,
            model_cache: self.model_cache.clone(),
            rig,
            http: self.health.http.clone(),
            stop: CancellationToken::new(),
            is_up: CancellationToken::new(),
            offers,
        })
    }
}
