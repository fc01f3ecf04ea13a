//! One connection to NATS, and knowing when it is down.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, ServerAddr, ServerError, Subject};
use bytes::Bytes;
use futures::StreamExt as _;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tokio::time::timeout;

use super::error::BusError;
use crate::telemetry::metrics::{NATS_RECONNECTS, NATS_UP};

/// Dead links are noticed after two missed pings; the client's own default would take minutes.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a round trip through the server may take before the link counts as broken.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// About how long the client's events come after what they tell of.
const EVENT_LAG: Duration = Duration::from_millis(10);
/// Messages that a subscription holds before it drops the newest; gaps in `Seq` tell.
const SUBSCRIPTION_CAPACITY: usize = 4_096;
/// Header bytes that are added to a body at most, short of an error's text.
const HEADER_ALLOWANCE: usize = 1_024;

/// How long the client may take to hand on what the server has refused.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(50);
/// Refusals by the server that are remembered: those of one round trip.
const REFUSALS: usize = 16;

/// Whether the link stands, how often it was lost, and what the server refused last.
#[derive(Debug, Clone, Default)]
struct LinkState {
    up: bool,
    losses: u64,
    /// How many refusals there were, and the latest of them, newest first.
    refusals: u64,
    refused: VecDeque<String>,
}

impl LinkState {
    /// Whether the server has refused to publish on `subject`, after its first `before` refusals.
    fn has_refused(&self, subject: &str, before: u64) -> bool {
        let new = usize::try_from(self.refusals - before).unwrap_or(REFUSALS);
        self.refused.iter().take(new).any(|error| refuses_publish(error, subject))
    }
}

/// A connection. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    state: watch::Receiver<LinkState>,
}

impl Link {
    /// Connects to `url`, once; `name` is shown in the server's connection list, `kind` in the metrics. Several
    /// addresses, of which any will do, are separated by commas.
    pub(super) async fn connect(url: &str, name: &str, kind: &'static str) -> Result<Self, BusError> {
        let failed = |why: String| BusError::Connect { url: without_password(url), why };
        let servers: Result<Vec<ServerAddr>, _> = url.split(',').map(|address| address.trim().parse()).collect();
        let servers = servers.map_err(|e| failed(e.to_string()))?;
        let (sender, state) = watch::channel(LinkState { up: true, ..LinkState::default() });
        let label = name.to_owned();
        let client = with_login(ConnectOptions::new(), &servers)
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
            .map_err(|e| failed(describe(&e)))?;
        let link = Self { client, state };
        link.ready().await?;
        Ok(link)
    }

    /// Whether the connection stands right now.
    pub(super) fn is_up(&self) -> bool {
        // The client knows a moment before its events tell.
        self.client.connection_state() == State::Connected && self.state.borrow().up
    }

    /// Waits until the connection stands.
    pub(super) async fn until_up(&self) {
        let mut state = self.state.clone();
        // An error means that the client is gone; then nothing waits for it either.
        while state.wait_for(|state| state.up).await.is_ok() && !self.is_up() {
            // The client knows of a loss, or of a connection, that its events are yet to tell.
            tokio::time::sleep(EVENT_LAG).await;
        }
    }

    /// Fails at once if the link is down: the client would keep the message and deliver it stale.
    pub(super) fn check(&self, what: &str) -> Result<(), BusError> {
        if self.is_up() { Ok(()) } else { Err(BusError::Disconnected { what: what.to_owned() }) }
    }

    /// Completes when the link is lost after this call. Replies to what was sent before will not come any more.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.state.clone();
        let before = state.borrow_and_update().losses;
        async move {
            if state.wait_for(|state| state.losses > before).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How many refusals by the server there were.
    pub(super) fn refusals(&self) -> u64 {
        self.state.borrow().refusals
    }

    /// Whether the server has let this host subscribe to `subjects`, after its first `before` refusals. To be asked when
    /// the subscriptions would stand, see [`Link::ready`].
    ///
    /// # Errors
    /// [`BusError::Deaf`] when it has not: nothing would ever come.
    pub(super) async fn may_hear(&self, subjects: &[String], before: u64) -> Result<(), BusError> {
        // Without users there are no permissions.
        if !self.client.server_info().auth_required {
            return Ok(());
        }
        let mut state = self.state.clone();
        let refused = |state: &LinkState| {
            let new = usize::try_from(state.refusals - before).unwrap_or(REFUSALS);
            let errors = || state.refused.iter().take(new);
            subjects.iter().find(|subject| errors().any(|error| refuses_subscribe(error, subject))).cloned()
        };
        // The server has said so by now, but events reach us by a way of their own.
        let told = timeout(REFUSAL_TIMEOUT, state.wait_for(|state| refused(state).is_some())).await;
        match told.ok().and_then(|state| refused(&*state.ok()?)) {
            Some(subject) => Err(BusError::Deaf { subject }),
            None => Ok(()),
        }
    }

    /// Starts to watch over a request on `subject`, before it is sent. Fails at once if the link is down.
    pub(super) fn watch(&self, subject: &str) -> Result<Watch, BusError> {
        let state = self.state.clone();
        let (losses, refusals) = {
            let now = state.borrow();
            (now.losses, now.refusals)
        };
        // Looked at after the count was taken, so that a loss in between is seen by one or the other.
        self.check(subject)?;
        Ok(Watch { state, losses, refusals })
    }

    /// Checks that `bytes` of body fit into one message.
    pub(super) fn check_size(&self, what: &str, bytes: usize) -> Result<(), BusError> {
        let max = self.max_body();
        if bytes <= max {
            return Ok(());
        }
        Err(BusError::TooLarge { what: what.to_owned(), bytes, max })
    }

    /// The largest body that surely fits into one message beside its headers.
    pub(super) fn max_body(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_ALLOWANCE)
    }

