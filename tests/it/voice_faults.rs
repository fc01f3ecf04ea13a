//! What a host is dealt: servers that die under it, signals, and settings that can't be.

use std::time::{Duration, Instant};

use sidetone::bus::message::session::{SessionEvent, What};
use sidetone::bus::message::voice::{Control, TurnState};
use sidetone::bus::session::history;

use crate::support::host::{FAKES, Follow, Host, HostSpec, PATIENCE, Seen};
use crate::support::jack::{self, JackServer};
use crate::support::studio::{RATE_HZ, Studio, fixture};

use TurnState::{Idle, Listening, Processing, Speaking};

/// A host of fakes that answers, slowly, with two sentences.
async fn start(jack: &JackServer) -> (Host, Studio, Follow) {
    let answer = "stt.model=\"say:Here it is. One two three four five six seven eight nine ten eleven twelve.\"";
    let spec = HostSpec::new("stage", "voice,stt,tts,llm,agent").set(FAKES).set(&[answer, "llm.model=slow:100"]);
    let host = spec.listener(jack, "mode = \"push_to_talk\"").start().await;
    let studio = Studio::open(jack, 48_000);
    studio.connected().await;
    host.has_audio().await;
    let follow = Follow::new(host.bus()).await;
    (host, studio, follow)
}

/// A question between a press of the pedal and its release; gives the session and the turn.
async fn ask(host: &Host, studio: &mut Studio) -> (String, String) {
    let state = host.control(Control::PushToTalk { held: Some(true) }).await.unwrap();
    studio.say(&fixture("computer-04.flac")[20_000..36_000]).await;
    host.control(Control::PushToTalk { held: Some(false) }).await.unwrap();
    (state.session.unwrap(), state.turn.unwrap())
}

