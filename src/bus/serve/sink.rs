//! The worker's end of a [`stream`](crate::bus::stream) of replies: where a handler sends them, and what it hears of the
//! reader.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bus::connect::{Bus, DeliveryWatch, Flow, NatsConnection, headers};
use crate::telemetry::metrics::CHUNKS;
use crate::wire::codec::{self, Format, header};
use crate::wire::message::fault::{Fault, FaultCode};
use crate::wire::message::{Message, Replies};
use crate::wire::pack::Pack;
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
/// Chunks that follow each other within this time are ready at once: they leave together if the reader takes that, at the
/// latest when the handler waits for anything. Any other leaves at once.
const AT_ONCE: Duration = Duration::from_millis(1);
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
    pack: u64,
    id: u64,
    flow: Arc<Flow>,
    sent: AtomicU64,
    /// A sender has begun to hold chunks back.
    held: Notify,
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
    /// When the latest chunk was sent or held back.
    latest: Option<Instant>,
    /// Chunks that are held back, to leave together.
    pack: Pack,
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
    /// How many chunks it reads in one message.
    pub(super) pack: u64,
}

impl<M: Message> Sink<M> {
    /// A sink for a caller who takes chunks; `cancel` fires when the caller is gone.
    pub(super) fn new(bus: &Bus, wanted: Wanted, cancel: CancellationToken) -> Self {
        let Wanted { verb, replies, reply, format, credit, pack } = wanted;
        let (id, flow) = bus.acks(replies).open(cancel);
        let inner = Inner {
            bus: bus.clone(),
            replies,
            reply,
            format,
            credit,
            pack,
            id,
            flow,
            sent: AtomicU64::new(0),
            held: Notify::new(),
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
    /// Chunks that are ready at once may leave in one message, at the latest when the handler waits for anything.
    ///
    /// # Errors
    /// [`FaultCode::Cancelled`] when the caller is gone, [`FaultCode::Unavailable`] when it takes nothing for 30 s or
    /// the connection is down.
    pub async fn send(&self, chunk: &M) -> Result<(), Fault> {
        let Some(inner) = self.inner.as_deref() else { return Ok(()) };
        let Some(reply) = &inner.reply else { return Ok(()) };
        let mut sending = inner.sending.lock().await;
        let sending = match &mut *sending {
            Some(sending) => sending,
            first => first.insert(inner.begin(reply)?),
        };
        inner.wait_for_credit(sending, reply).await?;
        if sending.watch.is_broken() {
            return Err(broken_off("the connection to NATS dropped meanwhile"));
        }
        let now = Instant::now();
        let is_alone = sending.latest.replace(now).is_none_or(|latest| now - latest >= AT_ONCE);
        if is_alone || !sending.pack.is_taken() || !inner.hold(sending, chunk, reply).await? {
            inner.flush(sending, reply).await?;
            inner.publish(sending, chunk, reply).await?;
        }
        inner.sent.fetch_add(1, Ordering::AcqRel);
        inner.chunks.increment(1);
        Ok(())
    }

    /// Sends the chunks that are held back.
    ///
    /// # Errors
    /// The connection is down.
    pub(super) async fn flush(&self) -> Result<(), Fault> {
        let Some(inner) = self.inner.as_deref() else { return Ok(()) };
        let (Some(reply), Some(sending)) = (&inner.reply, &mut *inner.sending.lock().await) else { return Ok(()) };
        inner.flush(sending, reply).await
    }

    /// Sends chunks that are held back, again and again: to be polled beside the handler, after it. Completes when the connection is down.
    pub(super) async fn keep_flushing(&self) -> Fault {
        let Some(inner) = self.inner.as_deref() else { return std::future::pending().await };
        loop {
            inner.held.notified().await;
            if let Err(fault) = self.flush().await {
                return fault;
            }
        }
    }
}

fn broken_off(why: &str) -> Fault {
    Fault::new(FaultCode::Unavailable, format!("the answer was broken off: {why}"))
}

impl Inner {
    fn connection(&self) -> &NatsConnection {
        self.bus.connection(self.replies)
    }

    fn begin(&self, reply: &Subject) -> Result<Sending, Fault> {
        // A caller without credit reads the number of a chunk in the headers of its message.
        let most = self.credit.map_or(1, |credit| self.pack.min(credit));
        Ok(Sending {
            watch: self.connection().watch(reply).map_err(|e| e.to_fault())?,
            done: 0,
            asked: None,
            latest: None,
            pack: Pack::new(self.format, most),
            largest: 128,
        })
    }

    /// Holds a chunk back to leave with others; `false` if it can't.
    async fn hold<M: Message>(&self, sending: &mut Sending, chunk: &M, reply: &Subject) -> Result<bool, Fault> {
        if !sending.pack.has_room() {
            self.flush(sending, reply).await?;
        }
        let is_first = sending.pack.is_empty();
        let is_held = sending.pack.push(chunk, self.sent.load(Ordering::Acquire), self.connection().max_body())?;
        if is_held && is_first {
            self.held.notify_one();
        }
        Ok(is_held)
    }

    /// Sends the chunks that are held back.
    async fn flush(&self, sending: &mut Sending, reply: &Subject) -> Result<(), Fault> {
        let (Some(packed), Some(credit)) = (sending.pack.seal()?, self.credit) else { return Ok(()) };
        self.leave(sending, packed.last, credit, reply, packed.body).await?;
        sending.pack.has_left();
        Ok(())
    }

    /// Sends a chunk in a message of its own.
    async fn publish<M: Message>(&self, sending: &mut Sending, chunk: &M, reply: &Subject) -> Result<(), Fault> {
        let seq = self.sent.load(Ordering::Acquire);
        if let Some(credit) = self.credit {
            let body = codec::encode_chunk(chunk, seq, self.format, sending.largest)?;
            sending.largest = sending.largest.max(body.len());
            return self.leave(sending, seq, credit, reply, body).await;
        }
        let mut headers = HeaderMap::new();
        headers::set(&mut headers, header::CONTENT_TYPE, self.format.content_type());
        headers::set(&mut headers, header::SEQ, seq.to_string());
        let body = codec::encode(chunk, self.format)?;
        let sent = self.connection().publish(reply, Some(self.reply_to(seq)), Some(headers), body).await;
        sent.map_err(|e| e.to_fault())
    }

    /// Publishes chunks up to the number `last`.
    async fn leave(
        &self,
        sending: &mut Sending,
        last: u64,
        credit: u64,
        reply: &Subject,
        body: Bytes,
    ) -> Result<(), Fault> {
        let reply_to = sending.asks(last, credit).then(|| self.reply_to(last));
        let asks = reply_to.is_some();
        self.connection().publish(reply, reply_to, None, body).await.map_err(|e| e.to_fault())?;
        if asks {
            sending.asked = Some((last, Instant::now()));
        }
        Ok(())
    }

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
        // It can't be done with what it has not got.
        self.flush(sending, reply).await?;
        let mut done = self.flow.done.subscribe();
        tokio::select! {
            // The sender is `self`, so this ends only when the credit comes.
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
        let body = Bytes::from_static(PROBE_BODY);
        let probe = self.connection().publish(reply, Some(self.reply_to(last)), Some(headers), body);
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
