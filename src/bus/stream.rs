//! Many replies to one request: sequence, end, credit and cancel.
//!
//! ```text
//! caller                                    worker
//!   subscribes an inbox
//!   request (Credit: 32) ──────────────────▶ works
//!   ◀──────────── chunk, Seq: 0, reply = the worker's control inbox
//!   ◀──────────── chunk, Seq: 1
//!   acknowledges on the control inbox ─────▶ may send more
//!   ◀──────────── empty, Status: 200, Chunks: 2
//! ```
//!
//! The credit is the backpressure: at most that many chunks are on the way. A caller that asks for none (the stock CLI)
//! gets them as they come. When the caller is gone, the server answers 503 on the control inbox, and the worker stops;
//! it answers only the connection that sent the chunk, so each connection has a control inbox of its own.
//! A gap in `Seq` or a missing end is an error, never a short answer.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::codec::{self, Format, header};
use super::error::BusError;
use super::link::{Link, Watch};
use super::message::fault::{Fault, FaultCode};
use super::message::{Ask, Message, Replies};
use super::subject::Target;
use super::{Bus, Call, CancelOnDrop, GRACE, read};

/// Chunks that may be on the way to a caller that acknowledges.
pub const CREDIT: u64 = 32;
/// The caller acknowledges every so many chunks that it has done with; well under [`CREDIT`], so that the worker need
/// not pause.
const ACK_EVERY: u64 = 8;
/// How long a reader may take nothing before the worker gives up on it.
const STALL: Duration = Duration::from_secs(30);

/// The caller's end of a stream.
pub struct Stream<M> {
    bus: Bus,
    subject: String,
    messages: Subscriber,
    watch: Watch,
    guard: CancelOnDrop,
    until: Instant,
    deadline: Duration,
    received: u64,
    acknowledged: u64,
    /// Where to acknowledge, as the last chunk said.
    control: Option<String>,
    over: bool,
    message: PhantomData<fn() -> M>,
}

impl Bus {
    /// Asks for a stream of replies. Dropping the stream before its end cancels the request.
    ///
    /// # Errors
    /// The link is down, or the request is too large. Everything later comes from [`Stream::next`].
    pub async fn open<A: Ask>(
        &self,
        target: Target<'_>,
        request: &A,
        call: &Call,
    ) -> Result<Stream<A::Reply>, BusError> {
        let subject = A::VERB.subject(target);
        let body = codec::encode(request, call.format)?;
        let link = self.link(A::REPLIES);
        let watch = link.watch(&subject)?;
        let inbox = link.client.new_inbox();
        let id = inbox.rsplit('.').next().unwrap_or_default().to_owned();
        let mut headers = call.headers::<A>(&id);
        headers.insert(header::CREDIT, CREDIT.to_string());
        let messages = link.client.subscribe(inbox.clone()).await.map_err(|e| BusError::client(subject.as_str(), e))?;
        link.publish(subject.clone(), Some(inbox), headers, body).await?;
        Ok(Stream {
            guard: CancelOnDrop::new(self, A::VERB.capability, &id, call),
            bus: self.clone(),
            subject,
            messages,
            watch,
            until: Instant::now() + call.time() + GRACE,
            deadline: call.time(),
            received: 0,
            acknowledged: 0,
            control: None,
            over: false,
            message: PhantomData,
        })
    }

    fn workers(&self, replies: Replies) -> &Workers {
        match replies {
            Replies::Audio => &self.inner.audio_streams,
            Replies::One | Replies::Stream => &self.inner.streams,
        }
    }

    pub(super) fn link(&self, replies: Replies) -> &Link {
        match replies {
            Replies::Audio => &self.inner.audio,
            Replies::One | Replies::Stream => &self.inner.control,
        }
    }
}

impl<M: Message> Stream<M> {
    /// The next reply; `None` after the last. Safe to drop and call again.
    ///
    /// # Errors
    /// Whatever ends the stream before its end; after that there is no next.
    pub async fn next(&mut self) -> Option<Result<M, BusError>> {
        if self.over {
            return None;
        }
        self.acknowledge().await;
        let item = self.receive().await;
        if !matches!(item, Some(Ok(_))) {
            self.over = true;
            // When it has answered, or nobody was there, nobody works on it any more. Otherwise somebody may.
            if matches!(item, None | Some(Err(BusError::Fault(_) | BusError::Nobody { .. } | BusError::Denied { .. })))
            {
                self.guard.disarm();
            }
        }
        item
    }

