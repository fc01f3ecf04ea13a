//! The object store CLIPS: audio that is over the server's max_payload. Kept for a day.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::object_store::{Config, ObjectStore};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::Bus;
use super::error::BusError;

/// The store's name.
pub const BUCKET: &str = "CLIPS";
const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);
/// All clips together; the oldest go when a new one would not fit.
const MAX_BYTES: i64 = 4 << 30;
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
    /// [`BusError::JetStream`] when the server has no JetStream or no room, or takes longer than a minute.
    pub async fn put_clip(&self, audio: &[u8]) -> Result<String, BusError> {
        let name = ulid::Ulid::generate().to_string();
        let put = async {
            let store = self.clips().await?;
            let mut reader = audio;
            store.put(name.as_str(), &mut reader).await.map_err(|e| BusError::jetstream("keeping a clip in CLIPS", e))
        };
        within("keeping a clip in CLIPS", put).await?;
        Ok(name)
    }

    /// Fetches the clip `name`, of at most `max_bytes`.
    ///
    /// # Errors
    /// [`BusError::JetStream`] when it is not there (any more), is too large, or does not come within a minute.
    pub async fn get_clip(&self, name: &str, max_bytes: usize) -> Result<Bytes, BusError> {
        let what = format!("fetching the clip {name:?} from CLIPS");
        let get = async {
            let store = self.clips().await?;
            let mut object = store.get(name).await.map_err(|e| BusError::jetstream(what.as_str(), e))?;
            if object.info().size > max_bytes {
                let why = format!("it is {} bytes, and {max_bytes} are taken", object.info().size);
                return Err(BusError::jetstream(what.as_str(), why));
            }
            let mut bytes = Vec::with_capacity(object.info().size);
            object.read_to_end(&mut bytes).await.map_err(|e| BusError::jetstream(what.as_str(), e))?;
            Ok(Bytes::from(bytes))
        };
        within(&what, get).await
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
            ..Config::default()
        };
        jetstream.create_object_store(config).await.map_err(|e| BusError::jetstream("making the object store CLIPS", e))
    }
}

async fn within<T>(what: &str, work: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    timeout(TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(BusError::jetstream(what, format!("not done within {} s", TIMEOUT.as_secs()))))
}
