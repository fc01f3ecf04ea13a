//! One connection to NATS, and knowing when it is down.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, ServerAddr, ServerError, Subject};
use bytes::Bytes;
use futures::StreamExt as _;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tokio::time::timeout;

use super::access::Access;
use super::error::BusError;
use crate::telemetry::metrics::{NATS_RECONNECTS, NATS_UP};
use crate::wire::subject::{self, reserved};

/// Dead connections are noticed after two missed pings; the client's own default would take minutes.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a round trip through the server may take before the connection counts as broken.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a refusal, once it has arrived, may take to be noted.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(50);
/// About how long the client's events come after what they tell of.
const EVENT_LAG: Duration = Duration::from_millis(10);
/// Messages that a subscription holds before it drops the newest; gaps in `Seq` tell.
const SUBSCRIPTION_CAPACITY: usize = 4_096;
/// Header bytes that are added to a body at most, short of an error's text.
const HEADER_ALLOWANCE: usize = 1_024;

/// Refusals by the server that are remembered: those of one round trip.
const REFUSALS: usize = 16;

/// Whether the connection stands, how often it was lost, and what the server refused last.
#[derive(Debug, Clone, Default)]
struct ConnectionState {
    standing: Arc<ConnectionHealth>,
    /// How many refusals there were, and the latest of them, newest first.
    refusals: u64,
    refused: VecDeque<Refusal>,
}

/// Read for every message: beside the rest, whose lock all streams would meet at.
#[derive(Debug, Default)]
struct ConnectionHealth {
    down: AtomicBool,
    losses: AtomicU64,
}

impl ConnectionHealth {
    fn is_up(&self) -> bool {
        !self.down.load(Ordering::Acquire)
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }
}

impl ConnectionState {
    fn losses(&self) -> u64 {
        self.standing.losses()
    }

    fn was_found(&mut self) {
        self.standing.down.store(false, Ordering::Release);
    }

    fn was_lost(&mut self) {
        self.standing.down.store(true, Ordering::Release);
        self.standing.losses.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the server has refused to publish on `subject`, after its first `before` refusals.
    fn has_refused(&self, subject: &str, before: u64) -> bool {
        self.since(before).any(|refusal| *refusal == Refusal::Publish(subject.to_owned()))
    }

    /// A subject of `subjects` that may not be heard, as the server has said after its first `before` refusals.
    fn unheard(&self, subjects: &[String], before: u64) -> Option<String> {
        self.since(before).find_map(|refusal| match refusal {
            Refusal::Hear(subject) if subjects.contains(subject) => Some(subject.clone()),
            _ => None,
        })
    }

    /// What may not be asked about the stream or bucket `place`.
    fn unkept(&self, place: &str, before: u64) -> Option<String> {
        self.since(before).find_map(|refusal| match refusal {
            Refusal::Publish(subject)
                if subject == reserved::JETSTREAM || (subject.starts_with('$') && subject.contains(place)) =>
            {
                Some(subject.clone())
            }
            _ => None,
        })
    }

    fn since(&self, before: u64) -> impl Iterator<Item = &Refusal> {
        let new = usize::try_from(self.refusals.saturating_sub(before)).unwrap_or(REFUSALS);
        self.refused.iter().take(new)
    }
}

/// What the server's permissions forbid.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    /// Publishing on a subject.
    Publish(String),
    /// Hearing a subject.
    Hear(String),
}

impl Refusal {
    /// Reads a server's error, such as `Permissions Violation for Publish to "llm.chat"`; `None` if it is another.
    fn parse(error: &str) -> Option<Self> {
        let subject = error.split('"').nth(1)?.to_owned();
        let lower = error.to_ascii_lowercase();
        let is = |what: &str| lower.starts_with(&format!("permissions violation for {what}"));
        if is("publish") {
            return Some(Self::Publish(subject));
        }
        is("subscription").then_some(Self::Hear(subject))
    }
}

/// A connection. Cloning shares it.
#[derive(Clone, Debug)]
pub(in crate::bus) struct NatsConnection {
    pub(in crate::bus) client: Client,
    /// Who this is to the server.
    user: String,
    standing: Arc<ConnectionHealth>,
    state: watch::Receiver<ConnectionState>,
}

