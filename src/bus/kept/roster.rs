//! Who is there, as a host sees it: the bucket NODES watched, or a fixed list of hosts asked one by one.
//!
//! The bucket is read again whenever the watch may have missed something: the connection was lost, the server was restarted
//! (the bucket is in memory, and a watch on it ends without a word), or no entry was renewed for longer than a host
//! takes to renew its own.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::kv::Operation;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::registry::{self, RENEW_EVERY};
use crate::bus::ask::Call;
use crate::bus::connect::{Bus, BusError};
use crate::wire::codec;
use crate::wire::message::node::{AskInfo, NodeInfo};
use crate::wire::storage;
use crate::wire::subject::{Target, name, reserved};

/// Changes that wait to be taken in. When it is full the watch waits, and the server with it.
const QUEUE: usize = 256;
/// A watch that is silent for so long is replaced: this host alone renews its entry more often.
const SILENCE: Duration = Duration::from_secs(7);
/// How long reading the bucket may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before the bucket is read again when it could not be.
const RETRY: Duration = Duration::from_millis(500);
/// How long a host of a fixed list may take to say what it offers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A host of a fixed list that has not answered so often in a row is gone.
const MISSES: u32 = 2;

/// What has changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// These hosts are there, and no others.
    All(Vec<NodeInfo>),
    /// A host has come, has changed, or is still there.
    Here(Box<NodeInfo>),
    /// A host has left.
    Gone(String),
}

/// Every change of who is there, as long as it is held.
#[derive(Debug)]
pub struct Roster {
    changes: mpsc::Receiver<Change>,
    _follower: AbortOnDropHandle<()>,
}

impl Roster {
    /// Follows the bucket NODES; with `hosts`, asks those instead, which needs no JetStream.
    #[must_use]
    pub fn follow(bus: &Bus, hosts: &[String]) -> Self {
        let (sender, changes) = mpsc::channel(QUEUE);
        let (bus, hosts) = (bus.clone(), hosts.to_vec());
        let follower = tokio::spawn(async move {
            if hosts.is_empty() {
                watch(&bus, &sender).await;
            } else {
                ask_all(&bus, &hosts, &sender).await;
            }
        });
        Self { changes, _follower: AbortOnDropHandle::new(follower) }
    }

    /// The next change; `None` when nothing more can be heard. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

type RosterEntries = BoxStream<'static, Result<(RosterEntry, bool), BusError>>;

enum RosterEntry {
    Here(Box<NodeInfo>),
    Gone(String),
}

/// The entries of the bucket, and the changes after that.
async fn read(bus: &Bus) -> Result<(Vec<NodeInfo>, RosterEntries), BusError> {
    let what = "reading the hosts";
    bus.inner.control.check(what)?;
    let failed = |error: &dyn std::fmt::Display| registry::failed(what)(error);
    let reading = async {
        let store = registry::store(bus).await?;
        let is_empty = store.status().await.map_err(|e| failed(&e))?.values() == 0;
        let entries = store.watch_with_history(">").await.map_err(|e| failed(&e))?;
        let mut entries: RosterEntries = entries
            .map_err(|e| registry::failed("watching the hosts")(&e))
            .try_filter_map(|entry| async move {
                let last = entry.delta == 0;
                let change = match entry.operation {
                    Operation::Put => {
                        codec::decode("", &entry.value).ok().map(|info| RosterEntry::Here(Box::new(info)))
                    }
                    Operation::Delete | Operation::Purge => name(&entry.key).map(RosterEntry::Gone),
                };
                // An entry that can't be read, of a later version, is no host, but may be the last.
                Ok(Some((change.unwrap_or(RosterEntry::Gone(entry.key)), last)))
            })
            .boxed();
        let mut there = BTreeMap::new();
        let mut complete = is_empty;
        while !complete {
            let Some(next) = entries.try_next().await? else { break };
            complete = next.1;
            match next.0 {
                RosterEntry::Here(info) => drop(there.insert(info.node.clone(), *info)),
                RosterEntry::Gone(node) => drop(there.remove(&node)),
            }
        }
        Ok((there.into_values().collect(), entries))
    };
    let late = || failed(&format!("not done within {} s", READ_TIMEOUT.as_secs()));
    match timeout(READ_TIMEOUT, bus.inner.control.keep(storage::NODES, reading)).await {
        // No host has been on this bus yet, and it is not for this user to make the bucket.
        Ok(Err(BusError::Denied { subject })) if reserved::is_to_make(&subject) => {
            Ok((Vec::new(), futures::stream::pending().boxed()))
        }
        Ok(result) => result,
        Err(_) => Err(late()),
    }
}

/// All hosts that are there, by name.
///
/// # Errors
/// [`BusError::Disconnected`] while the connection is down, [`BusError::JetStream`] when the bucket can't be read in time.
pub async fn nodes(bus: &Bus) -> Result<Vec<NodeInfo>, BusError> {
    read(bus).await.map(|(there, _)| there)
}

/// Watches the bucket until the roster is dropped.
async fn watch(bus: &Bus, changes: &mpsc::Sender<Change>) {
    loop {
        bus.until_up().await;
        let lost = bus.lost();
        tokio::pin!(lost);
        let mut entries = match read(bus).await {
            Ok((there, entries)) => {
                if changes.send(Change::All(there)).await.is_err() {
                    return;
                }
                entries
            }
            Err(error) => {
                tracing::debug!(%error, "who is there is asked again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        loop {
            let entry = tokio::select! {
                entry = timeout(SILENCE, entries.next()) => entry,
                () = &mut lost => break,
            };
            let change = match entry {
                Ok(Some(Ok((RosterEntry::Here(info), _)))) => Change::Here(info),
                Ok(Some(Ok((RosterEntry::Gone(node), _)))) => Change::Gone(node),
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "the watch on the hosts broke");
                    break;
                }
                Ok(None) | Err(_) => break,
            };
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// Asks the hosts of a fixed list what they offer, as often as they would renew an entry.
async fn ask_all(bus: &Bus, hosts: &[String], changes: &mpsc::Sender<Change>) {
    let mut there = BTreeMap::<String, (NodeInfo, u32)>::new();
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    loop {
        ticks.tick().await;
        let answers = futures::future::join_all(hosts.iter().map(|host| ask(bus, host))).await;
        for (host, answer) in hosts.iter().zip(answers) {
            match (answer, there.get_mut(host)) {
                (Some(info), _) => drop(there.insert(host.clone(), (info, 0))),
                (None, Some((_, misses))) if *misses + 1 < MISSES => *misses += 1,
                (None, _) => drop(there.remove(host)),
            }
        }
        let all = there.values().map(|(info, _)| info.clone()).collect();
        if changes.send(Change::All(all)).await.is_err() {
            return;
        }
    }
}

async fn ask(bus: &Bus, host: &str) -> Option<NodeInfo> {
    match bus.ask(Target::Node(host), &AskInfo {}, &Call::within(ANSWER_TIMEOUT)).await {
        Ok(info) => Some(info),
        Err(error) => {
            tracing::debug!(host, %error, "a host of bus.hosts does not answer");
            None
        }
    }
}
