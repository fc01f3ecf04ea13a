//! What was said and done: the JetStream stream SESSIONS.
//!
//! A [`SessionLog`] appends in the order it is told, from one task a host. An append is fenced by the last sequence of
//! its session, so that two hosts that write one session do not overwrite each other's view, and has an id, so that one
//! that is tried again is not kept twice. While the server is away appends wait, and go in when it is back: a session
//! has no gap. What waits is bounded, see [`QueueSettings`]; a host that ends meanwhile leaves it to its next run.

mod queue;
mod read;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::task::AbortHandle;
use ulid::Ulid;

use super::codec::{self, Format, header};
use super::error::BusError;
use super::message::Message as _;
use super::message::fault::Fault;
use super::message::session::{SessionEvent, What};
use super::{Bus, HEALTH, copies, subject};
use crate::telemetry::health::Part;
use crate::telemetry::metrics::{SESSION_EVENTS, SESSION_LOST};
use queue::Queue;
pub use queue::QueueSettings;
pub use read::{Reader, Summary, each, history, ids, last_reply, list};

/// The stream's name.
pub const STREAM: &str = "SESSIONS";
/// Within this time the server recognizes an event that is appended again.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The subject that the fence counts; the fence's own header knows only the message's exact subject.
const FENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Appends to sessions. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SessionLog {
    bus: Bus,
    open: Arc<Open>,
}

/// The queue, until nobody appends any more.
#[derive(Debug)]
struct Open {
    queue: Arc<Queue>,
    writer: AbortHandle,
    is_kept: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl SessionLog {
    /// Makes sure of the stream, and starts to append. What waits is in memory alone.
    ///
    /// # Errors
    /// [`BusError::JetStream`] when the server has none.
    pub async fn start(bus: &Bus) -> Result<Self, BusError> {
        Self::start_with(bus, QueueSettings::default()).await
    }

    /// The same with a file for what does not fit into memory; first of all what an earlier run has left there is kept.
    ///
    /// # Errors
    /// [`BusError::JetStream`] when the server has none, [`BusError::Client`] when the file can't be read.
    pub async fn start_with(bus: &Bus, settings: QueueSettings) -> Result<Self, BusError> {
        let stream = if !settings.unkept || bus.has_jetstream().await {
            Some(ensure(bus).await?)
        } else {
            tracing::warn!("the NATS server has no JetStream: sessions are told, but not kept");
            None
        };
        let file = settings.file.clone().unwrap_or_default();
        let failed = |e| BusError::client(format!("session events that wait in {}", file.display()), e);
        let queue = Arc::new(Queue::open(settings).map_err(failed)?);
        match queue.recovered() {
            0 => {}
            events => tracing::info!(events, "session events of an earlier run are kept now"),
        }
        let is_kept = stream.is_some();
        let writer = Writer {
            bus: bus.clone(),
            context: bus.inner.control.jetstream(),
            stream,
            last: HashMap::new(),
            known: HashMap::new(),
            health: Part::new(HEALTH, "sessions"),
        };
        writer.health.up();
        let writer = tokio::spawn(writer.run(Arc::clone(&queue))).abort_handle();
        Ok(Self { bus: bus.clone(), open: Arc::new(Open { queue, writer, is_kept }) })
    }

    /// Whether events are kept, and can be read back; otherwise they are told and forgotten.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.open.is_kept
    }

    /// Takes an event down. Waits only when there is no room for more, for 5 s at most; then the event is lost, which is
    /// logged, counted and reported.
    pub async fn append(&self, session: &str, turn: Option<Ulid>, what: What) {
        self.push(Ulid::generate().to_string(), session, turn, what).await;
    }

    /// Takes down what a turn has one of, such as its utterance: when another host takes the turn up and tells it again,
    /// the server sees that it has it already.
    pub async fn append_once(&self, session: &str, turn: Ulid, what: What) {
        self.push(format!("{turn}-{}", what.kind()), session, Some(turn), what).await;
    }

    /// The same, and waits until the server has it, for `patience` at most: whoever is told of it now may rely on it,
    /// even if this host is killed in the next moment. While the server is away nobody waits. Gives whether it has it.
    pub async fn append_once_kept(&self, session: &str, turn: Ulid, what: What, patience: Duration) -> bool {
        let number = self.push(format!("{turn}-{}", what.kind()), session, Some(turn), what).await;
        let Some(number) = number.filter(|_| self.bus.is_up()) else { return false };
        let kept = self.open.queue.is_done(number, patience).await;
        if !kept {
            tracing::debug!(session, "the server takes its time to keep an event");
        }
        kept
    }

    /// Gives the event's number in the queue, unless there is no room for it.
    async fn push(&self, id: String, session: &str, turn: Option<Ulid>, what: What) -> Option<u64> {
        let event = SessionEvent {
            id,
            session: session.to_owned(),
            turn: turn.map(|turn| turn.to_string()),
            at: now(),
            node: self.bus.node().to_owned(),
            what,
        };
        let kind = event.what.kind();
        let pushed = self.open.queue.push(event).await;
        if let Err(why) = &pushed {
            metrics::counter!(SESSION_LOST).increment(1);
            tracing::error!(session, kind, why, "a session event is lost");
            let text = format!(
                "an event of session {session} is lost, there is no room for it: {why}; bring the NATS server back"
            );
            self.bus.report(&Fault::unavailable(text)).await;
        }
        pushed.ok()
    }

