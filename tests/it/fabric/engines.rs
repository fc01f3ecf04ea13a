//! Several engines of one capability on one host.

use std::process::Output;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;
use sidetone::bus::jobs::Jobs;
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::job::JobStatus;
use sidetone::bus::message::llm::{Chat, ListModels};
use sidetone::bus::message::node::Privacy as WirePrivacy;
use sidetone::bus::message::stt::Request;
use sidetone::bus::message::{Blob, Pcm, tts};
use sidetone::bus::subject::{self, Capability, Target};
use sidetone::bus::{BusError, Call, roster};
use sidetone::config::Config;
use sidetone::fabric::need;
use sidetone::router::{Need, OfferId, Policy, Privacy};

use super::{Events, call, chat, fabric, words};
use crate::engines::rogue::{Reply, Rogue};
use crate::support::host::{Host, HostSpec};
use crate::support::model;
use crate::support::nats::{Nats, eventually, free_port, within};

/// One chat engine on this host, and one whose provider's address is outside, though a fake answers.
const NEAR_AND_FAR: &str = r#"llm.providers=[
    { name = "near", engine = "fake", model = "say:near", slots = 1 },
    { name = "far", engine = "fake", model = "say:far", url = "https://api.example.com/v1",
      classes = { planner = ["say:far"] } }]"#;

const JFK: &[u8] = include_bytes!("../../fixtures/audio/jfk.flac");

async fn host(nats: &Nats, name: &str, roles: &str, settings: &[&str]) -> Host {
    HostSpec::new(name, roles).set(settings).on(&nats.url()).start().await
}

fn whole(text: &str) -> Chat {
    Chat { stream: false, ..chat(text) }
}

