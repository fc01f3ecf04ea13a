//! The one stop: everything on this host that sounds or acts hears it at once, without the bus; the other hosts by
//! `control.stop`. It waits for nothing, and works while the bus is down.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::node::Stop;
use crate::bus::{Bus, BusError, subject};

/// Stops of this host that may still come back by the bus.
const OWN: usize = 64;

/// Stops everything: wakes all on this host that must stop, and tells the other hosts. Cloning shares it.
#[derive(Clone)]
pub struct Stops(Arc<Inner>);

struct Inner {
    bus: Bus,
    shared: Arc<Shared>,
    _listening: AbortOnDropHandle<()>,
}

struct Shared {
    /// How many there were.
    count: watch::Sender<u64>,
    /// The ids of those that this host has sent.
    own: Mutex<VecDeque<String>>,
}

impl Shared {
    fn own(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stops {
    /// Begins to listen for those of other hosts.
    ///
    /// # Errors
    /// The bus refuses.
    pub async fn listen(bus: &Bus) -> Result<Self, BusError> {
        let shared = Arc::new(Shared { count: watch::Sender::new(0), own: Mutex::default() });
        let mut stops = bus.subscribe::<Stop>(subject::STOP).await?;
        let heard = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Some((_, stop)) = stops.next().await {
                let stop = match stop {
                    Ok(stop) => stop,
                    Err(fault) if fault.code == FaultCode::Unavailable => {
                        tracing::error!(%fault, "stops of other hosts are not heard");
                        continue;
                    }
                    // One that can't be read is one all the same.
                    Err(_) => Stop::default(),
                };
                if stop.id.is_empty() || !heard.own().contains(&stop.id) {
                    tracing::info!(by = stop.by, "stop");
                    heard.count.send_modify(|count| *count += 1);
                }
            }
        });
        Ok(Self(Arc::new(Inner { bus: bus.clone(), shared, _listening: AbortOnDropHandle::new(listening) })))
    }

    /// Stops everything here at once, and tells the other hosts. `by` says who wants it, for the log.
    pub fn fire(&self, by: &str) {
        tracing::info!(by, "stop");
        self.0.shared.count.send_modify(|count| *count += 1);
        let stop = Stop { by: by.to_owned(), id: Ulid::generate().to_string() };
        {
            let mut own = self.0.shared.own();
            own.truncate(OWN - 1);
            own.push_front(stop.id.clone());
        }
        let bus = self.0.bus.clone();
        tokio::spawn(async move {
            if let Err(error) = bus.publish(subject::STOP.to_owned(), &stop).await {
                let text = format!("this host has stopped, but the other hosts may go on: {error}");
                bus.report(&Fault::unavailable(text)).await;
            }
        });
    }

    /// How many there have been. What was asked for before the last one is not to be done any more.
    #[must_use]
    pub fn count(&self) -> u64 {
        *self.0.shared.count.borrow()
    }

    /// Each stop from now on. Several before one is awaited are one.
    #[must_use]
    pub fn subscribe(&self) -> StopHeard {
        StopHeard(self.0.shared.count.subscribe())
    }
}

/// Hears stops.
pub struct StopHeard(watch::Receiver<u64>);

impl StopHeard {
    /// Waits for the next one. Once the host is gone it waits for ever.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
