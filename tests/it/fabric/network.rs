//! A host behind a network of its own: cut off, or slow.

use sidetone::bus::subject::Capability;
use sidetone::config::Config;
use sidetone::fabric::need;

use super::{Events, call, chat, fabric, host, words};
use crate::support::host::{FAKES, Host, HostSpec};
use crate::support::nats::{Nats, NatsSpec, eventually, within};
use crate::support::need as need_of_machine;
use crate::support::network::{Network, ip};

async fn host_in(network: &Network, nats: &Nats, name: &str, settings: &[&str]) -> Host {
    let url = format!("nats://{}:{}", network.address(), nats.port());
    let spec = HostSpec::new(name, "llm").set(FAKES).set(settings).on(&url);
    spec.run_by(&network.wrapper()).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_host_that_is_cut_off_goes_elsewhere_and_it_returns() {
    let Some(network) = Network::make(0) else { return };
    let Some(nats) = Nats::of(NatsSpec { host: "0.0.0.0", ..NatsSpec::default() }).await else { return };
    let far = host_in(&network, &nats, "far", &["llm.model=slow:400"]).await;
    let bus = nats.host("tests").await;
    let all = fabric(&bus, &Config::default(), &["far"]).await;
    let mut events = Events::new(&bus).await;
    let text = words(30);
    let mut answer = within(all.open(&need(Capability::Llm), chat(&text), &call())).await.unwrap();
    let mut said = String::new();
    for _ in 0..5 {
        said.push_str(&within(answer.next()).await.unwrap().unwrap().text);
    }
    assert_eq!(answer.choice().host, "far");
    let near = host(&nats, "near", "llm", &["llm.model=slow:10"]).await;
    super::knows(&all, &["far", "near"]).await;
    network.cut();
    while let Some(piece) = within(answer.next()).await {
        match piece {
            Ok(piece) if piece.done.is_some() => {}
            Ok(piece) => said.push_str(&piece.text),
            Err(error) => {
                let mut rest = chat(&text);
                rest.messages.push(sidetone::bus::message::llm::ChatMessage::new(
                    sidetone::bus::message::llm::Role::Assistant,
                    said.clone(),
                ));
                assert!(answer.go_on(&error, rest), "{error}");
            }
        }
    }
    assert_eq!(said, text);
    assert_eq!(answer.choice().host, "near");
    events.until("lost", "far").await;
    network.join();
    events.until("back", "far").await;
    // It gets work again, all the more when it is the only one.
    drop(near);
    eventually(|| async {
        let mut answer = all.open(&need(Capability::Llm), chat("hello"), &call()).await.ok()?;
        while let Some(piece) = answer.next().await {
            piece.ok()?;
        }
        (answer.choice().host == "far").then_some(())
    })
    .await;
    drop(far);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_way_to_a_host_is_no_reason_to_give_it_up() {
    let Some(network) = Network::make(1) else { return };
    // Half a second each way; where the kernel can only throttle, what a bad telephone line carries.
    let slow = ["netem delay 500ms rate 256kbit", "tbf rate 32kbit burst 2kb latency 4s"];
    if !slow.iter().any(|how| ip(&format!("tc qdisc add dev {} root {how}", network.link()))) {
        need_of_machine(
            false,
            "the right to slow a link down by `tc` (root has it), and a kernel that can (sch_netem, sch_tbf)",
        );
        return;
    }
    let Some(nats) = Nats::of(NatsSpec { host: "0.0.0.0", ..NatsSpec::default() }).await else { return };
    let far = host_in(&network, &nats, "far", &["llm.model=slow:100"]).await;
    let bus = nats.host("tests").await;
    let all = fabric(&bus, &Config::default(), &["far"]).await;
    let text = words(20);
    let mut answer = within(all.open(&need(Capability::Llm), chat(&text), &call())).await.unwrap();
    let mut said = String::new();
    while let Some(piece) = within(answer.next()).await {
        let piece = piece.unwrap();
        if piece.done.is_none() {
            said.push_str(&piece.text);
        }
    }
    assert_eq!(said, text);
    drop(far);
}