impl NatsConnection {
    /// Connects by `access`, once; `name` is shown in the server's connection list, `kind` in the metrics. Several
    /// addresses, of which any will do, are separated by commas.
    pub(in crate::bus) async fn connect(access: &Access, name: &str, kind: &'static str) -> Result<Self, BusError> {
        let url = &access.url;
        let failed = |why: String| BusError::Connect { url: without_password(url), why };
        let servers: Result<Vec<ServerAddr>, _> = url.split(',').map(|address| address.trim().parse()).collect();
        let servers = servers.map_err(|e| failed(e.to_string()))?;
        // What a cluster says of its other servers has no scheme: they must not be had without TLS either.
        let tls = servers.iter().any(|server| server.scheme() == "tls");
        let (sender, state) = watch::channel(ConnectionState::default());
        let standing = Arc::clone(&state.borrow().standing);
        let label = name.to_owned();
        let client = with_login(access.options()?, &servers)
            .require_tls(tls || access.tls_ca.is_some() || access.tls_cert.is_some())
            .custom_inbox_prefix(subject::inbox(&access.user))
            .name(name)
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .reconnect_delay_callback(|attempt| {
                // The client waits before its first attempt as well: that one must cost nothing.
                let pauses = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(5);
                Duration::from_millis(50 * (2u64.pow(pauses) - 1)).min(Duration::from_secs(1))
            })
            .event_callback(move |event| {
                note(&label, kind, &event, &sender);
                async {}
            })
            .connect(servers)
            .await
            .map_err(|e| match e.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    BusError::Login { url: without_password(url), why: describe(&e) }
                }
                _ => failed(describe(&e)),
            })?;
        let connection = Self { client, user: access.user.clone(), standing, state };
        connection.ready().await?;
        Ok(connection)
    }

    /// JetStream by this connection.
    pub(in crate::bus) fn jetstream(&self) -> Context {
        jetstream::new(self.client.clone())
    }

    /// Whether the connection stands right now.
    pub(in crate::bus) fn is_up(&self) -> bool {
        // The client knows a moment before its events tell.
        self.standing.is_up() && self.client.connection_state() == State::Connected
    }

    /// Waits until the connection stands.
    pub(in crate::bus) async fn until_up(&self) {
        let mut state = self.state.clone();
        // An error means that the client is gone; then nothing waits for it either.
        while state.wait_for(|state| state.standing.is_up()).await.is_ok() && !self.is_up() {
            // The client knows of a loss, or of a connection, that its events are yet to tell.
            tokio::time::sleep(EVENT_LAG).await;
        }
    }

    /// Fails at once if the connection is down: the client would keep the message and deliver it stale.
    pub(in crate::bus) fn check(&self, what: &str) -> Result<(), BusError> {
        if self.is_up() { Ok(()) } else { Err(BusError::Disconnected { what: what.to_owned() }) }
    }

    /// Completes when the connection is lost after this call. Replies to what was sent before will not come any more.
    pub(in crate::bus) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.state.clone();
        let before = state.borrow_and_update().losses();
        async move {
            if state.wait_for(|state| state.losses() > before).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Starts to watch over a request on `subject`, before it is sent. Fails at once if the connection is down.
    pub(in crate::bus) fn watch(&self, subject: &str) -> Result<DeliveryWatch, BusError> {
        let state = self.state.clone();
        let (losses, refusals) = {
            let now = state.borrow();
            (now.losses(), now.refusals)
        };
        // Looked at after the count was taken, so that a loss in between is seen by one or the other.
        self.check(subject)?;
        Ok(DeliveryWatch { standing: Arc::clone(&self.standing), state, losses, refusals })
    }

    /// A place where readers acknowledge.
    pub(in crate::bus) fn new_credit(&self) -> String {
        let inbox = self.client.new_inbox();
        subject::credit(&self.user, inbox.rsplit('.').next().unwrap_or_default())
    }

    /// How much the server has refused so far.
    pub(in crate::bus) fn refusals(&self) -> u64 {
        self.state.borrow().refusals
    }

    /// Waits until every subscription made on this connection stands; fails if the server has refused one of `subjects`
    /// since `before`. A refusal that is noted too late for this is heard of by [`NatsConnection::unheard`].
    pub(in crate::bus) async fn stand(&self, subjects: &[String], before: u64) -> Result<(), BusError> {
        self.ready().await?;
        // A refusal comes before the message that came back, but it is noted by another task. Only a server with users
        // refuses anything.
        if !self.client.server_info().auth_required {
            return Ok(());
        }
        timeout(REFUSAL_TIMEOUT, self.unheard(subjects, before)).await.map_or(Ok(()), Err)
    }

    /// Completes when the server has refused to let one of `subjects` be heard since `before`.
    pub(in crate::bus) async fn unheard(&self, subjects: &[String], before: u64) -> BusError {
        let mut state = self.state.clone();
        let mut subject = String::new();
        let found =
            state.wait_for(|state| state.unheard(subjects, before).inspect(|it| subject.clone_from(it)).is_some());
        if found.await.is_err() {
            // The client is gone, and with it the task that waits.
            std::future::pending::<()>().await;
        }
        BusError::DeniedHearing { user: self.user.clone(), subject }
    }

    /// Works with the stream or bucket `place`; fails at once if the server refuses a request about it, which the client
    /// itself would wait for in vain.
    pub(in crate::bus) fn keep<T, E: From<BusError>, W: Future<Output = Result<T, E>>>(
        &self,
        place: &str,
        work: W,
    ) -> impl Future<Output = Result<T, E>> {
        // What works with JetStream is large, and each future that has it in itself doubles it: enough, in some levels, for
        // the stack of a thread.
        let work = Box::pin(work);
        async move {
            let mut state = self.state.clone();
            let before = state.borrow_and_update().refusals;
            let mut subject = String::new();
            let refused = async {
                let refused =
                    state.wait_for(|state| state.unkept(place, before).inspect(|it| subject.clone_from(it)).is_some());
                if refused.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                result = work => result,
                () = refused => Err(BusError::Denied { subject }.into()),
            }
        }
    }

    /// Checks that `bytes` of body fit into one message.
    pub(in crate::bus) fn check_size(&self, what: impl std::fmt::Display, bytes: usize) -> Result<(), BusError> {
        let max = self.max_body();
        if bytes <= max {
            return Ok(());
        }
        Err(BusError::TooLarge { what: what.to_string(), bytes, max })
    }

    /// The largest body that surely fits into one message beside its headers.
    pub(in crate::bus) fn max_body(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_ALLOWANCE)
    }

    /// Waits until every subscription made on this connection stands. `flush` alone is no proof of that: the proof is
    /// that a message sent after them comes back.
    pub(in crate::bus) async fn ready(&self) -> Result<(), BusError> {
        let (inbox, before) = (self.client.new_inbox(), self.refusals());
        let failed = |why: String| BusError::client("a round trip through the server", why);
        let mut echo = self.client.subscribe(inbox.clone()).await.map_err(|e| failed(e.to_string()))?;
        self.client.publish(inbox.clone(), Bytes::new()).await.map_err(|e| failed(e.to_string()))?;
        let own = [inbox];
        let back = async {
            tokio::select! {
                back = echo.next() => Ok(back),
                error = self.unheard(&own, before) => Err(error),
            }
        };
        match timeout(READY_TIMEOUT, back).await {
            Ok(Err(_)) => Err(BusError::Name { user: self.user.clone() }),
            Ok(Ok(Some(_))) => Ok(()),
            Ok(Ok(None)) => Err(failed("the connection was closed".to_owned())),
            Err(_) => Err(failed(format!("nothing came back within {} s", READY_TIMEOUT.as_secs()))),
        }
    }

    /// Publishes, if the connection stands.
    pub(in crate::bus) async fn publish(
        &self,
        subject: &Subject,
        reply: Option<Subject>,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<(), BusError> {
        self.check(subject)?;
        self.check_size(subject, body.len())?;
        let to = subject.clone();
        match (reply, headers) {
            (Some(reply), Some(headers)) => self.client.publish_with_reply_and_headers(to, reply, headers, body).await,
            (Some(reply), None) => self.client.publish_with_reply(to, reply, body).await,
            (None, Some(headers)) => self.client.publish_with_headers(to, headers, body).await,
            (None, None) => self.client.publish(to, body).await,
        }
        .map_err(|e| BusError::client(subject.as_str(), e))
    }
}

