//! Role `stt`: clips in, transcripts out; and speech in while it is spoken, text out while it is.

mod batch;
mod source;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::pool::{blocking, recognizer_spec};
use super::providers::{self, Place};
use super::{Role, RoleContext, RoleError, millis};
use crate::audio::TRUNCATED;
use crate::bus::Bus;
use crate::bus::message::fault::Fault;
use crate::bus::message::node::Offer;
use crate::bus::message::stt::{Request, Segment, Transcript};
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::Capability;
use crate::config::{Classes, SttProvider};
use crate::engine::{
    EngineError, RECOGNIZER_RATE_HZ, Recognizer, TranscribeOptions, TranscribedSegment, Transcription, recognizer_row,
};
use crate::home::Home;
use crate::telemetry::metrics as measured;
use source::Source;

/// The largest audio file that is fetched from CLIPS.
const MAX_CLIP_BYTES: usize = 256 << 20;

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
    let recognizer = context.pool.recognizer(&provider.engine, spec).await?;
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
    // Whoever brings a long recording may not make the store for it, where the bus has permissions.
    if let Err(error) = context.bus.make_clips().await {
        tracing::warn!(%error, "recordings over max_payload can't be taken");
    }
    server.take_jobs(move |job| jobs.clone().batch(job));
    place.up(context, offer, server.load());
    context.serve_until_stopped(server).await
}

#[derive(Clone)]
struct Worker {
    bus: Bus,
    recognizer: Arc<dyn Recognizer>,
    classes: Arc<Classes>,
    home: Home,
    /// What finds the pauses where speech is cut.
    vad: String,
    max_clip_ms: u64,
    stream_idle: Duration,
}

impl Worker {
    async fn transcribe(self, incoming: Incoming<Request>) -> Result<Transcript, Fault> {
        let Incoming { request, cancel, .. } = incoming;
        let options = self.options(request.model.as_deref(), request.language.as_deref(), request.prompt.clone())?;
        let source = self.source(request).await?;
        let (max_ms, recognizer) = (self.max_clip_ms, self.recognizer);
        blocking(move || {
            let clip = source.clip(max_ms, &cancel)?;
            let begun = Instant::now();
            let heard = recognizer.transcribe(&clip.samples, &options, &cancel)?;
            let took = begun.elapsed();
            measured::engine("stt", None, millis(took));
            let note = clip.truncated.then(|| TRUNCATED.to_owned());
            Ok(Transcript { note, ..transcript(heard, clip.audio_ms, took, recognizer.model()) })
        })
        .await
    }

    /// What is asked of the recognizer, if it can do that.
    fn options(
        &self,
        model: Option<&str>,
        language: Option<&str>,
        prompt: Option<String>,
    ) -> Result<TranscribeOptions, Fault> {
        let own = self.recognizer.model();
        let model = model.map(|model| providers::of_class(&self.classes, model));
        if let Some(model) = model.filter(|model| *model != own) {
            return Err(Fault::not_found(format!("{} has no model {model:?}; it offers {own}", self.bus.node())));
        }
        let offered = self.recognizer.languages();
        let is_offered = |language: &str| offered.is_empty() || offered.contains(&primary(language));
        if let Some(language) = language.filter(|language| !is_offered(language)) {
            let text = format!("{own} does not understand {language:?}; it offers {}", offered.join(", "));
            return Err(Fault::not_found(text));
        }
        Ok(TranscribeOptions { language: language.map(primary), prompt })
    }

    async fn source(&self, request: Request) -> Result<Source, Fault> {
        match (request.file, request.clip, request.pcm) {
            (Some(file), None, None) => Ok(Source::File(file.0)),
            (None, Some(clip), None) => Ok(Source::File(self.fetch(&clip).await?)),
            (None, None, Some(pcm)) => Ok(Source::Pcm(pcm)),
            _ => Err(Fault::invalid(
                "stt.request takes exactly one of pcm, file and clip, or a bare audio file with Content-Type: audio/wav",
            )),
        }
    }

    async fn fetch(&self, clip: &str) -> Result<Bytes, Fault> {
        self.bus.get_clip(clip, MAX_CLIP_BYTES).await.map_err(|error| error.to_fault())
    }
}

/// The primary tag of a BCP 47 language: `en` of `en-US`.
fn primary(language: &str) -> String {
    language.split(['-', '_']).next().unwrap_or_default().to_lowercase()
}

/// What was heard in `audio_ms` of audio.
fn transcript(heard: Transcription, audio_ms: u64, took: Duration, model: &str) -> Transcript {
    Transcript {
        text: heard.text,
        language: heard.language,
        segments: heard.segments.into_iter().map(segment).collect(),
        audio_ms,
        engine_ms: millis(took),
        model: model.to_owned(),
        note: None,
    }
}

fn segment(segment: TranscribedSegment) -> Segment {
    let TranscribedSegment { start_ms, end_ms, text } = segment;
    Segment { start_ms, end_ms, text }
}
