//! Reading sessions back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use futures::StreamExt as _;
use serde::Serialize;
use tokio::time::timeout;

use super::store::ensure;
use crate::bus::connect::{Bus, BusError};
use crate::wire::codec;
use crate::wire::message::session::{SessionEvent, What};
use crate::wire::storage;
use crate::wire::subject::{self, Parsed};

/// How long a whole history, or the next event, may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to see how a session ends.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the list of sessions may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);

/// Reads a session's events one by one, oldest first.
pub struct SessionReader {
    stream: Stream,
    name: String,
    messages: Ordered,
    pending: u64,
    what: String,
    /// Events of later versions, which can't be read and are left out.
    pub unreadable: u64,
}

impl SessionReader {
    /// Begins at the first event of `session`; what is appended from now on is left out.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] while the connection is down, [`BusError::JetStream`] when the stream can't be read in time.
    pub async fn open(bus: &Bus, session: &str) -> Result<Self, BusError> {
        let (filter, what) = (subject::session_all(session), format!("reading session {session}"));
        Self::of(bus, filter, DeliverPolicy::All, what).await
    }

    async fn of(bus: &Bus, filter: String, deliver_policy: DeliverPolicy, what: String) -> Result<Self, BusError> {
        bus.inner.control.check(&what)?;
        let failed = |error: &dyn std::fmt::Display| BusError::jetstream(what.as_str(), error);
        let open = async {
            let stream = ensure(bus).await?;
            let config = OrderedConfig { filter_subject: filter, deliver_policy, ..Default::default() };
            let consumer: async_nats::jetstream::consumer::Consumer<pull::OrderedConfig> =
                stream.create_consumer(config).await.map_err(|e| failed(&e))?;
            let (name, pending) = (consumer.cached_info().name.clone(), consumer.cached_info().num_pending);
            let messages = consumer.messages().await.map_err(|e| failed(&e))?;
            Ok((stream, name, messages, pending))
        };
        let (stream, name, messages, pending) = timeout(READ_TIMEOUT, bus.inner.control.keep(storage::SESSIONS, open))
            .await
            .unwrap_or_else(|_| Err(late(&what)))?;
        Ok(Self { stream, name, messages, pending, what, unreadable: 0 })
    }

    /// The next event; `None` after the last.
    ///
    /// # Errors
    /// As [`SessionReader::open`].
    pub async fn next(&mut self) -> Result<Option<SessionEvent>, BusError> {
        while self.pending > 0 {
            let next = timeout(READ_TIMEOUT, self.messages.next()).await.map_err(|_| late(&self.what))?;
            let Some(message) = next else { break };
            let failed = |error: &dyn std::fmt::Display| BusError::jetstream(self.what.as_str(), error);
            let message = message.map_err(|e| failed(&e))?;
            self.pending = message.info().map_err(|e| failed(&e))?.pending;
            match codec::decode("", &message.payload) {
                Ok(event) => return Ok(Some(event)),
                // Of a later version: left out, not fatal.
                Err(_) => self.unreadable += 1,
            }
        }
        Ok(None)
    }

    /// Ends it. Without this the server keeps its side for some minutes.
    pub async fn close(self) {
        let Self { stream, name, messages, .. } = self;
        drop(messages);
        if let Err(error) = stream.delete_consumer(&name).await {
            tracing::debug!(%error, "a consumer of SESSIONS stays until it expires");
        }
    }
}

fn late(what: &str) -> BusError {
    BusError::jetstream(what, "the server did not answer in time")
}

/// Gives `take` each event of a session, oldest first, to the last that there is now.
///
/// # Errors
/// [`BusError::Disconnected`] while the connection is down, [`BusError::JetStream`] when the stream can't be read in time.
pub async fn each(bus: &Bus, session: &str, mut take: impl FnMut(SessionEvent)) -> Result<(), BusError> {
    let read = async {
        let mut reader = SessionReader::open(bus, session).await?;
        while let Some(event) = reader.next().await? {
            take(event);
        }
        reader.close().await;
        Ok(())
    };
    timeout(READ_TIMEOUT, bus.inner.control.keep(storage::SESSIONS, read))
        .await
        .unwrap_or_else(|_| Err(late(&format!("reading session {session}"))))
}

/// The last events of a session, oldest first; at most `limit`, at least one if there is one.
///
/// # Errors
/// As [`each`].
pub async fn history(bus: &Bus, session: &str, limit: usize) -> Result<Vec<SessionEvent>, BusError> {
    let mut events = VecDeque::new();
    let take = |event| {
        if events.len() == limit.max(1) {
            events.pop_front();
        }
        events.push_back(event);
    };
    each(bus, session, take).await?;
    Ok(events.into())
}