    async fn receive(&mut self) -> Option<Result<M, BusError>> {
        let message = tokio::select! {
            biased;
            message = self.messages.next() => message,
            error = self.watch.broken(&self.subject) => return Some(Err(error)),
            () = tokio::time::sleep_until(self.until.into()) => {
                let (subject, ms) = (self.subject.clone(), self.deadline.as_millis());
                return Some(Err(BusError::Deadline { subject, ms }));
            }
        };
        let Some(message) = message else {
            return Some(Err(self.cut("the connection was closed")));
        };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(Err(BusError::Nobody { subject: self.subject.clone() }));
        }
        let headers = message.headers.as_ref();
        if codec::text(headers, header::STATUS) == "200" {
            let sent = codec::number(headers, header::CHUNKS).unwrap_or_default();
            if sent == self.received {
                return None;
            }
            return Some(Err(self.cut(format!("{} of {sent} chunks arrived", self.received))));
        }
        let item = match read(&message) {
            Ok(item) => item,
            Err(error) => return Some(Err(error)),
        };
        match codec::number(headers, header::SEQ) {
            Some(seq) if seq == self.received => {}
            Some(seq) => return Some(Err(self.cut(format!("chunk {} is missing (got {seq})", self.received)))),
            // Not a chunk but the one reply to a caller who wants no stream.
            None if self.received == 0 => {
                self.over = true;
                self.guard.disarm();
            }
            None => return Some(Err(self.cut("a chunk without a number arrived"))),
        }
        self.received += 1;
        self.control = message.reply.map(async_nats::Subject::into_string);
        Some(Ok(item))
    }

    /// Tells the worker how many chunks have been done with: when the next is asked for, so that a slow reader slows the
    /// worker down, and so that dropping [`Stream::next`] can't lose a chunk.
    async fn acknowledge(&mut self) {
        if self.received < self.acknowledged + ACK_EVERY {
            return;
        }
        let Some(control) = &self.control else { return };
        let (link, body) = (&self.bus.inner.control, Bytes::from(self.received.to_string()));
        if link.is_up()
            && let Err(error) = link.client.publish(control.clone(), body).await
        {
            tracing::debug!(%error, "an acknowledgement was not sent");
        }
        self.acknowledged = self.received;
    }

    fn cut(&self, why: impl Into<String>) -> BusError {
        BusError::Cut { subject: self.subject.clone(), why: why.into() }
    }
}

/// What a worker hears of one of its streams.
#[derive(Debug)]
struct Flow {
    acknowledged: watch::Sender<u64>,
    cancel: CancellationToken,
}

/// All streams that this host is sending over a connection: one subscription hears for all of them.
#[derive(Debug)]
pub(super) struct Workers {
    prefix: String,
    next: AtomicU64,
    flows: Arc<Mutex<HashMap<u64, Arc<Flow>>>>,
    _listener: tokio_util::task::AbortOnDropHandle<()>,
}

impl Workers {
    pub(super) async fn start(link: &Link) -> Result<Self, BusError> {
        let prefix = link.client.new_inbox();
        let subject = format!("{prefix}.*");
        let mut messages = link.client.subscribe(subject.clone()).await.map_err(|e| BusError::client(subject, e))?;
        link.ready().await?;
        let flows = Arc::<Mutex<HashMap<u64, Arc<Flow>>>>::default();
        let heard = Arc::clone(&flows);
        let listener = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let id = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
                let flow = id.and_then(|id: u64| lock(&heard).get(&id).cloned());
                let Some(flow) = flow else { continue };
                if message.status == Some(StatusCode::NO_RESPONDERS) {
                    flow.cancel.cancel();
                } else if let Some(count) =
                    std::str::from_utf8(&message.payload).ok().and_then(|x| x.parse::<u64>().ok())
                {
                    flow.acknowledged.send_if_modified(|known| {
                        let more = count > *known;
                        *known = count.max(*known);
                        more
                    });
                }
            }
        });
        Ok(Self {
            prefix,
            next: AtomicU64::new(0),
            flows,
            _listener: tokio_util::task::AbortOnDropHandle::new(listener),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker's end of a stream: where a handler sends its replies. Cloning shares it.
#[derive(Debug)]
pub struct Sink<M> {
    inner: Arc<Inner>,
    message: PhantomData<fn(M)>,
}

impl<M> Clone for Sink<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), message: PhantomData }
    }
}

