//! What hosts tell of themselves: metrics, health, log lines, and traces over several hosts.

#[cfg(feature = "otlp")]
mod otlp;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sidetone::bus::message::agent::{Run, RunEvent};
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::tts::{Say, Stream};
use sidetone::bus::message::voice::{Control, TurnState};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, BusError, Call};
use sidetone::telemetry::metrics::{self, ALL, Kind};
use ulid::Ulid;

use crate::support::host::{FAKES, Follow, Host, HostSpec};
use crate::support::jack::{self, JackServer};
use crate::support::nats::{Nats, eventually, free_port, program, within};
use crate::support::studio::{Studio, fixture};

fn call() -> Call {
    Call::within(Duration::from_secs(30))
}

/// A host that shows itself over HTTP.
struct Shown {
    host: Host,
    address: String,
}

impl Shown {
    async fn start(spec: HostSpec) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let host = spec.set(&[&format!("http.listen={address:?}")]).start().await;
        Self { host, address }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let response = within(reqwest::get(format!("http://{}{path}", self.address))).await.unwrap();
        (response.status().as_u16(), within(response.text()).await.unwrap())
    }

    async fn health(&self) -> (u16, Value) {
        let (code, body) = self.get("/health").await;
        (code, serde_json::from_str(&body).unwrap())
    }

    /// Waits for a state of health.
    async fn until_health(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> (u16, Value) {
        eventually(|| async {
            let (code, health) = self.health().await;
            eprintln!("waiting for {what}: {health}");
            wanted(&health).then_some((code, health))
        })
        .await
    }

    async fn scrape(&self) -> Scrape {
        let (code, text) = self.get("/metrics").await;
        assert_eq!(code, 200, "{text}");
        Scrape::read(&text)
    }

    /// Waits until a sample is `value`: what is counted at the end of a request may come after its reply.
    async fn until(&self, series: &str, value: f64) {
        eventually(|| async {
            let now = self.scrape().await.get(series);
            (now == Some(value)).then_some(()).or_else(|| {
                eprintln!("{series} is {now:?}, not yet {value}");
                None
            })
        })
        .await;
    }
}

/// The samples of an exposition by name and labels, as they are written.
#[derive(Debug)]
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
        };
        let typed = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        let told = text.lines().filter(|line| line.starts_with("# HELP")).count();
        assert_eq!(typed, told, "every metric is explained: {text}");
        Self(samples.map(sample).collect())
    }

    fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// Every sample is one that the table of metrics knows, with its labels.
    fn is_known(&self) {
        for series in self.0.keys() {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let metric = ALL.iter().find(|metric| {
                let part = name.strip_prefix(metric.name);
                let histogram = metric.kind == Kind::Histogram;
                part.is_some_and(|part| part.is_empty() || histogram && ["_bucket", "_sum", "_count"].contains(&part))
            });
            let metric = metric.unwrap_or_else(|| panic!("{series} is in no table"));
            for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
                let (key, _) = label.split_once('=').unwrap();
                assert!(metric.labels.contains(&key) || key == "le", "{series}");
            }
        }
    }

    /// No sample knows of `text`.
    fn is_silent_of(&self, text: &str) {
        assert!(self.0.keys().all(|series| !series.contains(text)), "{text} is in a label");
    }
}

fn run(text: &str, session: &str) -> Run {
    Run {
        text: text.to_owned(),
        session: Some(session.to_owned()),
        turn: None,
        stream: false,
        heard: None,
        said: String::new(),
    }
}

