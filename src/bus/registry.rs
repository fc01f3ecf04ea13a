//! Who is there: the KV bucket NODES. A host puts itself in, renews its entry, and is gone when it stops doing so.
//!
//! An entry is claimed, not just put: of two hosts with one name the second is refused. One that was killed leaves its
//! entry for up to 10 s; whether its owner still lives is asked of it, so that a restart need not wait.

use std::time::Duration;

use async_nats::jetstream::kv::{Config, CreateErrorKind, Store};
use async_nats::jetstream::stream::StorageType;
use async_nats::jetstream::{self};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use super::codec::{self, Format};
use super::error::BusError;
use super::message::node::{AskInfo, NodeInfo};
use super::subject::{Target, reserved, token};
use super::{Bus, Call};

/// The bucket's name.
pub const BUCKET: &str = "NODES";
/// How often an entry is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// When an entry that is not renewed goes.
const EXPIRY: Duration = Duration::from_secs(10);
/// How long the owner of an entry may take to say that it lives.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(1);
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a name could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another host has it.
    #[error(
        "a host named {node:?} is on this bus already (up since {since}): give this one another name with --name, or stop that one"
    )]
    Taken {
        /// The name.
        node: String,
        /// Since when the other is up.
        since: String,
    },
    /// The bucket can't be used.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A host's entry.
#[derive(Debug)]
pub struct Claim {
    bus: Bus,
    revision: u64,
}

async fn store(bus: &Bus) -> Result<Store, BusError> {
    let jetstream = jetstream::new(bus.inner.control.client.clone());
    if let Ok(store) = jetstream.get_key_value(BUCKET).await {
        return Ok(store);
    }
    let config = Config {
        bucket: BUCKET.to_owned(),
        description: "which hosts are there".to_owned(),
        history: 1,
        max_age: EXPIRY,
        storage: StorageType::Memory,
        // Whoever watches hears when an entry expires.
        limit_markers: Some(EXPIRY),
        ..Config::default()
    };
    jetstream
        .create_key_value(config)
        .await
        .map_err(|e| BusError::jetstream(format!("the bucket {BUCKET}"), format!("{e}; start nats-server with -js")))
}

fn failed(what: &str) -> impl Fn(&dyn std::fmt::Display) -> BusError {
    move |error| BusError::jetstream(format!("{what} in {BUCKET}"), error)
}

impl Claim {
    /// Claims the name in `info`. To be done before the host itself serves `node.info`: that is how it finds out
    /// whether another host of the name lives.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another living host has it.
    pub async fn make(bus: &Bus, info: &NodeInfo) -> Result<Self, ClaimError> {
        bus.inner.control.keep(BUCKET, Self::try_make(bus, info)).await
    }

    async fn try_make(bus: &Bus, info: &NodeInfo) -> Result<Self, ClaimError> {
        let revision = match create(bus, info).await? {
            Ok(revision) => revision,
            Err(Rival { revision, info: other }) => {
                if let Some(other) = other
                    && alive(bus, &other).await?
                {
                    return Err(ClaimError::Taken { node: other.node, since: other.since });
                }
                let store = store(bus).await?;
                let body = codec::encode(info, Format::Json).map_err(BusError::from)?;
                let claimed = store.update(token(&info.node), body, revision).await;
                claimed.map_err(|e| failed("claiming the name")(&e))?
            }
        };
        Ok(Self { bus: bus.clone(), revision })
    }

    /// Renews the entry every 3 s, at each of `changes`, and when the link is back, with what `info` gives, until `stop`
    /// fires; then takes it out.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another host has taken the name, which this host must then give up.
    pub async fn keep(
        mut self,
        info: impl Fn() -> NodeInfo + Send,
        mut changes: BoxStream<'static, ()>,
        stop: CancellationToken,
    ) -> Result<(), ClaimError> {
        loop {
            let back = async {
                self.bus.lost().await;
                self.bus.until_up().await;
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(RENEW_EVERY) => {}
                Some(()) = changes.next() => {}
                () = back => {}
            }
            if !self.bus.is_up() {
                continue;
            }
            match self.renew(&info()).await {
                Ok(()) => {}
                Err(ClaimError::Bus(error)) => tracing::debug!(%error, "the entry was not renewed; it is tried again"),
                Err(taken) => return Err(taken),
            }
        }
        if self.bus.is_up()
            && let Ok(store) = store(&self.bus).await
            && let Err(error) = store.purge_expect_revision(token(self.bus.node()), Some(self.revision)).await
        {
            tracing::debug!(%error, "the entry stays until it expires");
        }
        Ok(())
    }

