//! The stream SESSIONS itself, and the clock of its events.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};

use crate::bus::connect::{Bus, BusError};
use crate::bus::kept::copies;
use crate::wire::{storage, subject};

/// Within this time the server recognizes an event that is appended again.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The time in RFC 3339, to the millisecond, in UTC.
#[must_use]
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Makes the stream if it is not there.
pub(super) async fn ensure(bus: &Bus) -> Result<Stream, BusError> {
    let config = Config {
        name: storage::SESSIONS.to_owned(),
        description: Some("what was said and done".to_owned()),
        subjects: vec![subject::SESSIONS.to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        allow_direct: true,
        num_replicas: bus.replicas(),
        ..Config::default()
    };
    let failed = |e: &dyn std::fmt::Display| {
        BusError::jetstream(format!("the stream {}", storage::SESSIONS), bus.no_jetstream(e))
    };
    let context = bus.inner.control.jetstream();
    let connection = &bus.inner.control;
    let made = async { copies::place(bus, || context.get_or_create_stream(&config)).await.map_err(|e| failed(&e)) };
    let stream = connection.keep(storage::SESSIONS, made).await?;
    copies::raise(bus, &stream).await?;
    Ok(stream)
}
