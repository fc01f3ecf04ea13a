//! What surfaces are told of listeners.

use std::time::{Duration, Instant};

use sidetone::bus::message::Message as _;
use sidetone::bus::message::session::{SessionEvent, What};
use sidetone::bus::message::voice::{Level, State, TurnState};
use sidetone::bus::subject;
use sidetone::osc::OscType;

use crate::support::nats::free_port;
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
    assert_eq!(host.host.control(sidetone::bus::message::voice::Control::Stop).await.unwrap().muted, false);
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
async fn levels_come_at_thirty_a_second_and_the_last_one_always() {
    let host = OscHost::start("voice,osc", "").await;
    let surface = host.surface();
    surface.send("/assistant/main/subscribe", &[]);
    surface.until("/assistant/main/state");
    surface.settle();
    let begun = Instant::now();
    for step in 1..=2_000_u16 {
        let level = Level { level: f32::from(step) / 2_000.0, ..Level::example() };
        let level = Level { node: "stage".to_owned(), ..level };
        host.host.bus().publish(subject::voice_level("stage", "main"), &level).await.unwrap();
        if step % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&1.0) {
        let message = surface.next_within(Duration::from_secs(20)).expect("the last one comes");
        if message.addr == "/assistant/main/level" {
            let OscType::Float(level) = message.args[0] else { panic!("{message:?}") };
            seen.push(level);
        }
    }
    let most = begun.elapsed().as_secs_f64() * 30.0 + 2.0;
    assert!(seen.len() as f64 <= most && seen.len() > 3, "{} levels, {most} at most", seen.len());
    assert!(seen.is_sorted(), "{seen:?}");
}
