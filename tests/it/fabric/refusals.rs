//! Hosts that refuse, hang, or break off: told apart, and asked on. Hosts of this process, whose loads are as they say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::llm::Chat;
use sidetone::bus::message::node::{AskInfo, NodeInfo, Offer};
use sidetone::bus::message::stt::{Request, Transcript};
use sidetone::bus::message::{Ask, Message as _};
use sidetone::bus::registry::Claim;
use sidetone::bus::service::{Incoming, Server, ServiceSpec};
use sidetone::bus::subject::Capability;
use sidetone::bus::{Bus, Call};
use sidetone::config::Config;
use sidetone::fabric::{Fabric, need};
use sidetone::router::Policy;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Events, call, fabric, host, run, turn};
use crate::support::nats::{Nats, eventually, within};

/// A host that transcribes by what `work` gives. Dropped, it is gone without a word.
pub(super) struct Stub {
    bus: Bus,
    /// Answers whether it lives, until it is taken out.
    alive: Option<Server>,
    _serves: Server,
    _entry: AbortOnDropHandle<()>,
}

async fn serve(bus: &Bus, capability: Capability, slots: usize) -> Server {
    let spec = ServiceSpec { capability, about: "a stub", engine: String::new(), models: Vec::new(), slots };
    within(bus.service(spec)).await.unwrap()
}

impl Stub {
    /// One that offers `offer`, and does what it is asked by `handler`, so much of it at once as it has `slots`.
    pub(super) async fn of<A, F, R>(nats: &Nats, name: &str, offer: Offer, slots: usize, handler: F) -> Self
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let bus = nats.host(name).await;
        let offers = vec![Offer { role: A::VERB.capability.token().to_owned(), ..offer }];
        let info = NodeInfo { node: name.to_owned(), offers, instance: name.to_owned(), ..NodeInfo::default() };
        let claim = within(Claim::make(&bus, &info)).await.unwrap();
        let alive = serve(&bus, Capability::Node, 8).await;
        let told = info.clone();
        let say = move |_: Incoming<AskInfo>| {
            let info = told.clone();
            async move { Ok(info) }
        };
        alive.serve(say).await.unwrap();
        within(alive.ready()).await.unwrap();
        let serves = serve(&bus, A::VERB.capability, slots).await;
        serves.serve::<A, F, R>(handler).await.unwrap();
        within(serves.ready()).await.unwrap();
        let keep = claim.keep(move || info.clone(), futures::stream::pending().boxed(), CancellationToken::new());
        let entry = AbortOnDropHandle::new(tokio::spawn(async move { keep.await.unwrap() }));
        Self { bus, alive: Some(alive), _serves: serves, _entry: entry }
    }

    /// One that says it has `load`: slots, how many are taken, and the usual time in ms. With `slots` it transcribes.
    async fn new<F, R>(nats: &Nats, name: &str, load: (usize, usize, u64), slots: usize, work: F) -> Self
    where
        F: Fn() -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let (slots_told, in_flight, usual_ms) = load;
        let offer = Offer { slots: slots_told, in_flight, usual_ms, ..Offer::default() };
        let node = name.to_owned();
        let transcribe = move |_: Incoming<Request>| {
            let (working, model) = (work(), node.clone());
            async move { working.await.map(|()| Transcript { model, ..Transcript::example() }) }
        };
        Self::of(nats, name, offer, slots, transcribe).await
    }

    /// One that answers at once.
    async fn well(nats: &Nats, name: &str) -> Self {
        Self::new(nats, name, (1, 0, 10), 4, || async { Ok(()) }).await
    }
}

/// The way to them for somebody who pins `pin`.
pub(super) async fn pinning(bus: &Bus, pin: &str, hosts: &[&str]) -> Fabric {
    let mut config = Config::default();
    config.route.insert("stt".to_owned(), Policy { pin: pin.to_owned(), ..Policy::default() });
    fabric(bus, &config, hosts).await
}