/// The turn of a session's last reply.
///
/// # Errors
/// As [`history`], but sooner: a person waits for an answer.
pub async fn last_reply(bus: &Bus, session: &str) -> Result<Option<String>, BusError> {
    let what = format!("looking for the last reply of session {session}");
    bus.inner.control.check(&what)?;
    let failed = |error: &dyn std::fmt::Display| BusError::jetstream(what.as_str(), error);
    let look = async {
        let stream =
            bus.inner.control.jetstream().get_stream_no_info(storage::SESSIONS).await.map_err(|e| failed(&e))?;
        match stream.get_last_raw_message_by_subject(&subject::session(session, "reply")).await {
            // One of a later version has a turn that is not known here, so the session is read.
            Ok(message) => {
                let event = codec::decode::<SessionEvent>("", &message.payload);
                Ok(event.map_or_else(|_| Some(String::new()), |event| event.turn))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    };
    timeout(LOOK_TIMEOUT, bus.inner.control.keep(storage::SESSIONS, look)).await.unwrap_or_else(|_| Err(late(&what)))
}

/// A session in a few words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its id.
    pub session: String,
    /// When its first event happened, in RFC 3339.
    pub first: String,
    /// When its last did.
    pub last: String,
    /// What was said or written to it: one a turn.
    pub utterances: usize,
    /// All its events.
    pub events: usize,
    /// The hosts that have said something of it, as far as its first event and the last of each kind tell.
    pub hosts: BTreeSet<String>,
    /// The last thing that was said or written to it.
    pub text: String,
}

/// The ids of all sessions, with the count of their events by kind.
///
/// # Errors
/// As [`history`].
pub async fn ids(bus: &Bus) -> Result<BTreeMap<String, BTreeMap<String, usize>>, BusError> {
    let what = "listing the sessions";
    bus.inner.control.check(what)?;
    let failed = |error: &dyn std::fmt::Display| BusError::jetstream(what, error);
    let list = async {
        let stream = ensure(bus).await?;
        let mut subjects = stream.info_with_subjects(subject::SESSIONS).await.map_err(|e| failed(&e))?;
        let mut ids = BTreeMap::<String, BTreeMap<String, usize>>::new();
        while let Some(entry) = subjects.next().await {
            let (subject, count) = entry.map_err(|e| failed(&e))?;
            if let Some(Parsed::Session { id, kind }) = subject::parse(&subject) {
                ids.entry(id).or_default().insert(kind, count);
            }
        }
        Ok(ids)
    };
    timeout(LIST_TIMEOUT, bus.inner.control.keep(storage::SESSIONS, list)).await.unwrap_or_else(|_| Err(late(what)))
}

/// The sessions that went on last, the latest first; at most `limit`.
///
/// # Errors
/// As [`history`].
pub async fn list(bus: &Bus, limit: usize) -> Result<Vec<Summary>, BusError> {
    let counts = ids(bus).await?;
    let what = "listing the sessions";
    let read = async {
        // With the place of the last event in the stream: clocks of hosts differ.
        let mut found = BTreeMap::<String, (usize, Summary)>::new();
        let mut place = 0;
        // The last event of each kind of each session: a handful a session, however long that is.
        let all = subject::SESSIONS.to_owned();
        let mut reader = SessionReader::of(bus, all, DeliverPolicy::LastPerSubject, what.to_owned()).await?;
        while let Some(event) = reader.next().await? {
            place += 1;
            let (last, summary) = found.entry(event.session.clone()).or_default();
            *last = place;
            summary.take(event);
        }
        let stream = reader.stream.clone();
        reader.close().await;
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|(last, _)| std::cmp::Reverse(*last));
        let mut summaries: Vec<_> = found.into_iter().take(limit).map(|(_, summary)| summary).collect();
        for summary in &mut summaries {
            let counts = counts.get(&summary.session);
            summary.utterances = counts.and_then(|kinds| kinds.get("utterance")).copied().unwrap_or_default();
            summary.events = counts.map(|kinds| kinds.values().sum()).unwrap_or_default();
            let subject = subject::session_all(&summary.session);
            let first = stream.get_first_raw_message_by_subject(subject, 1).await;
            let first = first.map_err(|e| BusError::jetstream(what, e))?;
            if let Ok(event) = codec::decode::<SessionEvent>("", &first.payload) {
                summary.first.clone_from(&event.at);
                summary.hosts.insert(event.node);
            }
        }
        Ok(summaries)
    };
    timeout(LIST_TIMEOUT, bus.inner.control.keep(storage::SESSIONS, read)).await.unwrap_or_else(|_| Err(late(what)))
}

impl Summary {
    fn take(&mut self, event: SessionEvent) {
        let SessionEvent { session, at, node, what, .. } = event;
        self.session = session;
        self.last = at;
        self.hosts.insert(node);
        if let What::Utterance { text, .. } = what {
            self.text = text;
        }
    }
}
