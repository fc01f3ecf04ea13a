//! The bus: the sole user of NATS.
//!
//! A caller [`ask`](Bus::ask)s for one reply or [`open`](Bus::open)s a stream of them; a role [`serve`](service)s.
//! Everything that is said has a subject from [`subject`] and a type from [`message`].

pub mod access;
pub mod batch;
pub mod clips;
pub mod codec;
pub mod contract;
mod copies;
pub mod embedded;
mod error;
pub mod ingest;
pub mod jobs;
mod link;
pub mod listen;
pub mod message;
pub mod registry;
pub mod roster;
pub mod service;
pub mod session;
pub mod sink;
mod slots;
pub mod stream;
pub mod subject;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, RequestErrorKind};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use ulid::Ulid;

pub use access::Access;
use codec::{Format, header};
pub use error::BusError;
use link::Link;
use message::fault::Fault;
use message::node::Privacy;
use message::{Ask, Message, Replies, voice};
use subject::Target;

use crate::telemetry::trace::{Parent, Trace};

/// The most time that a request can ask for.
const MAX_DEADLINE: Duration = Duration::from_secs(3_600);
/// How much longer than its deadline a caller waits, so that the worker's own word that it passed can arrive.
const GRACE: Duration = Duration::from_millis(250);

/// A host's place on the bus. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Bus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: String,
    control: Link,
    /// Audio has a connection of its own: capacity and stalls are a connection's, and 'stop' must not queue behind sound.
    audio: Link,
    streams: sink::Workers,
    audio_streams: sink::Workers,
    replicas: AtomicUsize,
    refused: copies::Refused,
}

/// The parts of a host that keep something on the server, as its health has them.
pub const HEALTH: &str = "kept";

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version, such as `2.12.1`.
    pub version: String,
    /// Whether JetStream is switched on.
    pub jetstream: bool,
    /// The largest message, headers included.
    pub max_payload_bytes: usize,
}

/// How a request is made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The time for all of it, the whole stream included; an hour at most.
    pub deadline: Duration,
    /// The turn that it belongs to; `None` takes that of the work under way, if there is one.
    pub turn: Option<Ulid>,
    /// How the body is written, and the reply is to be.
    pub format: Format,
    /// Why this host is asked; the reply gives it back.
    pub route: Option<String>,
    /// How far it may travel; whoever is asked refuses what breaks it.
    pub privacy: Privacy,
}

impl Call {
    /// A call with a deadline, in MessagePack.
    #[must_use]
    pub const fn within(deadline: Duration) -> Self {
        Self { deadline, turn: None, format: Format::MsgPack, route: None, privacy: Privacy::Any }
    }

    /// The same for a turn.
    #[must_use]
    pub fn of_turn(self, turn: Ulid) -> Self {
        Self { turn: Some(turn), ..self }
    }

    fn time(&self) -> Duration {
        self.deadline.min(MAX_DEADLINE)
    }

    fn headers<M: Message>(&self, request: &str) -> HeaderMap {
        let mut headers = self.plain_headers();
        codec::set(&mut headers, header::REQ_ID, request);
        codec::set(&mut headers, header::SCHEMA, M::SCHEMA);
        headers
    }

    /// Those of any request.
    fn plain_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        codec::set(&mut headers, header::CONTENT_TYPE, self.format.content_type());
        codec::set(&mut headers, header::ACCEPT, self.format.content_type());
        codec::set(&mut headers, header::DEADLINE_MS, self.time().as_millis().to_string());
        if let Some(parent) = Parent::of_request(self.turn) {
            codec::set(&mut headers, header::TRACEPARENT, parent.to_string());
        }
        if let Some(session) = Trace::session() {
            codec::set(&mut headers, header::SESSION, codec::one_line(&session));
        }
        if let Some(route) = &self.route {
            codec::set(&mut headers, header::ROUTE, codec::one_line(route));
        }
        if self.privacy != Privacy::Any {
            codec::set(&mut headers, header::PRIVACY, self.privacy.token());
        }
        headers
    }
}

