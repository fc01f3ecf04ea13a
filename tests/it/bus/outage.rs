//! The server is killed in the middle of things, and comes back.

use futures::StreamExt as _;
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::llm::Chat;
use sidetone::bus::message::node::Stop;
use sidetone::bus::message::stt;
use sidetone::bus::service::Incoming;
use sidetone::bus::subject::Target;
use sidetone::bus::{BusError, roster, session};
use tokio::sync::mpsc;

use super::{call, chat, delta, serve, serve_llm, serve_stt, serve_tts, speak};
use crate::support::nats::{Nats, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn callers_hear_of_an_outage_at_once_and_everything_is_served_again() {
    let Some(mut nats) = Nats::start().await else { return };
    let (host, other) = (nats.host("studio").await, nats.host("other").await);
    let (begun, mut begins) = mpsc::unbounded_channel();
    let stt = serve(&host, 4, move |incoming: Incoming<stt::Request>| {
        let begun = begun.clone();
        async move {
            if incoming.request.model.is_some() {
                begun.send(()).unwrap();
                std::future::pending::<()>().await;
            }
            Ok(super::transcript("studio", &incoming.request))
        }
    })
    .await;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let llm = serve(&host, 4, move |incoming: Incoming<Chat>| {
        let ended = ended.clone();
        async move {
            if !incoming.request.stream {
                return Ok(super::summary());
            }
            loop {
                if let Err(fault) = incoming.replies.send(&delta(0)).await {
                    ended.send(fault.code).unwrap();
                    return Err(fault);
                }
            }
        }
    })
    .await;
    let _tts = serve_tts(&host).await;
    let endless = stt::Request { model: Some("x".to_owned()), ..stt::Request::default() };
    for _ in 0..2 {
        let asked = {
            let (other, endless) = (other.clone(), endless.clone());
            tokio::spawn(async move { other.ask(Target::Any, &endless, &call()).await })
        };
        within(begins.recv()).await.unwrap();
        let mut stream = within(other.open(Target::Any, &chat(1, true), &call())).await.unwrap();
        within(stream.next()).await.unwrap().unwrap();
        let mut speech = within(other.open(Target::Any, &speak(1_000_000), &call())).await.unwrap();
        within(speech.next()).await.unwrap().unwrap();
        let lost = other.lost();
        nats.kill().await;
        within(lost).await;
        let error = within(asked).await.unwrap().unwrap_err();
        assert!(matches!(&error, BusError::Disconnected { .. }), "{error}");
        assert!(error.can_retry());
        for error in [
            within(async {
                loop {
                    if let Err(error) = stream.next().await.unwrap() {
                        break error;
                    }
                }
            })
            .await,
            within(async {
                loop {
                    if let Err(error) = speech.next().await.unwrap() {
                        break error;
                    }
                }
            })
            .await,
        ] {
            assert!(matches!(&error, BusError::Disconnected { .. }), "{error}");
        }
        // The worker of the stream, which waits for credit, is told as well.
        assert_eq!(within(ends.recv()).await.unwrap(), FaultCode::Unavailable);
        nats.restart().await;
        within(other.until_up()).await;
        let request = stt::Request::default();
        eventually(|| async { other.ask(Target::Any, &request, &call()).await.ok() }).await;
        eventually(|| async { other.ask(Target::Node("studio"), &chat(1, false), &call()).await.ok() }).await;
        let spoken = eventually(|| async {
            let mut speech = other.open(Target::Any, &speak(100), &call()).await.ok()?;
            let mut chunks = 0;
            while let Some(chunk) = speech.next().await {
                chunk.ok()?;
                chunks += 1;
            }
            Some(chunks)
        });
        assert_eq!(spoken.await, 101);
        // The request whose caller was cut off is called off when the link is back.
        for load in [stt.load(), llm.load()] {
            eventually(|| async { (load.in_flight() == 0).then_some(()) }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_nothing_is_kept_for_later() {
    let Some(mut nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let _servers = (serve_stt(&host, 2).await, serve_llm(&host).await);
    let lost = host.lost();
    nats.kill().await;
    within(lost).await;
    assert!(!host.is_up());
    let stop = |by: &str| Stop { by: by.to_owned(), ..Stop::default() };
    let errors = [
        within(host.publish("control.stop".to_owned(), &stop("stale"))).await.unwrap_err(),
        within(host.ask(Target::Any, &stt::Request::default(), &call())).await.map(|_| ()).unwrap_err(),
        within(host.open(Target::Any, &chat(1, true), &call())).await.map(|_| ()).unwrap_err(),
        within(host.subscribe::<Stop>("control.stop")).await.map(|_| ()).unwrap_err(),
        within(host.put_clip(b"x")).await.map(|_| ()).unwrap_err(),
        within(host.get_clip("x", 1)).await.map(|_| ()).unwrap_err(),
        within(roster::nodes(&host)).await.map(|_| ()).unwrap_err(),
        within(session::history(&host, "x", 1)).await.map(|_| ()).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, BusError::Disconnected { .. }), "{error}");
        assert_eq!(error.to_fault().code, FaultCode::Unavailable);
    }
    nats.restart().await;
    let listener = nats.host("listener").await;
    let mut stops = within(listener.subscribe::<Stop>("control.stop")).await.unwrap();
    within(host.until_up()).await;
    eventually(|| async { host.publish("control.stop".to_owned(), &stop("fresh")).await.ok() }).await;
    assert_eq!(within(stops.next()).await.unwrap().1.unwrap(), stop("fresh"), "nothing stale came before it");
    eventually(|| async { listener.ask(Target::Any, &stt::Request::default(), &call()).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_an_error_with_its_address() {
    let port = crate::support::nats::free_port();
    let error =
        within(sidetone::bus::Bus::connect(&format!("nats://me:secret@127.0.0.1:{port}"), "x")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("can't reach NATS at nats://…@127.0.0.1:{port}: ")), "{text}");
    assert!(!text.contains("secret"));
}
