//! The worker's end of a [`stream`](crate::bus::stream) of replies: where a handler sends them, and what it hears of the
//! reader.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::bus::connect::{Bus, DeliveryWatch, Flow, headers};
use crate::telemetry::metrics::CHUNKS;
use crate::wire::codec::{self, Format, header};
use crate::wire::message::fault::{Fault, FaultCode};
use crate::wire::message::{Message, Replies};
use crate::wire::stream::status;
use crate::wire::subject::Verb;

/// How long a reader may take nothing before the worker gives up on it.
const STALL: Duration = Duration::from_secs(30);
/// How often a reader that takes nothing is looked for.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How many chunks may leave, and for how long, without a look whether the reader is there: a reply subject costs as much as
/// an eighth of a chunk of 4 KiB.
const ASK_EVERY: u64 = 16;
/// See [`ASK_EVERY`].
const ASK_AFTER: Duration = Duration::from_millis(100);
/// Nothing to read, but something: `nats req --wait-for-empty` takes an empty message for the end.
const PROBE_BODY: &[u8] = b"{}";

/// The worker's end of a stream: where a handler sends its replies. Cloning shares it.
#[derive(Debug)]
pub struct Sink<M> {
    /// Nothing for a caller who waits for the summary alone, as most do.
    inner: Option<Arc<Inner>>,
    message: PhantomData<fn(M)>,
}

impl<M> Clone for Sink<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), message: PhantomData }
    }
}

#[derive(Debug)]
struct Inner {
    bus: Bus,
    replies: Replies,
    reply: Option<Subject>,
    format: Format,
    credit: Option<u64>,
    id: u64,
    flow: Arc<Flow>,
    sent: AtomicU64,
    /// Chunks of all streams of the verb.
    chunks: metrics::Counter,
    /// Held while a chunk is sent: chunks leave in the order of their numbers, and one that is given up takes none.
    sending: tokio::sync::Mutex<Option<Sending>>,
}

/// What one who sends knows of the way.
#[derive(Debug)]
struct Sending {
    watch: DeliveryWatch,
    /// How many chunks the reader had done with when that was last looked up.
    done: u64,
    /// The latest chunk that had a reply subject, and when it was sent.
    asked: Option<(u64, Instant)>,
    /// Bytes of the largest chunk so far: the next will need about as many.
    largest: usize,
}

impl Sending {
    /// Whether a chunk is to have a reply subject, by which the server tells that the reader has gone.
    fn asks(&self, seq: u64, credit: u64) -> bool {
        let every = ASK_EVERY.min(credit / 2);
        self.asked.is_none_or(|(last, at)| seq >= last + every || at.elapsed() >= ASK_AFTER)
    }
}

/// How a caller wants its replies.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) verb: Verb,
    pub(super) replies: Replies,
    pub(super) reply: Option<Subject>,
    pub(super) format: Format,
    pub(super) credit: Option<u64>,
}

impl<M: Message> Sink<M> {
    /// A sink for a caller who takes chunks; `cancel` fires when the caller is gone.
    pub(super) fn new(bus: &Bus, wanted: Wanted, cancel: CancellationToken) -> Self {
        let Wanted { verb, replies, reply, format, credit } = wanted;
        let (id, flow) = bus.acks(replies).open(cancel);
        let inner = Inner {
            bus: bus.clone(),
            replies,
            reply,
            format,
            credit,
            id,
            flow,
            sent: AtomicU64::new(0),
            chunks: metrics::counter!(CHUNKS, "verb" => verb.to_string()),
            sending: tokio::sync::Mutex::default(),
        };
        Self { inner: Some(Arc::new(inner)), message: PhantomData }
    }

    /// For a caller who waits for the summary alone.
    pub(super) const fn none() -> Self {
        Self { inner: None, message: PhantomData }
    }

