//! An engine is a file and a row: this file adds one of each kind, and no other file knows of them. A role is a row too, and may
//! serve nothing on the bus.

use std::future::ready;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use sidetone::bus::contract::rights::Sessions;
use sidetone::bus::message::llm::{Chat, ChatMessage, Role as Speaker};
use sidetone::bus::message::stt::Request;
use sidetone::bus::message::{Blob, Message as _, Pcm, tts};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, Call, roster};
use sidetone::config::Config;
use sidetone::engine::stream::{ClipRecognizer, RecognizerStream, StreamOptions, Windows};
use sidetone::engine::{
    ChatDelta, ChatEnd, ChatModel, ChatRequest, ChatRow, ChatStream, EngineError, Needs, Reach, Recognizer,
    RecognizerRow, SpeakOptions, Synthesizer, SynthesizerRow, TranscribeOptions, Transcription,
};
use sidetone::home::Home;
use sidetone::node;
use sidetone::role::{Role, RoleContext, RoleError, RoleRow};
use tokio_util::sync::CancellationToken;

use crate::support::nats::{Nats, within};

inventory::submit! {
    RecognizerRow {
        name: "parrot",
        about: "hears itself",
        needs: Needs::NOTHING,
        build: |_, _| ready(Ok(Arc::new(Parrot) as Arc<dyn Recognizer>)).boxed(),
        check: None,
    }
}

inventory::submit! {
    SynthesizerRow {
        name: "parrot",
        about: "says one thing",
        needs: Needs::NOTHING,
        build: |_, _| ready(Ok(Arc::new(Parrot) as Arc<dyn Synthesizer>)).boxed(),
        check: None,
    }
}

inventory::submit! {
    ChatRow {
        name: "parrot",
        about: "answers one thing",
        needs: Needs::NOTHING,
        build: |_, _| ready(Ok(Arc::new(Parrot) as Arc<dyn ChatModel>)).boxed(),
        check: None,
    }
}

struct Parrot;

impl Recognizer for Parrot {
    fn model(&self) -> &str {
        "ear"
    }

    fn languages(&self) -> Vec<String> {
        Vec::new()
    }

    fn open(&self, options: StreamOptions) -> Result<Box<dyn RecognizerStream>, EngineError> {
        Windows::open(Arc::new(Parrot), options)
    }

    fn transcribe(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        cancel: &CancellationToken,
    ) -> Result<Transcription, EngineError> {
        self.recognize(samples, options, cancel)
    }
}

impl ClipRecognizer for Parrot {
    fn recognize(&self, _: &[f32], _: &TranscribeOptions, _: &CancellationToken) -> Result<Transcription, EngineError> {
        Ok(Transcription { text: "squawk".to_owned(), ..Transcription::default() })
    }
}

impl Synthesizer for Parrot {
    fn voice(&self) -> &str {
        "beak"
    }

    fn language(&self) -> &str {
        "en"
    }

    fn rate_hz(&self) -> u32 {
        8_000
    }

    fn speak(
        &self,
        _: &str,
        _: &SpeakOptions,
        chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let _ = chunk(&[0.5; 800]);
        Ok(())
    }
}

#[async_trait]
impl ChatModel for Parrot {
    fn provider(&self) -> &str {
        "parrot"
    }

    fn default_model(&self) -> &str {
        "brain"
    }

    fn reach(&self) -> Reach {
        Reach::Host
    }

    async fn models(&self) -> Result<Vec<String>, EngineError> {
        Ok(vec!["brain".to_owned()])
    }

    async fn warm(&self) -> Result<(), EngineError> {
        Ok(())
    }

    async fn chat(&self, _: ChatRequest) -> Result<ChatStream, EngineError> {
        let end = ChatEnd { model: "brain".to_owned(), finish: "stop".to_owned(), ..ChatEnd::default() };
        let pieces = [ChatDelta::Text("cracker".to_owned()), ChatDelta::Done(end)];
        Ok(futures::stream::iter(pieces.map(Ok)).boxed())
    }
}

/// The settings of a host on `nats`.
fn config(nats: &Nats, settings: &[&str]) -> Config {
    let own = [format!("bus.url={}", nats.url()), "node.name=\"cage\"".to_owned()];
    let sets: Vec<String> = own.into_iter().chain(settings.iter().map(|set| (*set).to_owned())).collect();
    Config::load(&[], &sets).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_serves_with_engines_that_one_file_adds() {
    let Some(nats) = Nats::start().await else { return };
    let config = config(
        &nats,
        &[
            "node.roles=[\"stt\", \"tts\", \"llm\"]",
            "stt.providers=[{ engine = \"parrot\", model = \"ear\" }]",
            "tts.providers=[{ engine = \"parrot\", voices = [\"beak\"] }]",
            "llm.providers=[{ engine = \"parrot\" }]",
        ],
    );
    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let (up, is_up) = tokio::sync::oneshot::channel();
    let home = Home::find(Some(folder.path()));
    let host = tokio::spawn(node::run(config, home, stop.clone(), |info| drop(up.send(info.clone()))));
    let info = within(is_up).await.unwrap();
    assert!(info.offers.iter().all(|offer| offer.engine == "parrot" && offer.name == "parrot"), "{info:?}");

    let (bus, call) = (nats.host("desk").await, Call::within(std::time::Duration::from_secs(60)));
    let cage = Target::Node("cage");
    let pcm = Pcm { rate_hz: 16_000, channels: 1, data: Blob(vec![0; 320].into()), ..Pcm::default() };
    let request = Request { pcm: Some(pcm), ..Request::default() };
    assert_eq!(within(bus.ask(cage, &request, &call)).await.unwrap().text, "squawk");
    let say = tts::Say { text: "hello".to_owned(), voice: None, speed: None };
    assert_eq!(within(bus.ask(cage, &tts::Request(say), &call)).await.unwrap().audio_ms, 100);
    let messages = vec![ChatMessage::new(Speaker::User, "hello")];
    let chat = Chat { messages, model: None, stream: false, ..Chat::example() };
    assert_eq!(within(bus.ask(cage, &chat, &call)).await.unwrap().text, "cracker");
    stop.cancel();
    within(host).await.unwrap().unwrap();
}

/// Serves people, and nothing on the bus.
struct Door;

static IS_OPEN: AtomicBool = AtomicBool::new(false);

static DOOR: RoleRow = RoleRow {
    name: "door",
    about: "serves people",
    drains: 0,
    serves: &[],
    asks: &[],
    sessions: Sessions::None,
    build: || Box::new(Door),
};

#[async_trait]
impl Role for Door {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        IS_OPEN.store(true, Ordering::SeqCst);
        context.ready();
        context.stop.cancelled().await;
        IS_OPEN.store(false, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_serves_nothing_runs() {
    let Some(nats) = Nats::start().await else { return };
    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let (up, is_up) = tokio::sync::oneshot::channel();
    let (config, home) = (config(&nats, &[]), Home::find(Some(folder.path())));
    let host = node::run_roles(vec![&DOOR], config, home, stop.clone(), |info| drop(up.send(info.clone())));
    let host = tokio::spawn(host);
    assert!(within(is_up).await.unwrap().offers.is_empty());
    assert!(IS_OPEN.load(Ordering::SeqCst));
    let bus: Bus = nats.host("desk").await;
    let nodes = within(roster::nodes(&bus)).await.unwrap();
    assert_eq!(nodes.iter().map(|info| info.node.as_str()).collect::<Vec<_>>(), ["cage"]);
    stop.cancel();
    within(host).await.unwrap().unwrap();
    assert!(!IS_OPEN.load(Ordering::SeqCst), "it drains as any role does");
}
