//! Role `voice`: hears and speaks through JACK. It owns the turn: wake phrase, endpointing, playback and barge-in are
//! local, and only an utterance's audio and the answer's sound cross the bus.
//!
//! | module | what |
//! | --- | --- |
//! | [`listener`] | one listener: drives a [`Talk`](crate::turn::Talk), which decides everything |
//! | [`pipeline`] | from a source of sound to utterances, on a thread of its own |
//! | [`wake`] | shows speech to the wake engine |
//! | [`open`] | the open turn: its ids, its trace and the work under way |
//! | [`meter`] | how loud the microphone is |
//! | [`answer`] | what a turn asks of other roles |
//! | [`speech_output`] | from sentences to JACK |
//! | [`earcon`] | the signal that a turn has failed |

mod answer;
mod earcon;
mod listener;
mod meter;
mod open;
mod pipeline;
mod speech_output;
mod wake;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Role, RoleContext, RoleError};
use crate::audio::{Pace, Patch, SegmentSettings, Source, SourceError, SourceKind};
use crate::bus::message::fault::Fault;
use crate::bus::message::node::Offer;
use crate::bus::message::voice::{Control, State};
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::{self, Capability};
use crate::config::{Config, ListenMode, ListenerConfig};
use crate::engine::wake::{WakeRow, WakeSpec};
use crate::role::model_cache::recognizer_spec;
use crate::text::wake::WakePhrases;
use listener::{Listener, Order, Parts};
use pipeline::PipelineSettings;

/// Commands that wait for a listener.
const CONTROLS: usize = 32;
/// Requests to listeners at once. They are answered in no time.
const SLOTS: usize = 64;

/// Hears and speaks.
pub struct Voice;

#[async_trait]
impl Role for Voice {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        let config = &context.config;
        let wanted = config.voice.listeners.iter().any(|listener| listener.mode != ListenMode::PushToTalk);
        let wake = if wanted { Some(WakeRow::named(&config.voice.wake_engine)?) } else { None };
        let needed = wake.is_some_and(|wake| wake.needs_recognizer);
        let recognizer = match config.stt.wakes(&config.voice.wake_model).filter(|_| needed) {
            Some(provider) => {
                let spec = recognizer_spec(&config.stt, provider, &config.voice.wake_model);
                Some(context.model_cache.recognizer(&provider.engine, spec).await?)
            }
            None => None,
        };
        let names: Vec<String> = config.voice.listeners.iter().map(|listener| listener.name.clone()).collect();
        if names.is_empty() {
            return Err(RoleError::Setting(
                "voice.listeners is empty: add a [[voice.listeners]], or leave the role out".to_owned(),
            ));
        }
        let service = ServiceSpec {
            capability: Capability::Voice,
            about: "a host's microphones and loudspeakers",
            engine: format!("JACK, {}", config.voice.vad),
            models: names,
            slots: SLOTS,
        };
        // Its slots bound commands, not work that a host could be chosen for.
        let offer = Offer { slots: 0, ..service.offer() };
        let server = context.bus.service(service).await?;
        let mut listeners = JoinSet::new();
        for listener in &config.voice.listeners {
            let (controls, orders) = mpsc::channel::<Order>(CONTROLS);
            let phrases = phrases(listener)?;
            let wake_spec = || WakeSpec {
                phrases: phrases.clone(),
                names: listener.wake.keys().cloned().collect(),
                recognizer: recognizer.clone(),
            };
            let wake = wake.map(|row| row.build(wake_spec())).transpose()?;
            let parts = Parts {
                context: context.clone(),
                config: listener.clone(),
                phrases,
                wake,
                pipeline: pipeline_settings(config, listener, &context)?,
                orders,
            };
            listeners.spawn(Listener::start(parts).await?.run());
            let at = subject::voice_control(context.bus.node(), &listener.name);
            server.serve_at(&listener.name, at, move |incoming| control(controls.clone(), incoming)).await?;
        }
        server.ready().await?;
        context.up(offer, None);
        let ended = tokio::select! {
            () = context.stop.cancelled() => Ok(()),
            error = server.refused() => Err(error.into()),
            Some(ended) = listeners.join_next() => {
                ended.unwrap_or_else(|e| Err(RoleError::Setting(format!("a listener broke: {e}"))))
            }
        };
        server.stop(context.drain_timeout()).await;
        let finish = async { while listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(context.drain_timeout(), finish).await.is_err() {
            tracing::warn!("a turn was cut off: it was not over within node.drain_timeout_ms");
        }
        ended
    }
}

async fn control(controls: mpsc::Sender<Order>, incoming: Incoming<Control>) -> Result<State, Fault> {
    let gone = || Fault::unavailable("the listener is being started again: try once more");
    let (answer, answered) = oneshot::channel();
    controls.send((incoming.request, answer)).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

fn phrases(listener: &ListenerConfig) -> Result<WakePhrases, RoleError> {
    let phrases = listener.wake.iter().map(|(name, aliases)| (name.clone(), aliases.clone()));
    WakePhrases::new(phrases).map_err(|e| RoleError::Setting(format!("voice.listeners.{}.wake: {e}", listener.name)))
}

fn pipeline_settings(
    config: &Config,
    listener: &ListenerConfig,
    context: &RoleContext,
) -> Result<PipelineSettings, RoleError> {
    let setting = |error: SourceError| RoleError::Setting(format!("voice.listeners.{}.source: {error}", listener.name));
    let kind = listener.source.parse().map_err(setting)?;
    let capture_from: &[String] = if kind == SourceKind::Jack { &listener.capture_from } else { &[] };
    let patch = Patch::new(capture_from, &listener.playback_to)
        .map_err(|e| RoleError::Setting(format!("voice.listeners.{}: {e}", listener.name)))?;
    let jack = crate::audio::JackSettings {
        server: (!config.jack.server.is_empty()).then(|| config.jack.server.clone()),
        patch,
        capture_ms: config.jack.capture_ms,
        playback_ms: config.jack.playback_ms,
        ..crate::audio::JackSettings::for_listener(&listener.name)
    };
    let name = jack.client_name.clone();
    let source = match kind {
        SourceKind::Jack => Source::jack(jack),
        SourceKind::File(path) => Source::file(&path, Pace::Recorded, jack, !listener.playback_to.is_empty()),
    };
    let source = source.map_err(setting)?;
    let voice = &config.voice;
    let segments = SegmentSettings {
        pre_roll_ms: voice.pre_roll_ms,
        start_ms: voice.start_ms,
        end_silence_ms: voice.end_silence_ms,
        max_ms: voice.max_utterance_ms,
        no_speech_ms: voice.listen_timeout_ms,
        on: voice.vad_on,
        off: voice.vad_off,
        ..SegmentSettings::default()
    };
    Ok(PipelineSettings {
        name,
        source,
        vad: voice.vad.clone(),
        models: context.home.models(),
        segments,
        release_ms: voice.release_ms,
        partial_after_ms: voice.wake_after_ms,
        partial_until_ms: voice.wake_window_ms,
    })
}
