//! Hosts on servers with users and TLS: they do their work as on an open bus.

use std::time::Duration;

use futures::StreamExt as _;
use sidetone::bus::message::Message as _;
use sidetone::bus::message::agent::Run;
use sidetone::bus::message::llm::{Chat, ChatMessage, Role};
use sidetone::bus::message::session::What;
use sidetone::bus::message::stt;
use sidetone::bus::message::voice::{Control, TurnState};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, roster};
use sidetone::wire::stream::CREDIT;

use super::site::{Site, call};
use crate::support::host::{Follow, Host, LISTENER};
use crate::support::jack::{self, JackServer};
use crate::support::nats::{eventually, within};
use crate::support::studio::{Studio, fixture, silence};

const USERS: &str = "
[[hosts]]
name = \"studio\"
roles = [\"voice\", \"tts\"]
[[hosts]]
name = \"brain\"
roles = [\"llm\", \"agent\", \"stt\"]
[[hosts]]
name = \"stage\"
asks = [\"agent\"]
[[clients]]
name = \"op\"
rights = \"admin\"
[[clients]]
name = \"eye\"
rights = \"observer\"
[[clients]]
name = \"me\"
rights = \"caller\"
";

/// Asks for a long answer; gives its words and in how many pieces they came.
async fn long_answer(bus: &Bus, words: usize) -> (String, usize) {
    let text = vec!["word"; words].join(" ");
    let chat =
        Chat { messages: vec![ChatMessage::new(Role::User, text)], model: None, max_tokens: None, ..Chat::example() };
    let mut stream = bus.open(Target::Any, &chat, &call()).await.unwrap();
    let (mut text, mut pieces) = (String::new(), 0);
    while let Some(answer) = within(stream.next()).await {
        let answer = answer.unwrap();
        if answer.done.is_none() {
            text += &answer.text;
            pieces += 1;
        }
    }
    (text, pieces)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoken_turn_crosses_hosts_that_have_just_the_rights_for_it() {
    if !jack::available() {
        return;
    }
    let Some(mut site) = Site::new(1, USERS) else { return };
    site.serve("server-n1/nats-server.conf").await;
    let jack = JackServer::start(48_000, 256);
    let brain = site.host("brain", "llm,agent,stt").start().await;
    let studio_host = site.host("studio", "voice,tts").listener(&jack, "mode = \"push_to_talk\"").start().await;
    let mut studio = Studio::open(&jack, 48_000);
    studio.connected().await;

    // What is told reaches one who may only look on.
    let eye = site.bus("client-eye").await;
    let mut states = eye.subscribe(sidetone::bus::subject::VOICE_STATES).await.unwrap();
    let sessions = eye.subscribe(sidetone::bus::subject::SESSIONS).await.unwrap();
    let mut follow = Follow::new(studio_host.bus()).await;
    studio_host.control(Control::PushToTalk { held: None }).await.unwrap();
    follow.state(TurnState::Listening).await;
    studio.say(&[fixture("computer-03.flac"), silence(900)].concat()).await;
    follow.state(TurnState::Speaking).await;
    follow.state(TurnState::Idle).await;
    let reply = follow
        .session("the reply", |what| if let What::Reply { text, .. } = what { Some(text.clone()) } else { None })
        .await;
    assert!(!reply.is_empty());
    let state: (String, Result<sidetone::bus::message::voice::State, _>) = within(states.next()).await.unwrap();
    assert!(state.1.is_ok_and(|state| state.listener == LISTENER));
    let kept: Vec<(String, Result<sidetone::bus::message::session::SessionEvent, _>)> =
        within(sessions.take(2).collect()).await;
    assert!(kept.iter().all(|(_, event)| event.is_ok()));

    // Nothing was refused on the way.
    for host in [&brain, &studio_host] {
        assert!(!host.log().contains("Permissions Violation"), "{}", host.log());
    }
    let nodes = within(roster::nodes(&site.bus("host-stage").await)).await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["brain", "studio"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_recordings_pass() {
    let Some(mut site) = Site::new(1, USERS) else { return };
    site.serve("server-n1/nats-server.conf").await;
    let brain = site.host("brain", "llm,agent,stt").start().await;

    // More pieces than may be on the way: they come only if they can be acknowledged.
    let me = site.bus("client-me").await;
    let words = usize::try_from(CREDIT).unwrap() * 4;
    let (text, pieces) = long_answer(&me, words).await;
    assert_eq!(text.split_whitespace().count(), words);
    assert!(pieces > words / 2, "{pieces} pieces");

    // A device of the stage asks the agent.
    let stage = site.bus("host-stage").await;
    let ask = run("Tell me one two three four.", "s");
    let mut events = stage.open(Target::Any, &ask, &call()).await.unwrap();
    let mut pieces = 0;
    while let Some(event) = within(events.next()).await {
        event.unwrap();
        pieces += 1;
    }
    assert!(pieces > 2, "{pieces} events");

    // A recording over max_payload goes through CLIPS, into which whoever asks may put it.
    let wav = silent_wav(10);
    assert!(me.needs_clip(wav.len()));
    let clip = within(me.put_clip(&wav)).await.unwrap();
    let request = stt::Request { clip: Some(clip), ..stt::Request::default() };
    let transcript = within(me.ask(Target::Any, &request, &call())).await.unwrap();
    assert!(transcript.text.contains("10000"), "{transcript:?}");

    // Audio goes in as a stream, acknowledged piece by piece.
    let start = stt::Stream { partials: false, model: None, prompt: None, language: None, ..stt::Stream::example() };
    let (mut sender, mut heard) = within(me.listen(Target::Any, &start, &call())).await.unwrap();
    let second = vec![0_u8; start.rate_hz as usize * 2 * usize::from(start.channels)];
    for _ in 0..100 {
        within(sender.send(second.clone().into())).await.unwrap();
    }
    within(sender.end()).await.unwrap();
    let mut done = None;
    while let Some(event) = within(heard.next()).await {
        if let stt::StreamEvent::Done(last) = event.unwrap() {
            done = Some(last);
        }
    }
    assert!(done.unwrap().audio_ms >= 100_000);
    assert!(!brain.log().contains("Permissions Violation"), "{}", brain.log());
}

fn run(text: &str, session: &str) -> Run {
    Run {
        text: text.to_owned(),
        session: Some(session.to_owned()),
        turn: None,
        stream: true,
        heard: None,
        said: String::new(),
    }
}

/// Silence as a WAV.
fn silent_wav(seconds: u32) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    (0..16_000 * seconds).for_each(|_| writer.write_sample(0_i16).unwrap());
    writer.finalize().unwrap();
    file.into_inner()
}

/// The address of a server of the site.
fn server(site: &Site, at: usize) -> String {
    site.access("client-op").url.split(',').nth(at).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_meet_across_a_cluster_and_a_leaf() {
    let port = crate::support::nats::free_port();
    let Some(mut site) = Site::new(3, USERS) else { return };
    let folder = site.file("host-edge");
    let edge = format!(
        "[[hosts]]\nname = \"edge\"\nroles = [\"tts\", \"agent\"]\nleaf = true\nport = {port}\nfolder = {folder:?}\n"
    );
    site.list(&format!("{USERS}{edge}"));
    assert_eq!(site.deploy(&[]).0, 0);
    for at in 1..=3 {
        site.serve(&format!("server-n{at}/nats-server.conf")).await;
    }
    // It has no leader at once.
    let op = site.bus("client-op").await;
    eventually(|| async { roster::nodes(&op).await.ok() }).await;
    let _brain: Host = site.host("brain", "llm,agent,stt").argument(&["--bus", &server(&site, 0)]).start().await;
    let _studio = site.host("studio", "tts").argument(&["--bus", &server(&site, 2)]).start().await;

    let mut access = site.access("client-me");
    access.url = server(&site, 1);
    let me = within(Bus::connect(access, "me")).await.unwrap();
    let words = usize::try_from(CREDIT).unwrap() * 2;
    assert_eq!(long_answer(&me, words).await.0.split_whitespace().count(), words);
    // What one server has taken is a moment later on the one that is asked.
    eventually(|| async {
        let nodes = roster::nodes(&me).await.ok()?;
        (nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>() == ["brain", "studio"]).then_some(())
    })
    .await;

    // A host behind a server of its own asks, answers and keeps sessions.
    site.serve("host-edge/nats-leaf.conf").await;
    let leaf = format!("nats://127.0.0.1:{port}");
    let edge = site.host("edge", "tts,agent").start().await;
    let ask = run("ask the model to say hello", "leafy");
    let mut events = me.open(Target::Node("edge"), &ask, &call()).await.unwrap();
    while let Some(event) = within(events.next()).await {
        event.unwrap();
    }
    eventually(|| async {
        let events = sidetone::bus::session::history(&op, "leafy", 10).await.unwrap();
        events.iter().any(|event| matches!(event.what, What::Reply { .. }) && event.node == "edge").then_some(())
    })
    .await;

    // What programs on its machine say to each other is not heard elsewhere, and can't be said from elsewhere.
    let (here, there) = (site.raw("host-edge", Some(&leaf)).await, site.raw("client-op", None).await);
    let mut of_here = here.subscribe("local.>").await.unwrap();
    let mut of_there = there.subscribe(">").await.unwrap();
    // Only `there` hears the event, so when that arrives, the leaf has been told that everything is heard there.
    let heard = within(async {
        let mut heard = Vec::new();
        loop {
            there.publish("local.from.there", "".into()).await.unwrap();
            here.publish("local.from.here", "".into()).await.unwrap();
            here.publish("event.edge.fault", "".into()).await.unwrap();
            while let Ok(message) = tokio::time::timeout(Duration::from_millis(200), of_there.next()).await {
                heard.push(message.unwrap().subject.to_string());
            }
            let marks = heard.iter().filter(|subject| *subject == "event.edge.fault").count();
            if marks > 1 {
                break heard;
            }
        }
    })
    .await;
    assert!(!heard.contains(&"local.from.here".to_owned()), "{heard:?}");
    assert!(heard.contains(&"local.from.there".to_owned()), "{heard:?}");
    assert_eq!(within(of_here.next()).await.unwrap().subject.as_str(), "local.from.here");
    assert!(!edge.log().contains("Permissions Violation"), "{}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_on_a_cluster_outlives_any_one_of_its_servers() {
    let Some(mut site) = Site::new(3, USERS) else { return };
    for at in 1..=3 {
        site.serve(&format!("server-n{at}/nats-server.conf")).await;
    }
    let op = site.bus("client-op").await;
    eventually(|| async { roster::nodes(&op).await.ok() }).await;
    let _brain = site.host("brain", "llm,agent,stt").start().await;
    let me = site.bus("client-me").await;
    let replies = async |count: usize| {
        eventually(|| async {
            let events = sidetone::bus::session::history(&op, "kept", 100).await.ok()?;
            let replies = events.iter().filter(|event| matches!(event.what, What::Reply { .. })).count();
            (replies == count).then_some(())
        })
        .await;
    };
    let said = async || {
        let mut events = me.open(Target::Any, &run("ask the model to say hello", "kept"), &call()).await.ok()?;
        while let Some(event) = events.next().await {
            event.ok()?;
        }
        Some(())
    };
    within(said()).await.unwrap();
    replies(1).await;
    // Of everything, whoever made it, and at once.
    let context = async_nats::jetstream::new(site.raw("client-op", None).await);
    let mut leader = String::new();
    for name in ["SESSIONS", "KV_NODES", "JOBS", "KV_JOB_STATES", "OBJ_JOB_FILES"] {
        let about = eventually(|| async { context.get_stream(name).await.ok()?.get_info().await.ok() }).await;
        assert_eq!(about.config.num_replicas, 3, "{name}");
        leader = about.cluster.and_then(|cluster| cluster.leader).filter(|_| name == "SESSIONS").unwrap_or(leader);
    }
    site.kill(&format!("server-{leader}/nats-server.conf")).await;
    within(op.until_up()).await;
    replies(1).await;
    eventually(said).await;
    replies(2).await;
}
