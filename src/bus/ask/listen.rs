//! Having speech transcribed while it is spoken: the caller's end of an [`ingest`](crate::bus::ingest).

use std::time::Duration;

use async_nats::{StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::call::Call;
use super::stream::Stream;
use crate::bus::connect::{Bus, BusError, DeliveryWatch, NatsConnection};
use crate::wire::message::stt::{self, Started, StreamEvent};
use crate::wire::subject::{self, Target};

/// How often the worker is looked for: it may go while it has nothing to say and nothing to acknowledge.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// When no worker takes the audio any more: how long its word why may take. It comes over another connection.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The worker, as far as its caller knows.
#[derive(Debug, Clone, Copy, Default)]
struct IngestWorker {
    /// How many chunks it has taken.
    taken: u64,
    /// It does not listen any more.
    gone: bool,
}

impl Bus {
    /// Has speech transcribed while it is spoken; completes when a worker listens. Text must be read while audio is sent:
    /// a caller that does not read is not listened to for long. Dropping the [`Transcripts`] before their end cancels it.
    ///
    /// # Errors
    /// No worker listens, or one says why not.
    pub async fn listen(
        &self,
        target: Target<'_>,
        start: &stt::Stream,
        call: &Call,
    ) -> Result<(AudioSender, Transcripts), BusError> {
        let until = Instant::now() + call.time();
        let mut stream = self.open(target, start, call).await?;
        let started = match stream.next().await {
            Some(Ok(StreamEvent::Started(started))) => started,
            Some(Err(error)) => return Err(error),
            Some(Ok(_)) | None => {
                let (subject, why) = (stream.subject().to_owned(), "it does not say where the audio goes".to_owned());
                return Err(BusError::Cut { subject, why });
            }
        };
        let connection = self.inner.audio.clone();
        let watch = connection.watch(&started.ingest)?;
        let acks = connection.new_credit();
        let every = format!("{acks}.*");
        let heard = connection.client.subscribe(every.clone()).await.map_err(|e| BusError::client(every, e))?;
        let (known, worker) = watch::channel(IngestWorker::default());
        let look = (format!("{}.look", started.ingest).into(), format!("{acks}.look").into());
        let listener = AbortOnDropHandle::new(tokio::spawn(follow(connection.clone(), heard, known, look)));
        let sender = AudioSender {
            connection,
            watch,
            ingest: started.ingest.clone(),
            acks,
            credit: started.credit.max(1),
            chunk_bytes: started.max_bytes / start.frame_bytes() * start.frame_bytes(),
            sent: 0,
            until,
            deadline: call.time(),
            worker: worker.clone(),
        };
        Ok((sender, Transcripts { stream, started, worker, _listener: listener }))
    }
}

/// Hears what the worker takes, and whether it is there, until the caller has gone.
async fn follow(
    connection: NatsConnection,
    mut heard: Subscriber,
    known: watch::Sender<IngestWorker>,
    look: (Subject, Subject),
) {
    let mut looks = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    loop {
        tokio::select! {
            message = heard.next() => {
                let Some(message) = message else { return };
                if message.status == Some(StatusCode::NO_RESPONDERS) {
                    known.send_modify(|worker| worker.gone = true);
                    return;
                }
                if let Some(number) = subject::number(&message.subject) {
                    known.send_modify(|worker| worker.taken = worker.taken.max(number.saturating_add(1)));
                }
            }
            _ = looks.tick() => {
                let (subject, reply) = look.clone();
                if let Err(error) = connection.publish(&subject, Some(reply), None, Bytes::new()).await {
                    tracing::debug!(%error, "the listener could not be looked for");
                }
            }
        }
    }
}

/// Where the audio of a stream goes in.
#[derive(Debug)]
pub struct AudioSender {
    connection: NatsConnection,
    watch: DeliveryWatch,
    ingest: String,
    acks: String,
    credit: u64,
    chunk_bytes: usize,
    sent: u64,
    until: Instant,
    deadline: Duration,
    worker: watch::Receiver<IngestWorker>,
}

impl AudioSender {
    /// Sends samples as the request describes them: whole frames. Waits while the worker is behind.
    ///
    /// # Errors
    /// No worker listens any more ([`Transcripts::next`] tells why), the deadline passed, or the connection dropped.
    pub async fn send(&mut self, audio: Bytes) -> Result<(), BusError> {
        let mut rest = audio;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(self.chunk_bytes.max(1)));
            self.chunk(chunk).await?;
        }
        Ok(())
    }

    /// How many of its messages the worker has acknowledged so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.worker.borrow().taken
    }

    /// Says that this was all.
    ///
    /// # Errors
    /// As [`AudioSender::send`].
    pub async fn end(mut self) -> Result<(), BusError> {
        self.chunk(Bytes::new()).await
    }

    async fn chunk(&mut self, chunk: Bytes) -> Result<(), BusError> {
        let (sent, credit) = (self.sent, self.credit);
        let worker = tokio::select! {
            biased;
            worker = self.worker.wait_for(|worker| worker.gone || sent < worker.taken.saturating_add(credit)) => {
                // The task that follows the worker has ended with the transcripts.
                worker.map_or(IngestWorker { taken: 0, gone: true }, |worker| *worker)
            }
            error = self.watch.broken(&self.ingest) => return Err(error),
            () = tokio::time::sleep_until(self.until) => {
                return Err(BusError::Deadline { subject: self.ingest.clone(), ms: self.deadline.as_millis() });
            }
        };
        if worker.gone {
            return Err(BusError::Cut { subject: self.ingest.clone(), why: GONE.to_owned() });
        }
        if self.watch.is_broken() {
            return Err(BusError::Disconnected { what: "sending audio".to_owned() });
        }
        let subject = format!("{}.{sent}", self.ingest).into();
        self.connection.publish(&subject, Some(format!("{}.{sent}", self.acks).into()), None, chunk).await?;
        self.sent += 1;
        Ok(())
    }
}

const GONE: &str = "no worker takes its audio any more";

/// The transcripts of a stream.
pub struct Transcripts {
    stream: Stream<StreamEvent>,
    started: Started,
    worker: watch::Receiver<IngestWorker>,
    _listener: AbortOnDropHandle<()>,
}

impl Transcripts {
    /// Who listens, and how.
    #[must_use]
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// The next event; `None` after [`StreamEvent::Done`]. Safe to drop and call again.
    ///
    /// # Errors
    /// As [`Stream::next`]; also when the host that listens has gone.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, BusError>> {
        tokio::select! {
            biased;
            event = self.stream.next() => return event,
            worker = self.worker.wait_for(|worker| worker.gone) => drop(worker),
        }
        match timeout(LAST_WORDS, self.stream.next()).await {
            Ok(event) => event,
            Err(_) => Some(Err(BusError::Cut {
                subject: self.stream.subject().to_owned(),
                why: format!("{} has gone: {GONE}", self.started.node),
            })),
        }
    }
}
