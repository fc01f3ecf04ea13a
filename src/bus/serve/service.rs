//! Serving: NATS services, queue groups, slots, deadlines and cancel.
//!
//! A role opens one [`Server`] for its capability and serves each verb on it. `nats micro ls|info|stats|ping` sees them
//! all, with node, engine and models in the metadata, load in the stats, and the schemas at each endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::service::{Service, ServiceExt as _};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use super::engines::Engines;
use super::engines::{Take, Taker};
pub use super::spec::{EngineSpec, Incoming, ServiceSpec};
use super::worker::ServiceWorker;
use crate::bus::connect::{Bus, BusError, NatsConnection};
use crate::wire::contract::capability::carries;
use crate::wire::message::Ask;
use crate::wire::message::fault::Fault;
use crate::wire::message::node::Offer;
use crate::wire::subject::{self, Target};

/// How long cancelled handlers, and the last replies, may take to be gone.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The served verbs of one capability of this host. Dropping it stops them and cancels what runs.
pub struct Server {
    pub(super) bus: Bus,
    connection: NatsConnection,
    pub(super) spec: ServiceSpec,
    service: Option<Service>,
    pub(super) worker: Arc<ServiceWorker>,
    pub(super) engines: Engines,
    pub(super) stop: CancellationToken,
    /// What it must be able to hear, and how much the server had refused before it began to.
    subjects: Mutex<Vec<String>>,
    /// On its own connection, and on the one where it hears of cancels.
    refusals: (u64, u64),
}

/// How much a capability is working on.
#[derive(Debug, Clone)]
pub struct Load(Arc<ServiceWorker>);

impl Load {
    /// Requests being worked on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    /// The usual time of a request, in ms; 0 before the first.
    #[must_use]
    pub fn usual_ms(&self) -> u64 {
        self.0.usual_ms()
    }

    fn stats(&self, slots: usize) -> serde_json::Value {
        serde_json::json!({ "in_flight": self.in_flight(), "batch": self.0.slots.batch(), "slots": slots })
    }
}

impl Bus {
    /// Opens a service. Verbs are added by [`Server::serve`].
    ///
    /// # Errors
    /// [`BusError::Client`] if NATS refuses it.
    pub async fn service(&self, spec: ServiceSpec) -> Result<Server, BusError> {
        let only = EngineSpec::only(spec.offer());
        self.engine(spec, only).await
    }

    /// Opens the service of one of several engines of a capability.
    ///
    /// # Errors
    /// As [`Bus::service`].
    pub async fn engine(&self, spec: ServiceSpec, engine: EngineSpec) -> Result<Server, BusError> {
        let connection = self.connection(carries(spec.capability)).clone();
        let EngineSpec { offer, rank, engines } = engine;
        let metadata = metadata(self.node(), &offer);
        let worker = Arc::new(ServiceWorker::new(self, &connection, spec.clone(), offer));
        let (load, slots) = (Load(Arc::clone(&worker)), spec.slots);
        let name = spec.capability.token();
        let refusals = (connection.refusals(), self.inner.control.refusals());
        let service = connection
            .client
            .service_builder()
            .description(spec.about)
            .metadata(metadata)
            .queue_group(name)
            .stats_handler(move |_, _| load.stats(slots))
            .start(name, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|e| BusError::client(format!("the service {name}"), e))?;
        let server = Server {
            bus: self.clone(),
            connection,
            spec,
            service: Some(service),
            worker,
            engines,
            stop: CancellationToken::new(),
            subjects: Mutex::default(),
            refusals,
        };
        server.engines.add(&server.worker.slots, server.worker.offer().clone(), rank);
        server.hear_cancels().await?;
        Ok(server)
    }
}

