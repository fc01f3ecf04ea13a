//! `sidetone drain`: what runs is finished, what comes is refused, and the host ends.

use std::process::{Command, Output};
use std::time::Duration;

use sidetone::bus::message::Message as _;
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::llm::{Chat, ChatMessage, Role};
use sidetone::bus::subject::Target;
use sidetone::bus::{BusError, Call, roster};

use crate::support::host::{FAKES, HostSpec};
use crate::support::nats::{eventually, program, within};

async fn finish(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_drained_over_the_bus_finishes_its_work_and_ends() {
    if program("nats-server").is_none() {
        return;
    }
    let base = HostSpec::new("base", "tts").set(FAKES).start().await;
    let (bus, url) = (base.bus(), base.spec.url());
    let spec = HostSpec::new("rack", "llm").set(FAKES).set(&["llm.model=slow:250"]);
    let mut rack = spec.argument(&["--bus", &url]).start_on(bus).await;

    let error = finish(base.cli(&["drain", "--node", "attic"])).await;
    assert_eq!(error.status.code(), Some(1));
    assert!(text(&error.stderr).contains("no host \"attic\" on this bus; there are base, rack"), "{error:?}");
    let error = finish(base.cli(&["drain", "--name", "stage"])).await;
    assert!(text(&error.stderr).contains("name one by --node; there are base, rack"), "{error:?}");

    // An answer of 24 words takes 6 s.
    let words = "word ".repeat(24);
    let chat = Chat { messages: vec![ChatMessage::new(Role::User, words.trim())], model: None, ..Chat::example() };
    let call = Call::within(Duration::from_secs(60));
    let mut answer = within(bus.open(Target::Node("rack"), &chat, &call)).await.unwrap();
    within(answer.next()).await.unwrap().unwrap();
    let drain = tokio::spawn(finish(base.cli(&["drain", "--node", "rack"])));
    eventually(|| async {
        let nodes = roster::nodes(bus).await.unwrap();
        nodes.iter().any(|info| info.node == "rack" && info.draining).then_some(())
    })
    .await;
    // One that comes just as it ceases to listen is lost on the way; no later one is.
    let soon = Call::within(Duration::from_secs(1));
    eventually(|| async {
        match bus.open(Target::Node("rack"), &chat, &soon).await.unwrap().next().await {
            Some(Err(BusError::Nobody { .. })) => Some(()),
            Some(Err(BusError::Fault(fault))) if fault.code == FaultCode::Unavailable => Some(()),
            Some(Err(BusError::Deadline { .. })) => None,
            other => panic!("new work was taken: {other:?}"),
        }
    })
    .await;
    let mut heard = String::new();
    while let Some(piece) = within(answer.next()).await {
        heard.push_str(&piece.unwrap().text);
    }
    assert!(heard.matches("word").count() >= 23, "{heard}");
    let done = within(drain).await.unwrap();
    assert!(done.status.success(), "{done:?}");
    let lines = text(&done.stdout);
    assert!(lines.starts_with("rack takes no new work; under way: 1 llm\n"), "{lines}");
    assert!(lines.ends_with("rack is down\n"), "{lines}");
    assert_eq!(rack.ended().code(), Some(0));
    let left = roster::nodes(bus).await.unwrap();
    assert_eq!(left.iter().map(|info| info.node.as_str()).collect::<Vec<_>>(), ["base"]);

    // The only one, with the bus in it.
    let mut base = base;
    let done = finish(base.cli(&["drain"])).await;
    assert!(done.status.success(), "{done:?}");
    assert!(text(&done.stdout).contains("base is down"), "{done:?}");
    assert_eq!(base.ended().code(), Some(0));
}
