//! `sidetone drain`: a host takes no new work, finishes what runs, and ends.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until};

use super::globals::Globals;
use super::{client, print};
use crate::bus::message::node::{AskInfo, Drain, NodeInfo, Offer};
use crate::bus::subject::{Target, event_of_all};
use crate::bus::{Bus, BusError, Call, roster};

/// How long a host may take to say that it drains.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked what it still works on.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often its last sign is looked for.
const GONE_EVERY: Duration = Duration::from_millis(50);
/// What it may take beyond its own time-out to put everything away.
const GRACE: Duration = Duration::from_secs(20);

/// Have a host take no new work, finish what runs, and end
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// The host [default: this one (node.name), or the only one there is]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Runs it; ends when the host is gone.
///
/// # Errors
/// There is no such host, or it does not end in time.
pub async fn run(args: DrainArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, config) = client::connect(globals).await?;
    let there = There { bus: bus.clone(), listed: config.bus.hosts.clone() };
    let node = find(&there.names().await?, args.node, &config.node_name())?;
    let mut downs = match bus.subscribe::<NodeInfo>(&event_of_all("down")).await {
        Ok(downs) => downs.boxed(),
        // Not for this user to hear: then the looks tell, a little later.
        Err(BusError::DeniedHearing { .. }) => stream::pending().boxed(),
        Err(error) => return Err(error.into()),
    };
    let mut lost = std::pin::pin!(bus.lost());
    let request = Drain { by: "sidetone drain".to_owned() };
    let call = Call::within(ASK_TIMEOUT);
    let draining = bus.ask(Target::Node(&node), &request, &call).await?;
    let limit = Duration::from_millis(draining.timeout_ms);
    let until = Instant::now() + limit + GRACE;
    let mut shown = String::new();
    let mut tell = |offers: &[Offer]| {
        let work = describe(offers);
        if work == shown {
            return Ok(());
        }
        let line = format!("{node} takes no new work; {work}");
        shown = work;
        print::lines(&[line])
    };
    tell(&draining.offers)?;
    let mut looks = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    loop {
        tokio::select! {
            Some((_, down)) = downs.next() => if down.is_ok_and(|down| down.node == node) {
                // It says so before it takes its entry out.
                while bus.is_up() && Instant::now() < until && there.has(&node).await {
                    sleep(GONE_EVERY).await;
                }
                return print::lines(&[format!("{node} is down")]);
            },
            () = &mut lost => {
                // It was the host of the bus as well.
                return print::lines(&[format!("{node} is down, and the bus with it")]);
            }
            _ = looks.tick() => {
                match bus.ask(Target::Node(&node), &AskInfo {}, &call).await {
                    Ok(info) => tell(&info.offers)?,
                    // Its last word comes as an event, unless it was killed meanwhile.
                    Err(BusError::Nobody { .. }) if !there.has(&node).await => {
                        return print::lines(&[format!("{node} is down")]);
                    }
                    Err(error) => tracing::debug!(%error, "the host did not say how far it is"),
                }
            }
            () = sleep_until(until) => {
                let ms = (limit + GRACE).as_millis();
                return Err(anyhow::Error::from(BusError::Deadline { subject: node.clone(), ms })
                    .context(format!("{node} takes no new work, but does not end: look at its log")));
            }
        }
    }
}

/// Who is there: as the bucket NODES has it, or those of a fixed list that answer.
struct There {
    bus: Bus,
    listed: Vec<String>,
}

impl There {
    async fn names(&self) -> Result<Vec<String>, BusError> {
        if self.listed.is_empty() {
            return Ok(roster::nodes(&self.bus).await?.into_iter().map(|info| info.node).collect());
        }
        let answers = join_all(self.listed.iter().map(|node| self.answers(node))).await;
        Ok(self.listed.iter().zip(answers).filter(|(_, answers)| *answers).map(|(node, _)| node.clone()).collect())
    }

    async fn answers(&self, node: &str) -> bool {
        self.bus.ask(Target::Node(node), &AskInfo {}, &Call::within(ASK_TIMEOUT)).await.is_ok()
    }

    /// Whether a host is still there.
    async fn has(&self, node: &str) -> bool {
        if self.listed.is_empty() {
            return self.names().await.is_ok_and(|names| names.iter().any(|name| name == node));
        }
        self.answers(node).await
    }
}

/// The host to drain.
fn find(nodes: &[String], asked: Option<String>, own: &str) -> anyhow::Result<String> {
    let there = |name: &str| nodes.iter().any(|node| node == name);
    let names = nodes.join(", ");
    match (asked, nodes) {
        (_, []) => anyhow::bail!("no host is up on this bus"),
        (Some(name), _) if there(&name) => Ok(name),
        (Some(name), _) => anyhow::bail!("there is no host {name:?} on this bus; there are {names}"),
        (None, _) if there(own) => Ok(own.to_owned()),
        (None, [only]) => Ok(only.clone()),
        (None, _) => anyhow::bail!("{own}, this host, is not on this bus: name one by --node; there are {names}"),
    }
}

/// The work under way.
fn describe(offers: &[Offer]) -> String {
    let busy: Vec<_> = offers
        .iter()
        .filter(|offer| offer.in_flight > 0)
        .map(|offer| format!("{} {}", offer.in_flight, offer.role))
        .collect();
    if busy.is_empty() { "nothing is under way".to_owned() } else { format!("under way: {}", busy.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_named() {
        let offer = |role: &str, in_flight| Offer { role: role.to_owned(), in_flight, ..Offer::default() };
        assert_eq!(describe(&[offer("stt", 2), offer("tts", 0), offer("llm", 1)]), "under way: 2 stt, 1 llm");
        assert_eq!(describe(&[offer("stt", 0)]), "nothing is under way");
    }
}
