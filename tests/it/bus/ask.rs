//! One request, one reply.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::HeaderMap;
use futures::StreamExt as _;
use futures::future::join_all;
use sidetone::bus::codec::Format;
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::llm::{Chat, ListModels, Models};
use sidetone::bus::message::{Message as _, agent, stt};
use sidetone::bus::service::{Incoming, Server};
use sidetone::bus::subject::{self, Target};
use sidetone::bus::{Bus, BusError, Call};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::{call, chat, code, serve, serve_llm, serve_stt};
use crate::support::nats::{Nats, eventually, within};

/// Serves `stt.request` by work that never ends; tells of each that it has begun, and gives its token.
async fn serve_forever(bus: &Bus, slots: usize) -> (Server, mpsc::UnboundedReceiver<CancellationToken>) {
    let (begun, begins) = mpsc::unbounded_channel();
    let server = serve(bus, slots, move |incoming: Incoming<stt::Request>| {
        let begun = begun.clone();
        async move {
            begun.send(incoming.cancel).unwrap();
            std::future::pending().await
        }
    })
    .await;
    (server, begins)
}

fn ask(bus: &Bus) -> tokio::task::JoinHandle<Result<stt::Transcript, BusError>> {
    let bus = bus.clone();
    tokio::spawn(async move { bus.ask(Target::Any, &stt::Request::default(), &call()).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_in_the_format_that_it_asks_for() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other, raw) = (nats.host("studio").await, nats.host("other").await, nats.raw().await);
    let turn = Ulid::generate();
    let _server = serve(&host, 2, move |incoming: Incoming<stt::Request>| async move {
        assert_eq!(incoming.turn, Some(turn));
        Ok(stt::Transcript { language: incoming.request.language, ..stt::Transcript::example() })
    })
    .await;
    let mut seen = nats.hear(&raw, "_INBOX.>").await;
    for format in [Format::Json, Format::MsgPack] {
        let request = stt::Request { language: Some("de".to_owned()), ..stt::Request::example() };
        let call = Call { format, ..call().of_turn(turn) };
        let reply = within(other.ask(Target::Any, &request, &call)).await.unwrap();
        assert_eq!(reply, stt::Transcript { language: Some("de".to_owned()), ..stt::Transcript::example() });
        let wire = loop {
            let message = within(seen.next()).await.unwrap();
            if message.headers.as_ref().is_some_and(|headers| headers.get("Node").is_some()) {
                break message;
            }
        };
        let headers = wire.headers.unwrap();
        assert_eq!(headers.get("Node").unwrap().as_str(), "studio");
        assert_eq!(headers.get("Content-Type").unwrap().as_str(), format.content_type());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_is_asked_of_anyone_of_a_model_or_of_a_host() {
    let Some(nats) = Nats::start().await else { return };
    let (a, b) = (nats.host("stage.left").await, nats.host("b").await);
    let (_a, _b) = (serve_stt(&a, 4).await, serve_stt(&b, 4).await);
    let request = stt::Request::default();
    let mut nodes = HashSet::new();
    for target in [Target::Any, Target::Model("small:1b")].repeat(32) {
        nodes.insert(within(b.ask(target, &request, &call())).await.unwrap().model);
    }
    assert_eq!(nodes, HashSet::from(["stage.left".to_owned(), "b".to_owned()]), "a queue group spreads");
    for node in ["stage.left", "b"].repeat(4) {
        assert_eq!(within(a.ask(Target::Node(node), &request, &call())).await.unwrap().model, node);
    }
    for nobody in [Target::Node("c"), Target::Model("large"), Target::Node("*")] {
        let error = within(a.ask(nobody, &request, &call())).await.unwrap_err();
        assert!(matches!(&error, BusError::Nobody { .. }), "{error}");
    }
    let error = within(a.ask(Target::Any, &agent::Commands::default(), &call())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "nobody offers agent.commands: start a host with that role (`sidetone nodes` shows who is there)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_host_says_so_at_once() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let (server, mut begins) = serve_forever(&host, 2).await;
    let (first, second) = (ask(&host), ask(&host));
    let (one, _two) = (within(begins.recv()).await.unwrap(), within(begins.recv()).await.unwrap());
    assert_eq!(server.load().in_flight(), 2);
    let Err(BusError::Fault(fault)) = within(ask(&host)).await.unwrap() else { panic!("not refused") };
    assert_eq!(fault.code, FaultCode::Busy);
    assert_eq!(fault.message, "all 2 slots of stt on studio are taken: try again, or ask another host");
    first.abort();
    second.abort();
    within(one.cancelled()).await;
    eventually(|| async { (server.load().in_flight() == 0).then_some(()) }).await;
    let third = ask(&host);
    within(begins.recv()).await.unwrap();
    third.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_keeps_the_deadline() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let (_server, mut begins) = serve_forever(&host, 2).await;
    let short = Call::within(Duration::from_millis(200));
    // On busy processors its word may come later than the caller waits.
    let error = eventually(|| async {
        let error = host.ask(Target::Any, &stt::Request::default(), &short).await.unwrap_err();
        matches!(error, BusError::Fault(_)).then_some(error)
    })
    .await;
    assert_eq!(error.to_string(), "stt.request on studio was not done within 200 ms");
    assert_eq!(error.to_fault().code, FaultCode::Deadline);
    within(within(begins.recv()).await.unwrap().cancelled()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_keeps_the_deadline_where_the_worker_is_silent() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let _hides_no_responders = nats.hear(&raw, "stt.>").await;
    let short = Call::within(Duration::from_millis(100));
    let error = within(host.ask(Target::Any, &stt::Request::default(), &short)).await.unwrap_err();
    assert_eq!(error.to_string(), "no answer from stt.request within 100 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_stops_the_work() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (_server, mut begins) = serve_forever(&host, 2).await;
    let asked = ask(&other);
    let cancel = within(begins.recv()).await.unwrap();
    assert!(!cancel.is_cancelled());
    asked.abort();
    within(cancel.cancelled()).await;
}

fn request_id(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Req-Id", id);
    headers
}

fn error_code(reply: &async_nats::Message) -> Option<String> {
    Some(reply.headers.as_ref()?.get("Nats-Service-Error-Code")?.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_cancelled_by_its_id() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let (_server, mut begins) = serve_forever(&host, 2).await;
    let asked = raw.request_with_headers("stt.request", request_id("42"), "{}".into());
    let cancelled = async {
        within(begins.recv()).await.unwrap();
        raw.publish("stt.cancel.42", "".into()).await.unwrap();
    };
    let (reply, ()) = tokio::join!(within(asked), cancelled);
    assert_eq!(error_code(&reply.unwrap()).as_deref(), Some("499"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_overtakes_its_request_is_heeded() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let (_server, _begins) = serve_forever(&host, 2).await;
    raw.publish("stt.cancel.43", "".into()).await.unwrap();
    // Both are handed to tasks of their own, so the order is not certain; the request must end all the same.
    let reply = within(raw.request_with_headers("stt.request", request_id("43"), "{}".into())).await.unwrap();
    assert_eq!(error_code(&reply).as_deref(), Some("499"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_cancels_everything_everywhere() {
    let Some(nats) = Nats::start().await else { return };
    let (a, b, raw) = (nats.host("a").await, nats.host("b").await, nats.raw().await);
    let ((_a, mut of_a), (_b, mut of_b)) = (serve_forever(&a, 2).await, serve_forever(&b, 2).await);
    let of = |node: &'static str| {
        let bus = a.clone();
        tokio::spawn(async move { bus.ask(Target::Node(node), &stt::Request::default(), &call()).await })
    };
    let asked = [of("a"), of("a"), of("b")];
    for begins in [&mut of_a, &mut of_b] {
        within(begins.recv()).await.unwrap();
    }
    within(of_a.recv()).await.unwrap();
    raw.publish(subject::STOP, "".into()).await.unwrap();
    for result in within(join_all(asked)).await {
        assert_eq!(code(result.unwrap()), FaultCode::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_fails_its_request_only() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let server = serve(&host, 1, |incoming: Incoming<stt::Request>| async move {
        assert!(incoming.request.model.is_none(), "on purpose");
        Ok(stt::Transcript::example())
    })
    .await;
    let bad = stt::Request { model: Some("x".to_owned()), ..stt::Request::default() };
    for _ in 0..3 {
        assert_eq!(code(within(host.ask(Target::Any, &bad, &call())).await), FaultCode::Failed);
        within(host.ask(Target::Any, &stt::Request::default(), &call())).await.unwrap();
    }
    assert_eq!(server.load().in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_not_asked_for_as_one_reply() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let _server = serve_llm(&host).await;
    assert_eq!(code(within(host.ask(Target::Any, &chat(3, true), &call())).await), FaultCode::Invalid);
    assert_eq!(within(host.ask(Target::Any, &chat(3, false), &call())).await.unwrap().text, "all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_finishes_what_it_has_begun() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (begun, mut begins) = mpsc::unbounded_channel();
    let server = serve(&host, 2, move |incoming: Incoming<Chat>| {
        let (release, mut released) = mpsc::unbounded_channel::<()>();
        begun.send(release).unwrap();
        async move {
            incoming.replies.send(&super::delta(0)).await?;
            released.recv().await;
            Ok(super::summary())
        }
    })
    .await;
    let mut stream = within(other.open(Target::Any, &chat(1, true), &call())).await.unwrap();
    assert_eq!(within(stream.next()).await.unwrap().unwrap().text, "0");
    let release = within(begins.recv()).await.unwrap();
    let stopping = tokio::spawn(server.stop(super::LONG));
    // Until the endpoint is gone one may still be taken up, and waits for its release. One that arrives in the very moment in which the subscription ends is lost to the client; see `Server::stop`.
    let short = Call::within(Duration::from_millis(100));
    eventually(|| async {
        match other.ask(Target::Any, &chat(1, false), &short).await {
            Err(BusError::Nobody { .. }) => Some(()),
            Err(BusError::Fault(_) | BusError::Deadline { .. }) => None,
            taken => panic!("taken while stopping: {taken:?}"),
        }
    })
    .await;
    assert!(!stopping.is_finished());
    drop(release);
    assert_eq!(within(stream.next()).await.unwrap().unwrap().text, "all");
    assert!(within(stream.next()).await.is_none());
    assert!(within(stopping).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_past_its_time_or_dropped_cancels_what_runs() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    for stop in [true, false] {
        let (server, mut begins) = serve_forever(&host, 2).await;
        let asked = ask(&host);
        within(begins.recv()).await.unwrap();
        if stop {
            assert!(!within(server.stop(Duration::ZERO)).await);
        } else {
            drop(server);
        }
        assert_eq!(code(within(asked).await.unwrap()), FaultCode::Cancelled);
        // One that crosses the server's end is lost on its way.
        let short = Call::within(Duration::from_secs(1));
        eventually(|| async {
            let asked = host.ask(Target::Any, &stt::Request::default(), &short).await;
            matches!(asked, Err(BusError::Nobody { .. })).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_forbids_is_said_at_once() {
    let rights = "authorization { users: [ { user: guest, password: \"p@w\", permissions: { publish: { deny: \"stt.>\" } } } ] }";
    let Some(nats) = Nats::with(rights).await else { return };
    let url = nats.url().replace("nats://", "nats://guest:p%40w@");
    let host = within(Bus::connect(&url, "studio")).await.unwrap();
    let _server = serve_llm(&host).await;
    let error = within(host.ask(Target::Any, &stt::Request::default(), &call())).await.unwrap_err();
    assert!(matches!(&error, BusError::Denied { subject } if subject == "stt.request"), "{error}");
    assert!(!error.can_retry());
    let mut stream = within(host.open(Target::Any, &stt::Request::default(), &call())).await.unwrap();
    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(&error, BusError::Denied { .. }), "{error}");
    assert!(within(stream.next()).await.is_none());
    within(host.ask(Target::Any, &chat(1, false), &call())).await.unwrap();
    let stranger = within(Bus::connect(&nats.url(), "stranger")).await.unwrap_err().to_string();
    assert!(stranger.contains("authorization violation"), "{stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_what_is_there_does_not_count_into_the_usual_time() {
    let Some(nats) = Nats::start().await else { return };
    let (bus, other) = (nats.host("studio").await, nats.host("other").await);
    let server = serve_llm(&bus).await;
    let models = |_: Incoming<ListModels>| async { Ok(Models::example()) };
    server.serve(models).await.unwrap();
    within(server.ready()).await.unwrap();
    within(other.ask(Target::Any, &ListModels {}, &call())).await.unwrap();
    assert_eq!(server.load().usual_ms(), 0);
    within(other.ask(Target::Any, &chat(1, false), &call())).await.unwrap();
    assert!(server.load().usual_ms() > 0);
}
