//! Serving: NATS services, queue groups, slots, deadlines and cancel.
//!
//! A role opens one [`Server`] for its capability and serves each verb on it. `nats micro ls|info|stats|ping` sees them
//! all, with node, engine and models in the metadata, load in the stats, and the schemas at each endpoint.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::service::error::Error as ServiceError;
use async_nats::service::{Request, Service, ServiceExt as _};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use ulid::Ulid;

use super::codec::{self, Format, header};
use super::error::BusError;
use super::link::Link;
use super::message::fault::{Fault, FaultCode};
use super::message::{Ask, Message, Replies};
use super::stream::{Sink, Wanted};
use super::subject::{self, Capability, Target};
use super::{Bus, MAX_DEADLINE, turn_of};

/// The time that a request has which names none, such as one from the stock CLI.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);
/// How long cancelled handlers, and the last replies, may take to be gone.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a reply waits for the connection to be back.
const LATE_REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Cancels that came before their request are remembered, this many: the two cross in a host's own queues.
const EARLY_CANCELS: usize = 64;
/// The most characters of an error's text that a header carries.
const MAX_ERROR_CHARS: usize = 2_000;

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

/// A request that has arrived.
#[derive(Debug)]
pub struct Incoming<A: Ask> {
    /// What is asked.
    pub request: A,
    /// Where replies go before the last, which the handler returns.
    pub replies: Sink<A::Reply>,
    /// The turn that it belongs to, if the caller says so.
    pub turn: Option<Ulid>,
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
    bus: Bus,
    link: Link,
    spec: ServiceSpec,
    service: Option<Service>,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    slots: Semaphore,
    max_slots: usize,
    running: Mutex<Requests>,
    tasks: TaskTracker,
}

/// What can be cancelled, by request id.
#[derive(Debug, Default)]
struct Requests {
    running: HashMap<String, CancellationToken>,
    /// Ids that were cancelled and are not known (yet), oldest first. Most belong to other hosts.
    early: VecDeque<String>,
}

impl Shared {
    fn requests(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, id: &str) {
        let mut requests = self.requests();
        if let Some(cancel) = requests.running.get(id) {
            cancel.cancel();
            return;
        }
        if requests.early.len() == EARLY_CANCELS {
            requests.early.pop_front();
        }
        requests.early.push_back(id.to_owned());
    }

    fn cancel_all(&self) {
        self.requests().running.values().for_each(CancellationToken::cancel);
    }
}

/// How much a capability is working on, for whoever asks.
#[derive(Debug, Clone)]
pub struct Load(Arc<Shared>);

