//! What surfaces are told of listeners.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use sidetone::bus::message::Message as _;
use sidetone::bus::message::session::{SessionEvent, What};
use sidetone::bus::message::voice::{Control, Level, State, TurnState};
use sidetone::bus::subject;
use sidetone::osc::OscType;

use crate::support::host::HostSpec;
use crate::support::jack::{self, JackServer};
use crate::support::nats::{Nats, free_port, within};
use crate::support::osc::{OscHost, Surface, first_text, text};

const TURN: &str = "01KB3Z7DC1V5W2J0Q8H6F4D2B0";

#[tokio::test(flavor = "multi_thread")]
async fn a_surface_sees_a_listener_and_changes_it() {
    let wall = free_port();
    let settings = format!("[osc]\nsubscribers = [\"wall\"]\n[osc.targets]\nwall = \"127.0.0.1:{wall}\"\n");
    let host = OscHost::start("voice,osc", &settings).await;
    let (wall, surface) = (Surface::bound(wall, host.at), host.surface());
    surface.send("/assistant/subscribe", &[]);
    // All that there is comes at once, by both names.
    assert_eq!(surface.until("/assistant/muted"), [OscType::Int(0)]);
    surface.send("/assistant/mute", &[OscType::Float(1.0)]);
    surface.until_that("/assistant/muted", |args| args == [OscType::Int(1)]);
    wall.until_that("/assistant/main/mute", |args| args == [OscType::Int(1)]);
    surface.send("/assistant/main/mute", &[]);
    surface.until_that("/assistant/muted", |args| args == [OscType::Int(0)]);
    assert!(!host.host.control(Control::Stop).await.unwrap().muted);
    // What will not do is told to whoever asked, by the listener itself.
    surface.send("/assistant/mode", &[text("open")]);
    assert!(first_text(&surface.until("/assistant/error")).contains("no wake model"));
    surface.send("/assistant/booth/ptt", &[OscType::Int(1)]);
    assert!(first_text(&surface.until("/assistant/error")).contains("no listener \"booth\"; there are main"));
    // On request all of it comes once more, in one go.
    surface.settle();
    surface.send("/assistant/sync", &[]);
    let addresses: Vec<String> = surface.settle().into_iter().map(|message| message.addr).collect();
    for wanted in ["/assistant/state", "/assistant/mode", "/assistant/muted", "/assistant/main/state"] {
        assert!(addresses.iter().any(|address| address == wanted), "{wanted}: {addresses:?}");
    }
    // One that wants no more is told no more; one that names its port is told there, and of the listener alone.
    surface.send("/assistant/unsubscribe", &[]);
    let other = Surface::new(host.at);
    surface.send("/assistant/main/subscribe", &[OscType::Int(i32::from(other.port()))]);
    other.until("/assistant/main/state");
    surface.send("/assistant/mute", &[OscType::Int(1)]);
    other.until_that("/assistant/main/muted", |args| args == [OscType::Int(1)]);
    let seen = surface.settle();
    assert!(seen.is_empty(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transcripts_and_replies_are_shown_by_whose_turn_it_is() {
    let host = OscHost::start("osc", "[osc]\nlisteners = [\"booth/main\"]\n").await;
    let surface = host.surface();
    surface.send("/assistant/subscribe", &[]);
    let bus = host.host.bus();
    let state = |node: &str, turn: &str, state| State {
        node: node.to_owned(),
        state,
        turn: Some(turn.to_owned()),
        ..State::example()
    };
    let event = |turn: &str, what| SessionEvent { turn: Some(turn.to_owned()), what, ..SessionEvent::example() };
    let say = async |turn: &str, what: What| {
        bus.publish(subject::session("main-1", what.kind()), &event(turn, what)).await.unwrap();
    };
    // The listener begins to be followed when the host is up.
    loop {
        let idle = state("booth", "T0", TurnState::Idle);
        bus.publish(subject::voice_state("booth", "main"), &idle).await.unwrap();
        if surface.next_within(Duration::from_millis(100)).is_some() {
            break;
        }
    }
    // A turn of a host that is none of ours is not shown.
    bus.publish(subject::voice_state("elsewhere", "main"), &state("elsewhere", "T2", TurnState::Speaking))
        .await
        .unwrap();
    bus.publish(subject::voice_state("booth", "main"), &state("booth", TURN, TurnState::Processing)).await.unwrap();
    surface.until_that("/assistant/state", |args| args == [text("processing")]);
    say("T2", What::Reply { text: "not for here".to_owned(), model: None }).await;
    let utterance = What::Utterance { text: "What time is it?".to_owned(), listener: None, audio_ms: None };
    say(TURN, utterance.clone()).await;
    assert_eq!(surface.until("/assistant/transcript"), [text("What time is it?")]);
    say(TURN, What::Reply { text: "It is ten.".to_owned(), model: None }).await;
    assert_eq!(surface.until("/assistant/reply"), [text("It is ten.")]);
    let error = What::Error {
        code: sidetone::bus::message::fault::FaultCode::Failed,
        message: "no voice".to_owned(),
        stage: "tts".to_owned(),
    };
    say(TURN, error).await;
    assert_eq!(surface.until("/assistant/error"), [text("no voice")]);
    // The same words once more are news.
    say(TURN, utterance).await;
    assert_eq!(surface.until("/assistant/booth/main/transcript"), [text("What time is it?")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_come_before_their_turn_is_known_are_shown() {
    let host = OscHost::start("osc", "[osc]\nlisteners = [\"booth/main\"]\n").await;
    let surface = host.surface();
    surface.send("/assistant/subscribe", &[]);
    let bus = host.host.bus();
    let tell = async |turn: &str, known: bool| {
        if known {
            let state = State { node: "booth".to_owned(), turn: Some(turn.to_owned()), ..State::example() };
            bus.publish(subject::voice_state("booth", "main"), &state).await.unwrap();
        } else {
            let what = What::Utterance { text: turn.to_owned(), listener: None, audio_ms: None };
            let event = SessionEvent { turn: Some(turn.to_owned()), what, ..SessionEvent::example() };
            bus.publish(subject::session("main-1", event.what.kind()), &event).await.unwrap();
        }
    };
    // The listener begins to be followed when the host is up.
    while surface.next_within(Duration::from_millis(100)).is_none() {
        tell("T0", true).await;
    }
    // What is said of the turn comes by another way than the state that tells whose it is, and may come first.
    for turn in ["T1", "T2"] {
        tell(turn, false).await;
    }
    tell("T0", false).await;
    surface.until_that("/assistant/transcript", |args| args == [text("T0")]);
    for turn in ["T1", "T2"] {
        tell(turn, true).await;
        surface.until_that("/assistant/transcript", |args| args == [text(turn)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_that_is_pressed_in_time_is_no_loop() {
    let host = OscHost::start("voice,osc", "").await;
    let surface = host.surface();
    surface.send("/assistant/subscribe", &[]);
    surface.until("/assistant/muted");
    // So often that it would be one if its lamp, which follows each press at once, had been what it came of.
    for press in 1..=60 {
        surface.send("/assistant/mute", &[OscType::Int(press % 2)]);
        surface.until_that("/assistant/mute", |args| args == [OscType::Int(press % 2)]);
        // The rhythm of the presses: slower than what goes round and round.
        tokio::time::sleep(sidetone::rig::loops::WINDOW + Duration::from_millis(20)).await;
    }
    let seen = surface.settle();
    assert!(seen.iter().all(|message| message.addr != "/assistant/error"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_asked_how_it_is_until_it_says_so() {
    let Some(nats) = Nats::start().await else { return };
    let raw = nats.raw().await;
    let mut asked = nats.hear(&raw, &subject::voice_control("booth", "main")).await;
    let spec = HostSpec::new("stage", "osc").on(&nats.url());
    let host = OscHost::with(spec, "[osc]\nlisteners = [\"booth/main\"]\n", &[]).await;
    let surface = host.surface();
    surface.send("/assistant/subscribe", &[]);
    // It tells nobody anything by itself, and answers late.
    for _ in 0..2 {
        within(asked.next()).await.unwrap();
    }
    let reply = within(asked.next()).await.unwrap().reply.unwrap();
    let state = State { node: "booth".to_owned(), muted: true, ..State::example() };
    raw.publish(reply, serde_json::to_vec(&state).unwrap().into()).await.unwrap();
    assert_eq!(surface.until("/assistant/muted"), [OscType::Int(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_come_at_thirty_a_second_and_the_last_one_always() {
    let host = OscHost::start("osc", "[osc]\nlisteners = [\"booth/main\"]\n").await;
    let surface = host.surface();
    surface.send("/assistant/booth/main/subscribe", &[]);
    let tell = async |level: f32| {
        let level = Level { node: "booth".to_owned(), level, ..Level::example() };
        host.host.bus().publish(subject::voice_level("booth", "main"), &level).await.unwrap();
    };
    // The listener begins to be followed when the host is up.
    let mut wave = [0.0, 0.5].into_iter().cycle();
    while surface.next_within(Duration::from_millis(100)).is_none() {
        tell(wave.next().unwrap()).await;
    }
    // None of these is on its way any more.
    while surface.next_within(Duration::from_millis(100)).is_some() {}
    let begun = Instant::now();
    for step in 1..=2_000_u16 {
        tell(f32::from(step) / 2_000.0).await;
        if step % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&1.0) {
        let message = surface.next_within(Duration::from_secs(20)).expect("the last one comes");
        if message.addr == "/assistant/booth/main/level" {
            let OscType::Float(level) = message.args[0] else { panic!("{message:?}") };
            seen.push(level);
        }
    }
    let most = begun.elapsed().as_secs_f64() * 30.0 + 2.0;
    assert!(seen.len() as f64 <= most && seen.len() > 3, "{} levels, {most} at most", seen.len());
    assert!(seen.is_sorted(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_begun_followed_and_stopped_by_osc() {
    if !jack::available() {
        return;
    }
    let server = JackServer::start(48_000, 256);
    let spec = HostSpec::new("stage", "voice,stt,tts,llm,agent,osc").listener(&server, "mode = \"push_to_talk\"");
    let host = OscHost::with(spec, "", &[]).await;
    let surface = host.surface();
    surface.send("/assistant/subscribe", &[]);
    surface.until("/assistant/state");
    let state = |wanted: &'static str| move |args: &[OscType]| args == [text(wanted)];
    // JACK is found beside.
    surface.send("/assistant/ask", &[text("what time is it")]);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let message = surface.next_within(Duration::from_secs(20)).expect("the listener is followed");
        match message.addr.as_str() {
            "/assistant/state" if state("speaking")(&message.args) => break,
            "/assistant/error" => {
                assert!(
                    Instant::now() < until && first_text(&message.args).contains("JACK is not there"),
                    "{message:?}"
                );
                // Errors are answered some times a second only.
                tokio::time::sleep(Duration::from_millis(100)).await;
                surface.send("/assistant/ask", &[text("what time is it")]);
            }
            _ => {}
        }
    }
    surface.until_that("/assistant/state", state("idle"));
    // What was said meanwhile is still shown; it comes by another way than states.
    let value = |addr: &str| loop {
        surface.send("/assistant/sync", &[]);
        let seen = surface.settle();
        if let Some(message) = seen.iter().rfind(|message| message.addr == addr) {
            return first_text(&message.args);
        }
        assert!(Instant::now() < until + Duration::from_secs(20), "{seen:?}");
    };
    assert_eq!(value("/assistant/transcript"), "what time is it");
    assert!(value("/assistant/main/reply").starts_with("It is "));
    // The microphone is silent, and its level is shown.
    assert_eq!(surface.until("/assistant/level"), [OscType::Float(0.0)]);
    // One stop ends what is spoken.
    surface.send("/assistant/say", &[text(&"a long story ".repeat(200))]);
    surface.until_that("/assistant/state", state("speaking"));
    surface.send("/assistant/stop", &[]);
    surface.until_that("/assistant/state", state("idle"));
    // Typed, it is answered to whoever asked.
    let typist = host.surface();
    typist.send("/assistant/command", &[text("what"), text("time"), text("is"), text("it")]);
    assert!(first_text(&typist.until("/assistant/reply")).starts_with("It is "));
}
