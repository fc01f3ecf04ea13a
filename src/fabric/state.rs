//! What a fabric knows: who is there, how they stand with this caller, and who was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::departures::Departures;
use super::liveness::Liveness;
use super::view;
use crate::bus::Bus;
use crate::bus::message::node::{NodeInfo, Routed};
use crate::bus::registry::announce;
use crate::bus::roster::{Change, Roster};
use crate::bus::subject;
use crate::config::Config;
use crate::router::{Health, Host, Need, Nobody, OfferId, Policy, Privacy, Router, Target, View};

/// How long a caller waits to hear for the first time who is there; after that it asks the queue group.
pub(super) const FIRST_VIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// Choices that wait to be published; further ones are left out.
const ROUTES: usize = 1_024;
/// How often they are published, while there are many.
const ROUTES_EVERY: Duration = Duration::from_millis(5);

/// The way to the hosts that can. Cloning shares what was learnt.
#[derive(Clone)]
pub struct Fabric(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) bus: Bus,
    /// The host that asks.
    pub(super) here: String,
    policies: BTreeMap<String, Policy>,
    /// How far requests of this host may travel, unless they say less.
    privacy: Privacy,
    /// Whether the hosts are a fixed list, of which this host hears every few seconds only.
    is_listed: bool,
    begun: Instant,
    peers: Mutex<Peers>,
    /// How often who is there has changed; 0 before it was known.
    pub(super) changes: watch::Sender<u64>,
    follower: Mutex<Option<AbortOnDropHandle<()>>>,
    routed: mpsc::Sender<Routed>,
    pub(super) liveness: Liveness,
}

/// Who is there, and how they stand with this caller.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) view: View,
    pub(super) health: Health,
    nodes: BTreeMap<String, NodeInfo>,
    departures: Departures,
}

impl std::fmt::Debug for Fabric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fabric").field("here", &self.0.here).finish_non_exhaustive()
    }
}

impl Fabric {
    /// Begins to follow who is there.
    #[must_use]
    pub fn start(bus: &Bus, here: &str, config: &Config) -> Self {
        let (routed, routes) = mpsc::channel(ROUTES);
        tokio::spawn(publish_routes(bus.clone(), here.to_owned(), routes));
        let inner = Arc::new(Inner {
            bus: bus.clone(),
            here: here.to_owned(),
            policies: config.route.clone(),
            privacy: config.node.privacy,
            is_listed: !config.bus.hosts.is_empty(),
            begun: Instant::now(),
            peers: Mutex::default(),
            changes: watch::Sender::new(0),
            follower: Mutex::default(),
            routed,
            liveness: Liveness::start(),
        });
        let mut roster = Roster::follow(bus, &config.bus.hosts);
        let weak = Arc::downgrade(&inner);
        let follower = tokio::spawn(async move {
            while let Some(change) = roster.next().await {
                let Some(inner) = weak.upgrade() else { return };
                inner.take(change).await;
            }
        });
        *inner.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(follower));
        Self(inner)
    }

    /// The bus below.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// Whether a host is this one.
    #[must_use]
    pub fn is_here(&self, host: &str) -> bool {
        self.0.here == host
    }

    /// The hosts that are there, by name; waits a moment to hear of them for the first time.
    pub async fn nodes(&self) -> Vec<NodeInfo> {
        self.until_known().await;
        self.0.peers().nodes.values().cloned().collect()
    }

    /// Each change of who is there or of what they do.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub(super) async fn until_known(&self) -> bool {
        if *self.0.changes.borrow() > 0 {
            return true;
        }
        let mut changes = self.0.changes.subscribe();
        timeout(FIRST_VIEW_TIMEOUT, changes.wait_for(|changes| *changes > 0)).await.is_ok()
    }

    /// Publishes which host is asked, and why. It holds no caller up.
    pub(super) fn publish(&self, routed: Routed) {
        tracing::debug!(
            capability = routed.capability,
            host = routed.host,
            engine = routed.engine,
            reason = routed.reason,
            attempt = routed.attempt,
            after = routed.after,
            "routed"
        );
        if self.0.routed.try_send(routed).is_err() {
            tracing::debug!("a choice of route was not published: too many wait for that");
        }
    }
}