/// Logs in with what the address says (`nats://user:password@host`, `nats://token@host`): the client leaves that out.
fn with_login(options: ConnectOptions, servers: &[ServerAddr]) -> ConnectOptions {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match servers.iter().find_map(|server| Some((server.username()?, server.password()))) {
        Some((user, Some(password))) => options.user_and_password(plain(user), plain(password)),
        Some((token, None)) => options.token(plain(token)),
        None => options,
    }
}

/// Watches over what was sent on a connection.
#[derive(Debug)]
pub(in crate::bus) struct DeliveryWatch {
    standing: Arc<ConnectionHealth>,
    state: watch::Receiver<ConnectionState>,
    losses: u64,
    refusals: u64,
}

impl DeliveryWatch {
    /// Whether the connection was lost since.
    pub(in crate::bus) fn is_broken(&self) -> bool {
        self.standing.losses() != self.losses
    }

    /// Completes when no answer can come any more: the connection was lost, or the server refused the request. Safe to drop
    /// and call again.
    pub(in crate::bus) async fn broken(&mut self, subject: &str) -> BusError {
        let (losses, refusals) = (self.losses, self.refusals);
        match self.state.wait_for(|state| state.losses() != losses || state.has_refused(subject, refusals)).await {
            Ok(state) if state.losses() == losses => BusError::Denied { subject: subject.to_owned() },
            _ => BusError::Disconnected { what: subject.to_owned() },
        }
    }
}

