//! Who is there: the KV bucket NODES. A host puts itself in, renews its entry, and is gone when it stops doing so.
//!
//! An entry is claimed, not just put: of two hosts with one name the second is refused. One that was killed leaves its
//! entry for up to 10 s; whether its owner still lives is asked of it, so that a restart need not wait. On a server
//! without JetStream nothing is kept: a name is taken if a host of that name answers.

use std::time::Duration;

use async_nats::jetstream::kv::{Config, CreateErrorKind, Store};
use async_nats::jetstream::stream::StorageType;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use super::copies;
use super::health::HEALTH;
use crate::bus::ask::Call;
use crate::bus::connect::{Bus, BusError};
use crate::telemetry::health::Part;
use crate::wire::codec::{self, Format};
use crate::wire::message::node::{AskInfo, NodeInfo};
use crate::wire::storage;
use crate::wire::subject::{self, Target, token};

/// How often an entry is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// When an entry that is not renewed goes.
const EXPIRY: Duration = Duration::from_secs(10);
/// So many renewals in a row that fail, and the entry is about to expire.
const FAILURES: u32 = 3;
/// How long the owner of an entry may take to say that it lives.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// The entry's revision; `None` without JetStream.
    revision: Option<u64>,
    /// The bucket, as long as it is known to be there: to look it up would be a second request for each renewal.
    store: Option<Store>,
}

pub(super) async fn store(bus: &Bus) -> Result<Store, BusError> {
    let jetstream = bus.inner.control.jetstream();
    if let Ok(store) = jetstream.get_key_value(storage::NODES).await {
        return Ok(store);
    }
    let config = Config {
        bucket: storage::NODES.to_owned(),
        description: "which hosts are there".to_owned(),
        history: 1,
        max_age: EXPIRY,
        storage: StorageType::Memory,
        num_replicas: bus.replicas(),
        // A watch hears when an entry expires.
        limit_markers: Some(EXPIRY),
        ..Config::default()
    };
    copies::place(bus, || jetstream.create_key_value(config.clone()))
        .await
        .map_err(|e| BusError::jetstream(format!("the bucket {}", storage::NODES), bus.no_jetstream(&e)))
}

pub(super) fn failed(what: &str) -> impl Fn(&dyn std::fmt::Display) -> BusError {
    move |error| BusError::jetstream(format!("{what} in {}", storage::NODES), error)
}

impl Claim {
    /// Claims the name in `info`. To be done before the host itself serves `node.info`: that is how it finds out
    /// whether another host of the name lives.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another living host has it.
    pub async fn make(bus: &Bus, info: &NodeInfo) -> Result<Self, ClaimError> {
        let made = bus.inner.control.keep(storage::NODES, Self::try_make(bus, info)).await?;
        if bus.replicas() > 1
            && let Ok(store) = store(bus).await
        {
            copies::try_raise(bus, &store.stream).await;
        }
        Ok(made)
    }

    async fn try_make(bus: &Bus, info: &NodeInfo) -> Result<Self, ClaimError> {
        if !bus.has_jetstream().await {
            return match owner(bus, &info.node).await? {
                Some(other) => Err(ClaimError::Taken { node: other.node, since: other.since }),
                None => Ok(Self { bus: bus.clone(), revision: None, store: None }),
            };
        }
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
        Ok(Self { bus: bus.clone(), revision: Some(revision), store: None })
    }