impl Bus {
    /// Connects as host `node` by `access`, which can be the plain address of a server.
    ///
    /// # Errors
    /// [`BusError::Connect`] if the server can't be reached now; the caller decides whether to try again.
    /// [`BusError::Login`] if it does not let this user in.
    pub async fn connect(access: impl Into<Access>, node: &str) -> Result<Self, BusError> {
        let mut access = access.into();
        if access.user.is_empty() {
            node.clone_into(&mut access.user);
        }
        let (control_name, audio_name) = (format!("sidetone {node}"), format!("sidetone {node} audio"));
        let (control, audio) = tokio::try_join!(
            Link::connect(&access, &control_name, "control"),
            Link::connect(&access, &audio_name, "audio")
        )?;
        let (streams, audio_streams) = tokio::try_join!(sink::Workers::start(&control), sink::Workers::start(&audio))?;
        let (node, replicas) = (node.to_owned(), AtomicUsize::new(1));
        let refused = copies::Refused::default();
        Ok(Self { inner: Arc::new(Inner { node, control, audio, streams, audio_streams, replicas, refused }) })
    }

    /// How many servers of a cluster keep the streams and buckets that are made from now on; 1 unless it is said.
    pub fn set_replicas(&self, replicas: usize) {
        self.inner.replicas.store(replicas, Ordering::Relaxed);
    }

    fn replicas(&self) -> usize {
        self.inner.replicas.load(Ordering::Relaxed)
    }

    /// What would help where a stream or bucket can't be made.
    fn no_jetstream(&self, why: &dyn std::fmt::Display) -> String {
        match self.replicas() {
            1 => format!("{why}; start nats-server with -js"),
            n => format!("{why}; start nats-server with -js, and {n} of them in a cluster for bus.replicas = {n}"),
        }
    }

