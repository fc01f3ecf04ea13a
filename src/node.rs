//! The host: connects to the bus, claims its name, starts the rows of [`ROLES`](crate::role::ROLES), restarts what
//! fails, and drains under a deadline.

mod health;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};
use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use ulid::Ulid;

use crate::bus::message::Ask as _;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::node::{AskInfo, Drain, Draining, NodeInfo};
use crate::bus::registry::{Claim, ClaimError, announce};
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::session::{self, QueueSettings, SessionLog};
use crate::bus::subject::{self, Capability, Target};
use crate::bus::{Access, Bus, BusError, access, embedded};
use crate::config::{Config, NodeConfig};
use crate::fabric::{Fabric, wire_privacy};
use crate::hardware;
use crate::home::Home;
use crate::http::HttpError;
use crate::memory;
use crate::models::ModelError;
use crate::process::Supervised;
use crate::rig::Rig;
use crate::rig::clock::Clock;
use crate::rig::stop::Stops;
use crate::role::pool::Pool;
use crate::role::{self, Offers, RoleContext, RoleError, RoleRow};
use health::Health;

/// How long the last session events may take to be kept.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// The pauses between attempts to reach the server.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// What a drain may take beyond node.drain_timeout_ms, to be cut off in order.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// A role that has run this long before it fails starts over with the shortest pause.
const STEADY: Duration = Duration::from_secs(60);

/// Why a host ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A role can't start.
    #[error("role {role}: {error}")]
    Role {
        /// Its name.
        role: &'static str,
        /// Why.
        error: RoleError,
    },
    /// The settings name something that is not there.
    #[error("{0}")]
    Setting(String),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The host's name.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The HTTP server.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The catalogue of models.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Runs a host until `stop` fires, be it by a request of the bus, then drains it. `up` is told once everything serves.
///
/// # Errors
/// [`NodeError`] when it can't start; a role that breaks later is started again.
pub async fn run(
    config: Config,
    home: Home,
    stop: CancellationToken,
    up: impl FnOnce(&NodeInfo),
) -> Result<(), NodeError> {
    let begun = Instant::now();
    let rows = role::find(&config.node.roles).map_err(|why| NodeError::Setting(format!("node.roles: {why}")))?;
    let pool = Pool::new(&home)?;
    let name = config.node_name();
    let health = Health::start(&config.http.listen, &name, rows.iter().map(|row| row.name).collect()).await?;
    let Some((server, bus)) = connect(&config, &home, &name, &stop).await? else { return Ok(()) };
    let result = serve(config, home, pool, rows, &bus, &health, &stop, begun, up).await;
    drop((health, bus));
    if let Some(server) = server {
        server.stop(FLUSH_TIMEOUT).await;
    }
    result
}

/// The way onto the bus that the settings say.
///
/// # Errors
/// [`BusError::Access`] when a file of it will not do.
pub fn access(config: &Config) -> Result<Access, BusError> {
    let bus = &config.bus;
    if bus.is_embedded() {
        return Ok(Access { user: config.node_name(), ..Access::from(&embedded::url(bus.port)) });
    }
    let files = access::Files {
        nkey: &bus.nkey_file,
        credentials: &bus.creds,
        tls_ca: &bus.tls_ca,
        tls_cert: &bus.tls_cert,
        tls_key: &bus.tls_key,
    };
    Access::read(&bus.url, &config.node_name(), files)
}

