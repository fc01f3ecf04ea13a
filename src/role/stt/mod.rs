//! Role `stt`: clips in, transcripts out; and speech in while it is spoken, text out while it is.

mod batch;
mod source;
mod stream;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::model_cache::{blocking, recognizer_spec};
use super::providers::{self, Place};
use super::{Role, RoleContext, RoleError};
use crate::bus::message::node::Offer;
use crate::bus::service::ServiceSpec;
use crate::bus::subject::Capability;
use crate::config::SttProvider;
use crate::engine::{EngineError, RECOGNIZER_RATE_HZ, TranscribeOptions, recognizer_row};
use worker::Worker;

/// A second of a faint hum of 220 Hz, to warm a model up with: silence would not get as far as the model.
fn hum() -> Vec<f32> {
    let step = std::f32::consts::TAU * 220.0 / RECOGNIZER_RATE_HZ as f32;
    (0..RECOGNIZER_RATE_HZ).map(|n| 0.01 * (n as f32 * step).sin()).collect()
}

/// Speech to text.
pub struct Stt;

#[async_trait]
impl Role for Stt {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        let all = &context.config.stt.providers;
        let names: Vec<&str> = all.iter().map(SttProvider::name).collect();
        providers::run(&context, Capability::Stt, &names, |at, place| provide(&context, &all[at], place)).await
    }
}

/// Serves with one engine.
async fn provide(context: &RoleContext, provider: &SttProvider, place: Place) -> Result<(), RoleError> {
    let config = &context.config.stt;
    let spec = recognizer_spec(config, provider, &provider.model);
    let recognizer = context.model_cache.recognizer(&provider.engine, spec).await?;
    let warm = Arc::clone(&recognizer);
    blocking::<_, EngineError>(move || {
        warm.transcribe(&hum(), &TranscribeOptions::default(), &CancellationToken::new()).map(drop)
    })
    .await?;
    let spec = ServiceSpec {
        capability: Capability::Stt,
        about: "speech to text",
        engine: provider.engine.clone(),
        models: vec![recognizer.model().to_owned()],
        slots: provider.slots.unwrap_or(config.slots),
    };
    let reach = recognizer_row(&provider.engine)?.reach();
    let (name, classes) = (provider.name().to_owned(), provider.classes.clone());
    let offer = Offer { name, classes, languages: recognizer.languages(), ..spec.offer() };
    let offer = offer.reaching(providers::privacy(provider.privacy, reach));
    let server = place.open(context, spec, &offer).await?;
    let worker = Worker {
        bus: context.bus.clone(),
        recognizer,
        classes: Arc::new(provider.classes.clone()),
        home: context.home.clone(),
        vad: context.config.voice.vad.clone(),
        max_clip_ms: config.max_clip_ms,
        stream_idle: Duration::from_millis(config.stream_idle_ms),
    };
    let (streams, jobs) = (worker.clone(), worker.clone());
    server.serve(move |incoming| worker.clone().transcribe(incoming)).await?;
    server.serve(move |incoming| streams.clone().listen(incoming)).await?;
    server.ready().await?;
    // A client with a long recording may not make the store for it, where the bus has permissions.
    if let Err(error) = context.bus.make_clips().await {
        tracing::warn!(%error, "recordings over max_payload can't be taken");
    }
    server.take_jobs(move |job| jobs.clone().batch(job));
    place.up(context, offer, server.load());
    context.serve_until_stopped(server).await
}
