//! What was said and done: the JetStream stream SESSIONS.
//!
//! A [`SessionLog`] appends in the order it is told, from one task a host. An append is fenced by the last sequence of
//! its session, so that two hosts that write one session do not overwrite each other's view, and has an id, so that one
//! that is tried again is not kept twice. While the server is away appends wait, and go in when it is back: a session
//! has no gap.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::StreamExt as _;
use tokio::sync::{mpsc, watch};
use ulid::Ulid;

use super::Bus;
use super::codec::{self, Format, header};
use super::error::BusError;
use super::message::Message as _;
use super::message::session::{SessionEvent, What};
use super::subject;

/// The stream's name.
pub const STREAM: &str = "SESSIONS";
/// Events that wait to be appended. When it is full, whoever appends waits: nothing is dropped.
const QUEUE: usize = 1_024;
/// Within this time the server recognizes an event that is appended again.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The subject that the fence counts; the fence's own header knows only the message's exact subject.
const FENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Appends to sessions. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SessionLog {
    bus: Bus,
    queue: mpsc::Sender<SessionEvent>,
    waiting: watch::Receiver<usize>,
    count: Arc<watch::Sender<usize>>,
}

impl SessionLog {
    /// Makes sure of the stream, and starts to append.
    ///
    /// # Errors
    /// [`BusError::JetStream`] when the server has none.
    pub async fn start(bus: &Bus) -> Result<Self, BusError> {
        let stream = ensure(bus).await?;
        let (queue, events) = mpsc::channel(QUEUE);
        let (count, waiting) = watch::channel(0);
        let count = Arc::new(count);
        let writer = Writer { bus: bus.clone(), context: context(bus), stream, last: HashMap::new() };
        tokio::spawn(writer.run(events, Arc::clone(&count)));
        Ok(Self { bus: bus.clone(), queue, waiting, count })
    }

    /// Takes an event down. Waits only when very many wait already.
    pub async fn append(&self, session: &str, turn: Option<Ulid>, what: What) {
        self.push(Ulid::generate().to_string(), session, turn, what).await;
    }

    /// Takes down what a turn has one of, such as its utterance: when another host takes the turn up and tells it again,
    /// the server sees that it has it already.
    pub async fn append_once(&self, session: &str, turn: Ulid, what: What) {
        self.push(format!("{turn}-{}", what.kind()), session, Some(turn), what).await;
    }

    async fn push(&self, id: String, session: &str, turn: Option<Ulid>, what: What) {
        let event = SessionEvent {
            id,
            session: session.to_owned(),
            turn: turn.map(|turn| turn.to_string()),
            at: now(),
            node: self.bus.node().to_owned(),
            what,
        };
        match self.queue.reserve().await {
            Ok(place) => {
                self.count.send_modify(|count| *count += 1);
                place.send(event);
            }
            Err(_) => tracing::error!(session, "a session event was lost: the writer has ended"),
        }
    }

    /// Waits until everything is appended. `false` if `deadline` passes first.
    pub async fn flush(&self, deadline: Duration) -> bool {
        let mut waiting = self.waiting.clone();
        tokio::time::timeout(deadline, waiting.wait_for(|count| *count == 0)).await.is_ok()
    }
}

/// The time in RFC 3339, to the millisecond, in UTC.
#[must_use]
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn context(bus: &Bus) -> Context {
    jetstream::new(bus.inner.control.client.clone())
}

