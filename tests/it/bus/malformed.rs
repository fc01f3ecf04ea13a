//! Bodies that are not what they should be, on every verb.

use std::collections::BTreeSet;

use async_nats::HeaderMap;
use futures::StreamExt as _;
use sidetone::bus::codec;
use sidetone::bus::contract::table::VERBS;
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::{Ask, Message as _, agent, audio, llm, midi, node, osc, stt, tts, voice};
use sidetone::bus::service::{Incoming, Server, ServiceSpec};
use sidetone::bus::subject::{self, Capability, pattern};

use super::serve;
use crate::support::nats::{Nats, within};

const JSON: &str = "application/json";
const MSGPACK: &str = "application/msgpack";

/// What no verb takes: content type, body, the error's number.
const NEVER: [(&str, &[u8], &str); 9] = [
    ("", b"{not json", "400"),
    ("", b"\xff\xfe\x00", "400"),
    ("", b"\"text\"", "400"),
    (JSON, b"42", "400"),
    (JSON, b"{} trailing", "400"),
    (MSGPACK, b"\xc1", "400"),
    (MSGPACK, b"", "400"),
    (MSGPACK, b"\x2a", "400"),
    ("image/png", b"\x89PNG", "415"),
];

async fn request(raw: &async_nats::Client, subject: &str, kind: &str, body: &[u8]) -> async_nats::Message {
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert("Content-Type", kind);
    }
    within(raw.request_with_headers(subject.to_owned(), headers, body.to_vec().into())).await.unwrap()
}

fn fault(reply: &async_nats::Message) -> Option<(String, String)> {
    let headers = reply.headers.as_ref()?;
    let text = |name: &str| headers.get(name).map(ToString::to_string);
    Some((text("Nats-Service-Error-Code")?, text("Nats-Service-Error")?))
}

/// Where the host `studio` is asked for `A`, and its listener `main`.
fn subject_of<A: Ask>() -> String {
    let row = VERBS.iter().find(|row| row.verb == A::VERB).unwrap();
    pattern::fill(&row.addresses()[0].pattern, |name| Some(if name == "node" { "studio" } else { "main" }))
}

