//! Many replies to one request: sequence, end, credit and cancel. Here is the caller's end; [`sink`](super::sink) is
//! the worker's.
//!
//! ```text
//! caller                                    worker
//!   subscribes an inbox
//!   request (Credit: 64) ──────────────────▶ works
//!   ◀──────────── chunk 0, reply = <control inbox>.0
//!   ◀──────────── chunk 1
//!   publishes on <control inbox>.1 ────────▶ 0 and 1 are done with: may send more
//!   ◀──────────── empty, Status: 200, Chunks: 2
//! ```
//!
//! The credit is the backpressure: at most that many chunks are on the way. Such chunks have no headers, which would cost
//! more than all else: the number of a chunk is written behind it, and both as the request's `Accept` said. The first has a
//! reply subject, and then one now and then: what is published there, or with a later number at the end, acknowledges. A
//! caller that gives no credit (the stock CLI) gets chunks as they come, with the headers `Seq` and `Content-Type`.
//!
//! When the caller is gone, the server answers 503 on the reply subject, and the worker stops; while it may not send, it asks
//! every second by a message with `Status: 100`, whose body means nothing. The server answers only the connection that sent the
//! chunk, so each connection has a control inbox of its own. A gap in the numbers or a missing end is an error, never a short
//! answer.

use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use async_nats::{Message as Wire, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::Sleep;

use super::codec::{self, Format, header};
use super::error::BusError;
use super::link::{Link, Watch};
use super::message::{Ask, Message, Replies};
use super::subject::Target;
use super::{Bus, Call, CancelOnDrop, GRACE, decode, unreadable};

/// What `Status` says.
pub(super) mod status {
    /// The stream has ended.
    pub const END: &str = "200";
    /// Is the reader still there? If it is not, the server says so.
    pub const PROBE: &str = "100";
}

/// Chunks that may be on the way to a caller that acknowledges.
pub const CREDIT: u64 = 64;
/// The caller acknowledges when it has done with so many chunks since the last time; under [`CREDIT`], so that the worker
/// need not pause, but not much, since an acknowledgement costs as much as a chunk.
pub const ACK_EVERY: u64 = CREDIT * 3 / 4;

/// The caller's end of a stream.
pub struct Stream<M> {
    bus: Bus,
    subject: String,
    messages: Subscriber,
    watch: Watch,
    guard: CancelOnDrop,
    format: Format,
    deadline: Duration,
    passed: Pin<Box<Sleep>>,
    received: u64,
    acknowledged: u64,
    /// Where to acknowledge, but for the number, as a chunk said.
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
        codec::set(&mut headers, header::CREDIT, CREDIT.to_string());
        let messages = link.client.subscribe(inbox.clone()).await.map_err(|e| BusError::client(subject.as_str(), e))?;
        link.publish(subject.as_str().into(), Some(inbox.into()), Some(headers), body).await?;
        Ok(Stream {
            guard: CancelOnDrop::new(self, A::VERB.capability, &id, call),
            bus: self.clone(),
            subject,
            messages,
            watch,
            format: call.format,
            deadline: call.time(),
            passed: Box::pin(tokio::time::sleep(call.time() + GRACE)),
            received: 0,
            acknowledged: 0,
            control: None,
            over: false,
            message: PhantomData,
        })
    }

    pub(super) fn link(&self, replies: Replies) -> &Link {
        match replies {
            Replies::Audio => &self.inner.audio,
            Replies::One | Replies::Stream | Replies::Talk => &self.inner.control,
        }
    }
}

impl<M: Message> Stream<M> {
    /// The subject that was asked.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next reply; `None` after the last. Safe to drop and call again.
    ///
    /// # Errors
    /// Whatever ends the stream before its end; after that there is no next.
    pub async fn next(&mut self) -> Option<Result<M, BusError>> {
        if self.over {
            return None;
        }
        let item = match self.message().await {
            Ok(message) => self.read(message),
            Err(error) => Some(Err(error)),
        };
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

    /// The next message of the stream. Tells the worker how many chunks have been done with when the next is asked for,
    /// so that a slow reader slows the worker down, and so that dropping [`Stream::next`] can't lose a chunk.
    async fn message(&mut self) -> Result<Wire, BusError> {
        loop {
            self.acknowledge().await;
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message,
                error = self.watch.broken(&self.subject) => return Err(error),
                () = &mut self.passed => {
                    let (subject, ms) = (self.subject.clone(), self.deadline.as_millis());
                    return Err(BusError::Deadline { subject, ms });
                }
            };
            let Some(message) = message else {
                return Err(self.cut("the connection was closed"));
            };
            // It was delivered: that is the answer to whether somebody is here.
            if !is_probe(&message) {
                return Ok(message);
            }
        }
    }

    /// What a message says: a chunk, the end, an error, or the one reply to a caller who wants no stream.
    fn read(&mut self, message: Wire) -> Option<Result<M, BusError>> {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(Err(BusError::Nobody { subject: self.subject.clone() }));
        }
        let headers = message.headers.as_ref();
        // The one reply to a caller who wants no stream may have no headers either; it has no reply subject.
        let is_bare = headers.is_none() && (self.received > 0 || message.reply.is_some());
        let chunk = if is_bare {
            let chunk = codec::decode_chunk(self.format, &message.payload);
            Some(chunk.map_err(|e| unreadable(&self.subject, &e)))
        } else {
            codec::number(headers, header::SEQ).map(|seq| decode(&message).map(|chunk| (chunk, seq)))
        };
        let item = match chunk {
            Some(Ok((chunk, seq))) if seq == self.received => Ok(chunk),
            Some(Ok((_, seq))) => {
                return Some(Err(self.cut(format!("chunk {} is missing (got {seq})", self.received))));
            }
            Some(Err(error)) => Err(error),
            None if codec::text(headers, header::STATUS) == status::END => {
                let sent = codec::number(headers, header::CHUNKS).unwrap_or_default();
                let why = || format!("{} of {sent} chunks arrived", self.received);
                return (sent != self.received).then(|| Err(self.cut(why())));
            }
            None => {
                if let Some(fault) = codec::fault(headers) {
                    return Some(Err(fault.into()));
                }
                if self.received > 0 {
                    return Some(Err(self.cut("a chunk without a number arrived")));
                }
                self.over = true;
                self.guard.disarm();
                decode(&message)
            }
        };
        if item.is_ok() {
            self.received += 1;
            if let Some((control, _)) = message.reply.as_ref().and_then(|reply| reply.rsplit_once('.')) {
                self.control = Some(control.to_owned());
            }
        }
        Some(item)
    }

    async fn acknowledge(&mut self) {
        if self.received < self.acknowledged + ACK_EVERY {
            return;
        }
        let Some(control) = self.control.clone() else { return };
        let link = &self.bus.inner.control;
        if link.is_up()
            && let Err(error) = link.client.publish(format!("{control}.{}", self.received - 1), Bytes::new()).await
        {
            tracing::debug!(%error, "an acknowledgement was not sent");
        }
        self.acknowledged = self.received;
    }

    fn cut(&self, why: impl Into<String>) -> BusError {
        BusError::Cut { subject: self.subject.clone(), why: why.into() }
    }
}

fn is_probe(message: &Wire) -> bool {
    message.headers.as_ref().is_some_and(|headers| codec::text(Some(headers), header::STATUS) == status::PROBE)
}
