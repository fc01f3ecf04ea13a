//! One engine at work: a clip is taken from where it is, and transcribed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::source::Source;
use crate::audio::TRUNCATED;
use crate::bus::Bus;
use crate::bus::message::fault::Fault;
use crate::bus::message::stt::{Request, Segment, Transcript};
use crate::bus::service::Incoming;
use crate::config::Classes;
use crate::engine::{Recognizer, TranscribeOptions, TranscribedSegment, Transcription};
use crate::home::Home;
use crate::role::model_cache::blocking;
use crate::role::{millis, providers};
use crate::telemetry::metrics as measured;

/// The largest audio file that is fetched from CLIPS.
pub(super) const MAX_CLIP_BYTES: usize = 256 << 20;

/// An engine with what it needs for a request.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) bus: Bus,
    pub(super) recognizer: Arc<dyn Recognizer>,
    pub(super) classes: Arc<Classes>,
    pub(super) home: Home,
    /// What finds the pauses where speech is cut.
    pub(super) vad: String,
    pub(super) max_clip_ms: u64,
    pub(super) stream_idle: Duration,
}

impl Worker {
    pub(super) async fn transcribe(self, incoming: Incoming<Request>) -> Result<Transcript, Fault> {
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
    pub(super) fn options(
        &self,
        model: Option<&str>,
        language: Option<&str>,
        prompt: Option<String>,
    ) -> Result<TranscribeOptions, Fault> {
        let own = self.recognizer.model();
        let model = model.map(|model| providers::of_class(&self.classes, model, |name| name == own));
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

    pub(super) async fn source(&self, request: Request) -> Result<Source, Fault> {
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
pub(super) fn transcript(heard: Transcription, audio_ms: u64, took: Duration, model: &str) -> Transcript {
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

/// A stretch of it, as the bus says it.
pub(super) fn segment(segment: TranscribedSegment) -> Segment {
    let TranscribedSegment { start_ms, end_ms, text } = segment;
    Segment { start_ms, end_ms, text }
}
