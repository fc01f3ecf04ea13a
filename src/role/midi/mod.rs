//! Role `midi`: sends and hears MIDI.
//!
//! ```text
//! JACK callback ─ring─▶ thread "midi" ─▶ Sequencer ─┬─▶ MIDI of this host, to the frame   ─ring─▶ JACK callback
//! rig (osc, agent), midi.out ─▶ Engine::play ───────┘ ├─▶ OSC of this host, stop: at once, by the rig
//!                                                     └─▶ listeners, commands, other hosts: by the bus
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`sequencer`] | decides: what is sent when, what an event sets off |
//! | [`engine`] | the sequencer under a lock, and the thread that does what is due |
//! | `mapping`, `feedback` | `[[midi.on]]`; lights |
//! | `driver`, `jack_driver`, `alsa` | the way to devices, and what is connected to what |
//! | `journal` | what sounds, for the run after one that was killed |
//! | `view` | messages and states as they are published |

#![cfg_attr(
    not(any(feature = "midi-jack", feature = "midi-alsa")),
    allow(dead_code, reason = "without a way to devices nothing needs it")
)]

#[cfg(feature = "midi-alsa")]
mod alsa;
mod driver;
mod engine;
mod feedback;
#[cfg(feature = "midi-jack")]
mod jack_driver;
mod journal;
mod mapping;
mod sequencer;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Role, RoleContext, RoleError};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::midi::{Out, Sent, State, StateQuery};
use crate::bus::message::node::NodeInfo;
use crate::bus::message::voice;
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::{self, Capability};
use driver::PortPlan;
use engine::{Engine, News};
use feedback::{Lights, ListenerShown};
use journal::NoteJournal;
use mapping::Mapping;
use sequencer::{Sequencer, Setup};

/// Requests at once. They are answered in no time.
const SLOTS: usize = 64;
/// How long the thread of the driver may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The role.
pub struct Midi;

/// The driver of this build.
const DRIVER: &str = if cfg!(feature = "midi-jack") {
    "jack"
} else if cfg!(feature = "midi-alsa") {
    "alsa"
} else {
    ""
};

#[async_trait]
impl Role for Midi {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        if DRIVER.is_empty() {
            let text = "this program was built without MIDI; build it with the feature midi-jack or midi-alsa, or leave midi out of node.roles";
            return Err(RoleError::Setting(text.to_owned()));
        }
        let config = &context.config.midi;
        let setting = RoleError::Setting;
        let plans = PortPlan::all(&config.ports).map_err(setting)?;
        let names: Vec<String> = plans.iter().map(|plan| plan.name.clone()).collect();
        let mapping = Mapping::new(&config.on, &names).map_err(setting)?;
        let listeners: Vec<String> =
            context.config.voice.listeners.iter().map(|listener| listener.name.clone()).collect();
        let lights = Lights::new(&config.on, &names, &listeners).map_err(setting)?;
        let follows = config.on.iter().any(|on| on.feedback.is_some()) || Mapping::has_mutes(&config.on);
        let setup = Setup {
            ports: names.clone(),
            mapping,
            publish: config.publish.iter().copied().collect::<BTreeSet<_>>(),
            bpm: config.bpm,
            beats_per_bar: config.beats_per_bar,
            clock_from: config.clock_from.clone(),
            clock_to: config.clock_to.clone(),
        };
        let begun = Instant::now();
        let mut sequencer = Sequencer::new(setup, 0).map_err(setting)?;
        let folder = context.home.state().join("midi").join(subject::token(&config.client));
        let (journal, owed) = NoteJournal::open(&folder, &names);
        for (port, notes) in owed.into_iter().enumerate() {
            sequencer.owe(port, notes);
        }
        let (news_in, news) = mpsc::channel(engine::PUBLISHED);
        let thread = |error: std::io::Error| RoleError::Setting(format!("the system has no thread to give: {error}"));
        let engine = Engine::start(sequencer, journal, lights, context.rig.clone(), begun, news_in).map_err(thread)?;
        let mut running = EngineGuard { engine: engine.clone(), driver: None };
        running.driver = Some(DriverThread::start(&context, plans, &engine).map_err(thread)?);
        let ended = serve(&context, &engine, names, news, follows).await;
        // In vain only if the runtime ends, and all with it.
        let _ = tokio::task::spawn_blocking(move || running.end()).await;
        ended
    }
}

