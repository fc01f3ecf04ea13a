//! The object store CLIPS: audio that is over the server's max_payload. Kept for a day.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::object_store::{Config, GetErrorKind, ObjectStore};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::Bus;
use super::error::BusError;
use super::link::Watch;
use super::message::fault::{Fault, FaultCode};

/// The store's name.
pub const BUCKET: &str = "CLIPS";
const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);
/// All clips together; one that does not fit is refused. The server sets this much of its store aside.
const MAX_BYTES: i64 = 1 << 30;
const TIMEOUT: Duration = Duration::from_secs(60);

impl Bus {
    /// Whether a body of `bytes` must go through CLIPS.
    #[must_use]
    pub fn needs_clip(&self, bytes: usize) -> bool {
        bytes > self.inner.control.max_body()
    }

    /// Keeps a clip; gives its name.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] while the link is down; [`BusError::JetStream`] when the server has no JetStream or no
    /// room, or takes longer than a minute.
    pub async fn put_clip(&self, audio: &[u8]) -> Result<String, BusError> {
        let what = "keeping a clip in CLIPS";
        let mut watch = self.inner.audio.watch(what)?;
        let name = ulid::Ulid::generate().to_string();
        let put = async {
            let store = self.clips().await?;
            let mut reader = audio;
            store.put(name.as_str(), &mut reader).await.map_err(|e| BusError::jetstream(what, e))
        };
        within(what, &mut watch, put).await?;
        Ok(name)
    }

    /// Fetches the clip `name`, of at most `max_bytes`.
    ///
    /// # Errors
    /// [`BusError::Fault`] when it is not there (any more) or is too large; [`BusError::Disconnected`] while the link is
    /// down; [`BusError::JetStream`] when it does not come whole within a minute.
    pub async fn get_clip(&self, name: &str, max_bytes: usize) -> Result<Bytes, BusError> {
        let what = format!("fetching the clip {name:?} from CLIPS");
        let mut watch = self.inner.audio.watch(&what)?;
        let failed = |error: &dyn std::fmt::Display| BusError::jetstream(what.as_str(), error);
        let get = async {
            let store = self.clips().await?;
            let object = store.get(name).await.map_err(|error| match error.kind() {
                GetErrorKind::NotFound => {
                    Fault::not_found(format!("there is no clip {name:?} in CLIPS (they are kept for a day)")).into()
                }
                _ => failed(&error),
            })?;
            let bytes = object.info().size;
            if bytes > max_bytes {
                let text = format!("the clip {name:?} is {bytes} bytes, and {max_bytes} are taken");
                return Err(Fault::new(FaultCode::TooLarge, text).into());
            }
            let mut audio = Vec::with_capacity(bytes);
            object.take(max_bytes as u64).read_to_end(&mut audio).await.map_err(|e| failed(&e))?;
            if audio.len() != bytes {
                return Err(failed(&format!("{} of its {bytes} bytes came", audio.len())));
            }
            Ok(Bytes::from(audio))
        };
        within(&what, &mut watch, get).await
    }

    async fn clips(&self) -> Result<ObjectStore, BusError> {
        let jetstream = jetstream::new(self.inner.audio.client.clone());
        if let Ok(store) = jetstream.get_object_store(BUCKET).await {
            return Ok(store);
        }
        let config = Config {
            bucket: BUCKET.to_owned(),
            description: Some("audio over max_payload, for a day".to_owned()),
            max_age: MAX_AGE,
            max_bytes: MAX_BYTES,
            num_replicas: self.replicas(),
            ..Config::default()
        };
        jetstream.create_object_store(config).await.map_err(|e| BusError::jetstream("making the object store CLIPS", e))
    }
}

async fn within<T>(
    what: &str,
    watch: &mut Watch,
    work: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    tokio::select! {
        biased;
        result = timeout(TIMEOUT, work) => result.unwrap_or_else(|_| {
            Err(BusError::jetstream(what, format!("not done within {} s", TIMEOUT.as_secs())))
        }),
        error = watch.broken(what) => Err(error),
    }
}
