//! `sidetone stop`: everything ends, on every host.

use std::time::Duration;

use futures::StreamExt as _;
use sidetone::bus::message::Message as _;
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::llm::{Chat, ChatMessage, Role};
use sidetone::bus::message::node::Stop;
use sidetone::bus::subject::{self, Target};
use sidetone::bus::{BusError, Call};

use crate::support::host::{FAKES, HostSpec};
use crate::support::nats::{program, within};

#[tokio::test(flavor = "multi_thread")]
async fn work_on_all_hosts_ends() {
    if program("nats-server").is_none() {
        return;
    }
    let base = HostSpec::new("base", "llm").set(FAKES).set(&["llm.model=slow:250"]).start().await;
    let (bus, url) = (base.bus(), base.spec.url());
    let rack = HostSpec::new("rack", "llm").set(FAKES).set(&["llm.model=slow:250"]);
    let _rack = rack.argument(&["--bus", &url]).start_on(bus).await;
    let mut stops = bus.subscribe::<Stop>(subject::STOP).await.unwrap();

    // Each answer takes a minute.
    let words = "word ".repeat(240);
    let chat = Chat { messages: vec![ChatMessage::new(Role::User, words.trim())], model: None, ..Chat::example() };
    let call = Call::within(Duration::from_secs(120));
    let mut answers = Vec::new();
    for node in ["base", "rack"] {
        let mut answer = within(bus.open(Target::Node(node), &chat, &call)).await.unwrap();
        within(answer.next()).await.unwrap().unwrap();
        answers.push(answer);
    }
    let mut stop = base.cli(&["stop", "--by", "the stage manager"]);
    let stopped = tokio::task::spawn_blocking(move || stop.output().unwrap()).await.unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(String::from_utf8_lossy(&stopped.stdout), "asked to stop: base, rack\n");
    let (_, told) = within(stops.next()).await.unwrap();
    assert_eq!(told.unwrap().by, "the stage manager");
    for mut answer in answers {
        let error = loop {
            match within(answer.next()).await.unwrap() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, BusError::Fault(fault) if fault.code == FaultCode::Cancelled), "{error}");
    }
}
