//! Turns under hands: what listeners are told, and what fails around them. The test itself serves what a turn asks for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidetone::bus::Call;
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::node::Stop;
use sidetone::bus::message::session::What;
use sidetone::bus::message::voice::{Control, TurnState};
use sidetone::bus::message::{Blob, Message as _, Pcm, SampleFormat, llm, stt, tts};
use sidetone::bus::service::{Incoming, Server, ServiceSpec};
use sidetone::bus::subject::{self, Capability};
use sidetone::bus::{Bus, codec::Format};
use tokio::sync::Semaphore;

use crate::support::host::{Follow, Host, HostSpec, LISTENER, Seen, states};
use crate::support::jack::{self, JackServer};
use crate::support::studio::{Studio, fixture, silence};

use TurnState::{Idle, Listening, Processing, Speaking};

/// What is often said to the listener.
const PROMPT: &str = "Play C major.";

/// What the peers do.
#[derive(Debug, Clone)]
struct Script {
    /// The transcript, or why there is none.
    heard: Result<&'static str, Fault>,
    /// How often the recognizer is busy first.
    busy: u32,
    /// The answer in pieces. What comes after an empty piece waits for a permit.
    answer: Vec<&'static str>,
    /// How the answer ends.
    end: Result<(), Fault>,
    /// How a sentence ends.
    spoken: Result<(), Fault>,
}

impl Default for Script {
    fn default() -> Self {
        Self { heard: Ok("Tell me more."), busy: 0, answer: vec!["Here it is."], end: Ok(()), spoken: Ok(()) }
    }
}

/// A recognizer, a chat model and a voice on the bus that do as they are told.
struct Peers {
    script: Arc<Mutex<Script>>,
    permits: Arc<Semaphore>,
    _servers: Vec<Server>,
}

impl Peers {
    async fn start(bus: &Bus) -> Self {
        let script = Arc::<Mutex<Script>>::default();
        let permits = Arc::new(Semaphore::new(0));
        let spec = |capability| ServiceSpec {
            capability,
            about: "test",
            engine: "script".to_owned(),
            models: Vec::new(),
            slots: 8,
        };
        let (hears, writes, speaks) = (Arc::clone(&script), Arc::clone(&script), Arc::clone(&script));
        let stt = bus.service(spec(Capability::Stt)).await.unwrap();
        stt.serve(move |incoming: Incoming<stt::Request>| {
            assert_eq!(incoming.request.prompt.as_deref(), Some(PROMPT));
            let mut script = hears.lock().unwrap();
            let busy = script.busy > 0;
            script.busy = script.busy.saturating_sub(1);
            let heard = if busy { Err(Fault::new(FaultCode::Busy, "busy")) } else { script.heard.clone() };
            async move { heard.map(|text| stt::Transcript { text: text.to_owned(), ..stt::Transcript::example() }) }
        })
        .await
        .unwrap();
        let llm = bus.service(spec(Capability::Llm)).await.unwrap();
        let waits = Arc::clone(&permits);
        llm.serve(move |incoming: Incoming<llm::Chat>| {
            let (script, waits) = (writes.lock().unwrap().clone(), Arc::clone(&waits));
            async move {
                for piece in &script.answer {
                    if piece.is_empty() {
                        waits.acquire().await.unwrap().forget();
                    }
                    let text = (*piece).to_owned();
                    incoming.replies.send(&llm::Answer { text, done: None }).await?;
                }
                script.end?;
                let text = script.answer.concat();
                let done = llm::Done {
                    model: "script".to_owned(),
                    provider: "test".to_owned(),
                    finish: "stop".to_owned(),
                    prompt_tokens: None,
                    cached_tokens: None,
                    completion_tokens: None,
                    first_text_ms: 0,
                    engine_ms: 0,
                };
                Ok(llm::Answer { text, done: Some(done) })
            }
        })
        .await
        .unwrap();
        let tts = bus.service(spec(Capability::Tts)).await.unwrap();
        tts.serve(move |incoming: Incoming<tts::Stream>| {
            let end = speaks.lock().unwrap().spoken.clone();
            async move {
                // 100 ms a word.
                for _ in incoming.request.0.text.split_whitespace() {
                    incoming.replies.send(&tts::Chunk { pcm: tone(), done: None }).await?;
                }
                end?;
                let pcm = Pcm { data: Blob::default(), ..tone() };
                let done = tts::Spoken { audio_ms: 0, engine_ms: 0, first_audio_ms: 0, voice: "script".to_owned() };
                Ok(tts::Chunk { pcm, done: Some(done) })
            }
        })
        .await
        .unwrap();
        for server in [&stt, &llm, &tts] {
            server.ready().await.unwrap();
        }
        Self { script, permits, _servers: vec![stt, llm, tts] }
    }

