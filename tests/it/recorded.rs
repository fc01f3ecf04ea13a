//! A listener that hears a recording: turns without JACK, by each of the wake engines.

use sidetone::bus::message::session::What;
use sidetone::bus::message::voice::{Control, TurnState};

use crate::support::host::{FAKES, Follow, HostSpec, LISTENER, states};
use crate::support::nats::Nats;

use TurnState::{Idle, Listening, Processing, Speaking};

/// A listener that hears somebody say 'computer', and speaks to nobody.
fn listener(more: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/computer-01.wav");
    format!("[[voice.listeners]]\nname = {LISTENER:?}\nsource = \"file:{path}\"\nplayback_to = []\n{more}\n")
}

fn spec(nats: &Nats, settings: &[&str]) -> HostSpec {
    // A server of JACK that is not there must not be missed.
    let nowhere = "jack.server=sidetone-no-such-server";
    HostSpec::new("stage", "voice,stt,tts,llm,agent").set(FAKES).set(&[nowhere]).set(settings).on(&nats.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_a_recording_is_answered_without_jack() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("tests").await;
    let mut follow = Follow::new(&bus).await;
    let said = "say:Computer, tell me a story.";
    let models = [format!("stt.model={said:?}"), format!("voice.wake_model={said:?}")];
    let settings: Vec<&str> = models.iter().map(String::as_str).collect();
    let host = spec(&nats, &settings).config(&listener("")).start_on(&bus).await;
    let reply = |what: &What| if let What::Reply { text, .. } = what { Some(text.clone()) } else { None };
    assert_eq!(follow.session("the reply", reply).await, "tell me a story.");
    // It takes as long as it would be heard.
    let times =
        follow.session("the times", |what| if let What::Times(times) = what { Some(*times) } else { None }).await;
    assert!(times.spoken_ms > 500 && times.total_ms > 0, "{times:?}");
    let states = states(&follow.story());
    assert!(states.ends_with(&[Processing, Speaking, Idle]), "{states:?}");

    // After its end it is silent, and the listener is there.
    host.control(Control::Say { text: "Hello.".to_owned() }).await.unwrap();
    follow.state(Speaking).await;
    assert_eq!(follow.state(Idle).await.why, "answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_wake_engine_is_a_setting() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("tests").await;
    let mut follow = Follow::new(&bus).await;
    // The fake engine needs no recognizer on this host: a model that is not there is not missed.
    let settings = ["voice.wake_engine=fake", "voice.wake_model=none", "stt.model=say:Computer, tell me a story."];
    let _host = spec(&nats, &settings).config(&listener("")).start_on(&bus).await;
    let reply = |what: &What| if let What::Reply { text, .. } = what { Some(text.clone()) } else { None };
    assert_eq!(follow.session("the reply", reply).await, "tell me a story.");
    follow.session("the times", |what| matches!(what, What::Times(_)).then_some(())).await;
    let states = states(&follow.story());
    assert!(states.contains(&Listening), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_heard_by_is_said_at_the_start() {
    let Some(nats) = Nats::start().await else { return };
    for (setting, more, expected) in [
        (
            "voice.wake_engine=porcupine",
            "",
            "there is no wake phrase engine \"porcupine\"; choose from fake, transcript",
        ),
        ("voice.vad=webrtc", "", "there is no VAD 'webrtc'; there are: earshot"),
    ] {
        let (_, said) = spec(&nats, &[setting]).config(&listener(more)).refused();
        assert!(said.contains(expected), "{said}");
    }
    for (source, expected) in [
        ("alsa", "voice.listeners.main.source: there is no source \"alsa\"; there are: \"jack\", and \"file:PATH\""),
        ("file:/no/such.wav", "/no/such.wav"),
    ] {
        let table = format!("[[voice.listeners]]\nname = {LISTENER:?}\nsource = {source:?}\nplayback_to = []\n");
        let (_, said) = spec(&nats, &[]).config(&table).refused();
        assert!(said.contains(expected), "{said}");
    }
}