#[derive(Debug)]
struct Inner {
    bus: Bus,
    replies: Replies,
    reply: Option<String>,
    format: Format,
    streaming: bool,
    credit: Option<u64>,
    id: u64,
    flow: Arc<Flow>,
    sent: AtomicU64,
    /// Held while a chunk is sent: chunks leave in the order of their numbers, and one that is given up takes none.
    sending: tokio::sync::Mutex<Option<Watch>>,
}

/// How a caller wants its replies.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) replies: Replies,
    pub(super) reply: Option<String>,
    pub(super) format: Format,
    /// Whether chunks go out at all, or the summary alone.
    pub(super) streaming: bool,
    pub(super) credit: Option<u64>,
}

impl<M: Message> Sink<M> {
    /// A sink for a caller; `cancel` fires when the caller is gone.
    pub(super) fn new(bus: &Bus, wanted: Wanted, cancel: CancellationToken) -> Self {
        let Wanted { replies, reply, format, streaming, credit } = wanted;
        let workers = bus.workers(replies);
        let id = workers.next.fetch_add(1, Ordering::Relaxed);
        let flow = Arc::new(Flow { acknowledged: watch::Sender::new(0), cancel });
        if streaming {
            lock(&workers.flows).insert(id, Arc::clone(&flow));
        }
        let inner = Inner {
            bus: bus.clone(),
            replies,
            reply,
            format,
            streaming,
            credit,
            id,
            flow,
            sent: AtomicU64::new(0),
            sending: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner), message: PhantomData }
    }

    /// Whether the caller takes chunks, or only waits for the summary.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.inner.streaming
    }

    /// How many chunks were sent.
    pub(super) fn sent(&self) -> u64 {
        self.inner.sent.load(Ordering::Acquire)
    }

    /// Sends a chunk; waits while the caller's credit is used up. Does nothing for a caller who wants the summary alone.
    ///
    /// # Errors
    /// [`FaultCode::Cancelled`] when the caller is gone, [`FaultCode::Unavailable`] when it takes nothing for 30 s or
    /// the link is down.
    pub async fn send(&self, chunk: &M) -> Result<(), Fault> {
        let inner = &*self.inner;
        let Some(reply) = inner.reply.clone().filter(|_| inner.streaming) else {
            return Ok(());
        };
        let (link, workers) = (inner.bus.link(inner.replies), inner.bus.workers(inner.replies));
        let mut sending = inner.sending.lock().await;
        let watch = match &mut *sending {
            Some(watch) => watch,
            first => first.insert(link.watch(&reply).map_err(|e| e.to_fault())?),
        };
        inner.wait_for_credit(watch, &reply).await?;
        if watch.is_broken() {
            return Err(broken_off("the connection to NATS dropped meanwhile"));
        }
        let body = codec::encode(chunk, inner.format)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, inner.format.content_type());
        headers.insert(header::SEQ, inner.sent.load(Ordering::Acquire).to_string());
        let control = format!("{}.{}", workers.prefix, inner.id);
        link.publish(reply, Some(control), headers, body).await.map_err(|e| e.to_fault())?;
        inner.sent.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

fn broken_off(why: &str) -> Fault {
    Fault::new(FaultCode::Unavailable, format!("the answer was broken off: {why}"))
}

impl Inner {
    async fn wait_for_credit(&self, watch: &mut Watch, reply: &str) -> Result<(), Fault> {
        if self.flow.cancel.is_cancelled() {
            return Err(Fault::cancelled());
        }
        let Some(credit) = self.credit else { return Ok(()) };
        let sent = self.sent.load(Ordering::Acquire);
        let is_free = |acknowledged: &u64| sent < acknowledged.saturating_add(credit);
        if is_free(&self.flow.acknowledged.borrow()) {
            return Ok(());
        }
        let mut acknowledged = self.flow.acknowledged.subscribe();
        tokio::select! {
            // The sender is `self`, so this ends only by what is waited for.
            _ = acknowledged.wait_for(is_free) => Ok(()),
            () = self.flow.cancel.cancelled() => Err(Fault::cancelled()),
            error = watch.broken(reply) => Err(error.to_fault()),
            () = tokio::time::sleep(STALL) => {
                Err(broken_off(&format!("the reader took nothing for {} s", STALL.as_secs())))
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.bus.workers(self.replies).flows).remove(&self.id);
    }
}
