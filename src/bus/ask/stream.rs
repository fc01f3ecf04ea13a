//! Many replies to one request, as [`wire::stream`](crate::wire::stream) has them. Here is the caller's end;
//! [`sink`](crate::bus::sink) is the worker's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Message as NatsMessage, StatusCode, Subscriber};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::call::{Call, GRACE};
use super::cancel::CancelOnDrop;
use super::request::{decode, unreadable};
use crate::bus::connect::{Bus, BusError, headers};
use crate::wire::codec::{self, Format, header};
use crate::wire::message::{Ask, Message};
use crate::wire::pack;
use crate::wire::stream::{ACK_EVERY, CREDIT, status};
use crate::wire::subject::Target;

/// How many chunks of a stream were received.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<AtomicU64>);

impl Received {
    /// So far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn one_more(&self) {
        // Only the stream itself counts.
        self.0.store(self.count() + 1, Ordering::Relaxed);
    }
}

/// The caller's end of a stream.
pub struct Stream<M> {
    bus: Bus,
    subject: String,
    messages: Subscriber,
    /// Chunks that came in one message with those before them.
    ready: VecDeque<M>,
    /// What ends it too early, such as its deadline, or the loss of the connection. Each is only looked at when it stirs, not for
    /// every chunk.
    ends: FuturesUnordered<BoxFuture<'static, BusError>>,
    guard: CancelOnDrop,
    format: Format,
    received: Received,
    acknowledged: u64,
    /// Where to acknowledge, but for the number, as a chunk said.
    control: Option<String>,
    over: bool,
}

impl Bus {
    /// Asks for a stream of replies. Dropping the stream before its end cancels the request.
    ///
    /// # Errors
    /// The connection is down, or the request is too large. Everything later comes from [`Stream::next`].
    pub async fn open<A: Ask>(
        &self,
        target: Target<'_>,
        request: &A,
        call: &Call,
    ) -> Result<Stream<A::Reply>, BusError> {
        let subject = A::VERB.subject(target);
        let body = codec::encode(request, call.format)?;
        let connection = self.connection(A::REPLIES);
        let mut watch = connection.watch(&subject)?;
        let inbox = connection.client.new_inbox();
        let id = inbox.rsplit('.').next().unwrap_or_default().to_owned();
        let mut headers = call.headers::<A>(&id);
        headers::set(&mut headers, header::CREDIT, CREDIT.to_string());
        headers::set(&mut headers, header::PACK, pack::MAX_CHUNKS.to_string());
        let messages =
            connection.client.subscribe(inbox.clone()).await.map_err(|e| BusError::client(subject.as_str(), e))?;
        connection.publish(&subject.as_str().into(), Some(inbox.into()), Some(headers), body).await?;
        let (time, asked) = (call.time(), subject.clone());
        let passed = tokio::time::sleep(time + GRACE);
        let late = BusError::Deadline { subject: subject.clone(), ms: time.as_millis() };
        let ends = [passed.map(|()| late).boxed(), async move { watch.broken(&asked).await }.boxed()];
        Ok(Stream {
            guard: CancelOnDrop::new(self, A::VERB.capability, &id, call),
            bus: self.clone(),
            subject,
            messages,
            ready: VecDeque::new(),
            ends: ends.into_iter().collect(),
            format: call.format,
            received: Received::default(),
            acknowledged: 0,
            control: None,
            over: false,
        })
    }
}

impl<M: Message> Stream<M> {
    /// The subject that was asked.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The count of its chunks, which goes on counting.
    #[must_use]
    pub fn received(&self) -> Received {
        self.received.clone()
    }

    /// Ends it by an error when `end` completes.
    pub fn end_by(&mut self, end: impl Future<Output = BusError> + Send + 'static) {
        self.ends.push(end.boxed());
    }