    /// Renews the entry every 3 s, at each of `changes`, and when the connection is back, with what `info` gives, until `stop`
    /// fires; then takes it out. Publishes when the offers have changed, and when the entry had been lost.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another host has taken the name, which this host must then give up.
    pub async fn keep(
        mut self,
        info: impl Fn() -> NodeInfo + Send,
        mut changes: BoxStream<'static, ()>,
        stop: CancellationToken,
    ) -> Result<(), ClaimError> {
        let mut published = info();
        let (health, mut failures) = (Part::new(HEALTH, "registry"), 0_u32);
        health.up();
        loop {
            let back = async {
                self.bus.lost().await;
                self.bus.until_up().await;
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(RENEW_EVERY) => {}
                Some(()) = changes.next() => {}
                // The server may have been restarted, and the bucket be gone: to look is to know at once, while an update
                // waits for its time-out where a subscriber to all of `$KV.>` hides that no responder is there.
                () = back => self.store = None,
            }
            if !self.bus.is_up() {
                self.store = None;
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.bus.until_up() => {}
                }
            }
            let now = info();
            match self.renew(&now).await {
                Ok(Renewed::AsBefore) if now.has_shape_of(&published) => {}
                Ok(Renewed::AsBefore) => announce(&self.bus, "changed", &now).await,
                Ok(Renewed::Again) => announce(&self.bus, "back", &now).await,
                Err(ClaimError::Bus(error)) => {
                    failures = failures.saturating_add(1);
                    if failures >= FAILURES {
                        health.down(&format!("this host's entry is not renewed, so no other asks it: {error}"));
                    }
                    if failures == FAILURES {
                        tracing::warn!(%error, failures, "the entry was not renewed: for others this host is gone");
                    } else {
                        tracing::debug!(%error, failures, "the entry was not renewed; it is tried again");
                    }
                    continue;
                }
                Err(taken) => return Err(taken),
            }
            if failures >= FAILURES {
                tracing::info!("the entry is renewed again");
            }
            failures = 0;
            health.up();
            published = now;
        }
        if let Some(revision) = self.revision
            && self.bus.is_up()
            && let Ok(store) = store(&self.bus).await
            && let Err(error) = store.purge_expect_revision(token(self.bus.node()), Some(revision)).await
        {
            tracing::debug!(%error, "the entry stays until it expires");
        }
        Ok(())
    }

    async fn renew(&mut self, info: &NodeInfo) -> Result<Renewed, ClaimError> {
        let Some(revision) = self.revision else { return Ok(Renewed::AsBefore) };
        let body = codec::encode(info, Format::Json).map_err(BusError::from)?;
        if let Some(store) = &self.store
            && let Ok(revision) = store.update(token(&info.node), body.clone(), revision).await
        {
            self.revision = Some(revision);
            return Ok(Renewed::AsBefore);
        }
        self.store = None;
        let store = store(&self.bus).await?;
        if let Ok(revision) = store.update(token(&info.node), body.clone(), revision).await {
            (self.revision, self.store) = (Some(revision), Some(store));
            return Ok(Renewed::AsBefore);
        }
        // The server was restarted (the bucket is in memory), or the entry expired during a pause, or an
        // acknowledgement was lost, or the name is taken.
        let (revision, renewed) = match create(&self.bus, info).await? {
            Ok(revision) => (revision, Renewed::Again),
            Err(Rival { info: Some(other), .. }) if other.instance != info.instance => {
                return Err(ClaimError::Taken { node: other.node, since: other.since });
            }
            Err(Rival { revision, .. }) => {
                let updated = store.update(token(&info.node), body, revision).await;
                (updated.map_err(|e| failed("renewing the entry")(&e))?, Renewed::AsBefore)
            }
        };
        (self.revision, self.store) = (Some(revision), Some(store));
        Ok(renewed)
    }
}

/// Publishes what has become of a host: `up`, `down`, `changed`, `lost` or `back`. The bucket says which hosts are there,
/// so that nothing but this event is missed where it can't be published.
pub async fn announce(bus: &Bus, kind: &str, info: &NodeInfo) {
    if let Err(error) = bus.publish(subject::event(&info.node, kind), info).await {
        tracing::debug!(%error, kind, "the event was not published");
    }
}

/// How an entry was renewed.
enum Renewed {
    /// It was still there.
    AsBefore,
    /// It had been lost.
    Again,
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
    Ok(owner(bus, &entry.node).await?.is_some_and(|info| info.instance.is_empty() || info.instance == entry.instance))
}

/// The host of this name that answers; with its name alone if it is too busy to say more.
async fn owner(bus: &Bus, node: &str) -> Result<Option<NodeInfo>, BusError> {
    match bus.ask(Target::Node(node), &AskInfo {}, &Call::within(ALIVE_TIMEOUT)).await {
        Ok(info) => Ok(Some(info)),
        Err(BusError::Nobody { .. } | BusError::Deadline { .. }) => Ok(None),
        Err(BusError::Fault(_)) => Ok(Some(NodeInfo { node: node.to_owned(), ..NodeInfo::default() })),
        Err(error) => Err(error),
    }
}
