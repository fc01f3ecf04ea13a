//! The way of one request through a host: slot, body, deadline, cancel, reply.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::service::Request;
use async_nats::service::error::Error as ServiceError;
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ulid::Ulid;

use super::engines::{Engines, Taker, Wanted};
use super::sink::{self, Sink};
use super::slots::Slots;
use super::spec::{Incoming, ServiceSpec};
use crate::bus::ask::MAX_DEADLINE;
use crate::bus::connect::{Bus, NatsConnection, headers};
use crate::telemetry::metrics as measured;
use crate::telemetry::parent::Parent;
use crate::telemetry::trace::Trace;
use crate::wire::codec::{self, Format, header};
use crate::wire::message::fault::{Fault, FaultCode};
use crate::wire::message::node::{Offer, Privacy};
use crate::wire::message::{Ask, Message, Replies};
use crate::wire::stream::status;
use crate::wire::subject;

/// The time that a request has which names none, such as one from the stock CLI.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);
/// How long a reply waits for the connection to be back.
const LATE_REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the chunks before an error may take to leave.
const LAST_CHUNKS_TIMEOUT: Duration = Duration::from_millis(250);
/// Cancels that came before their request are remembered, this many: the two cross in a host's own queues.
const EARLY_CANCELS: usize = 64;
/// About so many requests make the usual time.
const USUAL_OVER: u64 = 8;
/// Why this host answers a request that names none.
const BY_QUEUE: &str = "anyone of the queue group";
/// The most characters of an error's text that a header carries.
const MAX_ERROR_CHARS: usize = 2_000;

/// What the endpoints of one service share.
#[derive(Debug)]
pub(super) struct ServiceWorker {
    bus: Bus,
    /// Who says it, on every reply.
    node: HeaderValue,
    connection: NatsConnection,
    spec: ServiceSpec,
    offer: Offer,
    pub(super) slots: Arc<Slots>,
    running: Mutex<Requests>,
    /// The usual time of a request, in ms, to which the latest count most; 0 before the first.
    usual_ms: AtomicU64,
    /// Requests being worked on, and whatever hands them out.
    pub(super) tasks: TaskTracker,
}

/// What can be cancelled, by request id.
#[derive(Debug, Default)]
struct Requests {
    running: HashMap<String, CancellationToken>,
    /// Ids that were cancelled and are not known (yet), oldest first. Most belong to other hosts.
    early: VecDeque<String>,
}

impl ServiceWorker {
    pub(super) fn new(bus: &Bus, connection: &NatsConnection, spec: ServiceSpec, offer: Offer) -> Self {
        let (slots, running, tasks) = (Slots::new(spec.slots), Mutex::default(), TaskTracker::new());
        let node = HeaderValue::from(codec::one_line(bus.node()));
        metrics::gauge!(measured::SLOTS, "capability" => spec.capability.token()).increment(spec.slots as f64);
        let (bus, connection, usual_ms) = (bus.clone(), connection.clone(), AtomicU64::new(0));
        Self { bus, node, connection, spec, offer, slots, running, usual_ms, tasks }
    }

    /// What it offers.
    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Which of the host's `engines` takes a request that this one has heard.
    pub(super) fn taker<A: Ask>(&self, engines: &Engines, request: &Request, is_by_model: bool) -> Taker {
        let headers = request.message.headers.as_ref();
        let engine = headers::text(headers, header::ENGINE);
        let is_other = !engine.is_empty() && engine != self.offer.name;
        if !is_other && (!engine.is_empty() || !engines.are_several()) {
            return Taker::Itself;
        }
        let mut wanted = Wanted {
            engine: engine.to_owned(),
            privacy: Privacy::of(headers::text(headers, header::PRIVACY)),
            is_by_model,
            ..Wanted::default()
        };
        if engine.is_empty() {
            // One that can't be read is answered by whichever engine has heard it.
            let body = codec::decode::<A>(headers::text(headers, header::CONTENT_TYPE), &request.message.payload);
            let Ok(asked) = body else { return Taker::Itself };
            wanted.model = asked.model().map(str::to_owned);
            wanted.language = asked.language().map(str::to_owned);
        }
        engines.taker(&self.slots, A::VERB.name, &wanted)
    }

    /// Answers a request for an engine that the host has not (any more).
    pub(super) fn disown(self: &Arc<Self>, request: Request, others: &str) {
        let engine = headers::text(request.message.headers.as_ref(), header::ENGINE);
        let (capability, node) = (self.spec.capability, self.bus.node());
        let text = format!("{node} has no {capability} engine {engine:?}; it has {others}");
        let worker = Arc::clone(self);
        self.tasks.spawn(async move { worker.finish(&request, Err(Fault::unavailable(text))).await });
    }

    pub(super) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Requests being worked on.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    /// The usual time of a request, in ms; 0 before the first.
    pub(super) fn usual_ms(&self) -> u64 {
        self.usual_ms.load(Ordering::Relaxed)
    }