    fn play(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }
}

/// 100 ms of 440 Hz.
fn tone() -> Pcm {
    let sample = |n: u32| (8_000.0 * (std::f32::consts::TAU * 440.0 * n as f32 / 16_000.0).sin()) as i16;
    let data: Vec<u8> = (0..1_600).flat_map(|n| sample(n).to_le_bytes()).collect();
    Pcm { format: SampleFormat::S16le, rate_hz: 16_000, channels: 1, data: Blob(data.into()) }
}

async fn start(jack: &JackServer, settings: &[&str]) -> (Host, Studio, Follow, Peers) {
    let spec = HostSpec::new("stage", "voice,agent")
        .set(settings)
        .listener(jack, &format!("mode = \"push_to_talk\"\nprompt = {PROMPT:?}"));
    let host = spec.start().await;
    let studio = Studio::open(jack, 48_000);
    studio.connected().await;
    host.has_audio().await;
    let peers = Peers::start(host.bus()).await;
    let follow = Follow::new(host.bus()).await;
    (host, studio, follow, peers)
}

/// Speech between a press of the pedal and its release.
async fn speak(host: &Host, studio: &mut Studio) {
    host.control(Control::PushToTalk { held: Some(true) }).await.unwrap();
    studio.say(&fixture("computer-04.flac")[20_000..36_000]).await;
    host.control(Control::PushToTalk { held: Some(false) }).await.unwrap();
}

fn utterance_ms(what: &What) -> Option<u64> {
    if let What::Utterance { audio_ms, .. } = what { *audio_ms } else { None }
}

/// What was said.
fn utterance(story: &[Seen]) -> Option<String> {
    story.iter().find_map(|seen| match seen {
        Seen::Session(event) if let What::Utterance { text, .. } = &event.what => Some(text.clone()),
        _ => None,
    })
}