    /// How many chunks were sent.
    pub(super) fn sent(&self) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.sent.load(Ordering::Acquire))
    }

    /// Looks whether the reader is there, where nothing is sent for a while. If it has gone the request is cancelled.
    pub async fn look(&self) {
        if let Some(inner) = &self.inner
            && let (Some(reply), Some(last)) = (&inner.reply, self.sent().checked_sub(1))
        {
            inner.look(reply, last).await;
        }
    }

    /// Sends a chunk; waits while the caller's credit is used up. Does nothing for a caller who wants the summary alone.
    ///
    /// # Errors
    /// [`FaultCode::Cancelled`] when the caller is gone, [`FaultCode::Unavailable`] when it takes nothing for 30 s or
    /// the link is down.
    pub async fn send(&self, chunk: &M) -> Result<(), Fault> {
        let Some(inner) = self.inner.as_deref() else { return Ok(()) };
        let Some(reply) = &inner.reply else { return Ok(()) };
        let link = inner.bus.connection(inner.replies);
        let mut sending = inner.sending.lock().await;
        let sending = match &mut *sending {
            Some(sending) => sending,
            first => first.insert(Sending {
                watch: link.watch(reply).map_err(|e| e.to_fault())?,
                done: 0,
                asked: None,
                largest: 128,
            }),
        };
        inner.wait_for_credit(sending, reply).await?;
        if sending.watch.is_broken() {
            return Err(broken_off("the connection to NATS dropped meanwhile"));
        }
        let seq = inner.sent.load(Ordering::Acquire);
        let (body, headers, asks) = match inner.credit {
            Some(credit) => {
                let body = codec::encode_chunk(chunk, seq, inner.format, sending.largest)?;
                sending.largest = sending.largest.max(body.len());
                (body, None, sending.asks(seq, credit))
            }
            None => {
                let mut headers = HeaderMap::new();
                headers::set(&mut headers, header::CONTENT_TYPE, inner.format.content_type());
                headers::set(&mut headers, header::SEQ, seq.to_string());
                (codec::encode(chunk, inner.format)?, Some(headers), true)
            }
        };
        let reply_to = asks.then(|| inner.reply_to(seq));
        link.publish(reply, reply_to, headers, body).await.map_err(|e| e.to_fault())?;
        if asks {
            sending.asked = Some((seq, Instant::now()));
        }
        inner.sent.fetch_add(1, Ordering::AcqRel);
        inner.chunks.increment(1);
        Ok(())
    }
}

fn broken_off(why: &str) -> Fault {
    Fault::new(FaultCode::Unavailable, format!("the answer was broken off: {why}"))
}

impl Inner {
    /// Where the caller acknowledges this chunk and those before it.
    fn reply_to(&self, seq: u64) -> Subject {
        self.bus.acks(self.replies).reply_to(self.id, seq)
    }

    async fn wait_for_credit(&self, sending: &mut Sending, reply: &Subject) -> Result<(), Fault> {
        if self.flow.cancel.is_cancelled() {
            return Err(Fault::cancelled());
        }
        let Some(credit) = self.credit else { return Ok(()) };
        let sent = self.sent.load(Ordering::Acquire);
        let is_free = |done: &u64| sent < done.saturating_add(credit);
        if !is_free(&sending.done) {
            sending.done = *self.flow.done.borrow();
        }
        if is_free(&sending.done) {
            return Ok(());
        }
        let mut done = self.flow.done.subscribe();
        tokio::select! {
            // The sender is `self`, so this ends only by what is waited for.
            _ = done.wait_for(is_free) => Ok(()),
            () = self.flow.cancel.cancelled() => Err(Fault::cancelled()),
            error = sending.watch.broken(reply) => Err(error.to_fault()),
            () = self.probe(reply, sent) => {
                Err(broken_off(&format!("the reader took nothing for {} s", STALL.as_secs())))
            }
        }
    }

    /// Looks every second whether the reader is there, until it has stalled for too long. One that has gone is answered
    /// for by the server, which cancels the stream.
    async fn probe(&self, reply: &Subject, sent: u64) {
        // Were it answered as a chunk, it would acknowledge nothing new.
        let Some(last) = sent.checked_sub(1) else { return tokio::time::sleep(STALL).await };
        for _ in 0..STALL.as_secs() / PROBE_EVERY.as_secs() {
            tokio::time::sleep(PROBE_EVERY).await;
            self.look(reply, last).await;
        }
    }

    async fn look(&self, reply: &Subject, last: u64) {
        let mut headers = HeaderMap::new();
        headers::set(&mut headers, header::STATUS, status::PROBE);
        let link = self.bus.connection(self.replies);
        let body = Bytes::from_static(PROBE_BODY);
        let probe = link.publish(reply, Some(self.reply_to(last)), Some(headers), body);
        if let Err(error) = probe.await {
            tracing::debug!(%error, "the reader could not be looked for");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.bus.acks(self.replies).close(self.id);
    }
}
