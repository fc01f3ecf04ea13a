//! On how many servers of a cluster a stream is kept.

use std::fmt::Display;
use std::sync::PoisonError;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, Stream};
use tokio::time::{Instant, sleep};

use crate::bus::connect::{Bus, BusError};

/// How long the servers of a cluster may take to find each other.
const PLACED_WITHIN: Duration = Duration::from_secs(10);
const PLACED_RETRY: Duration = Duration::from_millis(250);
/// What the server says when it knows of fewer servers than there are to be copies.
const NO_PEERS: &str = "no suitable peers";

/// Makes a stream or bucket. Servers that have just been started, as the host was, may not know of each other yet.
///
/// # Errors
/// What `make` says at last.
pub(super) async fn place<T, E: Display, R: Future<Output = Result<T, E>>>(
    bus: &Bus,
    make: impl Fn() -> R,
) -> Result<T, E> {
    let until = Instant::now() + PLACED_WITHIN;
    loop {
        match make().await {
            Err(error) if bus.replicas() > 1 && Instant::now() < until && error.to_string().contains(NO_PEERS) => {
                sleep(PLACED_RETRY).await;
            }
            result => return result,
        }
    }
}

/// Raises the copies of a stream that was made before there was a cluster, or by a host whose settings say fewer.
///
/// # Errors
/// [`BusError::JetStream`] when it can't be done now. That this user may not is said once, and no error.
pub(super) async fn raise(bus: &Bus, stream: &Stream) -> Result<(), BusError> {
    let there = &stream.cached_info().config;
    let (copies, wanted, name) = (there.num_replicas, bus.replicas(), &there.name);
    let refused = || bus.inner.unraised.lock().unwrap_or_else(PoisonError::into_inner);
    if copies >= wanted || refused().contains(name) {
        return Ok(());
    }
    let (connection, more) = (&bus.inner.control, Config { num_replicas: wanted, ..there.clone() });
    let context = connection.jetstream();
    let failed = |e: &dyn Display| BusError::jetstream(format!("the stream {name}"), bus.no_jetstream(e));
    let update = async { context.update_stream(&more).await.map_err(|e| failed(&e)) };
    match connection.keep(name, update).await {
        // A user that may change a stream may change all of it, so that hosts of a bus with users may not.
        Err(error @ BusError::Denied { .. }) => {
            if refused().insert(name.clone()) {
                tracing::warn!(%error, copies, wanted, "an admin has to raise the copies of {name}");
            }
            Ok(())
        }
        result => result.map(drop),
    }
}

/// The same where work goes on with fewer copies: the next who opens it tries again.
pub(super) async fn try_raise(bus: &Bus, stream: &Stream) {
    if let Err(error) = raise(bus, stream).await {
        tracing::warn!(%error, "there are fewer copies than bus.replicas says");
    }
}
