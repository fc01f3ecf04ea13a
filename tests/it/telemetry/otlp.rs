//! Traces: a small collector, and hosts that send to it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use sidetone::bus::message::voice::{Control, TurnState};
use sidetone::http::{Http, Mounted};
use ulid::Ulid;

use super::ask;
use crate::support::host::{FAKES, Follow, Host, HostSpec};
use crate::support::jack::{self, JackServer};
use crate::support::nats::{Nats, eventually, free_port, program};
use crate::support::studio::{Studio, fixture};

/// A span, and the host that has sent it.
#[derive(Debug, Clone)]
struct Sent {
    node: String,
    span: Span,
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{key} is {other:?}"),
    }
}

/// Takes spans.
struct Collector {
    http: Http,
    spans: Arc<Mutex<Vec<Sent>>>,
    _routes: Mounted,
}

impl Collector {
    async fn start() -> Self {
        let http = Http::start("127.0.0.1:0").await.unwrap();
        let spans = Arc::<Mutex<Vec<Sent>>>::default();
        let taken = Arc::clone(&spans);
        let take = move |body: Bytes| async move {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            for resource in request.resource_spans {
                let attributes = resource.resource.unwrap().attributes;
                assert_eq!(text(&attributes, "service.name").as_deref(), Some("sidetone"));
                let node = text(&attributes, "service.instance.id").unwrap();
                let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                taken.lock().unwrap().extend(spans.map(|span| Sent { node: node.clone(), span }));
            }
            ExportTraceServiceResponse::default().encode_to_vec()
        };
        let routes = http.mount("/v1/traces", Router::new().route("/v1/traces", post(take)));
        Self { http, spans, _routes: routes }
    }

    fn setting(&self) -> String {
        format!("telemetry.otlp_url=\"http://{}\"", self.http.address().unwrap())
    }

    fn spans(&self) -> Vec<Sent> {
        self.spans.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_two_hosts_is_one_trace() {
    let Some(nats) = Nats::start().await else { return };
    let collector = Collector::start().await;
    let start = |name: &str, role: &str| {
        HostSpec::new(name, role).set(FAKES).set(&[&collector.setting()]).on(&nats.url()).start()
    };
    let (mut brain, mut writer): (Host, Host) = tokio::join!(start("brain", "agent"), start("writer", "llm"));
    let turn = Ulid::generate();
    ask(brain.bus(), "one two", "evening", turn).await;
    // The last spans are sent when a host ends.
    assert!(brain.end(libc::SIGTERM).success() && writer.end(libc::SIGTERM).success());
    let spans = collector.spans();
    let of_turn: Vec<_> = spans.iter().filter(|sent| sent.span.trace_id == turn.0.to_be_bytes()).collect();
    let named = |name: &str| of_turn.iter().find(|sent| sent.span.name == name).unwrap_or_else(|| panic!("{spans:#?}"));
    let (run, chat) = (named("agent.run"), named("llm.chat"));
    assert_eq!((run.node.as_str(), chat.node.as_str()), ("brain", "writer"));
    assert_eq!(chat.span.parent_span_id, run.span.span_id, "the model was asked by the agent");
    for sent in [run, chat] {
        assert_eq!(text(&sent.span.attributes, "session").as_deref(), Some("evening"), "{sent:?}");
        assert_eq!(text(&sent.span.attributes, "turn"), Some(turn.to_string()));
    }
    assert!(run.span.start_time_unix_nano <= chat.span.start_time_unix_nano);
    // The model's span ends when its reply has left, so perhaps after the agent's.
    assert!(run.span.end_time_unix_nano >= chat.span.start_time_unix_nano);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoken_turn_is_the_root_of_what_it_asks_for() {
    if !jack::available() || program("nats-server").is_none() {
        return;
    }
    let (jack, collector) = (JackServer::start(48_000, 256), Collector::start().await);
    let spec = HostSpec::new("stage", "voice,stt,tts,llm,agent").set(FAKES).set(&[&collector.setting()]);
    let mut host = spec.listener(&jack, "mode = \"push_to_talk\"").start().await;
    let mut studio = Studio::open(&jack, 48_000);
    studio.connected().await;
    host.has_audio().await;
    let mut follow = Follow::new(host.bus()).await;
    host.control(Control::PushToTalk { held: Some(true) }).await.unwrap();
    studio.say(&fixture("computer-04.flac")[20_000..36_000]).await;
    host.control(Control::PushToTalk { held: Some(false) }).await.unwrap();
    let state = follow.state(TurnState::Speaking).await;
    follow.state(TurnState::Idle).await;
    assert!(host.end(libc::SIGTERM).success());

    let turn = Ulid::from_string(&state.turn.unwrap()).unwrap();
    let spans: Vec<_> = collector.spans().into_iter().map(|sent| sent.span).collect();
    let of_turn: Vec<_> = spans.iter().filter(|span| span.trace_id == turn.0.to_be_bytes()).collect();
    let root = of_turn.iter().find(|span| span.name == "turn").unwrap_or_else(|| panic!("{spans:#?}"));
    assert!(root.parent_span_id.is_empty(), "{root:?}");
    assert_eq!(text(&root.attributes, "session"), state.session);
    let under = |parent: &[u8]| {
        let mut names: Vec<_> =
            of_turn.iter().filter(|span| span.parent_span_id == parent).map(|span| &*span.name).collect();
        names.sort_unstable();
        names.dedup();
        names.join(" ")
    };
    assert_eq!(under(&root.span_id), "agent.run stt.request tts.stream");
    let run = of_turn.iter().find(|span| span.name == "agent.run").unwrap();
    assert_eq!(under(&run.span_id), "llm.chat");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_holds_nothing_up_and_is_said_once() {
    let Some(nats) = Nats::start().await else { return };
    let nowhere = format!("telemetry.otlp_url=\"http://127.0.0.1:{}\"", free_port());
    let spec = HostSpec::new("brain", "agent,llm").set(FAKES).set(&[&nowhere]).on(&nats.url());
    let mut host = spec.start().await;
    let said = |host: &Host| host.log().matches("spans can't be sent").count();
    for _ in 0..2 {
        // Batches leave every few seconds; each turn goes on meanwhile.
        assert_eq!(ask(host.bus(), "one two", "evening", Ulid::generate()).await, "one two");
        eventually(|| async { (said(&host) > 0).then_some(()) }).await;
    }
    assert!(host.end(libc::SIGTERM).success());
    assert_eq!(said(&host), 1, "{}", host.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_no_collector_is_refused() {
    let (code, why) = HostSpec::new("brain", "llm").set(FAKES).set(&["telemetry.otlp_url=\"collector\""]).refused();
    assert_eq!(code, 2);
    assert!(why.contains("telemetry.otlp_url is \"collector\"") && why.contains("4318"), "{why}");
}