/// Answers until the role is stopped.
async fn serve(
    context: &RoleContext,
    engine: &Engine,
    names: Vec<String>,
    news: mpsc::Receiver<News>,
    follows: bool,
) -> Result<(), RoleError> {
    let player = engine.clone();
    let _midi = context.rig.plug_midi(Arc::new(move |out| player.play(&out).map(drop)));
    let ticker = engine.clone();
    let _clock = context.rig.clock().plug(Arc::new(move |quantum| ticker.until(quantum)));
    let mut tasks = vec![
        AbortOnDropHandle::new(tokio::spawn(publish(context.clone(), names.clone(), news))),
        AbortOnDropHandle::new(tokio::spawn(stop_with_others(context.clone(), engine.clone()))),
        AbortOnDropHandle::new(tokio::spawn(release_lost(context.clone(), engine.clone()))),
    ];
    if follows {
        tasks.push(AbortOnDropHandle::new(tokio::spawn(follow(context.clone(), engine.clone()))));
    }

    let spec = ServiceSpec {
        capability: Capability::Midi,
        about: "sends and hears MIDI",
        engine: DRIVER.to_owned(),
        models: names,
        slots: SLOTS,
    };
    let offer = spec.offer();
    let server = context.bus.service(spec).await?;
    let (player, viewer, node) = (engine.clone(), engine.clone(), context.bus.node().to_owned());
    server.serve(move |incoming: Incoming<Out>| std::future::ready(play(&player, &incoming.request))).await?;
    server
        .serve(move |incoming: Incoming<StateQuery>| std::future::ready(query(&viewer, &node, &incoming.request)))
        .await?;
    server.ready().await?;
    context.up(offer, Some(server.load()));
    let ended = context.serve_until_stopped(server).await;
    drop(tasks);
    ended
}

fn play(engine: &Engine, out: &Out) -> Result<Sent, Fault> {
    engine.play(out)
}

fn query(engine: &Engine, node: &str, query: &StateQuery) -> Result<State, Fault> {
    engine.look(|state, now_us| {
        let only = query.port.as_ref().map(|port| state.sequencer.port(port)).transpose()?;
        Ok(view::state(state, (node, DRIVER), engine.unpublished(), only, now_us))
    })
}

/// Publishes what came in, and what people should know.
async fn publish(context: RoleContext, ports: Vec<String>, mut news: mpsc::Receiver<News>) {
    let node = context.bus.node().to_owned();
    while let Some(news) = news.recv().await {
        match news {
            News::Received(received) => {
                let port =
                    if received.port == 0 { "midi_in" } else { ports.get(received.port).map_or("", String::as_str) };
                let published = view::published(&received, &node, port);
                let subject = subject::midi_in(&node, port, &published.kind);
                if let Err(error) = context.bus.publish(subject, &published).await {
                    tracing::debug!(%error, "what came in by MIDI is not published");
                }
            }
            News::Notice(text) => context.bus.report(&Fault::new(FaultCode::Failed, text)).await,
        }
    }
}

/// Everything that sounds ends with the one stop.
async fn stop_with_others(context: RoleContext, engine: Engine) {
    let mut stop = context.rig.stops().subscribe();
    loop {
        stop.next().await;
        let released = engine.with(|sequencer, now_us| sequencer.panic(None, false, now_us));
        tracing::info!(released, "notes ended by a stop");
    }
}

