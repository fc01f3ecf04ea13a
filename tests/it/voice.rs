//! A host on real engines is spoken to, by people's voices and by Piper's, and answers.

use std::process::Command;

use futures::StreamExt as _;
use sidetone::bus::message::session::{Times, What};
use sidetone::bus::message::voice::{Control, Level, Mode, TurnState};
use sidetone::bus::session::history;
use sidetone::bus::subject;
use sidetone::home::Home;

use crate::support::host::{Follow, Host, HostSpec, LISTENER, Seen, states};
use crate::support::jack::JackServer;
use crate::support::nats::within;
use crate::support::need;
use crate::support::studio::{self, RATE_HZ, Studio, assert_heard, fixture, noise, silence, words, words_in};

use TurnState::{Idle, Listening, Processing, Speaking, WakeDetected};

/// The words of the turn's utterance, its reply, and its times, from what was published until it was over.
fn told(story: &[Seen]) -> (String, String, Option<Times>) {
    let (mut said, mut reply, mut times) = (String::new(), String::new(), None);
    for seen in story {
        match seen {
            Seen::Session(event) => match &event.what {
                What::Utterance { text, listener, .. } => {
                    assert_eq!(listener.as_deref(), Some(LISTENER));
                    said.clone_from(text);
                }
                What::Reply { text, .. } => reply.clone_from(text),
                What::Times(what) => times = Some(*what),
                What::Error { message, stage, .. } => panic!("the turn failed in {stage}: {message}"),
                What::Command { .. } | What::State { .. } => {}
            },
            Seen::Fault(fault) => panic!("{fault}"),
            Seen::State(_) | Seen::Transcribe => {}
        }
    }
    (said, reply, times)
}

/// Waits until the turn under way is answered, and its times are told.
async fn answered(follow: &mut Follow) -> Vec<Seen> {
    follow.state(Speaking).await;
    follow.state(Idle).await;
    follow.session("the times", |what| matches!(what, What::Times(_)).then_some(())).await;
    follow.story()
}

/// The stages must add up to the whole, but for what the fabric itself may take.
fn add_up(times: &Times) {
    eprintln!("{times:?}");
    let parts =
        times.endpoint_ms + times.stt_ms + times.first_sentence_ms + times.first_audio_ms + times.first_sample_ms;
    // Each part is cut to whole ms.
    assert!(times.total_ms + 5 >= parts, "{times:?} adds up to more: {parts}");
    assert!((500..600).contains(&times.endpoint_ms), "{times:?}");
    assert!(times.stt_ms > 0 && times.first_audio_ms > 0 && times.spoken_ms > 500, "{times:?}");
    eprintln!("beside the stages: {} ms", times.total_ms as i64 - parts as i64);
}

/// Most of the words of `reply` are in what came out of the loudspeaker.
#[track_caller]
fn is_spoken(reply: &str, heard: &[f32]) {
    assert_heard(reply, &words_in(heard));
}

/// From the first to the last sound of a clip, in ms.
fn sounding_ms(heard: &[f32]) -> u64 {
    let sounds = |sample: &f32| sample.abs() > 0.01;
    let first = heard.iter().position(sounds).unwrap_or(0);
    let last = heard.iter().rposition(sounds).unwrap_or(0);
    (last - first) as u64 * 1_000 / u64::from(RATE_HZ)
}