/// The states of a turn as they are kept.
fn kept_states(events: &[SessionEvent], turn: &str) -> Vec<TurnState> {
    let events = events.iter().filter(|event| event.turn.as_deref() == Some(turn));
    events.filter_map(|event| if let What::State { state, .. } = event.what { Some(state) } else { None }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_die_in_mid_turn_and_the_next_turn_works() {
    if !jack::available() {
        return;
    }
    let mut jack = JackServer::start(48_000, 256);
    let (host, mut studio, mut follow) = start(&jack).await;

    for (rate_hz, period) in [(48_000, 256), (44_100, 1_024)] {
        ask(&host, &mut studio).await;
        follow.state(Speaking).await;
        studio.sounds().await;
        drop(studio);
        jack.kill();
        let state = follow.state(Idle).await;
        assert_eq!(state.why, "JACK is gone");
        // The agent says as well that its part was broken off.
        let of_audio = |what: &What| matches!(what, What::Error { stage, .. } if stage == "audio").then_some(());
        follow.session("the error", of_audio).await;
        let error = host.control(Control::Say { text: "Hello.".to_owned() }).await.unwrap_err();
        assert!(error.to_string().contains("JACK is not there"), "{error}");
        jack.restart(rate_hz, period);
        follow.until("JACK to be back", |seen| matches!(seen, Seen::State(state) if state.audio).then_some(())).await;
        studio = Studio::open(&jack, rate_hz);
        studio.connected().await;
        follow.story();
        ask(&host, &mut studio).await;
        follow.state(Speaking).await;
        studio.sounds().await;
        assert_eq!(follow.state(Idle).await.why, "answered");
        follow.story();
    }

    // The server of the bus is killed while the model writes, and is started again.
    let (session, failed) = ask(&host, &mut studio).await;
    follow.state(Processing).await;
    let [server] = host.children()[..] else { panic!("{:?} is not the NATS server alone", host.children()) };
    // It may be lost and back before the signal of the failure sounds.
    let lost = host.bus().lost();
    // SAFETY: a plain system call.
    unsafe { libc::kill(server, libc::SIGKILL) };
    studio.sounds().await;
    lost.await;
    host.bus().until_up().await;
    let until = Instant::now() + PATIENCE;
    let kept = loop {
        let kept = history(host.bus(), &session, 1_000).await.unwrap_or_default();
        // The agent's error may come before the listener's last state.
        let failure = kept.iter().any(|event| event.turn.as_ref() == Some(&failed) && event.what.kind() == "error");
        if failure && kept_states(&kept, &failed).last() == Some(&Idle) {
            break kept;
        }
        assert!(Instant::now() < until, "the turn is not said to have failed: {kept:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(kept_states(&kept, &failed), [Listening, Processing, Idle]);
    let mut follow = Follow::new(host.bus()).await;
    let (_, next) = ask(&host, &mut studio).await;
    follow.state(Speaking).await;
    assert_eq!(follow.state(Idle).await.why, "answered");
    follow.session("the times", |what| matches!(what, What::Times(_)).then_some(())).await;
    let kept = history(host.bus(), &session, 1_000).await.unwrap();
    assert_eq!(kept_states(&kept, &next), [Listening, Processing, Speaking, Idle]);
    let mut ids: Vec<&str> = kept.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), kept.len(), "an event is kept twice");
    for kind in ["utterance", "reply", "times"] {
        let count = kept.iter().filter(|event| event.turn.as_ref() == Some(&next) && event.what.kind() == kind).count();
        assert_eq!(count, 1, "{kind}: {kept:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_told_to_end_finishes_what_it_says() {
    if !jack::available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let (mut host, studio, mut follow) = start(&jack).await;
    // 60 ms a letter; more than is made ahead.
    let text =
        "This is said first and is long. This comes after it and is long. Then there is more of it. That is all of it.";
    let letters = text.chars().filter(|c| c.is_alphanumeric()).count();
    host.control(Control::Say { text: text.to_owned() }).await.unwrap();
    follow.state(Speaking).await;
    studio.sounds().await;
    let status = tokio::task::spawn_blocking(move || (host.end(libc::SIGTERM), host)).await.unwrap();
    assert_eq!(status.0.code(), Some(0), "{}", status.1.log());
    let heard = studio.take_heard();
    let sounding = heard.iter().filter(|sample| sample.abs() > 0.001).count() as f32 / RATE_HZ as f32;
    let wanted = letters as f32 * 0.06;
    assert!((sounding - wanted).abs() < wanted * 0.05, "{sounding} s of {wanted} s were heard:\n{}", status.1.log());
    assert!(status.1.children().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_hosts_and_is_free_when_that_is_dead() {
    let mut host = HostSpec::new("stage", "agent").start().await;
    let mut again = HostSpec::new("stage", "agent");
    again = again.argument(&["--bus", &host.spec.url()]);
    let (code, why) = tokio::task::spawn_blocking(move || again.refused()).await.unwrap();
    assert_eq!(code, 1, "{why}");
    assert!(why.contains("a host named \"stage\" is on this bus already") && why.contains("--name"), "{why}");
    // Its embedded server dies with it, and its store stays. The entry in NODES does not stand in the way.
    host.end(libc::SIGKILL);
    host.restart().await;
    let nodes = sidetone::bus::roster::nodes(host.bus()).await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["stage"]);
}

#[test]
fn a_host_that_can_not_be_says_why_and_leaves_nothing() {
    let fakes = || HostSpec::new("stage", "stt,tts,llm,agent").set(FAKES);
    let broken = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(broken.path(), "[[command]]\nname = \"x\"\npatterns = [\"say <\"]\n").unwrap();
    let commands = format!("agent.commands=[\"builtin\", {:?}]", broken.path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("nats://127.0.0.1:{}", port.local_addr().unwrap().port());
    drop(port);
    for (spec, code, whys) in [
        (HostSpec::new("stage", "stt,talk"), 2, ["\"talk\"", "voice, stt, tts, llm, agent"]),
        (fakes().set(&["llm.modle=x"]), 2, ["modle", "model"]),
        (fakes().set(&["stt.engine=wisper"]), 1, ["role stt", "wisper"]),
        (fakes().set(&["stt.engine=whisper", "stt.model=whisper-large"]), 1, ["role stt", "whisper-large"]),
        (fakes().set(&["tts.engine=piper", "tts.voices=[\"nobody\"]"]), 1, ["role tts", "nobody"]),
        (fakes().set(&["llm.model=down"]), 1, ["role llm", "down"]),
        (fakes().set(&["tts.voices=[\"fail\"]"]), 1, ["role tts", "fails"]),
        (fakes().set(&[&commands]), 1, ["role agent", broken.path().to_str().unwrap()]),
        (fakes().set(&["bus.connect_timeout_ms=700"]).argument(&["--bus", &dead]), 3, ["can't reach NATS", &dead]),
    ] {
        let (got, why) = spec.refused();
        assert_eq!(got, code, "{why}");
        for wanted in whys {
            assert!(why.contains(wanted), "{why:?} does not name {wanted:?}");
        }
    }
}