    /// Takes the time of an answered request into the usual one, as an exponential moving average.
    fn took(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        // Two that end at once may lose one of them: it is an average.
        let usual = self.usual_ms();
        let next = if usual == 0 { ms } else { (usual * (USUAL_OVER - 1) + ms).div_ceil(USUAL_OVER) };
        self.usual_ms.store(next, Ordering::Relaxed);
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops a request, also one that is yet to be taken up.
    pub(super) fn cancel(&self, id: &str) {
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

    pub(super) fn cancel_all(&self) {
        self.requests().running.values().for_each(CancellationToken::cancel);
    }

    /// Takes a request up on a task of its own, since an endpoint hands them out one after the other.
    pub(super) fn take<A, F, R>(self: &Arc<Self>, request: Request, handler: &F)
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let (worker, handler) = (Arc::clone(self), handler.clone());
        self.tasks.spawn(async move {
            if let Some(reply) = request.message.reply.as_ref().filter(|reply| !subject::is_for_answers(reply)) {
                let text = format!("{}: no answer is sent to {reply}: it is no inbox", request.message.subject);
                return worker.bus.report(&Fault::invalid(text)).await;
            }
            let headers = request.message.headers.as_ref();
            let parent = Parent::parse(headers::text(headers, header::TRACEPARENT));
            let verb = A::VERB.to_string();
            let trace = Trace::follow(&verb, parent, headers::text(headers, header::SESSION));
            let arrived = Instant::now();
            let answered = worker.answer::<A, F, R>(&request, handler, parent.map(|parent| parent.turn));
            let code = trace.run(answered).await.map_or_else(
                |code| {
                    trace.fail(code.name());
                    code.name()
                },
                |()| "ok",
            );
            let took = arrived.elapsed();
            drop(trace);
            // The reply leaves by the connection's task, most often the next of this thread.
            tokio::task::yield_now().await;
            measured::request(&verb, code, took);
        });
    }

    async fn answer<A, F, R>(&self, request: &Request, handler: F, turn: Option<Ulid>) -> Result<(), FaultCode>
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R,
        R: Future<Output = Result<A::Reply, Fault>>,
    {
        let arrived = Instant::now();
        let result = match self.slots.take().await {
            Some(_slot) => {
                let _working = InFlight::new(self.spec.capability.token());
                // A handler that panics must not leave its caller waiting.
                let run = AssertUnwindSafe(self.run::<A, F, R>(request, handler, turn)).catch_unwind();
                run.await.unwrap_or_else(|_| {
                    tracing::error!("the handler panicked");
                    Err(Fault::failed(format!("{} on {} broke: a bug; its log tells more", A::VERB, self.bus.node())))
                })
            }
            None => {
                metrics::counter!(measured::REFUSED, "capability" => self.spec.capability.token(), "reason" => "busy")
                    .increment(1);
                let (slots, capability, node) = (self.spec.slots, self.spec.capability, self.bus.node());
                let text =
                    format!("all {slots} slots of {capability} on {node} are taken: try again, or ask another host");
                Err(Fault::new(FaultCode::Busy, text))
            }
        };
        match &result {
            Ok(_) => {
                if A::COUNTS {
                    self.took(arrived.elapsed());
                }
                tracing::debug!(ms = arrived.elapsed().as_millis(), "answered");
            }
            Err(fault) => {
                tracing::debug!(ms = arrived.elapsed().as_millis(), code = ?fault.code, %fault, "not answered")
            }
        }
        let code = result.as_ref().map(|_| ()).map_err(|fault| fault.code);
        self.finish(request, result).await;
        code
    }

    /// Refuses a request that came too late.
    pub(super) async fn refuse(&self, request: &Request) {
        metrics::counter!(measured::REFUSED, "capability" => self.spec.capability.token(), "reason" => "stopping")
            .increment(1);
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
        let kind = headers::text(headers, header::CONTENT_TYPE);
        let asked: A = codec::decode(kind, &request.message.payload)?;
        let accept = headers::text(headers, header::ACCEPT);
        let format = Format::of(if accept.is_empty() { kind } else { accept }).unwrap_or_default();
        let time = headers::deadline(headers).unwrap_or(DEFAULT_DEADLINE).min(MAX_DEADLINE);
        let mut watch = self.connection.watch(&request.message.subject).map_err(|e| e.to_fault())?;
        let cancel = CancellationToken::new();
        // Whatever the handler has left running stops when the request is over.
        let _over = cancel.clone().drop_guard();
        let id = headers::text(headers, header::REQ_ID);
        let _running = CancelEntry::enter(self, id, &cancel);
        let streaming = A::REPLIES != Replies::One && asked.wants_stream();
        let replies = if streaming {
            let (reply, credit) = (request.message.reply.clone(), headers::number(headers, header::CREDIT));
            let pack = headers::number(headers, header::PACK).unwrap_or(1);
            let wanted = sink::Wanted { verb: A::VERB, replies: A::REPLIES, reply, format, credit, pack };
            Sink::new(&self.bus, wanted, cancel.clone())
        } else {
            Sink::none()
        };
        let incoming = Incoming {
            request: asked,
            replies: replies.clone(),
            turn,
            privacy: Privacy::of(headers::text(headers, header::PRIVACY)),
            until: Instant::now() + time,
            cancel: cancel.clone(),
        };
        if cancel.is_cancelled() {
            return Err(Fault::cancelled());
        }
        self.check_privacy(incoming.privacy)?;
        let reply = tokio::select! {
            biased;
            reply = handler(incoming) => reply,
            () = cancel.cancelled() => Err(Fault::cancelled()),
            // The caller has most likely lost its connection as well: the slot is for its next try.
            _ = watch.broken("") => {
                let text = format!("{} on {} was broken off: the connection to NATS dropped", A::VERB, self.bus.node());
                Err(Fault::unavailable(text))
            }
            // Looked at only when the handler waits for something.
            fault = replies.keep_flushing() => Err(fault),
            () = tokio::time::sleep(time) => {
                cancel.cancel();
                let text = format!("{} on {} was not done within {} ms", A::VERB, self.bus.node(), time.as_millis());
                Err(Fault::new(FaultCode::Deadline, text))
            }
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(fault) => {
                // What the handler has left running may hold the sink while its reader stalls.
                if !matches!(timeout(LAST_CHUNKS_TIMEOUT, replies.flush()).await, Ok(Ok(()))) {
                    tracing::debug!("the last chunks before an error were not sent");
                }
                return Err(fault);
            }
        };
        let mut out = self.signed(request);
        if streaming {
            replies.send(&reply).await?;
            replies.flush().await?;
            headers::set(&mut out, header::STATUS, status::END);
            headers::set(&mut out, header::CHUNKS, replies.sent().to_string());
            return Ok((Bytes::new(), out));
        }
        let raw = reply.to_raw().transpose()?.filter(|(kind, _)| accept.is_empty() || accept == *kind);
        let (kind, body) = match raw {
            Some(raw) => raw,
            None => (format.content_type(), codec::encode(&reply, format)?),
        };
        self.connection.check_size(format_args!("the answer of {}", A::VERB), body.len()).map_err(|e| e.to_fault())?;
        headers::set(&mut out, header::CONTENT_TYPE, kind);
        Ok((body, out))
    }

    /// Refuses what may not travel as far as this engine passes it on.
    fn check_privacy(&self, privacy: Privacy) -> Result<(), Fault> {
        if self.offer.keeps_within(privacy) {
            return Ok(());
        }
        let answers = if self.offer.reach() == Privacy::Any { "answers from outside" } else { "is on another host" };
        Err(Fault::invalid(format!(
            "the request may not leave the {}, and {} {answers}: ask another host, or with Privacy: {}",
            privacy.token(),
            self.offer.engine,
            self.offer.reach().token()
        )))
    }

    /// Who answers, and why this host.
    fn signed(&self, request: &Request) -> HeaderMap {
        let route = headers::text(request.message.headers.as_ref(), header::ROUTE);
        let mut headers = HeaderMap::new();
        headers::set(&mut headers, header::NODE, self.node.clone());
        headers::set(&mut headers, header::ROUTE, if route.is_empty() { BY_QUEUE } else { route });
        headers
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
        if !self.connection.is_up() && timeout(LATE_REPLY_TIMEOUT, self.connection.until_up()).await.is_err() {
            tracing::debug!("the connection is down; the reply is dropped");
            return;
        }
        let sent = match result {
            Ok((body, headers)) => request.respond_with_headers(Ok(body), headers).await,
            Err(fault) => {
                let status = codec::one_line(&fault.message).chars().take(MAX_ERROR_CHARS).collect();
                let error = ServiceError { status, code: fault.code.number() };
                request.respond_with_headers(Err(error), self.signed(request)).await
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the reply was not sent");
        }
    }
}

impl Drop for ServiceWorker {
    fn drop(&mut self) {
        metrics::gauge!(measured::SLOTS, "capability" => self.spec.capability.token())
            .decrement(self.spec.slots as f64);
    }
}

/// A request that is worked on, for as long as this lives.
struct InFlight(metrics::Gauge);

impl InFlight {
    fn new(capability: &'static str) -> Self {
        let gauge = metrics::gauge!(measured::IN_FLIGHT, "capability" => capability);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// A request's entry among those that can be cancelled.
pub(super) struct CancelEntry<'a> {
    worker: &'a ServiceWorker,
    id: String,
}

impl<'a> CancelEntry<'a> {
    pub(super) fn enter(worker: &'a ServiceWorker, id: &str, cancel: &CancellationToken) -> Self {
        let id = if id.is_empty() { Ulid::generate().to_string() } else { id.to_owned() };
        let mut requests = worker.requests();
        if let Some(early) = requests.early.iter().position(|early| *early == id) {
            requests.early.remove(early);
            cancel.cancel();
        }
        requests.running.insert(id.clone(), cancel.clone());
        drop(requests);
        Self { worker, id }
    }
}

impl Drop for CancelEntry<'_> {
    fn drop(&mut self) {
        self.worker.requests().running.remove(&self.id);
    }
}
