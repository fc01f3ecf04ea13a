//! Audio on its way to a worker, as it is spoken. Here is the worker's end; [`listen`](crate::bus::listen) is the caller's.
//!
//! ```text
//! caller                                       worker
//!   stt.stream ─────────────────────────────────▶ subscribes an inbox, the ingest
//!   ◀──────── started: ingest, credit
//!   publishes <ingest>.0, reply = <acks>.0 ─────▶ hears
//!   publishes <ingest>.1, reply = <acks>.1 ─────▶ hears
//!   ◀──────── publishes on <acks>.1: 0 and 1 are taken, more may come
//!   ◀──────── partial: the running text
//!   publishes <ingest>.2, empty ────────────────▶ that was all
//!   ◀──────── final, done
//! ```
//!
//! Chunks are bare samples, numbered by their subject: a gap is an error. What is on the way is bounded by the credit; a
//! caller that does not keep to it is refused. Each end sees the other go: the server answers 503 to what the caller
//! sends with a reply subject once the ingest is gone, and to the worker's replies once the caller is.

use std::time::Duration;

use async_nats::{Message as NatsMessage, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::bus::connect::{Bus, BusError, DeliveryWatch, NatsConnection};
use crate::wire::message::fault::{Fault, FaultCode};
use crate::wire::stream::{ACK_EVERY, CREDIT};
use crate::wire::subject;

/// Chunks that may be on the way, the end included.
pub const CHUNKS: u64 = CREDIT;
/// The largest chunk.
pub const MAX_CHUNK_BYTES: usize = 64 << 10;

/// Where a worker gets the audio of one stream. Once it is dropped, the server tells the caller that no worker listens any more.
#[derive(Debug)]
pub struct Ingest {
    subject: String,
    connection: NatsConnection,
    chunks: mpsc::Receiver<Result<Chunk, Fault>>,
    idle: Duration,
    last: Instant,
    taken: u64,
    acknowledged: u64,
    /// Where the last chunk is acknowledged.
    reply: Option<Subject>,
    over: bool,
    _pump: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Chunk {
    audio: Bytes,
    reply: Option<Subject>,
}

impl Bus {
    /// Opens a place for audio to come to; given up when none comes for `idle`.
    ///
    /// # Errors
    /// The connection is down.
    pub async fn ingest(&self, idle: Duration) -> Result<Ingest, BusError> {
        let connection = self.inner.audio.clone();
        let subject = connection.new_credit();
        let watch = connection.watch(&subject)?;
        let every = format!("{subject}.*");
        let messages = connection.client.subscribe(every.clone()).await.map_err(|e| BusError::client(every, e))?;
        // The caller hears of it over another connection, and may be quicker.
        connection.ready().await?;
        let (out, chunks) = mpsc::channel(usize::try_from(CHUNKS).unwrap_or(usize::MAX));
        let pump = tokio::spawn(pump(messages, watch, out));
        Ok(Ingest {
            subject,
            connection,
            chunks,
            idle,
            last: Instant::now(),
            taken: 0,
            acknowledged: 0,
            reply: None,
            over: false,
            _pump: AbortOnDropHandle::new(pump),
        })
    }
}

impl Ingest {
    /// The subject before a chunk's number.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next chunk; `None` after the last. Chunks are acknowledged when the next is asked for: a worker that does not ask
    /// slows the caller down. Safe to drop and call again.
    ///
    /// # Errors
    /// A chunk is missing or too large, too many came at once, none came in time, or the connection dropped. There is no next
    /// then.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        if self.over {
            return None;
        }
        self.acknowledge().await;
        let item = tokio::select! {
            biased;
            item = self.chunks.recv() => item.unwrap_or_else(|| Err(Fault::failed("the audio stopped coming: a bug"))),
            () = tokio::time::sleep_until(self.last + self.idle) => {
                let text = format!(
                    "no audio came for {} ms after {} messages: send silence as well, and an empty message at the end",
                    self.idle.as_millis(),
                    self.taken
                );
                Err(Fault::new(FaultCode::Deadline, text))
            }
        };
        match item {
            Ok(chunk) => {
                self.last = Instant::now();
                self.taken += 1;
                self.reply = chunk.reply;
                self.over = chunk.audio.is_empty();
                (!self.over).then_some(Ok(chunk.audio))
            }
            Err(fault) => {
                self.over = true;
                Some(Err(fault))
            }
        }
    }

    async fn acknowledge(&mut self) {
        if self.taken < self.acknowledged + ACK_EVERY {
            return;
        }
        self.acknowledged = self.taken;
        let Some(reply) = self.reply.take() else { return };
        if let Err(error) = self.connection.publish(&reply, None, None, Bytes::new()).await {
            tracing::debug!(%error, "audio was not acknowledged");
        }
    }
}

/// Takes messages as they come, so that one too many is noticed, not dropped. Stays until it is aborted: as long as it
/// does, the caller sees that a worker listens.
async fn pump(mut messages: Subscriber, mut watch: DeliveryWatch, out: mpsc::Sender<Result<Chunk, Fault>>) {
    let (mut wanted, mut over) = (0, false);
    loop {
        let message = tokio::select! {
            biased;
            message = messages.next() => message,
            error = watch.broken("") => {
                let text = format!("the audio was broken off after {wanted} messages: {error}");
                let _ = out.send(Err(Fault::unavailable(text))).await;
                return;
            }
        };
        let Some(message) = message else {
            let _ = out.send(Err(Fault::unavailable("the audio was broken off: the connection was closed"))).await;
            return;
        };
        // Anything else only asks the server whether a worker is here.
        let Some(number) = subject::number(&message.subject).filter(|_| !over) else { continue };
        let item = check(number, wanted, message);
        wanted += 1;
        over = item.as_ref().map_or(true, |chunk| chunk.audio.is_empty());
        if let Err(mpsc::error::TrySendError::Full(_)) = out.try_send(item) {
            drop(messages);
            let text =
                format!("more than {CHUNKS} messages of audio were on the way: send as fast as they are acknowledged");
            let _ = out.send(Err(Fault::new(FaultCode::TooLarge, text))).await;
            return;
        }
    }
}

fn check(number: u64, wanted: u64, message: NatsMessage) -> Result<Chunk, Fault> {
    if number != wanted {
        return Err(Fault::failed(format!("the audio is not whole: message {wanted} is missing (got {number})")));
    }
    let bytes = message.payload.len();
    if bytes > MAX_CHUNK_BYTES {
        let text = format!(
            "message {number} of the audio is {bytes} bytes, and {MAX_CHUNK_BYTES} are taken: send smaller ones"
        );
        return Err(Fault::new(FaultCode::TooLarge, text));
    }
    Ok(Chunk { audio: message.payload, reply: message.reply })
}