    /// Waits until everything is appended. `false` if `deadline` passes first.
    pub async fn flush(&self, deadline: Duration) -> bool {
        let mut waiting = self.open.queue.waiting();
        tokio::time::timeout(deadline, waiting.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// Leaves what still waits to the next run of this host; gives how many events that are. Nothing is appended after it.
    ///
    /// # Errors
    /// There is no file, or it can't be written.
    pub fn park(&self) -> std::io::Result<usize> {
        self.open.writer.abort();
        self.open.queue.park()
    }
}

/// The time in RFC 3339, to the millisecond, in UTC.
#[must_use]
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
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
        num_replicas: bus.replicas(),
        ..Config::default()
    };
    let failed = |e: &dyn std::fmt::Display| BusError::jetstream(format!("the stream {STREAM}"), bus.no_jetstream(e));
    let context = bus.inner.control.jetstream();
    let link = &bus.inner.control;
    let made = async { copies::place(bus, || context.get_or_create_stream(&config)).await.map_err(|e| failed(&e)) };
    let stream = link.keep(STREAM, made).await?;
    copies::raise(bus, &stream).await?;
    Ok(stream)
}

struct Writer {
    bus: Bus,
    context: Context,
    /// `None`: events are told, but not kept.
    stream: Option<Stream>,
    /// The last sequence of each session that was written lately.
    last: HashMap<String, u64>,
    /// Ids of the sessions to which an earlier run's events belong.
    known: HashMap<String, HashSet<String>>,
    health: Part,
}

/// Sessions whose last sequence is remembered; beyond that it is asked for anew.
const REMEMBERED: usize = 1_024;

impl Writer {
    async fn run(mut self, queue: Arc<Queue>) {
        while let Some(event) = queue.next().await {
            // A run that was killed may have appended some of those that it has left.
            let is_known = queue.recovered() > 0 && self.knows(&event).await;
            if !is_known {
                self.append(&event).await;
            }
            queue.done();
            if queue.recovered() == 0 {
                self.known.clear();
            }
        }
    }

    /// Whether the session has the event.
    async fn knows(&mut self, event: &SessionEvent) -> bool {
        if !self.known.contains_key(&event.session) {
            let ids = loop {
                match self.ids_of(&event.session).await {
                    Ok(ids) => break ids,
                    Err(error) => tracing::debug!(%error, "what is kept of a session is asked for again"),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.bus.until_up().await;
            };
            self.known.insert(event.session.clone(), ids);
        }
        self.known.get(&event.session).is_some_and(|ids| ids.contains(&event.id))
    }

    async fn ids_of(&self, session: &str) -> Result<HashSet<String>, BusError> {
        let mut reader = Reader::open(&self.bus, session).await?;
        let mut ids = HashSet::new();
        while let Some(event) = reader.next().await? {
            ids.insert(event.id);
        }
        reader.close().await;
        Ok(ids)
    }

    /// Tries until the event is kept. Only one that can never be (it can't be written, or is too large) is given up.
    async fn append(&mut self, event: &SessionEvent) {
        let body = match codec::encode(event, Format::Json) {
            Ok(body) => body,
            Err(fault) => return lost(&fault),
        };
        if let Err(error) = self.bus.inner.control.check_size("a session event", body.len()) {
            return lost(&error);
        }
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times();
        for (attempt, pause) in backoff.build().enumerate() {
            match self.attempt(event, body.clone()).await {
                Ok(()) => {
                    self.health.up();
                    return metrics::counter!(SESSION_EVENTS).increment(1);
                }
                Err(error) if attempt == 2 => {
                    self.health.down(&format!("session events wait for the server: {error}"));
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
        if self.stream.is_none() {
            return self.tell(subject, body).await;
        }
        let mut watch = self.bus.inner.control.watch(&subject)?;
        let expected = match self.last.get(&event.session) {
            Some(sequence) => *sequence,
            None => match self.read_last(&subject::session_all(&event.session)).await? {
                Some((_, id)) if id == event.id => return Ok(()),
                Some((sequence, _)) => {
                    // What a turn has one of another host may have written so long ago that the server knows its id no more.
                    if self.read_last(&subject).await?.is_some_and(|(_, id)| id == event.id) {
                        return Ok(());
                    }
                    sequence
                }
                None => 0,
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
                // That of an event that was there already is its own, and not the last.
                let last = if ack.duplicate { expected } else { ack.sequence };
                self.last.insert(event.session.clone(), last);
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

    /// Publishes an event that nothing keeps.
    async fn tell(&self, subject: String, body: bytes::Bytes) -> Result<(), BusError> {
        let mut headers = async_nats::HeaderMap::new();
        codec::set(&mut headers, header::CONTENT_TYPE, Format::Json.content_type());
        codec::set(&mut headers, header::SCHEMA, SessionEvent::SCHEMA);
        self.bus.inner.control.publish(&subject.into(), None, Some(headers), body).await
    }

    /// The sequence and the id of the last event on a session's subject.
    async fn read_last(&mut self, subject: &str) -> Result<Option<(u64, String)>, BusError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind::NoMessageFound;
        let Some(stream) = &self.stream else { return Ok(None) };
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => {
                let id = codec::text(Some(&message.headers), MESSAGE_ID).to_owned();
                Ok(Some((message.sequence, id)))
            }
            Err(error) if error.kind() == NoMessageFound => Ok(None),
            Err(error) => {
                // The stream may have to be made anew, if the server lost its store.
                if let Ok(stream) = ensure(&self.bus).await {
                    self.stream = Some(stream);
                }
                Err(BusError::jetstream(format!("reading the end of {subject}"), error))
            }
        }
    }
}

/// An event that can never be kept.
fn lost(why: &dyn std::fmt::Display) {
    metrics::counter!(SESSION_LOST).increment(1);
    tracing::error!(%why, "a session event can't be kept and is lost");
}