    /// Waits until every subscription made on this connection stands. `flush` alone is no proof of that: the proof is
    /// that a message sent after them comes back.
    pub(super) async fn ready(&self) -> Result<(), BusError> {
        let inbox = self.client.new_inbox();
        let failed = |why: String| BusError::client("a round trip through the server", why);
        let mut echo = self.client.subscribe(inbox.clone()).await.map_err(|e| failed(e.to_string()))?;
        self.client.publish(inbox, Bytes::new()).await.map_err(|e| failed(e.to_string()))?;
        match timeout(READY_TIMEOUT, echo.next()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(failed("the connection was closed".to_owned())),
            Err(_) => Err(failed(format!("nothing came back within {} s", READY_TIMEOUT.as_secs()))),
        }
    }

    /// Publishes, if the link stands.
    pub(super) async fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<(), BusError> {
        self.check(&subject)?;
        self.check_size(&subject, body.len())?;
        let what = subject.clone();
        match (reply, headers) {
            (Some(reply), Some(headers)) => {
                self.client.publish_with_reply_and_headers(subject, reply, headers, body).await
            }
            (Some(reply), None) => self.client.publish_with_reply(subject, reply, body).await,
            (None, Some(headers)) => self.client.publish_with_headers(subject, headers, body).await,
            (None, None) => self.client.publish(subject, body).await,
        }
        .map_err(|e| BusError::client(what.as_str(), e))
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

/// Watches over what was sent on a link.
#[derive(Debug)]
pub(super) struct Watch {
    state: watch::Receiver<LinkState>,
    losses: u64,
    refusals: u64,
}

impl Watch {
    /// Whether the link was lost since.
    pub(super) fn is_broken(&self) -> bool {
        self.state.borrow().losses != self.losses
    }

    /// Completes when no answer can come any more: the link was lost, or the server refused the request. Safe to drop
    /// and call again.
    pub(super) async fn broken(&mut self, subject: &str) -> BusError {
        let (losses, refusals) = (self.losses, self.refusals);
        match self.state.wait_for(|state| state.losses != losses || state.has_refused(subject, refusals)).await {
            Ok(state) if state.losses == losses => BusError::Denied { subject: subject.to_owned() },
            _ => BusError::Disconnected { what: subject.to_owned() },
        }
    }
}

/// Whether the server's error is about publishing to `subject`.
fn refuses_publish(error: &str, subject: &str) -> bool {
    let quoted = error.split('"').nth(1);
    quoted == Some(subject) && error.to_ascii_lowercase().starts_with("permissions violation for publish")
}

/// Whether the server's error is about subscribing to `subject`.
fn refuses_subscribe(error: &str, subject: &str) -> bool {
    let quoted = error.split('"').nth(1);
    quoted == Some(subject) && error.to_ascii_lowercase().starts_with("permissions violation for subscription")
}

fn note(label: &str, kind: &'static str, event: &Event, state: &watch::Sender<LinkState>) {
    match event {
        Event::Connected => {
            tracing::debug!(connection = label, "connected to NATS");
            if state.borrow().losses > 0 {
                metrics::counter!(NATS_RECONNECTS, "connection" => kind).increment(1);
            }
            metrics::gauge!(NATS_UP, "connection" => kind).set(1.0);
            state.send_modify(|state| state.up = true);
        }
        Event::Disconnected => {
            tracing::warn!(connection = label, "the connection to NATS dropped; reconnecting");
            metrics::gauge!(NATS_UP, "connection" => kind).set(0.0);
            state.send_modify(|state| {
                state.up = false;
                state.losses += 1;
            });
        }
        Event::Closed => {
            tracing::debug!(connection = label, "the connection to NATS is closed");
            state.send_modify(|state| {
                state.up = false;
                state.losses += 1;
            });
        }
        // The only place where a denied permission shows: the publish itself returned Ok.
        Event::ServerError(ServerError::AuthorizationViolation) => {
            tracing::error!(connection = label, "NATS denied this host's login");
        }
        Event::ServerError(error) => {
            tracing::error!(connection = label, %error, "NATS refused something");
            if let ServerError::Other(text) = error {
                state.send_modify(|state| {
                    state.refusals += 1;
                    state.refused.truncate(REFUSALS - 1);
                    state.refused.push_front(text.clone());
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
    fn a_refusal_is_matched_to_its_subject() {
        let text = "Permissions Violation for Publish to \"llm.chat\"";
        assert!(refuses_publish(text, "llm.chat"));
        assert!(!refuses_publish(text, "llm"));
        let text = "Permissions Violation for Subscription to \"llm.chat\" using queue \"llm\"";
        assert!(!refuses_publish(text, "llm.chat"));
        assert!(refuses_subscribe(text, "llm.chat") && !refuses_subscribe(text, "llm"));
    }

    #[test]
    fn passwords_stay_out_of_errors() {
        assert_eq!(without_password("nats://me:secret@host:4222"), "nats://…@host:4222");
        assert_eq!(without_password("nats://host:4222"), "nats://host:4222");
    }
}