/// What a program prints, as JSON.
async fn json(host: &Host, arguments: &[&str]) -> Value {
    let mut command = host.cli(arguments);
    let Output { status, stdout, stderr } =
        within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

fn texts(of: &Value, key: &str) -> Vec<String> {
    of.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_chat_engine_of_a_host_is_chosen_by_model_class_name_and_privacy() {
    let Some(nats) = Nats::start().await else { return };
    let rack = host(&nats, "rack", "llm,agent", &[NEAR_AND_FAR]).await;
    let bus = rack.bus();
    let all = fabric(bus, &Config::default(), &["rack"]).await;
    let ask = async |need: &Need, model: Option<&str>| {
        let chat = Chat { model: model.map(str::to_owned), ..whole("who") };
        within(all.ask(need, &chat, &call())).await.map(|answer| answer.text)
    };
    let llm = |model: &str| Need { model: model.to_owned(), ..need(Capability::Llm) };
    assert_eq!(ask(&llm(""), None).await.unwrap(), "near");
    for model in ["say:far", "planner"] {
        assert_eq!(ask(&llm(model), Some(model)).await.unwrap(), "far", "{model}");
    }
    let named = Need { engine: "far".to_owned(), ..llm("") };
    assert_eq!(ask(&named, None).await.unwrap(), "far");
    let lan = |need: Need| Need { privacy: Privacy::Lan, ..need };
    assert_eq!(ask(&lan(llm("")), None).await.unwrap(), "near");
    let error = ask(&lan(llm("planner")), Some("planner")).await.unwrap_err().to_string();
    assert!(error.contains("only in the cloud (rack/far)") && error.contains("privacy is lan"), "{error}");

    // A caller that names no engine, such as an older host or the stock CLI: the host finds the one that may and can.
    let asks = async |chat: &Chat, call: &Call| within(bus.ask(Target::Node("rack"), chat, call)).await;
    let in_lan = Call { privacy: WirePrivacy::Lan, ..call() };
    for _ in 0..10 {
        assert_eq!(asks(&whole("who"), &in_lan).await.unwrap().text, "near");
        let far = Chat { model: Some("say:far".to_owned()), ..whole("who") };
        assert_eq!(asks(&far, &call()).await.unwrap().text, "far");
        let error = asks(&far, &in_lan).await.unwrap_err();
        assert!(!matches!(&error, BusError::Fault(fault) if fault.code == FaultCode::Busy), "{error}");
        let by_model = within(bus.ask(Target::Model("say:far"), &whole("who"), &call())).await;
        assert_eq!(by_model.unwrap().text, "far");
    }
    // One that names the engine outside for what stays in the LAN is refused, and so is one that is not there.
    let named = |engine: &str| Call { engine: Some(engine.to_owned()), ..in_lan.clone() };
    let error = asks(&whole("who"), &named("far")).await.unwrap_err();
    assert!(matches!(&error, BusError::Fault(fault) if fault.code == FaultCode::Invalid), "{error}");
    let error = asks(&whole("who"), &named("none")).await.unwrap_err();
    assert!(error.to_string().contains("no llm engine \"none\"; it has near, far"), "{error}");
    let listed = within(bus.ask(Target::Node("rack"), &ListModels {}, &call())).await.unwrap();
    let mut models = listed.models;
    models.sort();
    assert_eq!(models, ["say:far", "say:near"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_in_the_lan_waits_for_the_full_engine_and_is_not_given_to_the_one_outside() {
    let Some(nats) = Nats::start().await else { return };
    let slow = NEAR_AND_FAR.replace("say:near", "slow:200");
    let rack = host(&nats, "rack", "llm", &[&slow]).await;
    let all = fabric(rack.bus(), &Config::default(), &["rack"]).await;
    let lan = Need { privacy: Privacy::Lan, ..need(Capability::Llm) };
    let mut first = within(all.open(&lan, chat(&words(60)), &call())).await.unwrap();
    within(first.next()).await.unwrap().unwrap();
    assert_eq!((first.choice().host.as_str(), first.choice().engine.as_str()), ("rack", "near"));
    let error = within(all.ask(&lan, &whole("who"), &call())).await.unwrap_err();
    assert!(matches!(&error, BusError::Fault(fault) if fault.code == FaultCode::Busy), "{error}");
    let in_lan = Call { privacy: WirePrivacy::Lan, ..call() };
    let error = within(rack.bus().ask(Target::Node("rack"), &whole("who"), &in_lan)).await.unwrap_err();
    assert!(matches!(&error, BusError::Fault(fault) if fault.code == FaultCode::Busy), "{error}");
    // What may go anywhere does.
    assert_eq!(within(all.ask(&need(Capability::Llm), &whole("who"), &call())).await.unwrap().text, "far");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_engine_is_shown_to_people() {
    let Some(nats) = Nats::start().await else { return };
    let rack = host(&nats, "rack", "llm", &[NEAR_AND_FAR]).await;
    fabric(rack.bus(), &Config::default(), &["rack"]).await;
    let route = json(&rack, &["route", "llm", "--explain", "--privacy", "lan", "--json"]).await;
    assert_eq!(texts(&route, "host"), ["rack", "rack"]);
    assert_eq!(texts(&route, "engine"), ["near", "far"]);
    let why = texts(&route, "why");
    assert!(why[0].starts_with("lan, warm say:near, 0 of 1 busy") && why[1].contains("privacy forbids"), "{why:?}");
    let nodes = json(&rack, &["nodes", "--json"]).await;
    let offers = &nodes[0]["offers"];
    assert_eq!(
        (texts(offers, "name"), texts(offers, "privacy")),
        (vec!["near".to_owned(), "far".to_owned()], vec!["host".to_owned(), "any".to_owned()])
    );
    // As the service API of NATS has them: a service each.
    let raw = nats.raw().await;
    let inbox = raw.new_inbox();
    let infos = nats.hear(&raw, &inbox).await;
    raw.publish_with_reply("$SRV.INFO.llm", inbox, "".into()).await.unwrap();
    let infos: Vec<Value> =
        within(infos.take(2).map(|info| serde_json::from_slice(&info.payload).unwrap()).collect()).await;
    let mut shown: Vec<_> = infos.iter().map(|info| info["metadata"].clone()).collect();
    shown.sort_by_key(|metadata| metadata["name"].to_string());
    assert_eq!(shown.iter().map(|of| of["name"].as_str().unwrap()).collect::<Vec<_>>(), ["far", "near"]);
    assert_eq!((&shown[0]["privacy"], &shown[0]["models"]), (&Value::from("any"), &Value::from("say:far")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_breaks_leaves_its_request_to_the_other_of_its_host() {
    let Some(nats) = Nats::start().await else { return };
    let both = r#"llm.providers=[{ name = "bad", engine = "fake", model = "fail" },
        { name = "good", engine = "fake", model = "echo" }]"#;
    let rack = host(&nats, "rack", "llm", &[both]).await;
    let mut config = Config::default();
    config.route.insert("llm".to_owned(), Policy { pin: "rack/bad".to_owned(), ..Policy::default() });
    let all = fabric(rack.bus(), &config, &["rack"]).await;
    let mut events = Events::new(rack.bus()).await;
    assert_eq!(within(all.ask(&need(Capability::Llm), &whole("hello"), &call())).await.unwrap().text, "hello");
    for (attempt, engine) in [(1, "bad"), (2, "good")] {
        let (_, routed) = events.routed("llm").await;
        assert_eq!((routed.host.as_str(), routed.engine.as_str(), routed.attempt), ("rack", engine, attempt));
    }
}

const TAGS: (&str, Reply) = (
    "/api/tags",
    Reply::Body("200 OK", "application/json", r#"{"models":[{"name":"small:latest","modified_at":"x","size":1}]}"#),
);
const SHOW: (&str, Reply) =
    ("/api/show", Reply::Body("200 OK", "application/json", r#"{"capabilities":["completion"]}"#));
const HELLO: (&str, Reply) = (
    "/api/chat",
    Reply::Body(
        "200 OK",
        "application/x-ndjson",
        "{\"model\":\"m\",\"created_at\":\"x\",\"message\":{\"role\":\"assistant\",\"content\":\"from Ollama\"},\"done\":true}\n",
    ),
);

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_can_not_start_is_told_and_tried_again_while_the_other_serves() {
    let Some(nats) = Nats::start().await else { return };
    let port = free_port();
    let both = format!(
        "llm.providers=[{{ engine = \"ollama\", url = \"http://127.0.0.1:{port}\" }}, {{ engine = \"fake\", model = \"echo\" }}]"
    );
    let watcher = nats.host("watcher").await;
    let mut faults = watcher.subscribe::<Fault>(&subject::event_of_all("fault")).await.unwrap();
    let rack = host(&nats, "rack", "llm", &[&both]).await;
    let (_, fault) = within(faults.next()).await.unwrap();
    let fault = fault.unwrap().message;
    assert!(fault.contains("the llm engine ollama is down") && fault.contains("ollama serve"), "{fault}");
    let named = async |names: &[&str]| {
        eventually(|| async {
            let nodes = roster::nodes(rack.bus()).await.unwrap();
            let there: Vec<_> = nodes[0].offers.iter().map(|offer| offer.name.as_str()).collect();
            (there == names).then_some(())
        })
        .await;
    };
    named(&["fake"]).await;
    let asks = Call { engine: Some("ollama".to_owned()), ..call() };
    assert_eq!(within(rack.bus().ask(Target::Node("rack"), &whole("hi"), &call())).await.unwrap().text, "hi");
    let _ollama = Rogue::start_at(port, vec![TAGS, SHOW, HELLO]).await;
    // In the order of the settings, though it came up later.
    named(&["ollama", "fake"]).await;
    let answer = within(rack.bus().ask(Target::Node("rack"), &whole("hi"), &asks)).await.unwrap();
    assert_eq!(answer.text, "from Ollama");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_engines_all_fail_ends_and_says_why() {
    if crate::support::nats::program("nats-server").is_none() {
        return;
    }
    let both = r#"llm.providers=[{ name = "a", engine = "fake", model = "down" },
        { name = "b", engine = "fake", model = "down" }]"#;
    let spec = HostSpec::new("rack", "llm").set(&[both]);
    let (code, why) = within(tokio::task::spawn_blocking(move || spec.refused())).await.unwrap();
    assert!(code == 1 && why.contains("role llm") && why.contains("down"), "{code}: {why}");
}

fn clip() -> Request {
    Request { file: Some(Blob(JFK.into())), ..Request::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_recognizers_of_a_host_transcribe_beside_each_other() {
    let Some(nats) = Nats::start().await else { return };
    if model("whisper-tiny.en", "model.bin").is_none() {
        return;
    }
    let both = r#"stt.providers=[{ engine = "fake", model = "say:scripted" }, { engine = "whisper", model = "whisper-tiny.en" }]"#;
    let rack = host(&nats, "rack", "stt", &[both]).await;
    let all = fabric(rack.bus(), &Config::default(), &["rack"]).await;
    let stt = |model: &str| Need { model: model.to_owned(), ..need(Capability::Stt) };
    for (model, words) in [("whisper-tiny.en", "country"), ("say:scripted", "scripted")] {
        let request = Request { model: Some(model.to_owned()), ..clip() };
        let heard = within(all.ask(&stt(model), &request, &call())).await.unwrap();
        assert!(heard.text.contains(words) && heard.model == model, "{heard:?}");
        let heard = within(rack.bus().ask(Target::Node("rack"), &request, &call())).await.unwrap();
        assert_eq!(heard.model, model);
    }
    // Work that may wait, given to the host: whichever engine takes it up first, the right one does it.
    let jobs = Jobs::open(rack.bus()).await.unwrap();
    for model in ["whisper-tiny.en", "say:scripted", "say:scripted", "whisper-tiny.en"] {
        let request = Request { model: Some(model.to_owned()), ..Request::default() };
        let id = within(jobs.submit(Target::Node("rack"), "jfk.flac", &request, Some(JFK))).await.unwrap();
        let state = within(jobs.wait(&id)).await.unwrap();
        assert_eq!((state.status, state.attempts), (JobStatus::Done, 1), "{state:?}");
        assert_eq!(state.result.unwrap()["model"], model);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_synthesizers_of_a_host_speak_each_its_voices() {
    let Some(nats) = Nats::start().await else { return };
    if model("en_US-joe-medium", "model.onnx").is_none() {
        return;
    }
    let both = r#"tts.providers=[{ engine = "piper" }, { engine = "fake", voices = ["echo"], privacy = "any",
        classes = { beep = ["echo"] } }]"#;
    let rack = host(&nats, "rack", "tts", &[both]).await;
    let all = fabric(rack.bus(), &Config::default(), &["rack"]).await;
    let tts = |voice: &str| Need { voice: voice.to_owned(), ..need(Capability::Tts) };
    let say = |voice: Option<&str>| {
        tts::Request(tts::Say { text: "hello".to_owned(), voice: voice.map(str::to_owned), speed: None })
    };
    for (voice, spoken) in [("en_US-joe-medium", "en_US-joe-medium"), ("echo", "echo"), ("", "en_US-joe-medium")] {
        let asked = Some(voice).filter(|voice| !voice.is_empty());
        let speech = within(all.ask(&tts(voice), &say(asked), &call())).await.unwrap();
        assert_eq!(speech.voice, spoken);
    }
    // The settings say that the second passes on what it is given: what stays in the LAN is not for it.
    let error = within(all.ask(&Need { privacy: Privacy::Lan, ..tts("echo") }, &say(Some("echo")), &call())).await;
    assert!(error.map(drop).unwrap_err().to_string().contains("rack/fake"));
    // A stream goes to the engine of its voice, whichever of the two hears of it.
    for _ in 0..4 {
        let asked = tts::Stream(say(Some("beep")).0);
        let mut stream = within(rack.bus().open(Target::Node("rack"), &asked, &call())).await.unwrap();
        let mut last = None;
        while let Some(chunk) = within(stream.next()).await {
            last = chunk.unwrap().done;
        }
        assert_eq!(last.unwrap().voice, "echo");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_llama_cpp_chats_beside_another_engine() {
    let Some(nats) = Nats::start().await else { return };
    if model("smollm2-135m-instruct", "model.gguf").is_none() || !sidetone::home::Home::find(None).python().is_file() {
        return;
    }
    let both = r#"llm.providers=[{ engine = "llamacpp" }, { engine = "fake", model = "echo" }]"#;
    let rack = host(&nats, "rack", "llm", &[both]).await;
    let all = fabric(rack.bus(), &Config::default(), &["rack"]).await;
    let llm = |model: &str| Need { model: model.to_owned(), ..need(Capability::Llm) };
    let chat = |model: &str| Chat { model: Some(model.to_owned()), max_tokens: Some(8), ..whole("Say hello.") };
    let real = "smollm2-135m-instruct";
    for (model, provider) in [(real, "llama.cpp"), ("echo", "fake")] {
        let answer = within(all.ask(&llm(model), &chat(model), &call())).await.unwrap();
        assert_eq!(answer.done.unwrap().provider, provider);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_drains_finishes_what_each_of_its_engines_works_on() {
    let Some(nats) = Nats::start().await else { return };
    let both = r#"llm.providers=[{ name = "one", engine = "fake", model = "slow:60" },
        { name = "two", engine = "fake", model = "slow:61" }]"#;
    let mut rack = host(&nats, "rack", "llm", &[both]).await;
    let all = fabric(rack.bus(), &Config::default(), &["rack"]).await;
    let text = words(30);
    let mut streams = Vec::new();
    for (engine, model) in [("one", "slow:60"), ("two", "slow:61")] {
        let need = Need { engine: engine.to_owned(), ..need(Capability::Llm) };
        let chat = Chat { model: Some(model.to_owned()), ..chat(&text) };
        let mut stream = within(all.open(&need, chat, &call())).await.unwrap();
        within(stream.next()).await.unwrap().unwrap();
        assert_eq!(OfferId::new(&stream.choice().host, &stream.choice().engine), OfferId::new("rack", engine));
        streams.push(stream);
    }
    rack.signal(libc::SIGTERM);
    for mut stream in streams {
        let mut whole = None;
        while let Some(answer) = within(stream.next()).await {
            let answer = answer.unwrap();
            whole = answer.done.is_some().then_some(answer.text).or(whole);
        }
        assert_eq!(whole.as_deref(), Some(text.as_str()));
    }
    assert_eq!(rack.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_names_no_engine_goes_to_the_first_that_speaks_its_language() {
    let Some(nats) = Nats::start().await else { return };
    let both = r#"stt.providers=[{ name = "a", engine = "fake", model = "say:a" }, { name = "b", engine = "fake", model = "say:b" }]"#;
    let rack = host(&nats, "rack", "stt", &[both]).await;
    let pcm = Pcm { rate_hz: 16_000, channels: 1, data: Blob(vec![0; 3_200].into()), ..Pcm::default() };
    let request =
        |language: &str| Request { pcm: Some(pcm.clone()), language: Some(language.to_owned()), ..Request::default() };
    let call = Call::within(Duration::from_secs(60));
    assert_eq!(within(rack.bus().ask(Target::Node("rack"), &request("en-GB"), &call)).await.unwrap().text, "a");
    let error = within(rack.bus().ask(Target::Node("rack"), &request("de"), &call)).await.unwrap_err();
    assert!(error.to_string().contains("does not understand \"de\""), "{error}");
}
