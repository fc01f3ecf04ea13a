//! Who is there.

use std::sync::{Arc, Mutex};

use async_nats::jetstream::{self, kv};
use futures::{StreamExt as _, stream};
use sidetone::bus::Bus;
use sidetone::bus::message::node::{AskInfo, NodeInfo, Offer};
use sidetone::bus::registry::{Claim, ClaimError};
use sidetone::bus::roster::nodes;
use sidetone::bus::service::{Incoming, Server};
use sidetone::wire::storage;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::serve;
use crate::support::nats::{Nats, eventually, within};

fn info(node: &str) -> NodeInfo {
    let offers = vec![Offer { role: "stt".to_owned(), slots: 2, ..Offer::default() }];
    NodeInfo {
        node: node.to_owned(),
        instance: Ulid::generate().to_string(),
        version: "0.1.0".to_owned(),
        since: "2026-11-24T10:20:00Z".to_owned(),
        offers,
        ..NodeInfo::default()
    }
}

/// A host as `sidetone run` brings it up: claim, serve, renew.
struct Host {
    stop: CancellationToken,
    keeper: JoinHandle<Result<(), ClaimError>>,
    server: Server,
    info: Arc<Mutex<NodeInfo>>,
}

async fn up(bus: &Bus, info: NodeInfo) -> Result<Host, ClaimError> {
    let claim = within(Claim::make(bus, &info)).await?;
    let info = Arc::new(Mutex::new(info));
    let served = Arc::clone(&info);
    let server = serve(bus, 4, move |_: Incoming<AskInfo>| {
        let info = served.lock().unwrap().clone();
        async move { Ok(info) }
    })
    .await;
    let (stop, kept) = (CancellationToken::new(), Arc::clone(&info));
    let keeper =
        tokio::spawn(claim.keep(move || kept.lock().unwrap().clone(), stream::pending().boxed(), stop.clone()));
    Ok(Host { stop, keeper, server, info })
}

impl Host {
    /// As when the process is killed: nothing is renewed, served or taken out any more.
    fn die(self) {
        self.keeper.abort();
        drop(self.server);
    }
}

async fn names(bus: &Bus) -> Vec<String> {
    within(nodes(bus)).await.unwrap().into_iter().map(|node| node.node).collect()
}

async fn watch(nats: &Nats) -> kv::Watch {
    let context = jetstream::new(nats.raw().await);
    let store = within(context.get_key_value(storage::NODES)).await.unwrap();
    within(store.watch_all()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_listed_while_it_is_there() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("studio").await;
    assert!(names(&bus).await.is_empty());
    let host = up(&bus, info("studio")).await.unwrap();
    let other = up(&nats.host("stage.left").await, info("stage.left")).await.unwrap();
    assert_eq!(names(&bus).await, ["stage.left", "studio"]);
    // What it offers is renewed without being asked.
    let mut changes = watch(&nats).await;
    host.info.lock().unwrap().offers[0].in_flight = 2;
    let changed = within(async {
        loop {
            let entry = changes.next().await.unwrap().unwrap();
            if entry.key == "studio" {
                break serde_json::from_slice::<NodeInfo>(&entry.value).unwrap();
            }
        }
    });
    assert_eq!(changed.await.offers[0].in_flight, 2);
    host.stop.cancel();
    within(host.keeper).await.unwrap().unwrap();
    assert_eq!(names(&bus).await, ["stage.left"]);
    other.die();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_killed_expires_and_watchers_hear_it() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("studio").await;
    let host = up(&bus, info("studio")).await.unwrap();
    let mut changes = watch(&nats).await;
    host.die();
    let gone = within(async {
        loop {
            let entry = changes.next().await.unwrap().unwrap();
            if entry.operation != kv::Operation::Put {
                break entry;
            }
        }
    });
    assert_eq!(gone.await.key, "studio");
    assert!(names(&bus).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_given_once_and_again_when_its_host_is_dead() {
    let Some(nats) = Nats::start().await else { return };
    let (first, second) = (nats.host("studio").await, nats.host("studio").await);
    let host = up(&first, info("studio")).await.unwrap();
    let error = up(&second, info("studio")).await.err().unwrap();
    assert!(matches!(&error, ClaimError::Taken { .. }));
    assert_eq!(
        error.to_string(),
        "a host named \"studio\" is on this bus already (up since 2026-11-24T10:20:00Z): give this one another name with --name, or stop that one"
    );
    host.die();
    // At once: its entry still stands, but nobody answers for it.
    let heir = eventually(|| async { up(&second, info("studio")).await.ok() }).await;
    let listed = within(nodes(&first)).await.unwrap();
    assert_eq!(listed, [heir.info.lock().unwrap().clone()]);
    heir.die();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_cut_off_gives_up_a_name_that_is_taken() {
    let Some(nats) = Nats::start().await else { return };
    let (first, second) = (nats.host("studio").await, nats.host("studio").await);
    let own = info("studio");
    let claim = within(Claim::make(&first, &own)).await.unwrap();
    // It does not serve, so to the other it is dead.
    let heir = up(&second, info("studio")).await.unwrap();
    let stop = CancellationToken::new();
    let error = within(claim.keep(move || own.clone(), stream::pending().boxed(), stop)).await.unwrap_err();
    assert!(matches!(error, ClaimError::Taken { .. }), "{error}");
    assert_eq!(within(nodes(&first)).await.unwrap(), [heir.info.lock().unwrap().clone()]);
    heir.die();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_hosts_are_listed_again() {
    let Some(mut nats) = Nats::start().await else { return };
    let bus = nats.host("studio").await;
    let host = up(&bus, info("studio")).await.unwrap();
    nats.kill().await;
    nats.restart().await;
    eventually(|| async { nodes(&bus).await.ok().filter(|nodes| nodes.len() == 1) }).await;
    let late = up(&nats.host("studio").await, info("studio")).await.err().unwrap();
    assert!(matches!(late, ClaimError::Taken { .. }), "{late}");
    host.die();
}