    /// The next reply; `None` after the last. Safe to drop and call again.
    ///
    /// # Errors
    /// Whatever ends the stream before its end; after that there is no next.
    pub async fn next(&mut self) -> Option<Result<M, BusError>> {
        if self.over {
            return None;
        }
        self.acknowledge().await;
        if let Some(chunk) = self.ready.pop_front() {
            self.received.one_more();
            return Some(Ok(chunk));
        }
        let item = match self.message().await {
            Ok(message) => self.read(message),
            Err(error) => Some(Err(error)),
        };
        if !matches!(item, Some(Ok(_))) {
            self.over = true;
            // When a host has answered, or none was there, no host works on it any more. Otherwise one may.
            if matches!(item, None | Some(Err(BusError::Fault(_) | BusError::Nobody { .. } | BusError::Denied { .. })))
            {
                self.guard.disarm();
            }
        }
        item
    }

    /// The next message of the stream.
    async fn message(&mut self) -> Result<NatsMessage, BusError> {
        loop {
            let message = tokio::select! {
                biased;
                message = self.messages.next() => message,
                Some(error) = self.ends.next() => return Err(error),
            };
            let Some(message) = message else {
                return Err(self.cut("the connection was closed"));
            };
            // It was delivered: that is the answer to whether the reader is here.
            if !is_probe(&message) {
                return Ok(message);
            }
        }
    }

    /// What a message says: a chunk, the end, an error, or the one reply to a caller who wants no stream.
    fn read(&mut self, message: NatsMessage) -> Option<Result<M, BusError>> {
        let received = self.received.count();
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(Err(BusError::Nobody { subject: self.subject.clone() }));
        }
        let headers = message.headers.as_ref();
        let first = if headers.is_none() {
            match pack::read(self.format, &message.payload, &mut self.ready) {
                Ok(first) => Some(Ok(first)),
                // The one reply to a caller who wants no stream.
                Err(_) if received == 0 && message.reply.is_none() => None,
                Err(error) => Some(Err(unreadable(&self.subject, &error))),
            }
        } else {
            let seq = headers::number(headers, header::SEQ);
            seq.map(|seq| decode(&message).map(|chunk| self.ready.push_back(chunk)).map(|()| seq))
        };
        let item = match first {
            Some(Ok(first)) if first == received => {
                self.ready.pop_front().ok_or_else(|| self.cut("a message without a chunk arrived"))
            }
            Some(Ok(first)) => {
                return Some(Err(self.cut(format!("chunk {received} is missing (got {first})"))));
            }
            Some(Err(error)) => Err(error),
            None if headers::text(headers, header::STATUS) == status::END => {
                let sent = headers::number(headers, header::CHUNKS).unwrap_or_default();
                let why = || format!("{received} of {sent} chunks arrived");
                return (sent != received).then(|| Err(self.cut(why())));
            }
            None => {
                if let Some(fault) = headers::fault(headers) {
                    return Some(Err(fault.into()));
                }
                if received > 0 {
                    return Some(Err(self.cut("a chunk without a number arrived")));
                }
                self.over = true;
                self.guard.disarm();
                decode(&message)
            }
        };
        if item.is_ok() {
            self.received.one_more();
            if let Some((control, _)) = message.reply.as_ref().and_then(|reply| reply.rsplit_once('.')) {
                self.control = Some(control.to_owned());
            }
        }
        Some(item)
    }

    async fn acknowledge(&mut self) {
        let received = self.received.count();
        if received < self.acknowledged + ACK_EVERY {
            return;
        }
        let Some(control) = self.control.clone() else { return };
        let connection = &self.bus.inner.control;
        if connection.is_up()
            && let Err(error) = connection.client.publish(format!("{control}.{}", received - 1), Bytes::new()).await
        {
            tracing::debug!(%error, "an acknowledgement was not sent");
        }
        self.acknowledged = received;
    }

    fn cut(&self, why: impl Into<String>) -> BusError {
        BusError::Cut { subject: self.subject.clone(), why: why.into() }
    }
}

fn is_probe(message: &NatsMessage) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers::text(Some(headers), header::STATUS) == status::PROBE)
}
