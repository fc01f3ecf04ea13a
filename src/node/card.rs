//! What the host says of itself, in NODES and to others that ask.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::bus::message::Ask as _;
use crate::bus::message::node::{AskInfo, Drain, Draining, NodeInfo};
use crate::bus::service::{Incoming, Server, ServiceSpec};
use crate::bus::session;
use crate::bus::subject::{Capability, Target};
use crate::bus::{Bus, BusError};
use crate::config::NodeConfig;
use crate::fabric::wire_privacy;
use crate::hardware;
use crate::role::Offers;

/// What the host says of itself.
#[derive(Debug, Clone)]
pub(super) struct Card {
    fixed: NodeInfo,
    pub(super) offers: Offers,
    pub(super) stop: CancellationToken,
}

impl Card {
    pub(super) fn new(node: &str, config: &NodeConfig, offers: &Offers, stop: &CancellationToken) -> Self {
        let fixed = NodeInfo {
            node: node.to_owned(),
            instance: Ulid::generate().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: session::now(),
            offers: Vec::new(),
            hostname: hardware::hostname(),
            // Read each time: a cable is put in, a lease ends.
            addresses: Vec::new(),
            tags: hardware::tags(&config.tags),
            privacy: wire_privacy(config.privacy),
            draining: false,
        };
        Self { fixed, offers: offers.clone(), stop: stop.clone() }
    }

    pub(super) fn now(&self) -> NodeInfo {
        NodeInfo {
            offers: self.offers.now(),
            draining: self.stop.is_cancelled(),
            addresses: hardware::addresses(),
            ..self.fixed.clone()
        }
    }
}

/// Answers for the host itself: what it offers, and that it is to drain, which takes at most `drain_timeout`.
pub(super) async fn serve(bus: &Bus, card: &Card, drain_timeout: Duration) -> Result<Server, BusError> {
    let spec = ServiceSpec {
        capability: Capability::Node,
        about: "a host itself",
        engine: String::new(),
        models: Vec::new(),
        slots: 8,
    };
    let server = bus.service(spec).await?;
    let (card, drained) = (card.clone(), card.clone());
    server
        .serve(move |_: Incoming<AskInfo>| {
            let info = card.now();
            async move { Ok(info) }
        })
        .await?;
    server
        .serve_at("drain-n", Drain::VERB.subject(Target::Node(bus.node())), move |incoming: Incoming<Drain>| {
            let (card, by) = (drained.clone(), incoming.request.by);
            async move {
                tracing::info!(by, "drains on request");
                card.stop.cancel();
                let timeout_ms = u64::try_from(drain_timeout.as_millis()).unwrap_or(u64::MAX);
                Ok(Draining { offers: card.offers.now(), timeout_ms })
            }
        })
        .await?;
    server.ready().await?;
    Ok(server)
}