/// Starts the embedded server if it is asked for, and connects; tries again until the server is there or it takes too
/// long. `None` when the host is told to stop before.
async fn connect(
    config: &Config,
    home: &Home,
    name: &str,
    stop: &CancellationToken,
) -> Result<Option<(Option<Supervised>, Bus)>, NodeError> {
    let (access, config) = (access(config)?, &config.bus);
    let server = if config.is_embedded() { Some(embedded::start(home, config.port).await?) } else { None };
    let until = Instant::now() + Duration::from_millis(config.connect_timeout_ms);
    let tries = (|| Bus::connect(access.clone(), name))
        .retry(ExponentialBuilder::default().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX).without_max_times())
        .when(|error| error.can_retry() && Instant::now() < until)
        .notify(|error, pause| tracing::warn!(%error, retry_ms = pause.as_millis(), "no bus yet"));
    tokio::select! {
        bus = tries => {
            let bus = bus?;
            bus.set_replicas(config.replicas);
            Ok(Some((server, bus)))
        }
        () = stop.cancelled() => Ok(None),
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of a host, put together in one place")]
async fn serve(
    config: Config,
    home: Home,
    pool: Pool,
    rows: Vec<&'static RoleRow>,
    bus: &Bus,
    health: &Health,
    stop: &CancellationToken,
    begun: Instant,
    up: impl FnOnce(&NodeInfo),
) -> Result<(), NodeError> {
    let drain_timeout = Duration::from_millis(config.node.drain_timeout_ms);
    let offers = Offers::default();
    let card = Card::new(bus.node(), &config.node, &offers, stop);
    health.on_bus(bus, &card);
    let claim = Claim::make(bus, &card.now()).await?;
    let waiting = home.state().join("sessions").join(format!("{}.jsonl", subject::token(bus.node())));
    let sessions = SessionLog::start_with(
        bus,
        QueueSettings { file: Some(waiting), unkept: !config.bus.hosts.is_empty(), ..Default::default() },
    )
    .await?;
    let node_service = serve_info(bus, &card, drain_timeout).await?;
    let fabric = Fabric::start(bus, bus.node(), &config);
    let listeners = config.voice.listeners.iter().map(|listener| listener.name.clone());
    let has_voice = rows.iter().any(|row| row.serves == Capability::Voice);
    let rig = Rig::new(
        &fabric,
        listeners.filter(|_| has_voice).collect(),
        Stops::listen(bus).await?,
        Clock::new(config.midi.bpm, config.midi.beats_per_bar),
    );
    let context = RoleContext {
        bus: bus.clone(),
        fabric,
        config: Arc::new(config),
        home,
        sessions: sessions.clone(),
        pool,
        rig,
        http: health.http.clone(),
        stop: CancellationToken::new(),
        offers: offers.clone(),
    };
    let (events, mut heard) = mpsc::channel(rows.len().max(1));
    let mut running = Running::default();
    for row in &rows {
        running.start(row, &context, &events);
    }
    drop(events);
    let _tidy = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(memory::tidy()));

    let leave = CancellationToken::new();
    let keeper = {
        let card = card.clone();
        let drains = stream::once(stop.clone().cancelled_owned());
        let changes = stream::select(offers.changes(), drains).boxed();
        tokio::spawn(claim.keep(move || card.now(), changes, leave.clone()))
    };
    let mut keeper = tokio_util::task::AbortOnDropHandle::new(keeper);

    // Up to here nothing is promised: a role that can't start ends the host with its reason.
    let mut waiting = rows.len();
    let mut outcome = Ok(());
    while waiting > 0 && outcome.is_ok() {
        tokio::select! {
            () = stop.cancelled() => break,
            event = heard.recv() => match event {
                Some(Ok(())) => waiting -= 1,
                Some(Err(error)) => outcome = Err(error),
                None => break,
            },
        }
    }
    if waiting == 0 {
        let info = card.now();
        tracing::info!(node = info.node, ms = begun.elapsed().as_millis(), "the host is up");
        announce(bus, "up", &info).await;
        up(&info);
        outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            lost = &mut keeper => Err(lost.map_or_else(|e| NodeError::Setting(e.to_string()), |result| {
                result.err().map_or_else(|| NodeError::Setting("the entry in NODES was given up".to_owned()), NodeError::Claim)
            })),
            Some(Err(error)) = heard.recv() => Err(error),
            error = node_service.refused() => Err(error.into()),
        };
    }
    tracing::info!("draining");
    stop.cancel();
    if tokio::time::timeout(drain_timeout + DRAIN_GRACE, running.drain()).await.is_err() {
        tracing::warn!("a role did not end within node.drain_timeout_ms and was cut off");
    }
    running.shutdown().await;
    node_service.stop(Duration::from_secs(1)).await;
    announce(bus, "down", &card.now()).await;
    leave.cancel();
    if !keeper.is_finished() {
        let _ = tokio::time::timeout(Duration::from_secs(1), keeper).await;
    }
    if !sessions.flush(FLUSH_TIMEOUT).await {
        match sessions.park() {
            Ok(events) => {
                tracing::warn!(events, "the server did not take the last session events: the next run will append them")
            }
            Err(error) => {
                tracing::error!(%error, "the last session events are lost: the server did not take them in time")
            }
        }
    }
    tracing::info!("the host is down");
    outcome
}

/// The roles that run, by the order in which they drain.
#[derive(Default)]
struct Running(BTreeMap<u8, (CancellationToken, JoinSet<()>)>);