async fn ask(bus: &Bus, text: &str, session: &str, turn: Ulid) -> String {
    match within(bus.ask(Target::Any, &run(text, session), &call().of_turn(turn))).await.unwrap() {
        RunEvent::Done(done) => done.text,
        other => panic!("no end: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_grow_by_what_is_done() {
    if program("nats-server").is_none() {
        return;
    }
    let shown = Shown::start(HostSpec::new("studio", "tts,llm,agent").set(FAKES).set(&["tts.slots=1"])).await;
    let before = shown.scrape().await;
    before.is_known();
    assert_eq!(before.get("sidetone_slots{capability=\"tts\"}"), Some(1.0));
    assert_eq!(before.get("sidetone_nats_up{connection=\"control\"}"), Some(1.0));
    assert_eq!(before.get("sidetone_requests_total{verb=\"agent.run\",code=\"ok\"}"), None);
    let info = format!("sidetone_info{{node=\"studio\",version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(before.get(&info), Some(1.0));

    let bus = shown.host.bus();
    let turn = Ulid::generate();
    for _ in 0..3 {
        assert_eq!(ask(bus, "one two three four", "an-evening", turn).await, "one two three four");
    }
    let refused = within(bus.ask(Target::Any, &run("", "an-evening"), &call())).await.unwrap_err();
    assert!(matches!(refused, BusError::Fault(fault) if fault.code == FaultCode::Invalid));
    shown.until("sidetone_requests_total{verb=\"agent.run\",code=\"ok\"}", 3.0).await;
    shown.until("sidetone_requests_total{verb=\"agent.run\",code=\"invalid\"}", 1.0).await;
    shown.until("sidetone_requests_total{verb=\"llm.chat\",code=\"ok\"}", 3.0).await;
    // An utterance and a reply a turn.
    shown.until("sidetone_session_events_total", 6.0).await;
    let now = shown.scrape().await;
    now.is_known();
    assert_eq!(now.get("sidetone_session_events_waiting"), Some(0.0));
    assert_eq!(now.get("sidetone_request_duration_seconds_count{verb=\"agent.run\"}"), Some(4.0));
    assert_eq!(now.get("sidetone_engine_seconds_count{role=\"llm\",stage=\"total\"}"), Some(3.0));
    assert_eq!(now.get("sidetone_engine_seconds_count{role=\"llm\",stage=\"first\"}"), Some(3.0));
    assert_eq!(now.get("sidetone_agent_seconds_count{stage=\"total\"}"), Some(3.0));
    // Four words and the summary, three times.
    assert_eq!(now.get("sidetone_stream_chunks_total{verb=\"llm.chat\"}"), Some(15.0));
    assert_eq!(now.get("sidetone_requests_in_flight{capability=\"agent\"}"), Some(0.0));
    now.is_silent_of("an-evening");
    now.is_silent_of(&turn.to_string());

    // One at a time: the second is refused while the first, which nobody reads on, holds the slot.
    let long = || Stream(Say { text: "word ".repeat(2_000), voice: None, speed: None });
    let mut first = within(bus.open(Target::Any, &long(), &call())).await.unwrap();
    within(first.next()).await.unwrap().unwrap();
    shown.until("sidetone_requests_in_flight{capability=\"tts\"}", 1.0).await;
    let mut second = within(bus.open(Target::Any, &long(), &call())).await.unwrap();
    let busy = within(second.next()).await.unwrap().unwrap_err();
    assert!(matches!(busy, BusError::Fault(fault) if fault.code == FaultCode::Busy));
    drop(first);
    shown.until("sidetone_requests_in_flight{capability=\"tts\"}", 0.0).await;
    shown.until("sidetone_requests_refused_total{capability=\"tts\",reason=\"busy\"}", 1.0).await;
    shown.until("sidetone_requests_total{verb=\"tts.stream\",code=\"busy\"}", 1.0).await;
    shown.until("sidetone_requests_total{verb=\"tts.stream\",code=\"cancelled\"}", 1.0).await;

    let (code, body) = shown.get("/capabilities").await;
    let card: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &card["node"]), (200, &Value::from("studio")));
    let roles: Vec<_> =
        card["offers"].as_array().unwrap().iter().map(|offer| offer["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["agent", "llm", "tts"]);
    let (code, text) = shown.get("/nothing").await;
    assert!(code == 404 && text.contains("/health"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_bus() {
    let Some(mut nats) = Nats::start().await else { return };
    let shown = Shown::start(HostSpec::new("studio", "tts").set(FAKES).on(&nats.url())).await;
    let (code, health) = shown.health().await;
    assert_eq!((code, health["status"].as_str(), health["bus"]["up"].as_bool()), (200, Some("up"), Some(true)));
    assert_eq!(health["roles"]["tts"]["up"], true);
    nats.kill().await;
    let (code, health) = shown.until_health("the loss", |health| health["bus"]["up"] == false).await;
    assert_eq!((code, health["status"].as_str()), (503, Some("down")));
    assert!(health["bus"]["why"].as_str().unwrap().contains("NATS"), "{health}");
    shown.until("sidetone_nats_up{connection=\"control\"}", 0.0).await;
    nats.restart().await;
    let (code, _) = shown.until_health("the return", |health| health["status"] == "up").await;
    assert_eq!(code, 200);
    for connection in ["control", "audio"] {
        shown.until(&format!("sidetone_nats_reconnects_total{{connection={connection:?}}}"), 1.0).await;
        shown.until(&format!("sidetone_nats_up{{connection={connection:?}}}"), 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_entry_is_not_renewed_says_so() {
    let Some(nats) = Nats::start().await else { return };
    let shown = Shown::start(HostSpec::new("studio", "tts").set(FAKES).on(&nats.url())).await;
    let (code, health) = shown.health().await;
    assert_eq!((code, health["kept"]["registry"]["up"].as_bool()), (200, Some(true)), "{health}");
    // The bucket takes nothing any more.
    let context = async_nats::jetstream::new(nats.raw().await);
    let stream = within(context.get_stream("KV_NODES")).await.unwrap();
    let config = stream.cached_info().config.clone();
    let none = async_nats::jetstream::stream::Config { max_message_size: 1, ..config.clone() };
    within(context.update_stream(&none)).await.unwrap();
    let (code, health) = shown.until_health("a loss", |health| health["kept"]["registry"]["up"] == false).await;
    assert_eq!((code, health["status"].as_str()), (503, Some("down")));
    assert!(health["kept"]["registry"]["why"].as_str().unwrap().contains("NODES"), "{health}");
    within(context.update_stream(&config)).await.unwrap();
    let (code, _) = shown.until_health("the return", |health| health["status"] == "up").await;
    assert_eq!(code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoken_turn_and_jack_are_measured() {
    if !jack::available() || program("nats-server").is_none() {
        return;
    }
    let mut jack = JackServer::start(48_000, 256);
    let spec = HostSpec::new("stage", "voice,stt,tts,llm,agent").set(FAKES);
    let shown = Shown::start(spec.listener(&jack, "mode = \"push_to_talk\"")).await;
    let mut studio = Studio::open(&jack, 48_000);
    studio.connected().await;
    shown.host.has_audio().await;
    let mut follow = Follow::new(shown.host.bus()).await;
    let (code, health) = shown.until_health("JACK", |health| health["jack"]["main"]["up"] == true).await;
    assert_eq!(code, 200, "{health}");

    shown.host.control(Control::PushToTalk { held: Some(true) }).await.unwrap();
    studio.say(&fixture("computer-04.flac")[20_000..36_000]).await;
    shown.host.control(Control::PushToTalk { held: Some(false) }).await.unwrap();
    follow.state(TurnState::Speaking).await;
    follow.state(TurnState::Idle).await;
    shown.until("sidetone_turns_total{outcome=\"answered\"}", 1.0).await;
    let now = shown.scrape().await;
    now.is_known();
    for stage in ["total", "spoken"] {
        let series = format!("sidetone_turn_stage_seconds_count{{stage={stage:?}}}");
        assert_eq!(now.get(&series), Some(1.0), "{stage}: {now:?}");
    }
    assert_eq!(now.get("sidetone_jack_up{listener=\"main\"}"), Some(1.0));
    assert_eq!(now.get("sidetone_engine_seconds_count{role=\"stt\",stage=\"total\"}"), Some(1.0));
    for name in [metrics::XRUNS, metrics::UNDERRUNS, metrics::DROPPED] {
        assert!(now.get(&format!("{name}{{listener=\"main\"}}")).is_some(), "{name}: {now:?}");
    }

    drop(studio);
    jack.kill();
    let (code, health) = shown.until_health("no JACK", |health| health["jack"]["main"]["up"] == false).await;
    assert_eq!((code, health["bus"]["up"].as_bool()), (503, Some(true)));
    shown.until("sidetone_jack_up{listener=\"main\"}", 0.0).await;
    jack.restart(48_000, 256);
    assert_eq!(shown.until_health("JACK again", |health| health["status"] == "up").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_say_to_what_turn_and_session_they_belong() {
    let Some(nats) = Nats::start().await else { return };
    let agent = HostSpec::new("brain", "agent").set(FAKES).on(&nats.url()).start().await;
    let spec = HostSpec::new("writer", "llm").set(FAKES).on(&nats.url()).argument(&["--log-format", "json"]);
    let writer = spec.start().await;
    let turn = Ulid::generate();
    ask(agent.bus(), "one two", "evening", turn).await;
    let of_turn = |line: &&str| line.contains(&turn.to_string()) && line.contains("evening");
    let (text, json) = eventually(|| async {
        let (text, json) = (agent.log(), writer.log());
        let text = text.lines().find(of_turn).map(str::to_owned);
        // The session has come with the request over the bus.
        text.zip(json.lines().find(of_turn).map(str::to_owned))
    })
    .await;
    assert!(text.contains("request{verb=\"agent.run\""), "{text}");
    assert_eq!(text.matches("turn=").count(), 1, "{text}");
    let json: Value = serde_json::from_str(&json).unwrap();
    let span = &json["span"];
    assert_eq!(span["name"], "request", "{json}");
    assert_eq!((&span["verb"], &span["session"]), (&Value::from("llm.chat"), &Value::from("evening")));
    assert_eq!(span["turn"].as_str().unwrap(), turn.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_port_that_can_not_be_had_is_said_at_start() {
    if program("nats-server").is_none() {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let refused =
        |listen: &str| HostSpec::new("studio", "llm").set(FAKES).set(&[&format!("http.listen={listen:?}")]).refused();
    let (code, why) = refused(&taken);
    assert_eq!(code, 1);
    assert!(why.contains(&format!("http.listen is {taken:?}")) && why.contains("in use"), "{why}");
    let (code, why) = refused("9464");
    assert_eq!(code, 2);
    assert!(why.contains("http.listen is \"9464\"") && why.contains("127.0.0.1:9464"), "{why}");
}
