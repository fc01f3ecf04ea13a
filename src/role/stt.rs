//! Role `stt`: clips in, transcripts out.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::pool::{blocking, recognizer_spec};
use super::{Role, RoleContext, RoleError, millis};
use crate::audio::{Clip, resample};
use crate::bus::Bus;
use crate::bus::message::Pcm;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::node::Offer;
use crate::bus::message::stt::{Request, Segment, Transcript};
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::Capability;
use crate::engine::{EngineError, RECOGNIZER_RATE_HZ, Recognizer, TranscribeOptions, TranscribedSegment};
use crate::sound::from_wire;
use crate::telemetry::metrics as measured;

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
        let config = &context.config.stt;
        let recognizer = context.pool.recognizer(&config.engine, recognizer_spec(config, &config.model)).await?;
        let warm = Arc::clone(&recognizer);
        blocking::<_, EngineError>(move || {
            warm.transcribe(&hum(), &TranscribeOptions::default(), &CancellationToken::new()).map(drop)
        })
        .await?;
        let spec = ServiceSpec {
            capability: Capability::Stt,
            about: "speech to text",
            engine: config.engine.clone(),
            models: vec![recognizer.model().to_owned()],
            slots: config.slots,
        };
        let offer = Offer { languages: recognizer.languages(), ..spec.offer() };
        let server = context.bus.service(spec).await?;
        let worker = Worker { bus: context.bus.clone(), recognizer, max_clip_ms: config.max_clip_ms };
        server.serve(move |incoming| worker.clone().transcribe(incoming)).await?;
        server.ready().await?;
        context.up(offer, Some(server.load()));
        context.serve_until_stopped(server).await;
        Ok(())
    }
}

#[derive(Clone)]
struct Worker {
    bus: Bus,
    recognizer: Arc<dyn Recognizer>,
    max_clip_ms: u64,
}

impl Worker {
    async fn transcribe(self, incoming: Incoming<Request>) -> Result<Transcript, Fault> {
        let Incoming { request, cancel, .. } = incoming;
        self.check_model(&request)?;
        let options = TranscribeOptions { language: self.language(&request)?, prompt: request.prompt.clone() };
        let source = match (request.file, request.clip, request.pcm) {
            (Some(file), None, None) => Source::File(file.0),
            (None, Some(clip), None) => Source::File(self.fetch(&clip).await?),
            (None, None, Some(pcm)) => Source::Pcm(pcm),
            _ => {
                return Err(Fault::invalid(
                    "stt.request takes exactly one of pcm, file and clip, or a bare audio file with Content-Type: audio/wav",
                ));
            }
        };
        let (max_ms, recognizer) = (self.max_clip_ms, self.recognizer);
        blocking(move || {
            let clip = source.decode()?;
            let audio_ms = clip.duration_ms();
            if audio_ms > max_ms {
                let (long, max) = (audio_ms / 1_000, max_ms / 1_000);
                let text = format!("the clip is {long} s long, and {max} s are taken: `sidetone transcribe FILE` cuts a long one at its pauses");
                return Err(Fault::new(FaultCode::TooLarge, text));
            }
            let samples = resample(&clip.samples, clip.rate_hz, RECOGNIZER_RATE_HZ).map_err(|e| Fault::invalid(e.to_string()))?;
            let begun = Instant::now();
            let heard = recognizer.transcribe(&samples, &options, &cancel)?;
            measured::engine("stt", None, millis(begun.elapsed()));
            Ok(Transcript {
                text: heard.text,
                language: heard.language,
                segments: heard.segments.into_iter().map(segment).collect(),
                audio_ms,
                engine_ms: millis(begun.elapsed()),
                model: recognizer.model().to_owned(),
                note: clip.truncated.then(|| "the file ends before its header says; what is there was transcribed".to_owned()),
            })
        })
        .await
    }

    fn check_model(&self, request: &Request) -> Result<(), Fault> {
        match &request.model {
            Some(model) if model != self.recognizer.model() => Err(Fault::not_found(format!(
                "{} has no model {model:?}; it offers {}",
                self.bus.node(),
                self.recognizer.model()
            ))),
            _ => Ok(()),
        }
    }

    fn language(&self, request: &Request) -> Result<Option<String>, Fault> {
        let offered = self.recognizer.languages();
        match &request.language {
            Some(language) if !offered.is_empty() && !offered.contains(&primary(language)) => {
                Err(Fault::not_found(format!(
                    "{} does not understand {language:?}; it offers {}",
                    self.recognizer.model(),
                    offered.join(", ")
                )))
            }
            language => Ok(language.as_deref().map(primary)),
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

fn segment(segment: TranscribedSegment) -> Segment {
    let TranscribedSegment { start_ms, end_ms, text } = segment;
    Segment { start_ms, end_ms, text }
}

/// Where a clip comes from.
enum Source {
    File(Bytes),
    Pcm(Pcm),
}

impl Source {
    fn decode(self) -> Result<Clip, Fault> {
        match self {
            Self::File(bytes) => Clip::decode(&bytes).map_err(|e| Fault::invalid(e.to_string())),
            Self::Pcm(pcm) => {
                let samples = from_wire(&pcm)?;
                Ok(Clip { samples, rate_hz: pcm.rate_hz, channels: pcm.channels, truncated: false })
            }
        }
    }
}