    /// The name of this host.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.inner.node
    }

    /// Whether the server can be reached right now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.control.is_up()
    }

    /// Waits until the server can be reached.
    pub async fn until_up(&self) {
        self.inner.control.until_up().await;
    }

    /// Waits until the server can be reached and has all subscriptions of this host, as after a loss: the client renews them,
    /// but counts as connected before the server has read them.
    pub async fn until_heard(&self) {
        loop {
            self.until_up().await;
            match self.inner.control.ready().await {
                Err(error) if !self.is_up() => tracing::debug!(%error, "the connection was lost again"),
                _ => return,
            }
        }
    }

    /// Completes when the connection is lost after this call.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.inner.control.lost()
    }

    /// The server's name and version.
    #[must_use]
    pub fn server(&self) -> String {
        let info = self.inner.control.client.server_info();
        format!("nats-server {} at {}:{}", info.version, info.host, info.port)
    }

    /// What the server says of itself.
    #[must_use]
    pub fn server_facts(&self) -> ServerFacts {
        let info = self.inner.control.client.server_info();
        ServerFacts { version: info.version, jetstream: info.jetstream, max_payload_bytes: info.max_payload }
    }

    /// Whether there is JetStream: at this server, or at those that it is a leaf of.
    pub async fn has_jetstream(&self) -> bool {
        let link = &self.inner.control;
        let there = async {
            let account = link.jetstream().query_account().await;
            account.map_err(|e| BusError::jetstream("looking for it", e))
        };
        self.server_facts().jetstream || link.keep(registry::BUCKET, there).await.is_ok()
    }

    /// Publishes an event, as JSON.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] at once while the server can't be reached; nothing is kept for later.
    pub async fn publish<M: Message>(&self, subject: String, message: &M) -> Result<(), BusError> {
        let mut headers = HeaderMap::new();
        codec::set(&mut headers, header::CONTENT_TYPE, Format::Json.content_type());
        codec::set(&mut headers, header::SCHEMA, M::SCHEMA);
        self.inner.control.publish(&subject.into(), None, Some(headers), codec::encode(message, Format::Json)?).await
    }

    /// The same, and waits until the server has it.
    ///
    /// # Errors
    /// As [`Bus::publish`], and [`BusError::Denied`] when the server does not let this user say it.
    pub async fn tell<M: Message>(&self, subject: String, message: &M) -> Result<(), BusError> {
        let link = &self.inner.control;
        let mut watch = link.watch(&subject)?;
        self.publish(subject.clone(), message).await?;
        link.ready().await?;
        watch.broken(&subject).now_or_never().map_or(Ok(()), Err)
    }

    /// Tells whoever watches of something that went wrong and that no caller hears of.
    pub async fn report(&self, fault: &Fault) {
        tracing::warn!(code = ?fault.code, "{}", fault.message);
        if let Err(error) = self.publish(subject::event(self.node(), "fault"), fault).await {
            tracing::debug!(%error, "the fault could not be published");
        }
    }

    /// Hears events. A message that can't be read comes as an error beside its subject.
    ///
    /// # Errors
    /// [`BusError::DeniedHearing`] if the server forbids it, [`BusError::Client`] if it is no subject.
    pub async fn subscribe<M: Message>(
        &self,
        subject: &str,
    ) -> Result<impl futures::Stream<Item = (String, Result<M, Fault>)> + Send + Unpin + use<M>, BusError> {
        let link = &self.inner.control;
        let (before, subjects) = (link.refusals(), [subject.to_owned()]);
        let messages = self.raw(subject).await?;
        link.stand(&subjects, before).await?;
        let messages = messages.map(|message| {
            let kind = codec::text(message.headers.as_ref(), header::CONTENT_TYPE);
            let decoded = codec::decode(kind, &message.payload);
            (message.subject.into_string(), decoded)
        });
        // Also when the right is taken away later: an error, and the end.
        let (link, what) = (link.clone(), subject.to_owned());
        let refused = async move { (what, Err(link.unheard(&subjects, before).await.to_fault())) }.boxed();
        Ok(futures::stream::unfold((messages, Some(refused)), |(mut messages, refused)| async move {
            let mut refused = refused?;
            tokio::select! {
                biased;
                message = messages.next() => Some((message?, (messages, Some(refused)))),
                error = &mut refused => Some((error, (messages, None))),
            }
        })
        .boxed())
    }

    /// Subscribes, and waits until the subscription stands, or was refused.
    async fn raw(&self, subject: &str) -> Result<async_nats::Subscriber, BusError> {
        let link = &self.inner.control;
        link.check(subject)?;
        let messages = link.client.subscribe(subject.to_owned()).await.map_err(|e| BusError::client(subject, e))?;
        link.ready().await?;
        Ok(messages)
    }

    /// Whether anybody serves `capability` by the NATS service API, registered as a host or not.
    pub async fn is_served(&self, capability: &str, patience: Duration) -> bool {
        let link = &self.inner.control;
        let ping = async_nats::Request::new().timeout(Some(patience));
        link.is_up() && link.client.send_request(subject::ping(capability), ping).await.is_ok()
    }

    /// Asks for one reply. A verb that answers by a stream must be asked for its summary alone.
    ///
    /// # Errors
    /// What was asked says so itself ([`BusError::Fault`]), or nobody did in time, or the link dropped meanwhile.
    pub async fn ask<A: Ask>(&self, target: Target<'_>, request: &A, call: &Call) -> Result<A::Reply, BusError> {
        self.ask_at(A::VERB.subject(target), request, call).await
    }

    /// Tells a listener to do something.
    ///
    /// # Errors
    /// As [`Bus::ask`].
    pub async fn control(
        &self,
        node: &str,
        listener: &str,
        control: &voice::Control,
        call: &Call,
    ) -> Result<voice::State, BusError> {
        self.ask_at(subject::voice_control(node, listener), control, call).await
    }

    /// Asks a tool, which takes and gives JSON, and gives its answer as it is.
    ///
    /// # Errors
    /// As [`Bus::ask`].
    pub async fn ask_tool(&self, name: &str, input: &serde_json::Value, call: &Call) -> Result<String, BusError> {
        let subject = subject::tool(name);
        let body = Bytes::from(input.to_string());
        let call = Call { format: Format::Json, ..call.clone() };
        let reply = self.request(&subject, body, call.plain_headers(), &call).await?;
        match codec::fault(reply.headers.as_ref()) {
            Some(fault) => Err(fault.into()),
            None => Ok(String::from_utf8_lossy(&reply.payload).into_owned()),
        }
    }

    async fn ask_at<A: Ask>(&self, subject: String, request: &A, call: &Call) -> Result<A::Reply, BusError> {
        if A::REPLIES != Replies::One && request.wants_stream() {
            let text = format!("{} answers by a stream: open it, or ask with \"stream\": false", A::VERB);
            return Err(Fault::invalid(text).into());
        }
        let body = codec::encode(request, call.format)?;
        let id = self.inner.control.client.new_inbox();
        let id = id.rsplit('.').next().unwrap_or_default();
        let mut guard = CancelOnDrop::new(self, A::VERB.capability, id, call);
        let reply = self.request(&subject, body, call.headers::<A>(id), call).await;
        // A request that was on its way as the link dropped may still arrive, and one that takes too long is worked on: the
        // guard calls these off.
        if !matches!(reply, Err(BusError::Deadline { .. } | BusError::Disconnected { .. })) {
            guard.disarm();
        }
        read(&reply?)
    }

    async fn request(
        &self,
        subject: &str,
        body: Bytes,
        headers: HeaderMap,
        call: &Call,
    ) -> Result<async_nats::Message, BusError> {
        let link = &self.inner.control;
        let mut watch = link.watch(subject)?;
        link.check_size(subject, body.len())?;
        let request = async_nats::Request::new().payload(body).headers(headers).timeout(Some(call.time() + GRACE));
        let reply = tokio::select! {
            biased;
            reply = link.client.send_request(subject.to_owned(), request) => reply,
            error = watch.broken(subject) => return Err(error),
        };
        reply.map_err(|e| match e.kind() {
            RequestErrorKind::NoResponders => BusError::Nobody { subject: subject.to_owned() },
            // The reply is lost with the link, though that may stand again.
            RequestErrorKind::TimedOut if watch.is_broken() => BusError::Disconnected { what: subject.to_owned() },
            RequestErrorKind::TimedOut => {
                BusError::Deadline { subject: subject.to_owned(), ms: call.time().as_millis() }
            }
            _ => BusError::client(subject, e),
        })
    }
}

