//! Serving: NATS services, queue groups, slots, deadlines and cancel.
//!
//! A role opens one [`Server`] for its capability and serves each verb on it. `nats micro ls|info|stats|ping` sees them
//! all, with node, engine and models in the metadata, load in the stats, and the schemas at each endpoint.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::service::error::Error as ServiceError;
use async_nats::service::{Request, Service, ServiceExt as _};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::Semaphore;
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
use super::{Bus, turn_of};

/// The time that a request has which names none, such as one from the stock CLI.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);
/// The most time that a request can ask for.
const MAX_DEADLINE: Duration = Duration::from_secs(3_600);

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
    /// Fires when the caller is gone, the deadline has passed, or everything is to stop. Blocking work must look at it.
    pub cancel: CancellationToken,
}

impl<A: Ask> Incoming<A> {
    /// The time that is left.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// The served verbs of one capability of this host.
pub struct Server {
    bus: Bus,
    link: Link,
    spec: ServiceSpec,
    service: Service,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    slots: Semaphore,
    in_flight: AtomicUsize,
    running: Mutex<HashMap<String, CancellationToken>>,
    tasks: TaskTracker,
}

impl Shared {
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much a capability is working on, for whoever asks.
#[derive(Debug, Clone)]
pub struct Load(Arc<Shared>);

impl Load {
    /// Requests being worked on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
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
            in_flight: AtomicUsize::new(0),
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
        let server = Server { bus: self.clone(), link, spec, service, shared, stop: CancellationToken::new() };
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
        self.endpoint::<A, F, R>(verb.name, verb.subject(Target::Any), None, &handler).await?;
        let of_node = format!("{}-n", verb.name);
        self.endpoint::<A, F, R>(&of_node, verb.subject(Target::Node(&node)), Some(&node), &handler).await?;
        for model in &self.spec.models {
            // An endpoint's name must be [A-Za-z0-9_-]+: one bad name hides the whole service from the CLI.
            let name = format!("{}-m-{}", verb.name, subject::token(model).replace('=', "_"));
            self.endpoint::<A, F, R>(&name, verb.subject(Target::Model(model)), None, &handler).await?;
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
        self.endpoint::<A, F, R>(&name, subject, Some(self.bus.node()), &handler).await
    }

    async fn endpoint<A, F, R>(
        &self,
        name: &str,
        subject: String,
        group: Option<&str>,
        handler: &F,
    ) -> Result<(), BusError>
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let schema = |schema: schemars::Schema| schema.as_value().to_string();
        let metadata = HashMap::from([
            ("about".to_owned(), A::ABOUT.to_owned()),
            ("request_schema".to_owned(), schema(schemars::schema_for!(A))),
            ("response_schema".to_owned(), schema(schemars::schema_for!(A::Reply))),
        ]);
        let group = group.map_or_else(|| self.spec.capability.token().to_owned(), subject::token);
        let mut endpoint = self
            .service
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
                        let id = message.subject.rsplit('.').next().unwrap_or_default();
                        if let Some(cancel) = shared.running().get(id) {
                            cancel.cancel();
                        }
                    }
                    Some(_) = stops.next() => shared.running().values().for_each(CancellationToken::cancel),
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
    pub async fn stop(self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.shared.tasks.close();
        let finished = tokio::time::timeout(deadline, self.shared.tasks.wait()).await.is_ok();
        if !finished {
            self.shared.running().values().for_each(CancellationToken::cancel);
            let _ = tokio::time::timeout(Duration::from_secs(1), self.shared.tasks.wait()).await;
        }
        if let Err(error) = self.service.stop().await {
            tracing::debug!(%error, "the service was not stopped in order");
        }
        // Replies in flight must be out before the connection goes.
        if let Err(error) = self.link.client.flush().await {
            tracing::debug!(%error, "the last replies may not have left");
        }
        finished
    }
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
                self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
                let result = self.run::<A, F, R>(request, handler, turn).await;
                self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
                result
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
        let cancel = CancellationToken::new();
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
        let reply = tokio::select! {
            biased;
            reply = handler(incoming) => reply?,
            () = cancel.cancelled() => return Err(Fault::cancelled()),
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
        let (kind, body) = match reply.to_raw().filter(|_| accept.is_empty()) {
            Some(raw) => raw?,
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
        if !self.link.is_up() {
            // The client would keep the reply and deliver it to whoever has the inbox by then.
            tracing::debug!("the connection is down; the reply is dropped, its caller knows");
            return;
        }
        let sent = match result {
            Ok((body, headers)) => request.respond_with_headers(Ok(body), headers).await,
            Err(fault) => {
                let error = ServiceError { status: codec::one_line(&fault.message), code: fault.code.number() };
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
        shared.running().insert(id.clone(), cancel.clone());
        Self { shared, id }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.running().remove(&self.id);
    }
}