/// Notes of a host that is gone end.
async fn release_lost(context: RoleContext, engine: Engine) {
    let lost = context.bus.subscribe::<NodeInfo>(&subject::event_of_all("lost")).await;
    let down = context.bus.subscribe::<NodeInfo>(&subject::event_of_all("down")).await;
    let (lost, down) = match (lost, down) {
        (Ok(lost), Ok(down)) => (lost, down),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "notes of hosts that die go on until they are stopped");
            return;
        }
    };
    let mut gone = futures::stream::select(lost, down);
    while let Some((_, info)) = gone.next().await {
        if let Ok(info) = info {
            engine.with(|sequencer, now_us| sequencer.release_of(&info.node, now_us));
        }
    }
}

/// Shows devices what the listeners of this host do.
async fn follow(context: RoleContext, engine: Engine) {
    let own = subject::pattern::filter(subject::pattern::VOICE_STATE, Some(context.bus.node()));
    // Toggles of the table stand as what they mute does.
    let first = context.config.voice.listeners.first().map(|listener| listener.name.clone());
    let mut states = match context.bus.subscribe::<voice::State>(&own).await {
        Ok(states) => states,
        Err(error) => {
            tracing::warn!(%error, "lights do not follow listeners");
            return;
        }
    };
    while let Some((_, state)) = states.next().await {
        if let Ok(state) = state {
            let is_first = first.as_ref() == Some(&state.listener);
            engine.with(|sequencer, _| sequencer.muted(&state.listener, is_first, state.muted));
            engine.listener(&state.listener, ListenerShown { state: state.state, muted: state.muted });
        }
    }
}

/// What has to end with the role, however it ends.
struct EngineGuard {
    engine: Engine,
    driver: Option<DriverThread>,
}

impl EngineGuard {
    /// Ends all notes, closes the client and ends the threads.
    fn end(&mut self) {
        if let Some(driver) = self.driver.take() {
            self.engine.silence();
            driver.end();
        }
        self.engine.stop();
    }
}

impl Drop for EngineGuard {
    fn drop(&mut self) {
        let Some(driver) = self.driver.take() else { return self.engine.stop() };
        let mut rest = Self { engine: self.engine.clone(), driver: Some(driver) };
        // It takes a while, and this may be a thread of the runtime.
        let ends = std::thread::Builder::new().name("midi-ends".to_owned()).spawn(move || rest.end());
        if let Err(error) = ends {
            tracing::warn!(%error, "the MIDI driver is not closed");
        }
    }
}

/// The thread that keeps the driver.
struct DriverThread {
    stop: Arc<AtomicBool>,
    handle: std::thread::JoinHandle<()>,
}

impl DriverThread {
    fn start(context: &RoleContext, plans: Vec<PortPlan>, engine: &Engine) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let client = context.config.midi.client.clone();
        #[cfg(feature = "midi-jack")]
        let supervisor = {
            let server = Some(context.config.jack.server.clone()).filter(|server| !server.is_empty());
            jack_driver::DriverSupervisor { client, server, plans, engine: engine.clone(), stop: Arc::clone(&stop) }
        };
        #[cfg(all(feature = "midi-alsa", not(feature = "midi-jack")))]
        let supervisor = alsa::DriverSupervisor { client, plans, engine: engine.clone(), stop: Arc::clone(&stop) };
        #[cfg(any(feature = "midi-jack", feature = "midi-alsa"))]
        let work = move || supervisor.run();
        #[cfg(not(any(feature = "midi-jack", feature = "midi-alsa")))]
        let work = {
            let engine = engine.clone();
            move || drop((client, plans, engine))
        };
        let handle = std::thread::Builder::new().name("midi-devices".to_owned()).spawn(work)?;
        Ok(Self { stop, handle })
    }

    /// Closes the client.
    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.handle.thread().unpark();
        let until = Instant::now() + END_TIMEOUT;
        while !self.handle.is_finished() {
            if Instant::now() > until {
                tracing::error!("the MIDI driver does not stop: libjack hangs");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