/// Reads a reply, or the error that it is.
fn read<M: Message>(reply: &async_nats::Message) -> Result<M, BusError> {
    let headers = reply.headers.as_ref();
    if let Some(fault) = codec::fault(headers) {
        return Err(fault.into());
    }
    decode(reply)
}

/// Reads the body of a reply that is no error.
fn decode<M: Message>(reply: &async_nats::Message) -> Result<M, BusError> {
    let kind = codec::text(reply.headers.as_ref(), header::CONTENT_TYPE);
    codec::decode(kind, &reply.payload).map_err(|e| unreadable(&reply.subject, &e))
}

fn unreadable(subject: &str, why: &Fault) -> BusError {
    Fault::failed(format!("the answer on {subject} can't be read: {why}")).into()
}

/// Tells whoever works on a request to stop, if the caller goes away before the answer is whole.
#[derive(Debug)]
struct CancelOnDrop {
    armed: Option<(Bus, subject::Capability, String)>,
    until: Instant,
}

impl CancelOnDrop {
    fn new(bus: &Bus, capability: subject::Capability, request: &str, call: &Call) -> Self {
        Self { armed: Some((bus.clone(), capability, request.to_owned())), until: Instant::now() + call.time() }
    }

    fn disarm(&mut self) {
        self.armed = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some((bus, capability, request)) = self.armed.take() else { return };
        let until = self.until;
        // Dropped outside a runtime there is no connection left either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // While the link is down the worker goes on, so it is told later; at the deadline it stops by itself.
                if tokio::time::timeout_at(until.into(), bus.until_up()).await.is_err() {
                    return;
                }
                let subject = subject::cancel(capability, &request);
                if let Err(error) = bus.inner.control.publish(&subject.into(), None, None, Bytes::new()).await {
                    tracing::debug!(%error, "a request could not be cancelled");
                }
            });
        }
    }
}
