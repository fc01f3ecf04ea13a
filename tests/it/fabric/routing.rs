//! Who is asked, and that everybody can see why.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use sidetone::bus::message::agent::Run;
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::llm::Chat;
use sidetone::bus::message::tts;
use sidetone::bus::subject::{Capability, Target};
use sidetone::bus::{BusError, Call};
use sidetone::config::Config;
use sidetone::fabric::need;
use sidetone::router::{Need, Policy, Privacy};

use super::{Events, call, chat, fabric, host, knows, turn, words};
use crate::engines::rogue::{Reply, Rogue};
use crate::support::nats::{Nats, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_asks_itself_first_and_another_when_it_is_full() {
    let Some(nats) = Nats::start().await else { return };
    let one = host(&nats, "one", "llm,agent", &["llm.model=slow:150", "llm.slots=1"]).await;
    let _two = host(&nats, "two", "llm", &[]).await;
    let bus = one.bus();
    // Both must know of each other before the first is asked.
    let all = fabric(bus, &Config::default(), &["one", "two"]).await;
    let mut events = Events::new(bus).await;
    let raw = nats.raw().await;
    let mut replies = nats.hear(&raw, "_INBOX.>").await;

    // Whether it knows the second host already only its own choice shows.
    let text = words(40);
    let mut first = within(bus.open(Target::Node("one"), &turn(&text), &call())).await.unwrap();
    within(first.next()).await.unwrap().unwrap();
    let (by, routed) = events.routed("llm").await;
    assert_eq!((by.as_str(), routed.host.as_str(), routed.attempt), ("one", "one", 1));
    assert!(routed.reason.starts_with("local, ") && routed.reason.contains("0 of 1 busy"), "{routed:?}");
    let second = within(async {
        let mut second = bus.open(Target::Node("one"), &turn("how are you"), &call()).await.unwrap();
        while let Some(event) = second.next().await {
            event.unwrap();
        }
    });
    second.await;
    let (by, routed) = events.routed("llm").await;
    // What it has begun itself counts: it need not ask itself to hear that it is full.
    assert_eq!((by.as_str(), routed.host.as_str(), routed.attempt), ("one", "two", 1), "{routed:?}");
    assert!(routed.reason.starts_with("lan, "), "{routed:?}");
    // The reply says who and why, for anybody to see.
    let (node, route) = within(async {
        loop {
            let reply = replies.next().await.unwrap();
            let Some(headers) = reply.headers else { continue };
            let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
            if text("Node").as_deref() == Some("two") && text("Route").is_some_and(|route| route.starts_with("lan")) {
                return (text("Node"), text("Route"));
            }
        }
    })
    .await;
    assert_eq!((node.as_deref(), route.as_deref()), (Some("two"), Some(routed.reason.as_str())));
    drop(first);
    drop(all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_leave_the_lan_is_not_asked_outside() {
    let Some(nats) = Nats::start().await else { return };
    // The provider's address says that it is outside; the engine that answers is a fake nevertheless.
    let cloud = host(&nats, "cloud", "llm,agent", &["llm.url=https://api.example.com/v1"]).await;
    let any = fabric(cloud.bus(), &Config::default(), &["cloud"]).await;
    let lan = Need { privacy: Privacy::Lan, ..need(Capability::Llm) };
    let ask = Chat { stream: false, ..chat("hello") };
    let error = within(any.ask(&lan, &ask, &call())).await.unwrap_err();
    assert!(error.to_string().contains("lan") && error.to_string().contains("cloud"), "{error}");
    assert_eq!(within(any.ask(&need(Capability::Llm), &ask, &call())).await.unwrap().text, "hello");
    // A host that keeps what is said in the LAN narrows every request that leaves it.
    let mut config = Config::default();
    config.node.privacy = Privacy::Lan;
    let strict = fabric(cloud.bus(), &config, &["cloud"]).await;
    let error = within(strict.ask(&need(Capability::Llm), &ask, &call())).await.unwrap_err();
    assert!(error.to_string().contains("lan"), "{error}");
    // And the worker refuses what breaks it, whoever chose.
    let call = Call { privacy: sidetone::bus::message::node::Privacy::Lan, ..call() };
    let error = within(cloud.bus().ask(Target::Node("cloud"), &ask, &call)).await.unwrap_err();
    assert!(matches!(&error, BusError::Fault(fault) if fault.code == FaultCode::Invalid), "{error}");
    // An agent's model is bound by what the agent was asked, whatever its own host would allow.
    let run = Run { stream: false, ..turn("hello") };
    let error = within(cloud.bus().ask(Target::Node("cloud"), &run, &call)).await.unwrap_err();
    assert!(error.to_string().contains("privacy is lan"), "{error}");
}

const TAGS: (&str, Reply) = (
    "/api/tags",
    Reply::Body(
        "200 OK",
        "application/json",
        r#"{"models":[{"name":"gpt-oss:120b-cloud","modified_at":"x","size":1},{"name":"small:latest","modified_at":"x","size":1}]}"#,
    ),
);
const SHOW: (&str, Reply) =
    ("/api/show", Reply::Body("200 OK", "application/json", r#"{"capabilities":["completion"]}"#));
const HELLO: (&str, Reply) = (
    "/api/chat",
    Reply::Body(
        "200 OK",
        "application/x-ndjson",
        "{\"model\":\"m\",\"created_at\":\"x\",\"message\":{\"role\":\"assistant\",\"content\":\"hello\"},\"done\":true}\n",
    ),
);

#[tokio::test(flavor = "multi_thread")]
async fn a_local_ollama_that_hands_on_to_its_cloud_is_outside() {
    let Some(nats) = Nats::start().await else { return };
    let ollama = Rogue::start(vec![TAGS, SHOW, HELLO]).await;
    let url = format!("llm.url={}", ollama.url);
    let local = ["llm.engine=ollama", url.as_str(), "llm.model="];
    let relay = host(&nats, "relay", "llm", &[local[0], local[1], "llm.model=gpt-oss:120b-cloud"]).await;
    let bus = relay.bus();
    let all = fabric(bus, &Config::default(), &["relay"]).await;
    let offers = all.nodes().await.remove(0).offers;
    assert!(offers[0].cloud, "{offers:?}");
    let ask = Chat { stream: false, ..chat("hello") };
    let lan = Call { privacy: sidetone::bus::message::node::Privacy::Lan, ..call() };
    let before = ollama.requests.load(Ordering::SeqCst);
    for model in [None, Some("small:latest".to_owned()), Some("gpt-oss:120b-cloud".to_owned())] {
        let ask = Chat { model, ..ask.clone() };
        let error = within(bus.ask(Target::Node("relay"), &ask, &lan)).await.unwrap_err();
        assert!(matches!(&error, BusError::Fault(fault) if fault.code == FaultCode::Invalid), "{error}");
    }
    assert_eq!(ollama.requests.load(Ordering::SeqCst), before, "nothing was said outside");
    assert_eq!(within(bus.ask(Target::Node("relay"), &ask, &call())).await.unwrap().text, "hello");
    drop(relay);

    // Where no model is named a local one answers, and one of the cloud can't be had by asking for it.
    let own = host(&nats, "own", "llm", &local).await;
    let all = fabric(own.bus(), &Config::default(), &["own"]).await;
    let offer = &all.nodes().await.remove(0).offers[0];
    assert!(!offer.cloud && offer.models == ["small:latest"], "{offer:?}");
    assert_eq!(within(own.bus().ask(Target::Node("own"), &ask, &lan)).await.unwrap().text, "hello");
    for call in [&lan, &call()] {
        let ask = Chat { model: Some("gpt-oss:120b-cloud".to_owned()), ..ask.clone() };
        let error = within(own.bus().ask(Target::Node("own"), &ask, call)).await.unwrap_err();
        assert!(error.to_string().contains("cloud"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_pins_denies_and_prefers() {
    let Some(nats) = Nats::start().await else { return };
    let one = host(&nats, "one", "llm", &["llm.model=say:I am one"]).await;
    let _two = host(&nats, "two", "llm", &["llm.model=say:I am two"]).await;
    let ask = Chat { stream: false, ..chat("who are you") };
    let policy = |policy: Policy| {
        let mut config = Config::default();
        config.route.insert("llm".to_owned(), policy);
        config
    };
    let pinned =
        fabric(one.bus(), &policy(Policy { pin: "two".to_owned(), ..Policy::default() }), &["one", "two"]).await;
    let denied = policy(Policy { deny: vec!["two".to_owned()], ..Policy::default() });
    let denied = fabric(one.bus(), &denied, &["one", "two"]).await;
    for _ in 0..5 {
        assert_eq!(within(pinned.ask(&need(Capability::Llm), &ask, &call())).await.unwrap().text, "I am two");
        assert_eq!(within(denied.ask(&need(Capability::Llm), &ask, &call())).await.unwrap().text, "I am one");
    }
    let nowhere = policy(toml::from_str("prefer = [\"local\"]").unwrap());
    let nowhere = fabric(one.bus(), &nowhere, &["one", "two"]).await;
    let error = within(nowhere.ask(&need(Capability::Llm), &ask, &call())).await.unwrap_err();
    assert!(error.to_string().contains("prefer") || error.to_string().contains("local"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_can_is_an_error_at_once_even_if_somebody_listens() {
    let Some(nats) = Nats::start().await else { return };
    let one = host(&nats, "one", "tts", &[]).await;
    let all = fabric(one.bus(), &Config::default(), &["one"]).await;
    let raw = nats.raw().await;
    // They hide 'no responders': without a look at who is there, each request would wait out its time.
    let _listeners = (nats.hear(&raw, "llm.>").await, nats.hear(&raw, "tts.>").await, nats.hear(&raw, "$SRV.>").await);
    let begun = std::time::Instant::now();
    let voice = Need { voice: "nobody".to_owned(), ..need(Capability::Tts) };
    let say = tts::Say { text: "hello".to_owned(), voice: Some("nobody".to_owned()), speed: None };
    let error = within(all.ask(&voice, &tts::Request(say), &call())).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("nobody") && error.to_string().contains("echo"), "{error}");
    let error = within(all.ask(&need(Capability::Llm), &Chat { stream: false, ..chat("hello") }, &call())).await;
    let error = error.map(drop).unwrap_err();
    assert!(error.to_string().contains("nobody offers llm"), "{error}");
    // Far from the deadline, which is what it would take otherwise.
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_of_a_name_is_refused_and_the_first_goes_on() {
    let Some(nats) = Nats::start().await else { return };
    let one = host(&nats, "one", "llm", &[]).await;
    let second = crate::support::host::HostSpec::new("one", "llm").set(crate::support::host::FAKES).on(&nats.url());
    let refused = tokio::task::spawn_blocking(move || second.refused());
    let (code, why) = within(refused).await.unwrap();
    assert!(code == 1 && why.contains("a host named \"one\" is on this bus already"), "{code}: {why}");
    let all = fabric(one.bus(), &Config::default(), &["one"]).await;
    let ask = Chat { stream: false, ..chat("still here") };
    assert_eq!(within(all.ask(&need(Capability::Llm), &ask, &call())).await.unwrap().text, "still here");
    drop(one);
    eventually(|| async { all.nodes().await.is_empty().then_some(()) }).await;
    knows(&all, &[]).await;
}