    async fn renew(&mut self, info: &NodeInfo) -> Result<(), ClaimError> {
        let store = store(&self.bus).await?;
        let body = codec::encode(info, Format::Json).map_err(BusError::from)?;
        if let Ok(revision) = store.update(token(&info.node), body.clone(), self.revision).await {
            self.revision = revision;
            return Ok(());
        }
        // The server was restarted (the bucket is in memory), or the entry expired during a pause, or an
        // acknowledgement was lost, or the name is taken.
        self.revision = match create(&self.bus, info).await? {
            Ok(revision) => revision,
            Err(Rival { info: Some(other), .. }) if other.instance != info.instance => {
                return Err(ClaimError::Taken { node: other.node, since: other.since });
            }
            Err(Rival { revision, .. }) => {
                store.update(token(&info.node), body, revision).await.map_err(|e| failed("renewing the entry")(&e))?
            }
        };
        Ok(())
    }
}

/// The entry that is there already; without `info` if it can't be read.
struct Rival {
    revision: u64,
    info: Option<NodeInfo>,
}

/// Puts the entry in if there is none.
async fn create(bus: &Bus, info: &NodeInfo) -> Result<Result<u64, Rival>, BusError> {
    let (store, key) = (store(bus).await?, token(&info.node));
    let failed = failed("claiming the name");
    match store.create(&key, codec::encode(info, Format::Json)?).await {
        Ok(revision) => Ok(Ok(revision)),
        Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
            let entry = store.entry(key).await.map_err(|e| failed(&e))?;
            Ok(Err(entry.map_or(Rival { revision: 0, info: None }, |entry| Rival {
                revision: entry.revision,
                info: codec::decode("", &entry.value).ok(),
            })))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Whether the host that wrote `entry` answers.
async fn alive(bus: &Bus, entry: &NodeInfo) -> Result<bool, BusError> {
    let call = Call::within(ALIVE_TIMEOUT);
    match bus.ask(Target::Node(&entry.node), &AskInfo {}, &call).await {
        Ok(info) => Ok(info.instance == entry.instance),
        Err(BusError::Nobody { .. } | BusError::Deadline { .. }) => Ok(false),
        // Too busy to say so, but there.
        Err(BusError::Fault(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// All hosts that are there, by name.
///
/// # Errors
/// [`BusError::Disconnected`] while the link is down, [`BusError::JetStream`] when the bucket can't be read in time.
pub async fn nodes(bus: &Bus) -> Result<Vec<NodeInfo>, BusError> {
    bus.inner.control.check("reading the hosts")?;
    let read = async {
        let store = store(bus).await?;
        let failed = failed("reading the hosts");
        let keys: Vec<String> =
            store.keys().await.map_err(|e| failed(&e))?.try_collect().await.map_err(|e| failed(&e))?;
        let entries = futures::stream::iter(keys).then(|key| async { store.get(key).await });
        let entries: Vec<_> = entries.try_collect().await.map_err(|e| failed(&e))?;
        let mut nodes: Vec<NodeInfo> =
            entries.into_iter().flatten().filter_map(|value| codec::decode("", &value).ok()).collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(nodes)
    };
    let read = tokio::time::timeout(READ_TIMEOUT, bus.inner.control.keep(BUCKET, read)).await;
    // No host has been on this bus yet, and it is not for this user to make the bucket.
    if let Ok(Err(BusError::Denied { subject })) = &read
        && reserved::is_to_make(subject)
    {
        return Ok(Vec::new());
    }
    read.unwrap_or_else(|_| Err(failed("reading the hosts")(&format!("not done within {} s", READ_TIMEOUT.as_secs()))))
}
