//! The object store CLIPS: audio that is over the server's max_payload. Kept for a day.

use std::time::Duration;

use async_nats::jetstream::object_store::{Config, DeleteErrorKind, GetErrorKind, ObjectStore};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::copies;
use crate::bus::connect::{Bus, BusError, DeliveryWatch};
use crate::wire::message::fault::{Fault, FaultCode};
use crate::wire::storage;
use crate::wire::subject::reserved;

const CLIPS: Bucket = Bucket {
    name: storage::CLIPS,
    about: "audio over max_payload, for a day",
    what: "clip",
    max_age: Duration::from_secs(24 * 3_600),
    // All clips together; one that does not fit is refused. The server sets this much of its store aside.
    max_bytes: 1 << 30,
};
/// How long an answer of the server may take …
const TIMEOUT: Duration = Duration::from_secs(60);
/// … and how much longer each MiB: a server that writes each chunk to a slow disk at once, or a slow network.
const MIB_TIMEOUT: Duration = Duration::from_secs(2);

impl Bus {
    /// Whether a body of `bytes` must go through CLIPS.
    #[must_use]
    pub fn needs_clip(&self, bytes: usize) -> bool {
        bytes > self.inner.control.max_body()
    }

    /// Makes sure of the store, for callers who may not make it.
    ///
    /// # Errors
    /// As [`Bus::put_clip`].
    pub async fn make_clips(&self) -> Result<(), BusError> {
        self.make_objects(&CLIPS).await
    }

    /// Keeps a clip; gives its name.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] while the connection is down; [`BusError::JetStream`] when the server has no JetStream or no
    /// room, or takes longer than a minute and 2 s a MiB.
    pub async fn put_clip(&self, audio: &[u8]) -> Result<String, BusError> {
        let name = ulid::Ulid::generate().to_string();
        self.put_object(&CLIPS, &name, audio).await?;
        Ok(name)
    }

    /// Fetches the clip `name`, of at most `max_bytes`.
    ///
    /// # Errors
    /// [`BusError::Fault`] when it is not there (any more) or is too large; [`BusError::Disconnected`] while the connection is
    /// down; [`BusError::JetStream`] when it does not come whole within a minute and 2 s a MiB.
    pub async fn get_clip(&self, name: &str, max_bytes: usize) -> Result<Bytes, BusError> {
        self.get_object(&CLIPS, name, max_bytes).await
    }

    /// As [`Bus::make_clips`], any store.
    pub(super) async fn make_objects(&self, bucket: &Bucket) -> Result<(), BusError> {
        let what = format!("making the object store {}", bucket.name);
        let mut watch = self.inner.audio.watch(&what)?;
        within(&what, &mut watch, TIMEOUT, self.inner.audio.keep(bucket.name, self.objects(bucket))).await?;
        if self.replicas() > 1
            && let Ok(stream) = self.inner.control.jetstream().get_stream(reserved::of_store(bucket.name)).await
        {
            copies::try_raise(self, &stream).await;
        }
        Ok(())
    }

    /// As [`Bus::put_clip`], anywhere.
    pub(super) async fn put_object(&self, bucket: &Bucket, name: &str, body: &[u8]) -> Result<(), BusError> {
        let what = format!("keeping a {} in {}", bucket.what, bucket.name);
        let mut watch = self.inner.audio.watch(&what)?;
        let put = async {
            let store = self.objects(bucket).await?;
            let mut reader = body;
            store.put(name, &mut reader).await.map_err(|e| BusError::jetstream(what.as_str(), e))
        };
        within(&what, &mut watch, patience(body.len()), self.inner.audio.keep(bucket.name, put)).await?;
        Ok(())
    }