async fn ask(all: &Fabric, call: &Call) -> Result<Transcript, sidetone::bus::BusError> {
    within(all.ask(&need(Capability::Stt), &Request::default(), call)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_refuse_whoever_has_room_is_found() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("tests").await;
    let names = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "room"];
    let mut hosts = Vec::new();
    for name in &names[..7] {
        // Its report says that it has a free slot, and it has none.
        hosts.push(Stub::new(&nats, name, (1, 0, 10), 0, || async { Ok(()) }).await);
    }
    // The other way round, so that it comes last.
    hosts.push(Stub::new(&nats, "room", (1, 1, 10), 1, || async { Ok(()) }).await);
    let all = fabric(&bus, &Config::default(), &names).await;
    let mut events = Events::new(&bus).await;
    assert_eq!(ask(&all, &call()).await.unwrap().model, "room");
    // Each was asked once.
    for attempt in 1..=8 {
        assert_eq!(events.routed("stt").await.1.attempt, attempt);
    }
    // If all refuse, the request ends with that, long before its time.
    let mut config = Config::default();
    config.route.insert("stt".to_owned(), Policy { deny: vec!["room".to_owned()], ..Policy::default() });
    let error = ask(&fabric(&bus, &config, &names).await, &call()).await.unwrap_err();
    assert!(error.to_string().contains("slots of stt on"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_full_is_asked_again_when_another_has_broken_off() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("tests").await;
    let asked = Arc::new(AtomicUsize::new(0));
    let first = move || {
        let busy = asked.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if busy { Err(Fault::new(FaultCode::Busy, "full")) } else { Ok(()) } }
    };
    let _full = Stub::new(&nats, "full", (1, 0, 10), 4, first).await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let hang = move || {
        let begun = begun.clone();
        async move {
            begun.send(()).unwrap();
            std::future::pending().await
        }
    };
    let mut breaks = Stub::new(&nats, "breaks", (1, 0, 10), 4, hang).await;
    let all = pinning(&bus, "full", &["breaks", "full"]).await;
    let asking = tokio::spawn(async move { ask(&all, &call()).await });
    within(begins.recv()).await.unwrap();
    // It does not say any more that it lives.
    drop(breaks.alive.take());
    assert_eq!(within(asking).await.unwrap().unwrap().model, "full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_engine_hangs_is_left_alone() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("tests").await;
    let _hangs = Stub::new(&nats, "hangs", (4, 0, 20), 64, std::future::pending).await;
    let _well = Stub::well(&nats, "well").await;
    let all = pinning(&bus, "hangs", &["hangs", "well"]).await;
    let error = ask(&all, &Call::within(std::time::Duration::from_millis(200))).await.unwrap_err();
    assert_eq!(error.to_fault().code, FaultCode::Deadline, "{error}");
    // Pinned, it would be the first for ever.
    let model = eventually(|| async {
        let call = Call::within(std::time::Duration::from_millis(200));
        ask(&all, &call).await.ok().map(|transcript| transcript.model)
    });
    assert_eq!(model.await, "well");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_not_left_alone_for_what_its_model_can_not_do() {
    let Some(nats) = Nats::start().await else { return };
    let down = |_: Incoming<Chat>| async { Err(Fault::unavailable("Ollama is not there: start it")) };
    let offer = Offer { slots: 4, ..Offer::default() };
    let _model = Stub::of(&nats, "model", offer, 4, down).await;
    let front = host(&nats, "front", "agent", &[]).await;
    let all = fabric(front.bus(), &Config::default(), &["front", "model"]).await;
    // After the third failure in a row a host would rest for longer than anybody waits for it.
    for _ in 0..3 {
        within(run(&all, &turn("how are you"), |_| {})).await.unwrap_err();
    }
    // What needs no model is done.
    let time = within(run(&all, &turn("what time is it"), |_| {})).await.unwrap();
    assert!(time.starts_with("It is "), "{time}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_die_together_are_all_told_of() {
    let Some(nats) = Nats::start().await else { return };
    let (a, b) = (Stub::well(&nats, "a").await, Stub::well(&nats, "b").await);
    let c = Stub::well(&nats, "c").await;
    // The one that tells is the first by name of those whose entries stand.
    let here = Fabric::start(&c.bus, "c", &Config::default());
    super::knows(&here, &["a", "b", "c"]).await;
    let mut events = Events::new(&nats.host("tests").await).await;
    drop((a, b));
    let mut lost = std::collections::BTreeSet::new();
    within(async {
        while lost.len() < 2 {
            let (kind, info) = events.heard.recv().await.unwrap();
            if kind == "lost" {
                lost.insert(info.node);
            }
        }
    })
    .await;
    assert!(lost.contains("a") && lost.contains("b"), "{lost:?}");
}