/// Publishes which hosts were asked, until the fabric is dropped; several at once when there are many.
async fn publish_routes(bus: Bus, here: String, mut chosen: mpsc::Receiver<Routed>) {
    let subject = subject::event(&here, "routed");
    let mut routes = Vec::new();
    while chosen.recv_many(&mut routes, ROUTES).await > 0 {
        for routed in routes.drain(..) {
            if let Err(error) = bus.publish(subject.clone(), &routed).await {
                tracing::debug!(%error, "a choice of route was not published");
            }
        }
        // To be woken for each request would cost more than to publish it.
        sleep(ROUTES_EVERY).await;
    }
}

impl Inner {
    pub(super) fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Which run of a host is there now; empty if that is not known to the moment.
    pub(super) fn instance(&self, host: &str) -> String {
        let peers = self.peers();
        let current = peers.nodes.get(host).filter(|_| !self.is_listed);
        current.map(|info| info.instance.clone()).unwrap_or_default()
    }

    pub(super) fn router<'a>(&'a self, peers: &'a Peers, capability: &str) -> Router<'a> {
        static USUAL: std::sync::LazyLock<Policy> = std::sync::LazyLock::new(Policy::default);
        let policy = self.policies.get(capability).unwrap_or(&USUAL);
        Router { here: &self.here, view: &peers.view, policy, health: &peers.health }
    }

    /// The engines to ask but those that were `tried`; or why none, and whether the capability is offered by no host at all.
    pub(super) fn decide(&self, need: &Need, tried: &[OfferId]) -> Result<Vec<Target>, (Nobody, bool)> {
        let peers = self.peers();
        let router = self.router(&peers, &need.capability);
        let decided = router.decide_beyond(tried, need, self.now(), &mut rand::rng());
        decided.map_err(|nobody| (nobody, !peers.view.offers(&need.capability)))
    }

    /// The usual time of a request to an engine, if it has one.
    pub(super) fn usual(&self, id: &OfferId, capability: &str) -> Option<Duration> {
        let peers = self.peers();
        let usual_ms = peers.view.host(&id.host)?.offer(capability, &id.engine)?.load.usual_ms;
        (usual_ms > 0).then(|| Duration::from_millis(usual_ms.into()))
    }

    /// A run of a host gives no sign of life: whatever it offers is asked of others until it reports again. That the next
    /// run is there already says nothing against that one.
    pub(super) fn fell_silent(&self, host: &str, instance: &str) {
        let Peers { view, health, nodes, .. } = &mut *self.peers();
        if !instance.is_empty() && nodes.get(host).is_some_and(|info| info.instance != instance) {
            return;
        }
        health.fell_silent(view, host, self.now());
    }

    /// The need with this host's own privacy put in.
    pub(super) fn narrowed(&self, need: &Need) -> Need {
        Need { privacy: need.privacy.min(self.privacy), ..need.clone() }
    }

    async fn take(&self, change: Change) {
        let lost = {
            let (mut guard, now) = (self.peers(), self.now());
            let peers = &mut *guard;
            match change {
                Change::All(nodes) => {
                    let here: BTreeSet<&str> = nodes.iter().map(|info| info.node.as_str()).collect();
                    let gone = peers.nodes.keys().filter(|name| !here.contains(name.as_str()));
                    let gone: Vec<String> = gone.cloned().collect();
                    // Those of a fixed list were asked, and more than once.
                    gone.iter().for_each(|name| peers.lose(name, &self.here, self.is_listed, now));
                    nodes.into_iter().for_each(|info| peers.put(info, &self.here));
                }
                Change::Here(info) => peers.put(*info, &self.here),
                Change::Gone(name) => peers.lose(&name, &self.here, true, now),
            }
            // One publishes for all: the first by name of those left.
            let tells = peers.nodes.keys().next() == Some(&self.here);
            peers.departures.due(tells, now)
        };
        self.changes.send_modify(|changes| *changes += 1);
        for info in lost {
            tracing::warn!(host = info.node, "a host is gone without a word");
            announce(&self.bus, "lost", &info).await;
        }
    }
}

impl Peers {
    fn put(&mut self, info: NodeInfo, here: &str) {
        // What this host has begun it finishes by its own roles: they drain after those who ask them.
        let draining = info.draining && info.node != here;
        self.view.put(Host { draining, ..view::host(&info) });
        self.departures.forget(&info.node);
        self.nodes.insert(info.node.clone(), info);
    }

    /// A host is not there any more.
    fn lose(&mut self, name: &str, here: &str, is_sure: bool, now: Duration) {
        self.view.remove(name);
        let Some(info) = self.nodes.remove(name) else { return };
        // One that ends has said so itself.
        if !info.draining && name != here {
            self.departures.note(info, is_sure, now);
        }
    }
}