    /// As [`Bus::get_clip`], anywhere.
    pub(super) async fn get_object(&self, bucket: &Bucket, name: &str, max_bytes: usize) -> Result<Bytes, BusError> {
        let Bucket { what: thing, name: place, .. } = bucket;
        let what = format!("fetching the {thing} {name:?} from {place}");
        let mut watch = self.inner.audio.watch(&what)?;
        let failed = |error: &dyn std::fmt::Display| BusError::jetstream(what.as_str(), error);
        let find = async {
            let store = self.objects(bucket).await?;
            let object = store.get(name).await.map_err(|error| match error.kind() {
                GetErrorKind::NotFound => {
                    let days = bucket.max_age.as_secs() / 24 / 3_600;
                    let kept = if days == 1 { "a day".to_owned() } else { format!("{days} days") };
                    Fault::not_found(format!("there is no {thing} {name:?} in {place} (they are kept for {kept})"))
                        .into()
                }
                _ => failed(&error),
            })?;
            let bytes = object.info().size;
            if bytes > max_bytes {
                let text = format!("the {thing} {name:?} is {bytes} bytes, and {max_bytes} are taken");
                return Err(Fault::new(FaultCode::TooLarge, text).into());
            }
            Ok((object, bytes))
        };
        let (object, bytes) = within(&what, &mut watch, TIMEOUT, self.inner.audio.keep(place, find)).await?;
        let read = async {
            let mut audio = Vec::with_capacity(bytes);
            object.take(max_bytes as u64).read_to_end(&mut audio).await.map_err(|e| failed(&e))?;
            if audio.len() != bytes {
                return Err(failed(&format!("{} of its {bytes} bytes came", audio.len())));
            }
            Ok(Bytes::from(audio))
        };
        within(&what, &mut watch, patience(bytes), self.inner.audio.keep(place, read)).await
    }

    /// Takes an object out; none that is there is no error.
    pub(super) async fn delete_object(&self, bucket: &Bucket, name: &str) -> Result<(), BusError> {
        let what = format!("deleting the {} {name:?} from {}", bucket.what, bucket.name);
        let mut watch = self.inner.audio.watch(&what)?;
        let delete = async {
            match self.objects(bucket).await?.delete(name).await {
                Err(error) if error.kind() != DeleteErrorKind::NotFound => {
                    Err(BusError::jetstream(what.as_str(), error))
                }
                _ => Ok(()),
            }
        };
        within(&what, &mut watch, TIMEOUT, self.inner.audio.keep(bucket.name, delete)).await
    }

    async fn objects(&self, bucket: &Bucket) -> Result<ObjectStore, BusError> {
        let jetstream = self.inner.audio.jetstream();
        if let Ok(store) = jetstream.get_object_store(bucket.name).await {
            return Ok(store);
        }
        let config = Config {
            bucket: bucket.name.to_owned(),
            description: Some(bucket.about.to_owned()),
            max_age: bucket.max_age,
            max_bytes: bucket.max_bytes,
            num_replicas: self.replicas(),
            ..Config::default()
        };
        let made = jetstream.create_object_store(config).await;
        made.map_err(|e| BusError::jetstream(format!("making the object store {}", bucket.name), e))
    }
}

/// An object store.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// What one object in it is.
    pub(super) what: &'static str,
    pub(super) max_age: Duration,
    /// −1: no limit but the server's.
    pub(super) max_bytes: i64,
}

/// How long so many bytes may take.
fn patience(bytes: usize) -> Duration {
    TIMEOUT.saturating_add(MIB_TIMEOUT.saturating_mul(u32::try_from(bytes >> 20).unwrap_or(u32::MAX)))
}

async fn within<T>(
    what: &str,
    watch: &mut DeliveryWatch,
    patience: Duration,
    work: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    tokio::select! {
        biased;
        result = timeout(patience, work) => result.unwrap_or_else(|_| {
            Err(BusError::jetstream(what, format!("not done within {} s", patience.as_secs())))
        }),
        error = watch.broken(what) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_objects_have_more_time() {
        assert_eq!(patience(0), TIMEOUT);
        assert_eq!(patience(256 << 20), Duration::from_secs(60 + 512));
        assert!(patience(usize::MAX) > patience(256 << 20));
    }
}