/// How often the session says that something failed.
fn errors(story: &[Seen]) -> usize {
    story.iter().filter(|seen| matches!(seen, Seen::Session(event) if event.what.kind() == "error")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_led_by_hand() {
    if !jack::available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let settings = ["voice.listen_timeout_ms=3000", "voice.max_utterance_ms=4000", "voice.end_silence_ms=400"];
    let (host, mut studio, mut follow, peers) = start(&jack, &settings).await;

    // The first sentence sounds while the model still writes.
    peers.play(Script { answer: vec!["Here it is. ", "And then", "", " there was more."], ..Script::default() });
    speak(&host, &mut studio).await;
    follow.state(Speaking).await;
    studio.sounds().await;
    assert!(follow.story().iter().all(|seen| !matches!(seen, Seen::Session(event) if event.what.kind() == "reply")));
    peers.permits.add_permits(1);
    follow.state(Idle).await;
    let reply =
        follow.session("the reply", |what| if let What::Reply { text, .. } = what { Some(text.clone()) } else { None });
    assert_eq!(reply.await, "Here it is. And then there was more.");
    let times =
        follow.session("the times", |what| if let What::Times(times) = what { Some(*times) } else { None }).await;
    assert_eq!(times.spoken_ms, 800);
    follow.story();
    studio.take_heard();
    peers.play(Script::default());

    // A pause does not end what is said while the pedal is held; the release does.
    host.control(Control::PushToTalk { held: Some(true) }).await.unwrap();
    for _ in 0..2 {
        studio.say(&[fixture("computer-04.flac")[20_000..36_000].to_vec(), silence(700)].concat()).await;
    }
    assert_eq!(states(&follow.story()), [Listening]);
    host.control(Control::PushToTalk { held: Some(false) }).await.unwrap();
    follow.state(Idle).await;
    let audio_ms = follow.session("the utterance", utterance_ms).await;
    assert!((2_400..4_000).contains(&audio_ms), "{audio_ms} ms");
    follow.story();

    // It stops at once: by the listener's own command, and by everyone's.
    let long = "word ".repeat(200);
    for everyone in [false, true] {
        host.control(Control::Say { text: long.clone() }).await.unwrap();
        studio.sounds().await;
        if everyone {
            host.bus()
                .publish(subject::STOP.to_owned(), &Stop { by: "test".to_owned(), ..Stop::default() })
                .await
                .unwrap();
            assert_eq!(follow.state(Idle).await.why, "control.stop");
        } else {
            let state = host.control(Control::Stop).await.unwrap();
            assert_eq!((state.state, state.why.as_str()), (Idle, "stop"));
            follow.state(Idle).await;
        }
        studio.silent_for(100).await;
        // One that stops is not one that fails.
        assert!(follow.story().iter().all(|seen| !matches!(seen, Seen::Fault(_))));
        studio.take_heard();
    }

    // What is said next breaks off what sounds.
    host.control(Control::Say { text: long }).await.unwrap();
    studio.sounds().await;
    let state = host.control(Control::Say { text: "Just this.".to_owned() }).await.unwrap();
    assert_eq!(state.state, Speaking);
    follow.state(Idle).await;
    follow.state(Speaking).await;
    assert_eq!(follow.state(Idle).await.why, "answered");
    follow.story();

    // Whoever pauses in the middle of a request goes on with it: it is one utterance, and has one answer.
    peers.play(Script { heard: Ok("Tell me about the,"), ..Script::default() });
    let clip = fixture("computer-04.flac")[20_000..36_000].to_vec();
    host.control(Control::PushToTalk { held: None }).await.unwrap();
    studio.say(&[clip.clone(), silence(600)].concat()).await;
    follow.state(Processing).await;
    assert_eq!(follow.state(Processing).await.why, "an unfinished transcript");
    peers.play(Script { heard: Ok("weather."), ..Script::default() });
    studio.say(&[clip.clone(), silence(600)].concat()).await;
    assert_eq!(follow.state(Idle).await.why, "answered");
    let whole = follow.session("the utterance", utterance_ms).await;
    assert!((2_000..4_000).contains(&whole), "{whole} ms");
    let story = follow.story();
    assert_eq!(states(&story), [Listening, Processing, Processing, Listening, Processing, Speaking, Idle]);
    assert_eq!(utterance(&story).as_deref(), Some("Tell me about the weather."));
    // Whoever does not go on is answered.
    peers.play(Script { heard: Ok("Tell me about the,"), ..Script::default() });
    host.control(Control::PushToTalk { held: None }).await.unwrap();
    studio.say(&[clip, silence(400)].concat()).await;
    assert_eq!(follow.state(Idle).await.why, "answered");
    assert_eq!(states(&follow.story()), [Listening, Processing, Processing, Speaking, Idle]);

    // Nobody says anything.
    peers.play(Script::default());
    host.control(Control::PushToTalk { held: None }).await.unwrap();
    assert_eq!(follow.state(Idle).await.why, "nothing was said");
    assert!(follow.story().iter().all(|seen| !matches!(seen, Seen::Transcribe)));

    // Somebody does not come to an end.
    host.control(Control::PushToTalk { held: None }).await.unwrap();
    studio.say(&fixture("jfk.flac")[5_000..28_000].repeat(4)).await;
    assert_eq!(follow.state(Processing).await.why, "voice.max_utterance_ms");
    assert_eq!(follow.state(Idle).await.why, "answered");
    assert_eq!(follow.session("the utterance", utterance_ms).await, 4_000);
    follow.story();

    // Whoever holds the pedal is heard to the end: what is too long for one clip is heard in parts, and is one utterance. What
    // was being said before is not in it.
    host.control(Control::PushToTalk { held: Some(true) }).await.unwrap();
    studio.say(&fixture("jfk.flac")[..96_000]).await;
    host.control(Control::PushToTalk { held: Some(false) }).await.unwrap();
    assert_eq!(follow.state(Idle).await.why, "answered");
    let whole = follow.session("the utterance", utterance_ms).await;
    assert!((5_900..7_300).contains(&whole), "{whole} ms");
    let story = follow.story();
    assert_eq!(states(&story), [Listening, Processing, Speaking, Idle]);
    let parts = story.iter().filter(|seen| matches!(seen, Seen::Transcribe)).count();
    assert!(parts >= 2, "{parts} parts");
    assert_eq!(utterance(&story), Some(["Tell me more"].repeat(parts).join(" ") + "."));

    // A busy recognizer is asked again.
    peers.play(Script { busy: 2, ..Script::default() });
    speak(&host, &mut studio).await;
    assert_eq!(follow.state(Speaking).await.why, "first sound");
    follow.state(Idle).await;
    assert_eq!(follow.story().iter().filter(|seen| matches!(seen, Seen::Transcribe)).count(), 3);

    // Commands that make no sense: whoever asks hears it, and whoever only publishes is told by an event.
    let error = host.control(Control::Say { text: "  ".to_owned() }).await.unwrap_err();
    assert!(error.to_string().contains("say what is to be spoken"), "{error}");
    let nats = async_nats::connect(host.spec.url()).await.unwrap();
    let subject = subject::voice_control("stage", LISTENER);
    for body in ["{\"do\":\"dance\"}", "{", "[1]", ""] {
        let reply = nats.request(subject.clone(), body.into()).await.unwrap();
        let headers = reply.headers.unwrap();
        assert_eq!(headers.get("Nats-Service-Error-Code").unwrap().as_str(), "400", "{body}");
        nats.publish(subject.clone(), body.into()).await.unwrap();
        let fault =
            follow.until("a fault", |seen| if let Seen::Fault(fault) = seen { Some(fault.clone()) } else { None });
        let fault = fault.await;
        assert!(fault.code == FaultCode::Invalid && fault.message.contains(&subject), "{fault:?}");
    }
    assert_eq!(host.control(Control::Stop).await.unwrap().state, Idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_said_once_with_its_stage_and_heard() {
    if !jack::available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let settings = ["voice.turn_timeout_ms=2500", "voice.stt_timeout_ms=1500", "voice.max_utterance_ms=4000"];
    let (host, mut studio, mut follow, peers) = start(&jack, &settings).await;
    let broken = || Err::<(), _>(Fault::failed("it broke, as its script says"));
    let good = Script::default;
    for (stage, why, script) in [
        ("stt", "as its script says", Script { heard: broken().map(|()| ""), ..good() }),
        ("stt", "busy", Script { busy: 1_000, ..good() }),
        ("agent", "as its script says", Script { answer: vec![], end: broken(), ..good() }),
        ("agent", "as its script says", Script { answer: vec!["Half a sen"], end: broken(), ..good() }),
        ("agent", "2", Script { answer: vec![""], ..good() }),
        ("agent", "nothing in it that can be spoken", Script { answer: vec![], ..good() }),
        ("agent", "nothing in it that can be spoken", Script { answer: vec!["\u{fffd}\u{0}}{\"]<"], ..good() }),
        ("tts", "as its script says", Script { answer: vec!["One two three."], spoken: broken(), ..good() }),
    ] {
        peers.play(script.clone());
        speak(&host, &mut studio).await;
        // The state is told, and a sound is made, even if nobody can speak.
        let state = follow.state(Idle).await;
        assert_eq!(state.why, format!("{stage} failed"));
        let (told, message) = follow.error().await;
        assert!(told == stage && message.contains(why), "{told}: {message}, where {stage} was to fail: {why}");
        studio.sounds().await;
        studio.silent_for(200).await;
        let story = follow.story();
        assert_eq!(errors(&story), 1, "{stage} {why}: {story:#?}");
        studio.take_heard();
    }
    // Nobody speaks to the end for nothing: that a part can't be transcribed is told while the pedal is held.
    peers.play(Script { heard: broken().map(|()| ""), ..good() });
    host.control(Control::PushToTalk { held: Some(true) }).await.unwrap();
    studio.say(&fixture("jfk.flac")[..80_000]).await;
    assert_eq!(follow.state(Idle).await.why, "stt failed");
    host.control(Control::PushToTalk { held: Some(false) }).await.unwrap();
    follow.error().await;
    let story = follow.story();
    assert_eq!((states(&story), errors(&story)), (vec![Listening, Idle], 1), "{story:#?}");

    // The next turn works.
    peers.play(good());
    speak(&host, &mut studio).await;
    follow.state(Processing).await;
    follow.state(Speaking).await;
    assert_eq!(follow.state(Idle).await.why, "answered");

    // Nobody there to ask is said at once.
    drop(peers);
    let call = Call { format: Format::Json, ..Call::within(Duration::from_secs(5)) };
    let error = host.bus().control("stage", "nobody", &Control::Stop, &call).await.unwrap_err();
    assert!(error.to_string().contains("nobody offers voice.stage.nobody.control"), "{error}");
}