impl Server {
    /// Serves a verb on its three subject forms. `handler` gives the last (or only) reply.
    ///
    /// # Errors
    /// [`BusError::Client`] if NATS refuses an endpoint.
    pub async fn serve<A, F, R>(&self, handler: F) -> Result<(), BusError>
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let (verb, node) = (A::VERB, self.bus.node().to_owned());
        let metadata = about::<A>(true);
        self.endpoint::<A, F, R>(verb.name, verb.subject(Target::Any), None, metadata, &handler).await?;
        let (of_node, metadata) = (format!("{}-n", verb.name), about::<A>(false));
        self.endpoint::<A, F, R>(&of_node, verb.subject(Target::Node(&node)), Some(&node), metadata, &handler).await?;
        for model in &self.spec.models {
            // An endpoint's name must be [A-Za-z0-9_-]+: one bad name hides the whole service from the CLI.
            let name = format!("{}-m-{}", verb.name, subject::token(model).replace('=', "_"));
            let (subject, metadata) = (verb.subject(Target::Model(model)), about::<A>(false));
            self.endpoint::<A, F, R>(&name, subject, None, metadata, &handler).await?;
        }
        Ok(())
    }

    /// Serves a verb on one subject of its own, such as a listener's.
    ///
    /// # Errors
    /// [`BusError::Client`] if NATS refuses the endpoint.
    pub async fn serve_at<A, F, R>(&self, name: &str, subject: String, handler: F) -> Result<(), BusError>
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let name = subject::token(name).replace('=', "_");
        self.endpoint::<A, F, R>(&name, subject, Some(self.bus.node()), about::<A>(true), &handler).await
    }

    /// Serves a verb on a subject; with a queue `group` of its own, else in that of the capability.
    async fn endpoint<A, F, R>(
        &self,
        name: &str,
        subject: String,
        group: Option<&str>,
        metadata: HashMap<String, String>,
        handler: &F,
    ) -> Result<(), BusError>
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let Some(service) = &self.service else {
            return Err(BusError::client(format!("the endpoint {name} on {subject}"), "the service is stopped"));
        };
        let is_shared = group.is_none();
        let group = group.map_or_else(|| self.spec.capability.token().to_owned(), subject::token);
        let mut endpoint = service
            .endpoint_builder()
            .name(name)
            .metadata(metadata)
            .queue_group(group)
            .add(subject.clone())
            .await
            .map_err(|e| BusError::client(format!("the endpoint {name} on {subject}"), e))?;
        self.needs([subject.clone()]);
        let (worker, stop, engines) = (Arc::clone(&self.worker), self.stop.clone(), self.engines.clone());
        let take: Take = {
            let (worker, handler) = (Arc::clone(&worker), handler.clone());
            Arc::new(move |request| worker.take::<A, F, R>(request, &handler))
        };
        engines.takes(&worker.slots, A::VERB.name, Arc::clone(&take));
        let is_by_model = is_shared && subject != A::VERB.subject(Target::Any);
        self.worker.tasks.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    request = endpoint.next() => {
                        let Some(request) = request else { break };
                        match worker.taker::<A>(&engines, &request, is_by_model) {
                            Taker::Itself => take(request),
                            Taker::Other(take) => take(request),
                            Taker::Nobody(others) => worker.disown(request, &others),
                        }
                    }
                }
            }
            if let Err(error) = endpoint.stop().await {
                tracing::debug!(%subject, %error, "the endpoint was not unsubscribed");
            }
            // Requests that have arrived meanwhile are refused, so that no caller waits for them.
            while let Some(request) = endpoint.next().await {
                worker.refuse(&request).await;
            }
        });
        Ok(())
    }

    /// Stops single requests on `<capability>.cancel.<request>` and all of them on `control.stop`.
    async fn hear_cancels(&self) -> Result<(), BusError> {
        let all = subject::cancel(self.spec.capability, "*");
        let mut cancels = self.bus.raw(&all).await?;
        let mut stops = self.bus.raw(subject::STOP).await?;
        self.needs([all, subject::STOP.to_owned()]);
        let (worker, stop) = (Arc::clone(&self.worker), self.stop.clone());
        self.worker.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    Some(message) = cancels.next() => {
                        worker.cancel(message.subject.rsplit('.').next().unwrap_or_default());
                    }
                    Some(_) = stops.next() => worker.cancel_all(),
                    else => break,
                }
            }
        });
        Ok(())
    }

    /// Waits until every subject of the service stands at the server.
    ///
    /// # Errors
    /// [`BusError::DeniedHearing`] if the server forbids one, [`BusError::Client`] if it does not answer.
    pub async fn ready(&self) -> Result<(), BusError> {
        let (subjects, (own, control)) = (self.subjects(), self.refusals);
        tokio::try_join!(self.connection.stand(&subjects, own), self.bus.inner.control.stand(&subjects, control))
            .map(drop)
    }

    /// Completes when the server forbids to hear a subject of the service: at the start, or since it has new permissions.
    pub async fn refused(&self) -> BusError {
        let (subjects, (own, control)) = (self.subjects(), self.refusals);
        tokio::select! {
            error = self.connection.unheard(&subjects, own) => error,
            error = self.bus.inner.control.unheard(&subjects, control) => error,
        }
    }

    fn needs(&self, subjects: impl IntoIterator<Item = String>) {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner).extend(subjects);
    }

    fn subjects(&self) -> Vec<String> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much it is working on.
    #[must_use]
    pub fn load(&self) -> Load {
        Load(Arc::clone(&self.worker))
    }

    /// Takes no new work, lets what runs be finished until `deadline`, then cancels it. `true` if all was finished.
    ///
    /// A request that the server hands to this host while it hears that no more are wanted (one way on the network) is
    /// dropped by the client: its caller waits until its deadline.
    pub async fn stop(self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.engines.remove(&self.worker.slots);
        self.worker.tasks.close();
        let finished = timeout(deadline, self.worker.tasks.wait()).await.is_ok();
        if !finished {
            self.worker.cancel_all();
            if timeout(CANCEL_TIMEOUT, self.worker.tasks.wait()).await.is_err() {
                tracing::warn!(capability = %self.spec.capability, "a handler goes on though it was cancelled");
            }
        }
        // Replies in flight must be out before the connection goes.
        if self.connection.is_up()
            && !matches!(timeout(CANCEL_TIMEOUT, self.connection.client.flush()).await, Ok(Ok(())))
        {
            tracing::debug!(capability = %self.spec.capability, "the last replies may not have left");
        }
        finished
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.engines.remove(&self.worker.slots);
        self.worker.cancel_all();
        if let Some(service) = self.service.take() {
            // It never waits: it tells its tasks.
            let _ = service.stop().now_or_never();
        }
    }
}

