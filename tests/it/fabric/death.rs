//! Hosts that are killed in the middle of an answer.

use sidetone::bus::subject::Capability;
use sidetone::config::Config;
use sidetone::fabric::need;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::{Events, assert_kept_once, call, chat, cli, fabric, host, kept, words};
use crate::support::host::Host;
use crate::support::nats::{Nats, eventually, within};

/// Asks by `sidetone ask`, kills the host that `capability` is asked of once the answer has begun, and checks that it
/// comes whole, once, and is kept once.
async fn killed_in_mid_answer(nats: &Nats, hosts: Vec<Host>, capability: &str) {
    let bus = nats.host("tests").await;
    let names: Vec<String> = hosts.iter().map(|host| host.spec.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = fabric(&bus, &Config::default(), &names).await;
    let mut events = Events::new(&bus).await;
    let text = words(30);
    let session = format!("killed-{capability}");
    let mut ask = cli(nats, &["ask", "--session", &session, &text]);
    let mut stdout = BufReader::new(ask.stdout.take().unwrap());
    let mut said = Vec::new();
    for _ in 0..5 {
        within(stdout.read_until(b' ', &mut said)).await.unwrap();
    }
    let (_, routed) = events.routed(capability).await;
    assert_eq!(routed.attempt, 1);
    let mut hosts = hosts;
    let worker = hosts.iter_mut().find(|host| host.spec.name == routed.host).unwrap();
    worker.end(libc::SIGKILL);
    within(stdout.read_to_end(&mut said)).await.unwrap();
    let ended = within(ask.wait_with_output()).await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8(said).unwrap().trim_end(), text);
    assert_kept_once(&kept(&bus, &session).await, &text);
    // One more try, and only of what was lost.
    let retries: Vec<_> = eventually(|| {
        let retries = events.all_routed(capability);
        async move { (!retries.is_empty()).then_some(retries) }
    })
    .await;
    assert_eq!(retries.len(), 1, "{retries:?}");
    assert!(retries[0].attempt <= 2 && retries[0].host != routed.host, "{retries:?}");
    drop(all);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_model_host_that_is_killed_is_finished_by_another() {
    let Some(nats) = Nats::start().await else { return };
    let slow = ["llm.model=slow:60"];
    let hosts = vec![
        host(&nats, "a", "llm", &slow).await,
        host(&nats, "b", "llm", &slow).await,
        host(&nats, "front", "agent", &[]).await,
    ];
    killed_in_mid_answer(&nats, hosts, "llm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_turn_of_an_agent_host_that_is_killed_is_finished_by_another() {
    let Some(nats) = Nats::start().await else { return };
    let hosts = vec![
        host(&nats, "a", "agent", &[]).await,
        host(&nats, "b", "agent", &[]).await,
        host(&nats, "c", "llm", &["llm.model=slow:60", "llm.slots=4"]).await,
    ];
    killed_in_mid_answer(&nats, hosts, "agent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_a_killed_host_leaves_costs_one_try_at_most() {
    let Some(nats) = Nats::start().await else { return };
    let (mut a, b) = (host(&nats, "a", "llm", &[]).await, host(&nats, "b", "llm", &[]).await);
    let all = fabric(b.bus(), &Config::default(), &["a", "b"]).await;
    let mut events = Events::new(b.bus()).await;
    a.end(libc::SIGKILL);
    // Its entry stands for up to 10 s; nobody waits for that.
    for _ in 0..20 {
        let mut answer = within(all.open(&need(Capability::Llm), chat("one two"), &call())).await.unwrap();
        while let Some(piece) = within(answer.next()).await {
            piece.unwrap();
        }
        assert_eq!(answer.choice().host, "b");
    }
    let lost = events.until("lost", "a");
    // Those who are left tell of it once.
    assert_eq!(lost.await.node, "a");
    let tries = events.all_routed("llm");
    assert!(tries.iter().all(|routed| routed.attempt <= 2), "{tries:?}");
    assert!(
        tries.iter().filter(|routed| routed.host == "a").count() <= 3,
        "each cools down after its failure: {tries:?}"
    );
    // It comes back under its name, and gets work.
    a.restart().await;
    events.until("up", "a").await;
    let back = eventually(|| async {
        let mut answer = all.open(&need(Capability::Llm), chat("one two"), &call()).await.unwrap();
        while let Some(piece) = answer.next().await {
            piece.unwrap();
        }
        (answer.choice().host == "a").then_some(())
    });
    back.await;
}
