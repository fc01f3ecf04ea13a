//! The NATS server under the hosts.

use sidetone::bus::message::llm::Chat;
use sidetone::bus::roster::{Change, Roster};
use sidetone::bus::subject::Capability;
use sidetone::config::Config;
use sidetone::fabric::need;

use super::{Events, call, chat, fabric, host, knows};
use crate::support::nats::{Nats, within};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_everybody_is_there_again() {
    let Some(mut nats) = Nats::start().await else { return };
    let mut a = host(&nats, "a", "llm", &[]).await;
    let _b = host(&nats, "b", "llm", &[]).await;
    let bus = nats.host("tests").await;
    let all = fabric(&bus, &Config::default(), &["a", "b"]).await;
    // A watch while nothing changes: it must not sleep through the restart.
    let mut roster = Roster::follow(&bus, &[]);
    let Some(Change::All(there)) = within(roster.next()).await else { panic!("no list at first") };
    assert_eq!(there.len(), 2);
    for _ in 0..2 {
        let lost = bus.lost();
        nats.kill().await;
        within(lost).await;
        nats.restart().await;
        let begun = std::time::Instant::now();
        // The bucket was in memory: the list is begun anew, and each puts itself in again.
        let mut there = std::collections::BTreeSet::new();
        within(async {
            while there.len() < 2 {
                match roster.next().await.unwrap() {
                    Change::All(nodes) => there = nodes.into_iter().map(|info| info.node).collect(),
                    Change::Here(info) => drop(there.insert(info.node)),
                    Change::Gone(name) => drop(there.remove(&name)),
                }
            }
        })
        .await;
        eprintln!("everybody was there again {} ms after the server", begun.elapsed().as_millis());
        knows(&all, &["a", "b"]).await;
        let ask = Chat { stream: false, ..chat("hello") };
        assert_eq!(within(all.ask(&need(Capability::Llm), &ask, &call())).await.unwrap().text, "hello");
    }
    // The watches are alive: one that leaves is missed at once, not after its entry has expired.
    let mut events = Events::new(&bus).await;
    a.end(libc::SIGTERM);
    events.until("down", "a").await;
    knows(&all, &["b"]).await;
}