/// What `nats micro info` shows of an engine.
fn metadata(node: &str, offer: &Offer) -> HashMap<String, String> {
    let kinds = offer.kinds.iter().map(|(kind, models)| format!("{kind}: {}", models.join(",")));
    let all = [
        ("node", node.to_owned()),
        ("engine", offer.engine.clone()),
        ("name", offer.name.clone()),
        ("models", offer.models.join(",")),
        ("kinds", kinds.collect::<Vec<_>>().join("; ")),
        ("privacy", offer.privacy.map(|privacy| privacy.token().to_owned()).unwrap_or_default()),
    ];
    // The first ones stand at every service.
    let is_shown = |(name, value): &(&str, String)| matches!(*name, "node" | "engine" | "models") || !value.is_empty();
    all.into_iter().filter(is_shown).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What `nats micro info` shows of an endpoint. The schemas stand at the first of a verb's endpoints only: with every
/// model of a large catalogue they would not fit into one message.
fn about<A: Ask>(schemas: bool) -> HashMap<String, String> {
    let mut metadata = HashMap::from([("about".to_owned(), A::ABOUT.to_owned())]);
    if schemas {
        let schema = |schema: schemars::Schema| schema.as_value().to_string();
        metadata.insert("request_schema".to_owned(), schema(schemars::schema_for!(A)));
        metadata.insert("response_schema".to_owned(), schema(schemars::schema_for!(A::Reply)));
    }
    metadata
}