/// Makes the stream if it is not there.
async fn ensure(bus: &Bus) -> Result<Stream, BusError> {
    let config = Config {
        name: STREAM.to_owned(),
        description: Some("what was said and done".to_owned()),
        subjects: vec![subject::SESSIONS.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    };
    context(bus)
        .get_or_create_stream(config)
        .await
        .map_err(|e| BusError::jetstream(format!("the stream {STREAM}"), format!("{e}; start nats-server with -js")))
}

struct Writer {
    bus: Bus,
    context: Context,
    stream: Stream,
    /// The last sequence of each session that was written lately.
    last: HashMap<String, u64>,
}

/// Sessions whose last sequence is remembered; beyond that it is asked for anew.
const REMEMBERED: usize = 1_024;

impl Writer {
    async fn run(mut self, mut events: mpsc::Receiver<SessionEvent>, count: Arc<watch::Sender<usize>>) {
        while let Some(event) = events.recv().await {
            self.append(&event).await;
            count.send_modify(|count| *count -= 1);
        }
    }

    /// Tries until the event is kept. Only one that can never be (it can't be written, or is too large) is given up.
    async fn append(&mut self, event: &SessionEvent) {
        let body = match codec::encode(event, Format::Json) {
            Ok(body) => body,
            Err(fault) => return tracing::error!(%fault, "a session event can't be written"),
        };
        if let Err(error) = self.bus.inner.control.check_size("a session event", body.len()) {
            return tracing::error!(%error, "a session event can't be kept");
        }
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times();
        for (attempt, pause) in backoff.build().enumerate() {
            match self.attempt(event, body.clone()).await {
                Ok(()) => return,
                Err(error) if attempt == 2 => {
                    tracing::warn!(%error, session = event.session, "session events wait for the server");
                }
                Err(error) => tracing::debug!(%error, attempt, "a session event is tried again"),
            }
            tokio::time::sleep(pause).await;
            self.bus.until_up().await;
        }
    }

    async fn attempt(&mut self, event: &SessionEvent, body: bytes::Bytes) -> Result<(), BusError> {
        let subject = subject::session(&event.session, event.what.kind());
        let mut watch = self.bus.inner.control.watch(&subject)?;
        let expected = match self.last.get(&event.session) {
            Some(sequence) => *sequence,
            None => match self.read_last(&event.session).await? {
                Some((_, id)) if id == event.id => return Ok(()),
                last => last.map_or(0, |(sequence, _)| sequence),
            },
        };
        let message = PublishMessage::build()
            .header(header::CONTENT_TYPE, Format::Json.content_type())
            .header(header::SCHEMA, SessionEvent::SCHEMA)
            .header(FENCE_SUBJECT, subject::session_all(&event.session))
            .message_id(&event.id)
            .expected_last_subject_sequence(expected)
            .payload(body);
        let sent = async { self.context.send_publish(subject.clone(), message).await?.await };
        let sent = tokio::select! {
            biased;
            sent = sent => sent,
            error = watch.broken(&subject) => {
                self.last.remove(&event.session);
                return Err(error);
            }
        };
        match sent {
            Ok(ack) => {
                if self.last.len() >= REMEMBERED {
                    self.last.clear();
                }
                self.last.insert(event.session.clone(), ack.sequence);
                Ok(())
            }
            Err(error) => {
                // After a lost acknowledgement the server says 'wrong sequence', not 'duplicate': the next attempt reads
                // the last message and finds that it is this one. Or another host has written the session.
                self.last.remove(&event.session);
                let what =
                    if error.kind() == PublishErrorKind::WrongLastSequence { "a fenced append" } else { "an append" };
                Err(BusError::jetstream(format!("{what} to {STREAM}"), error))
            }
        }
    }

    /// The sequence and the id of a session's last event.
    async fn read_last(&mut self, session: &str) -> Result<Option<(u64, String)>, BusError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind::NoMessageFound;
        match self.stream.get_last_raw_message_by_subject(&subject::session_all(session)).await {
            Ok(message) => {
                let id = codec::text(Some(&message.headers), MESSAGE_ID).to_owned();
                Ok(Some((message.sequence, id)))
            }
            Err(error) if error.kind() == NoMessageFound => Ok(None),
            Err(error) => {
                // The stream may have to be made anew, if the server lost its store.
                if let Ok(stream) = ensure(&self.bus).await {
                    self.stream = stream;
                }
                Err(BusError::jetstream(format!("reading the end of session {session}"), error))
            }
        }
    }
}

/// The last events of a session, oldest first; at most `limit`, at least one if there is one.
///
/// # Errors
/// [`BusError::Disconnected`] while the link is down, [`BusError::JetStream`] when the stream can't be read in time.
pub async fn history(bus: &Bus, session: &str, limit: usize) -> Result<Vec<SessionEvent>, BusError> {
    let what = format!("reading session {session}");
    bus.inner.control.check(&what)?;
    let read = async {
        let stream = ensure(bus).await?;
        let config = jetstream::consumer::pull::OrderedConfig {
            filter_subject: subject::session_all(session),
            ..Default::default()
        };
        let failed = |error: &dyn std::fmt::Display| BusError::jetstream(what.as_str(), error);
        let consumer = stream.create_consumer(config).await.map_err(|e| failed(&e))?;
        let name = consumer.cached_info().name.clone();
        let mut pending = consumer.cached_info().num_pending;
        let mut events = std::collections::VecDeque::new();
        let mut messages = consumer.messages().await.map_err(|e| failed(&e))?;
        while pending > 0 {
            let Some(message) = messages.next().await else { break };
            let message = message.map_err(|e| failed(&e))?;
            pending = message.info().map_err(|e| failed(&e))?.pending;
            // An event of a later version that can't be read is left out, not fatal.
            if let Ok(event) = codec::decode::<SessionEvent>("", &message.payload) {
                if events.len() == limit.max(1) {
                    events.pop_front();
                }
                events.push_back(event);
            }
        }
        // The server would keep it for minutes.
        drop(messages);
        if let Err(error) = stream.delete_consumer(&name).await {
            tracing::debug!(%error, "a consumer of SESSIONS stays until it expires");
        }
        Ok(Vec::from(events))
    };
    tokio::time::timeout(HISTORY_TIMEOUT, read).await.unwrap_or_else(|_| {
        Err(BusError::jetstream(what.as_str(), format!("not done within {} s", HISTORY_TIMEOUT.as_secs())))
    })
}

/// How long reading a session may take.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(5);