impl Load {
    /// Requests being worked on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.max_slots.saturating_sub(self.0.slots.available_permits())
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
        let shared = Arc::new(Shared {
            slots: Semaphore::new(spec.slots),
            max_slots: spec.slots,
            running: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        let (load, slots) = (Load(Arc::clone(&shared)), spec.slots);
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
            .stats_handler(move |_, _| serde_json::json!({ "in_flight": load.in_flight(), "slots": slots }))
            .start(name, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|e| BusError::client(format!("the service {name}"), e))?;
        let server =
            Server { bus: self.clone(), link, spec, service: Some(service), shared, stop: CancellationToken::new() };
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
        let worker = Worker {
            bus: self.bus.clone(),
            link: self.link.clone(),
            spec: self.spec.clone(),
            shared: Arc::clone(&self.shared),
        };
        let (handler, stop) = (handler.clone(), self.stop.clone());
        self.shared.tasks.spawn(async move {
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
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        self.shared.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    Some(message) = cancels.next() => {
                        shared.cancel(message.subject.rsplit('.').next().unwrap_or_default());
                    }
                    Some(_) = stops.next() => shared.cancel_all(),
                    else => break,
                }
            }
        });
        Ok(())
    }

    /// Waits until every subject of the service stands at the server.
    ///
    /// # Errors
    /// [`BusError::Client`] if the server does not answer.
    pub async fn ready(&self) -> Result<(), BusError> {
        self.link.ready().await
    }

    /// How much it is working on.
    #[must_use]
    pub fn load(&self) -> Load {
        Load(Arc::clone(&self.shared))
    }

    /// Takes no new work, lets what runs be finished until `deadline`, then cancels it. `true` if all was finished.
    ///
    /// A request that the server hands to this host while it hears that no more are wanted (one way on the network) is
    /// dropped by the client: its caller waits until its deadline.
    pub async fn stop(self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.shared.tasks.close();
        let finished = timeout(deadline, self.shared.tasks.wait()).await.is_ok();
        if !finished {
            self.shared.cancel_all();
            if timeout(CANCEL_TIMEOUT, self.shared.tasks.wait()).await.is_err() {
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
        self.shared.cancel_all();
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

#[derive(Clone)]
struct Worker {
    bus: Bus,
    link: Link,
    spec: ServiceSpec,
    shared: Arc<Shared>,
}

impl Worker {
    /// Takes a request up on a task of its own, since an endpoint hands them out one after the other.
    fn take<A, F, R>(&self, request: Request, handler: &F)
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let (worker, handler) = (self.clone(), handler.clone());
        self.shared.tasks.spawn(async move {
            let headers = request.message.headers.as_ref();
            let turn = turn_of(codec::text(headers, header::TRACEPARENT));
            let span = tracing::info_span!("request", verb = %A::VERB, turn = turn.map(tracing::field::display));
            worker.answer::<A, F, R>(&request, handler, turn).instrument(span).await;
        });
    }

    async fn answer<A, F, R>(&self, request: &Request, handler: F, turn: Option<Ulid>)
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R,
        R: Future<Output = Result<A::Reply, Fault>>,
    {
        let arrived = Instant::now();
        let result = match self.shared.slots.try_acquire() {
            Ok(_slot) => {
                // A handler that panics must not leave its caller waiting.
                let run = AssertUnwindSafe(self.run::<A, F, R>(request, handler, turn)).catch_unwind();
                run.await.unwrap_or_else(|_| {
                    tracing::error!("the handler panicked");
                    Err(Fault::failed(format!("{} on {} broke: a bug; its log tells more", A::VERB, self.bus.node())))
                })
            }
            Err(_) => {
                let (slots, capability, node) = (self.spec.slots, self.spec.capability, self.bus.node());
                let text =
                    format!("all {slots} slots of {capability} on {node} are taken: try again, or ask another host");
                Err(Fault::new(FaultCode::Busy, text))
            }
        };
        match &result {
            Ok(_) => tracing::debug!(ms = arrived.elapsed().as_millis(), "answered"),
            Err(fault) => {
                tracing::debug!(ms = arrived.elapsed().as_millis(), code = ?fault.code, %fault, "not answered")
            }
        }
        self.finish(request, result).await;
    }

    /// Refuses a request that came too late.
    async fn refuse(&self, request: &Request) {
        let text = format!("{} on {} is stopping: ask another host", self.spec.capability, self.bus.node());
        self.finish(request, Err(Fault::unavailable(text))).await;
    }

    /// Runs the handler; gives the body and headers of the message that ends the request.
    async fn run<A, F, R>(&self, request: &Request, handler: F, turn: Option<Ulid>) -> Result<(Bytes, HeaderMap), Fault>
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R,
        R: Future<Output = Result<A::Reply, Fault>>,
    {
        let headers = request.message.headers.as_ref();
        let kind = codec::text(headers, header::CONTENT_TYPE);
        let asked: A = codec::decode(kind, &request.message.payload)?;
        let accept = codec::text(headers, header::ACCEPT);
        let format = Format::of(if accept.is_empty() { kind } else { accept }).unwrap_or_default();
        let time = codec::deadline(headers).unwrap_or(DEFAULT_DEADLINE).min(MAX_DEADLINE);
        let mut watch = self.link.watch(&request.message.subject).map_err(|e| e.to_fault())?;
        let cancel = CancellationToken::new();
        // Whatever the handler has left running stops when the request is over.
        let _over = cancel.clone().drop_guard();
        let id = codec::text(headers, header::REQ_ID);
        let _running = Running::enter(&self.shared, id, &cancel);
        let streaming = A::REPLIES != Replies::One && asked.wants_stream();
        let reply = request.message.reply.as_ref().map(ToString::to_string);
        let credit = codec::number(headers, header::CREDIT);
        let wanted = Wanted { replies: A::REPLIES, reply, format, streaming, credit };
        let replies = Sink::new(&self.bus, wanted, cancel.clone());
        let incoming = Incoming {
            request: asked,
            replies: replies.clone(),
            turn,
            until: Instant::now() + time,
            cancel: cancel.clone(),
        };
        if cancel.is_cancelled() {
            return Err(Fault::cancelled());
        }
        let reply = tokio::select! {
            biased;
            reply = handler(incoming) => reply?,
            () = cancel.cancelled() => return Err(Fault::cancelled()),
            // The caller has most likely lost its connection as well: the slot is for its next try.
            _ = watch.broken("") => {
                let text = format!("{} on {} was broken off: the connection to NATS dropped", A::VERB, self.bus.node());
                return Err(Fault::unavailable(text));
            }
            () = tokio::time::sleep(time) => {
                cancel.cancel();
                let text = format!("{} on {} was not done within {} ms", A::VERB, self.bus.node(), time.as_millis());
                return Err(Fault::new(FaultCode::Deadline, text));
            }
        };
        let mut out = HeaderMap::new();
        out.insert(header::NODE, codec::one_line(self.bus.node()).as_str());
        if streaming {
            replies.send(&reply).await?;
            out.insert(header::STATUS, "200");
            out.insert(header::CHUNKS, replies.sent().to_string());
            return Ok((Bytes::new(), out));
        }
        let raw = reply.to_raw().transpose()?.filter(|(kind, _)| accept.is_empty() || accept == *kind);
        let (kind, body) = match raw {
            Some(raw) => raw,
            None => (format.content_type(), codec::encode(&reply, format)?),
        };
        self.link.check_size(&format!("the answer of {}", A::VERB), body.len()).map_err(|e| e.to_fault())?;
        out.insert(header::CONTENT_TYPE, kind);
        Ok((body, out))
    }

    async fn finish(&self, request: &Request, result: Result<(Bytes, HeaderMap), Fault>) {
        if request.message.reply.is_none() {
            if let Err(fault) = result {
                let text = format!("{}: {fault}", request.message.subject);
                self.bus.report(&Fault::new(fault.code, text)).await;
            }
            return;
        }
        // A caller whose own connection stands still waits; the others know by now.
        if timeout(LATE_REPLY_TIMEOUT, self.link.until_up()).await.is_err() {
            tracing::debug!("the connection is down; the reply is dropped");
            return;
        }
        let sent = match result {
            Ok((body, headers)) => request.respond_with_headers(Ok(body), headers).await,
            Err(fault) => {
                let status = codec::one_line(&fault.message).chars().take(MAX_ERROR_CHARS).collect();
                let error = ServiceError { status, code: fault.code.number() };
                let mut headers = HeaderMap::new();
                headers.insert(header::NODE, codec::one_line(self.bus.node()).as_str());
                request.respond_with_headers(Err(error), headers).await
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the reply was not sent");
        }
    }
}

/// A request's entry among those that can be cancelled.
struct Running<'a> {
    shared: &'a Shared,
    id: String,
}

impl<'a> Running<'a> {
    fn enter(shared: &'a Shared, id: &str, cancel: &CancellationToken) -> Self {
        let id = if id.is_empty() { Ulid::generate().to_string() } else { id.to_owned() };
        let mut requests = shared.requests();
        if let Some(early) = requests.early.iter().position(|early| *early == id) {
            requests.early.remove(early);
            cancel.cancel();
        }
        requests.running.insert(id.clone(), cancel.clone());
        drop(requests);
        Self { shared, id }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.requests().running.remove(&self.id);
    }
}