impl Running {
    fn start(&mut self, row: &'static RoleRow, context: &RoleContext, events: &mpsc::Sender<Result<(), NodeError>>) {
        let (stop, tasks) = self.0.entry(row.drains).or_default();
        tasks.spawn(supervise(row, RoleContext { stop: stop.clone(), ..context.clone() }, events.clone()));
    }

    /// Lets those who ask finish their work while those whom they ask still serve.
    async fn drain(&mut self) {
        for (stop, tasks) in self.0.values_mut() {
            stop.cancel();
            while tasks.join_next().await.is_some() {}
        }
    }

    async fn shutdown(&mut self) {
        for (_, tasks) in self.0.values_mut() {
            tasks.shutdown().await;
        }
    }
}

/// Runs a role, and starts it again when it breaks. Says once that it is up, or why it can't be.
async fn supervise(row: &'static RoleRow, context: RoleContext, events: mpsc::Sender<Result<(), NodeError>>) {
    let span = tracing::info_span!("role", role = row.name);
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times();
    let mut pauses = backoff.build();
    let mut told = false;
    loop {
        let begun = Instant::now();
        let role = (row.build)();
        let mut work = Box::pin(role.run(context.clone()).instrument(span.clone()));
        let result = tokio::select! {
            result = &mut work => result,
            // It has promised nothing yet.
            () = context.stop.cancelled(), if !told => return,
            () = context.offers.until(row.name), if !told => {
                told = true;
                let _ = events.send(Ok(())).await;
                work.await
            }
        };
        context.offers.remove(row.name);
        if context.stop.is_cancelled() {
            return;
        }
        let error = result.err().unwrap_or_else(|| RoleError::Setting("it ended without being told to".to_owned()));
        if !told || !error.can_retry() {
            let _ = events.send(Err(NodeError::Role { role: row.name, error })).await;
            return;
        }
        if begun.elapsed() > STEADY {
            pauses = backoff.build();
        }
        let pause = pauses.next().unwrap_or(Duration::from_secs(10));
        let text = format!("role {} broke and is started again in {} ms: {error}", row.name, pause.as_millis());
        context.bus.report(&Fault::new(FaultCode::Failed, text)).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.stop.cancelled() => return,
        }
    }
}

/// What the host says of itself.
#[derive(Debug, Clone)]
struct Card {
    fixed: NodeInfo,
    offers: Offers,
    stop: CancellationToken,
}

impl Card {
    fn new(node: &str, config: &NodeConfig, offers: &Offers, stop: &CancellationToken) -> Self {
        let fixed = NodeInfo {
            node: node.to_owned(),
            instance: Ulid::generate().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: session::now(),
            offers: Vec::new(),
            hostname: hardware::hostname(),
            // Read anew each time: a cable is put in, a lease ends.
            addresses: Vec::new(),
            tags: hardware::tags(&config.tags),
            privacy: wire_privacy(config.privacy),
            draining: false,
        };
        Self { fixed, offers: offers.clone(), stop: stop.clone() }
    }

    fn now(&self) -> NodeInfo {
        NodeInfo {
            offers: self.offers.now(),
            draining: self.stop.is_cancelled(),
            addresses: hardware::addresses(),
            ..self.fixed.clone()
        }
    }
}

async fn serve_info(bus: &Bus, card: &Card, drain_timeout: Duration) -> Result<crate::bus::service::Server, BusError> {
    let spec = ServiceSpec {
        capability: Capability::Node,
        about: "a host itself",
        engine: String::new(),
        models: Vec::new(),
        slots: 8,
    };
    let server = bus.service(spec).await?;
    let (card, drained) = (card.clone(), card.clone());
    server
        .serve(move |_: Incoming<AskInfo>| {
            let info = card.now();
            async move { Ok(info) }
        })
        .await?;
    server
        .serve_at("drain-n", Drain::VERB.subject(Target::Node(bus.node())), move |incoming: Incoming<Drain>| {
            let (card, by) = (drained.clone(), incoming.request.by);
            async move {
                tracing::info!(by, "told to drain");
                card.stop.cancel();
                let timeout_ms = u64::try_from(drain_timeout.as_millis()).unwrap_or(u64::MAX);
                Ok(Draining { offers: card.offers.now(), timeout_ms })
            }
        })
        .await?;
    server.ready().await?;
    Ok(server)
}