async fn start(jack: &JackServer, rate_hz: u32) -> (Host, Studio, Follow) {
    let spec = HostSpec::new("studio", "voice,stt,tts,llm,agent").set(&[
        "llm.engine=llamacpp",
        "agent.max_tokens=40",
        "voice.listen_timeout_ms=20000",
    ]);
    let table = "wake = { Computer = [], \"Smart mirror\" = [\"smart mirrors\"], Helena = [\"Elena\", \"Helene\"] }";
    let host = spec.listener(jack, table).start().await;
    let studio = Studio::open(jack, rate_hz);
    studio.connected().await;
    host.has_audio().await;
    let follow = Follow::new(host.bus()).await;
    (host, studio, follow)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_speak_and_are_answered() {
    if !studio::available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let (host, mut studio, mut follow) = start(&jack, 48_000).await;

    let [time, breath, quick, sky] =
        ["said-time.flac", "said-computer-time.flac", "said-helena-fox.flac", "said-sky.flac"]
            .map(|clip| [fixture(clip), silence(1_500)].concat());

    // Somebody says the wake word, waits, and asks.
    studio.say(&[fixture("computer-03.flac"), silence(200)].concat()).await;
    let state = follow.state(WakeDetected).await;
    assert_eq!(state.why, "wake phrase \"Computer\"");
    follow.state(Listening).await;
    studio.take_heard();
    studio.say(&time).await;
    let story = answered(&mut follow).await;
    let (said, reply, times) = told(&story);
    assert_eq!(words(&said), ["what", "time", "is", "it"]);
    assert!(reply.starts_with("It is "), "{reply}");
    add_up(&times.unwrap());
    // 'It is' or 'It's', and the time in one of many ways.
    assert!(words_in(&studio.take_heard()).iter().any(|word| word.starts_with("it")));
    assert_eq!(states(&story), [WakeDetected, Listening, Processing, Speaking, Idle]);
    let session = state.session.unwrap();
    let kept = history(host.bus(), &session, 100).await.unwrap();
    let kinds: Vec<&str> = kept.iter().map(|event| event.what.kind()).collect();
    let rest: Vec<&str> = kinds.iter().copied().filter(|kind| *kind != "state").collect();
    assert_eq!(rest, ["utterance", "command", "reply", "times"]);
    assert!(kept.iter().all(|event| event.turn == state.turn));

    // In one breath: what looks for the phrase has heard the request as well, or it is sent to stt once.
    studio.say(&breath).await;
    let story = answered(&mut follow).await;
    let (said, reply, times) = told(&story);
    assert_eq!(words(&said), ["what", "time", "is", "it"]);
    assert!(reply.starts_with("It is "), "{reply}");
    add_up(&times.unwrap());
    assert_eq!(states(&story), [WakeDetected, Listening, Processing, Speaking, Idle]);
    assert!(story.iter().filter(|seen| matches!(seen, Seen::Transcribe)).count() <= 1);
    studio.take_heard();

    // Other names, and a free question, for the model.
    studio.say(&quick).await;
    let story = answered(&mut follow).await;
    let (said, reply, _) = told(&story);
    assert!(words(&said).starts_with(&words("say the quick")), "{said}");
    is_spoken(&reply, &studio.take_heard());
    studio.say(&[fixture("other-smart-mirror.flac"), silence(1_000)].concat()).await;
    assert_eq!(follow.state(WakeDetected).await.why, "wake phrase \"Smart mirror\"");
    studio.say(&sky).await;
    let story = answered(&mut follow).await;
    let (said, reply, times) = told(&story);
    // tiny.en sometimes hears a short question twice.
    assert!(words(&said).starts_with(&words("Why is the sky blue?")), "{said}");
    let times = times.unwrap();
    add_up(&times);
    // Whatever the model has made of it: all of it sounds.
    let heard = studio.take_heard();
    let heard_ms = sounding_ms(&heard);
    assert!(
        heard_ms <= times.spoken_ms + 200 && heard_ms * 2 > times.spoken_ms,
        "{heard_ms} ms were heard of {} ms: {reply}",
        times.spoken_ms
    );
    let model = story.iter().find_map(|seen| match seen {
        Seen::Session(event) => match &event.what {
            What::Reply { model, .. } => model.clone(),
            _ => None,
        },
        _ => None,
    });
    assert!(model.is_some(), "the model answers what is no command");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_meant_for_it_stays_here_and_what_interrupts_it_is_heard() {
    if !studio::available() {
        return;
    }
    let jack = JackServer::start(44_100, 512);
    let (host, mut studio, mut follow) = start(&jack, 44_100).await;

    // Speech that is not meant for it, and what is no speech: nothing is asked, nothing changes.
    let offset = |samples: Vec<f32>, by: f32| samples.into_iter().map(|sample| sample + by).collect::<Vec<_>>();
    for clip in [
        fixture("jfk.flac"),
        fixture("other-view-glass.flac"),
        noise(1_500, 0.05),
        offset(silence(1_000), 0.3),
        vec![1.0; 8_000],
    ] {
        studio.say(&[clip, silence(700)].concat()).await;
    }
    // What comes after it is answered: so all of that has been heard, and was let go. It is clipped, with an offset.
    let clipped: Vec<f32> = fixture("said-time.flac").iter().map(|sample| (sample * 20.0).clamp(-1.0, 1.0)).collect();
    let pushed = follow.story();
    assert!(
        pushed.iter().all(|seen| !matches!(seen, Seen::Transcribe | Seen::Session(_))),
        "speech without a wake phrase has left the host: {pushed:#?}"
    );
    assert!(states(&pushed).iter().all(|state| *state == Idle));
    push_to_talk(&host).await;
    let state = follow.state(Listening).await;
    assert_eq!(state.why, "push to talk");
    studio.say(&offset([clipped, silence(1_500)].concat(), 0.1)).await;
    let story = answered(&mut follow).await;
    let (said, ..) = told(&story);
    assert!(words(&said).starts_with(&words("what time")), "{said}");
    assert_eq!(states(&story), [Listening, Processing, Speaking, Idle]);

    // While it speaks its own name, the microphone hears the loudspeaker: it goes on.
    let stop = [fixture("said-computer-stop.flac"), silence(1_000)].concat();
    let long = "one two three four five six seven eight nine ten ".repeat(8);
    host.control(Control::Say { text: format!("Computer, stop, {long}") }).await.unwrap();
    follow.state(Speaking).await;
    studio.sounds().await;
    studio.say(&stop).await;
    let state = host.control(Control::Mode { mode: Mode::Wake }).await.unwrap();
    assert_eq!(state.state, Speaking);

    // While it speaks something else it is told to stop, by voice.
    host.control(Control::Say { text: long }).await.unwrap();
    follow.state(Idle).await;
    follow.state(Speaking).await;
    studio.take_heard();
    studio.sounds().await;
    studio.say(&stop).await;
    let state = follow.state(WakeDetected).await;
    assert_eq!(state.why, "wake phrase \"Computer\"");
    follow.state(Processing).await;
    follow.state(Idle).await;
    let stop = |what: &What| matches!(what, What::Command { name, .. } if name == "stop").then_some(());
    follow.session("the command stop", stop).await;
    studio.silent_for(300).await;

    // Any speech will do.
    host.control(Control::Mode { mode: Mode::Open }).await.unwrap();
    follow.story();
    studio.say(&[fixture("said-time.flac"), silence(1_500)].concat()).await;
    let story = answered(&mut follow).await;
    assert_eq!(words(&told(&story).0), ["what", "time", "is", "it"]);

    // Muted, nothing will.
    let state = host.control(Control::Mute { on: Some(true) }).await.unwrap();
    assert!(state.muted);
    let error = host.control(Control::PushToTalk { held: None }).await.unwrap_err();
    assert!(error.to_string().contains("muted"), "{error}");
    studio.say(&[fixture("said-time.flac"), silence(1_000)].concat()).await;
    let state = host.control(Control::Mute { on: None }).await.unwrap();
    assert_eq!((state.muted, state.state), (false, Idle));
    assert!(follow.story().iter().all(|seen| !matches!(seen, Seen::Session(_))));

    // A text is answered as if it had been spoken.
    host.control(Control::Mode { mode: Mode::PushToTalk }).await.unwrap();
    let is_set = |seen: &Seen| matches!(seen, Seen::State(state) if state.mode == Mode::PushToTalk).then_some(());
    follow.until("push to talk", is_set).await;
    follow.story();
    studio.take_heard();
    host.control(Control::Ask { text: "Say the quick brown fox jumps.".to_owned() }).await.unwrap();
    follow.state(Speaking).await;
    follow.state(Idle).await;
    follow.session("the reply", |what| matches!(what, What::Reply { .. }).then_some(())).await;
    let story = follow.story();
    let (said, reply, _) = told(&story);
    assert_eq!(said, "Say the quick brown fox jumps.");
    assert_eq!(states(&story), [Processing, Speaking, Idle]);
    is_spoken(&reply, &studio.take_heard());

    // How loud it is, is told to whoever asks.
    let mut levels = host.bus().subscribe::<Level>(subject::VOICE_LEVELS).await.unwrap();
    host.control(Control::Meter { ms: 10_000 }).await.unwrap();
    studio.say(&noise(500, 0.5)).await;
    let loud = async { while levels.next().await.unwrap().1.unwrap().level < 0.4 {} };
    within(loud).await;
}

/// As the README shows it, if set-up has built the stock CLI; else by the listener's own command.
async fn push_to_talk(host: &Host) {
    let nats = Home::find(None).bin().join("nats");
    if !need(nats.is_file(), "the program nats") {
        host.control(Control::PushToTalk { held: None }).await.unwrap();
        return;
    }
    let subject = format!("voice.{}.{LISTENER}.control", host.spec.name);
    let done = Command::new(nats)
        .args(["-s", &host.spec.url(), "pub", &subject, r#"{"do":"push_to_talk"}"#])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}