/// Serves `A` on `server` and sends it what no verb takes, `wrong` on top, and at last its own example.
async fn check<A: Ask>(server: &Server, raw: &async_nats::Client, wrong: &[&str], checked: &mut BTreeSet<String>) {
    checked.insert(A::VERB.to_string());
    let (subject, handler) = (subject_of::<A>(), |_: Incoming<A>| async { Ok(A::Reply::example()) });
    if A::VERB.capability == Capability::Voice {
        server.serve_at("main", subject.clone(), handler).await.unwrap();
    } else {
        server.serve(handler).await.unwrap();
    }
    server.ready().await.unwrap();
    let wrong = wrong.iter().map(|body| ("", body.as_bytes(), "400"));
    for (kind, body, number) in NEVER.into_iter().chain(wrong) {
        let reply = request(raw, &subject, kind, body).await;
        let (code, text) = fault(&reply).unwrap_or_else(|| panic!("{subject} takes {kind} {body:?}: {reply:?}"));
        assert_eq!(code, number, "{subject} {kind} {body:?}: {text}");
        assert!(text.contains(A::SCHEMA), "{subject} {kind} {body:?}: {text}");
        assert!(reply.payload.is_empty());
    }
    let example = codec::encode(&A::example(), codec::Format::MsgPack).unwrap();
    let reply = request(raw, &subject, MSGPACK, &example).await;
    assert_eq!(fault(&reply), None, "{subject} lives on");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_refuses_what_it_cannot_read_and_lives_on() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw, mut checked) = (nats.host("studio").await, nats.raw().await, BTreeSet::new());
    let checked = &mut checked;
    for capability in Capability::ALL {
        let (about, engine) = ("a test", "test".to_owned());
        let spec = ServiceSpec { capability, about, engine, models: Vec::new(), slots: 2 };
        let server = within(host.service(spec)).await.unwrap();
        match capability {
            Capability::Stt => {
                let wrong = ["{\"pcm\":5}", "{\"file\":\"*\"}", "{\"pcm\":{\"data\":\"AA==\"}}"];
                check::<stt::Request>(&server, &raw, &wrong, checked).await;
                let wrong = ["{\"rate_hz\":\"fast\"}", "{\"channels\":-1}", "{\"format\":\"mp3\"}"];
                check::<stt::Stream>(&server, &raw, &wrong, checked).await;
            }
            Capability::Tts => {
                let wrong = ["", "{}", "{\"text\":5}", "{\"text\":\"a\",\"speed\":\"fast\"}"];
                check::<tts::Request>(&server, &raw, &wrong, checked).await;
                check::<tts::Stream>(&server, &raw, &["", "{}", "{\"text\":null}"], checked).await;
            }
            Capability::Llm => {
                let wrong = ["", "{}", "{\"messages\":[{\"role\":\"robot\",\"content\":\"\"}]}"];
                check::<llm::Chat>(&server, &raw, &wrong, checked).await;
                check::<llm::ListModels>(&server, &raw, &[], checked).await;
            }
            Capability::Agent => {
                check::<agent::Run>(&server, &raw, &["", "{}", "{\"text\":[]}"], checked).await;
                check::<agent::Commands>(&server, &raw, &["{\"text\":1}"], checked).await;
            }
            Capability::Voice => {
                let wrong = ["", "{}", "{\"do\":\"dance\"}", "{\"do\":\"say\"}"];
                check::<voice::Control>(&server, &raw, &wrong, checked).await;
            }
            Capability::Osc => {
                let wrong = ["", "{}", "{\"target\":\"lights\"}", "{\"target\":\"a\",\"address\":\"/b\",\"arg\":[]}"];
                check::<osc::Out>(&server, &raw, &wrong, checked).await;
            }
            Capability::Midi => {
                let wrong = ["{\"notes\":60}", "{\"cc\":[]}", "{\"on\":\"second\"}"];
                check::<midi::Out>(&server, &raw, &wrong, checked).await;
                check::<midi::StateQuery>(&server, &raw, &["{\"port\":1}"], checked).await;
            }
            Capability::Audio => {
                check::<audio::AskGraph>(&server, &raw, &[], checked).await;
                check::<audio::Apply>(&server, &raw, &["", "{}", "{\"connect\":[{\"from\":\"a\"}]}"], checked).await;
                let wrong = ["", "{}", "{\"do\":\"dance\"}", "{\"do\":\"set\"}", "{\"do\":\"remove\"}"];
                check::<audio::LinkOrder>(&server, &raw, &wrong, checked).await;
            }
            Capability::Node => {
                check::<node::AskInfo>(&server, &raw, &[], checked).await;
                check::<node::Drain>(&server, &raw, &["{\"by\":1}"], checked).await;
            }
        }
    }
    let all: BTreeSet<_> = VERBS.iter().map(|row| row.verb.to_string()).collect();
    assert_eq!(*checked, all, "each verb of the table is checked here");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_is_an_empty_request_where_nothing_is_required() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let _server = serve(&host, 2, |_: Incoming<llm::ListModels>| async { Ok(llm::Models::example()) }).await;
    let reply = request(&raw, "llm.models", "", b"").await;
    assert_eq!(fault(&reply), None);
    assert_eq!(serde_json::from_slice::<llm::Models>(&reply.payload).unwrap(), llm::Models::example());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_no_caller_hears_is_an_event() {
    let Some(nats) = Nats::start().await else { return };
    let (host, other, raw) = (nats.host("studio").await, nats.host("other").await, nats.raw().await);
    let mut events = within(other.subscribe::<Fault>(subject::EVENTS)).await.unwrap();
    let _server = serve(&host, 2, |_: Incoming<stt::Request>| async { Ok(stt::Transcript::example()) }).await;
    raw.publish("stt.request", "{oops".into()).await.unwrap();
    let (subject, fault) = within(events.next()).await.unwrap();
    let fault = fault.unwrap();
    assert_eq!(subject, "event.studio.fault");
    assert_eq!(fault.code, FaultCode::Invalid);
    assert!(fault.message.starts_with("stt.request: the body (application/json) is no stt.request/1: "), "{fault}");
    // An event that can't be read comes as an error beside its subject.
    raw.publish("event.studio.fault", "5".into()).await.unwrap();
    assert_eq!(within(events.next()).await.unwrap().1.unwrap_err().code, FaultCode::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_headers_do_no_harm() {
    let Some(nats) = Nats::start().await else { return };
    let (host, raw) = (nats.host("studio").await, nats.raw().await);
    let _server = super::serve_stt(&host, 2).await;
    for (name, value) in [
        ("Deadline-Ms", "soon"),
        ("Deadline-Ms", "-1"),
        ("Deadline-Ms", "99999999999999999999"),
        ("Accept", "image/png"),
        ("Credit", "many"),
        ("traceparent", "00-zz-zz-01"),
        ("Req-Id", ""),
        ("Schema", "stt.request/9"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        let reply = within(raw.request_with_headers("stt.request", headers, "{}".into())).await.unwrap();
        assert_eq!(fault(&reply), None, "{name}: {value}");
        assert_eq!(serde_json::from_slice::<stt::Transcript>(&reply.payload).unwrap().model, "studio");
    }
}
