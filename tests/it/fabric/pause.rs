//! Hosts that stand still, and go on later.

use sidetone::bus::message::llm::Chat;
use sidetone::bus::message::session::What;
use sidetone::bus::session;
use sidetone::bus::subject::Capability;
use sidetone::config::Config;
use sidetone::fabric::need;
use tokio::sync::mpsc;

use super::{Events, assert_kept_once, call, chat, fabric, host, kept, run, turn, words};
use crate::support::host::Host;
use crate::support::nats::{Nats, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_paused_is_replaced_and_its_late_words_do_no_harm() {
    let Some(nats) = Nats::start().await else { return };
    let slow = ["llm.model=slow:60"];
    let hosts: Vec<Host> = vec![host(&nats, "a", "llm,agent", &slow).await, host(&nats, "b", "llm,agent", &slow).await];
    let bus = nats.host("tests").await;
    let all = fabric(&bus, &Config::default(), &["a", "b"]).await;
    let mut events = Events::new(&bus).await;
    let (request, text) = (turn(&words(30)), words(30));
    let (piece, mut pieces) = mpsc::unbounded_channel();
    let asking = {
        let (all, request) = (all.clone(), request.clone());
        tokio::spawn(async move { run(&all, &request, |_| piece.send(()).unwrap()).await })
    };
    for _ in 0..5 {
        within(pieces.recv()).await.unwrap();
    }
    // Agent and model are on the same host: local comes first.
    let (_, routed) = events.routed("agent").await;
    let paused = hosts.iter().find(|host| host.spec.name == routed.host).unwrap();
    paused.signal(libc::SIGSTOP);
    assert_eq!(within(asking).await.unwrap().unwrap(), text);
    let session = request.session.clone().unwrap();
    assert_kept_once(&kept(&bus, &session).await, &text);
    // It stands still until its entry goes, which the others tell.
    events.until("lost", &routed.host).await;
    paused.signal(libc::SIGCONT);
    let back = events.until("back", &routed.host).await;
    assert!(!back.offers.is_empty());
    // It gets work again by a probe, and what it did late has changed nothing.
    let ask = Chat { stream: false, ..chat("hello") };
    eventually(|| async {
        let mut answer = all.open(&need(Capability::Llm), Chat { stream: true, ..ask.clone() }, &call()).await.unwrap();
        while let Some(piece) = answer.next().await {
            piece.unwrap();
        }
        (answer.choice().host == routed.host).then_some(())
    })
    .await;
    let events = session::history(&bus, &session, 1_000).await.unwrap();
    assert_kept_once(&events, &text);
    assert!(events.iter().filter(|event| matches!(event.what, What::Error { .. })).count() <= 1, "{events:#?}");
}