fn note(label: &str, kind: &'static str, event: &Event, state: &watch::Sender<ConnectionState>) {
    match event {
        Event::Connected => {
            tracing::debug!(connection = label, "connected to NATS");
            if state.borrow().losses() > 0 {
                metrics::counter!(NATS_RECONNECTS, "connection" => kind).increment(1);
            }
            metrics::gauge!(NATS_UP, "connection" => kind).set(1.0);
            state.send_modify(ConnectionState::was_found);
        }
        Event::Disconnected => {
            tracing::warn!(connection = label, "the connection to NATS dropped; reconnecting");
            metrics::gauge!(NATS_UP, "connection" => kind).set(0.0);
            state.send_modify(ConnectionState::was_lost);
        }
        Event::Closed => {
            tracing::debug!(connection = label, "the connection to NATS is closed");
            state.send_modify(ConnectionState::was_lost);
        }
        // The only place where a denied permission shows: the publish itself returned Ok.
        Event::ServerError(ServerError::AuthorizationViolation) => {
            tracing::error!(connection = label, "NATS denied this host's login");
        }
        Event::ServerError(error) => {
            tracing::error!(connection = label, %error, "NATS refused something");
            if let ServerError::Other(text) = error
                && let Some(refusal) = Refusal::parse(text)
            {
                state.send_modify(|state| {
                    state.refusals += 1;
                    state.refused.truncate(REFUSALS - 1);
                    state.refused.push_front(refusal);
                });
            }
        }
        Event::SlowConsumer(id) => {
            tracing::warn!(connection = label, subscription = id, "a reader is too slow; messages were dropped");
        }
        event => tracing::info!(connection = label, %event, "NATS"),
    }
}

/// The error with its causes, since the outermost one says little.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// The address without what must not be seen.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_subject() {
        let parse = |text: &str| Refusal::parse(text);
        let subject = "llm.chat".to_owned();
        assert_eq!(parse("Permissions Violation for Publish to \"llm.chat\""), Some(Refusal::Publish(subject.clone())));
        for text in [
            "Permissions Violation for Subscription to \"llm.chat\"",
            "Permissions Violation for Subscription to \"llm.chat\" using queue \"llm\"",
        ] {
            assert_eq!(parse(text), Some(Refusal::Hear(subject.clone())));
        }
        assert_eq!(parse("Maximum Payload Violation"), None);
    }

    #[test]
    fn passwords_stay_out_of_errors() {
        assert_eq!(without_password("nats://me:secret@host:4222"), "nats://…@host:4222");
        assert_eq!(without_password("nats://host:4222"), "nats://host:4222");
    }
}
