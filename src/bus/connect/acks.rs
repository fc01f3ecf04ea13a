//! What the readers of this host's streams acknowledge, and whether they are still there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{StatusCode, Subject};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connection::NatsConnection;
use super::error::BusError;
use crate::wire::subject;

/// One stream that this host sends, as its reader acknowledges it.
#[derive(Debug)]
pub(in crate::bus) struct Flow {
    /// How many of its chunks the reader has done with.
    pub(in crate::bus) done: watch::Sender<u64>,
    pub(in crate::bus) cancel: CancellationToken,
}

/// All streams that this host is sending over a connection: one subscription hears for all of them.
#[derive(Debug)]
pub(in crate::bus) struct Acks {
    prefix: String,
    next: AtomicU64,
    flows: Arc<Mutex<HashMap<u64, Arc<Flow>>>>,
    _listener: AbortOnDropHandle<()>,
}

impl Acks {
    pub(super) async fn start(connection: &NatsConnection) -> Result<Self, BusError> {
        let prefix = connection.new_credit();
        // <stream>.<chunk>
        let subject = format!("{prefix}.*.*");
        let mut messages =
            connection.client.subscribe(subject.clone()).await.map_err(|e| BusError::client(subject, e))?;
        connection.ready().await?;
        let flows = Arc::<Mutex<HashMap<u64, Arc<Flow>>>>::default();
        let heard = Arc::clone(&flows);
        let listener = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let Some((id, seq)) = chunk_of(&message.subject) else { continue };
                let Some(flow) = lock(&heard).get(&id).cloned() else { continue };
                if message.status == Some(StatusCode::NO_RESPONDERS) {
                    flow.cancel.cancel();
                    continue;
                }
                flow.done.send_if_modified(|done| {
                    let now = seq.saturating_add(1);
                    let more = now > *done;
                    *done = (*done).max(now);
                    more
                });
            }
        });
        Ok(Self { prefix, next: AtomicU64::new(0), flows, _listener: AbortOnDropHandle::new(listener) })
    }

    /// Begins a stream, whose work `cancel` stops when its reader has gone. Gives its number.
    pub(in crate::bus) fn open(&self, cancel: CancellationToken) -> (u64, Arc<Flow>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let flow = Arc::new(Flow { done: watch::Sender::new(0), cancel });
        lock(&self.flows).insert(id, Arc::clone(&flow));
        (id, flow)
    }

    /// Hears no more of a stream.
    pub(in crate::bus) fn close(&self, id: u64) {
        lock(&self.flows).remove(&id);
    }

    /// Where the reader of stream `id` acknowledges chunk `seq` and those before it.
    pub(in crate::bus) fn reply_to(&self, id: u64, seq: u64) -> Subject {
        format!("{}.{id}.{seq}", self.prefix).into()
    }
}

/// The stream and the number of a chunk whose reply subject this is.
fn chunk_of(subject: &str) -> Option<(u64, u64)> {
    let (stream, _) = subject.rsplit_once('.')?;
    Some((subject::number(stream)?, subject::number(subject)?))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
