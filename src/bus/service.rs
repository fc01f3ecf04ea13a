//! Serving: NATS services, queue groups, slots, deadlines and cancel.
//!
//! A role opens one [`Server`] for its capability and serves each verb on it. `nats micro ls|info|stats|ping` sees them
//! all, with node, engine and models in the metadata, load in the stats, and the schemas at each endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::service::{Service, ServiceExt as _};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::Bus;
use super::error::BusError;
use super::link::Link;
use super::message::fault::Fault;
use super::message::node::{Offer, Privacy};
use super::message::{Ask, Replies};
use super::sink::Sink;
use super::subject::{self, Capability, Target};
use super::worker::Worker;

/// How long cancelled handlers, and the last replies, may take to be gone.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
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

/// A request that has arrived.
#[derive(Debug)]
pub struct Incoming<A: Ask> {
    /// What is asked.
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

/// The served verbs of one capability of this host. Dropping it stops them and cancels what runs.
pub struct Server {
    pub(super) bus: Bus,
    link: Link,
    pub(super) spec: ServiceSpec,
    service: Option<Service>,
    pub(super) worker: Arc<Worker>,
    pub(super) stop: CancellationToken,
    /// The subjects that are served, and how many refusals by the server there were before the first.
    subjects: Mutex<Vec<String>>,
    refusals: u64,
}

/// How much a capability is working on, for whoever asks.
#[derive(Debug, Clone)]
pub struct Load(Arc<Worker>);

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
        let replies = if spec.capability == Capability::Tts { Replies::Audio } else { Replies::One };
        let link = self.link(replies).clone();
        let refusals = link.refusals();
        let worker = Arc::new(Worker::new(self, &link, spec.clone()));
        let (load, slots) = (Load(Arc::clone(&worker)), spec.slots);
        let metadata = HashMap::from([
            ("node".to_owned(), self.node().to_owned()),
            ("engine".to_owned(), spec.engine.clone()),
            ("models".to_owned(), spec.models.join(",")),
        ]);
        let name = spec.capability.token();
        let service = link
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
            link,
            spec,
            service: Some(service),
            worker,
            stop: CancellationToken::new(),
            subjects: Mutex::default(),
            refusals,
        };
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
        let group = group.map_or_else(|| self.spec.capability.token().to_owned(), subject::token);
        let mut endpoint = service
            .endpoint_builder()
            .name(name)
            .metadata(metadata)
            .queue_group(group)
            .add(subject.clone())
            .await
            .map_err(|e| BusError::client(format!("the endpoint {name} on {subject}"), e))?;
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner).push(subject.clone());
        let (worker, handler, stop) = (Arc::clone(&self.worker), handler.clone(), self.stop.clone());
        self.worker.tasks.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    request = endpoint.next() => {
                        let Some(request) = request else { break };
                        worker.take::<A, F, R>(request, &handler);
                    }
                }
            }
            if let Err(error) = endpoint.stop().await {
                tracing::debug!(%subject, %error, "the endpoint was not unsubscribed");
            }
            // What has arrived meanwhile is refused, so that nobody waits for it.
            while let Some(request) = endpoint.next().await {
                worker.refuse(&request).await;
            }
        });
        Ok(())
    }

    /// Stops single requests on `<capability>.cancel.<request>` and all of them on `control.stop`.
    async fn hear_cancels(&self) -> Result<(), BusError> {
        let mut cancels = self.bus.raw(&subject::cancel(self.spec.capability, "*")).await?;
        let mut stops = self.bus.raw(subject::STOP).await?;
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
    /// [`BusError::Client`] if the server does not answer, [`BusError::Deaf`] if its permissions forbid one of them.
    pub async fn ready(&self) -> Result<(), BusError> {
        self.link.ready().await?;
        let subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.link.may_hear(&subjects, self.refusals).await
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
        self.worker.tasks.close();
        let finished = timeout(deadline, self.worker.tasks.wait()).await.is_ok();
        if !finished {
            self.worker.cancel_all();
            if timeout(CANCEL_TIMEOUT, self.worker.tasks.wait()).await.is_err() {
                tracing::warn!(capability = %self.spec.capability, "a handler goes on though it was cancelled");
            }
        }
        // Replies in flight must be out before the connection goes.
        if self.link.is_up() && !matches!(timeout(CANCEL_TIMEOUT, self.link.client.flush()).await, Ok(Ok(()))) {
            tracing::debug!(capability = %self.spec.capability, "the last replies may not have left");
        }
        finished
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.worker.cancel_all();
        if let Some(service) = self.service.take() {
            // It never waits: it tells its tasks.
            let _ = service.stop().now_or_never();
        }
    }
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
