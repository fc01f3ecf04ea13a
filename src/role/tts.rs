//! Role `tts`: text in, speech out, sentence by sentence.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::model_cache::{blocking, synthesizer_spec};
use super::providers::{self, Place};
use super::{Role, RoleContext, RoleError, millis};
use crate::audio::wav_bytes;
use crate::bus::Bus;
use crate::bus::message::Blob;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::node::Offer;
use crate::bus::message::tts::{Chunk, Request, Say, Speech, Spoken, Stream};
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::Capability;
use crate::config::{Classes, TtsProvider};
use crate::engine::{EngineError, SpeakOptions, Synthesizer, synthesizer_row};
use crate::sound::to_wire;
use crate::telemetry::metrics as measured;
use crate::text::sentence::SentenceSplitter;
use crate::text::speech::SpeechFilter;

/// The longest chunk. Short enough that a stop is heard at once, long enough that what is around the samples weighs little.
pub const CHUNK_MS: u32 = 200;
/// Chunks that wait for the caller. When it is full the engine waits: that is the backpressure.
const QUEUE: usize = 8;
/// Spoken at start, so that the first answer does not pay for what is loaded late.
const WARM_UP: &str = "Ready.";

/// Text to speech.
pub struct Tts;

#[async_trait]
impl Role for Tts {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        let all = &context.config.tts.providers;
        let names: Vec<&str> = all.iter().map(TtsProvider::name).collect();
        providers::run(&context, Capability::Tts, &names, |at, place| provide(&context, &all[at], place)).await
    }
}

/// Serves with one engine.
async fn provide(context: &RoleContext, provider: &TtsProvider, place: Place) -> Result<(), RoleError> {
    let config = &context.config.tts;
    let mut voices = Vec::new();
    for voice in &provider.voices {
        let spec = synthesizer_spec(config, provider, voice);
        let voice = context.model_cache.synthesizer(&provider.engine, spec).await?;
        let warm = Arc::clone(&voice);
        blocking::<_, EngineError>(move || {
            warm.speak(WARM_UP, &SpeakOptions::default(), &mut |_| ControlFlow::Continue(()))
        })
        .await?;
        voices.push(voice);
    }
    let spec = ServiceSpec {
        capability: Capability::Tts,
        about: "text to speech",
        engine: provider.engine.clone(),
        models: voices.iter().map(|voice| voice.voice().to_owned()).collect(),
        slots: provider.slots.unwrap_or(config.slots),
    };
    let reach = synthesizer_row(&provider.engine)?.reach();
    let (name, classes) = (provider.name().to_owned(), provider.classes.clone());
    let offer = Offer { name, classes, languages: languages(&spec.models), ..spec.offer() };
    let offer = offer.reaching(providers::privacy(provider.privacy, reach));
    let server = place.open(context, spec, &offer).await?;
    let worker = Worker {
        bus: context.bus.clone(),
        voices: voices.into(),
        classes: Arc::new(provider.classes.clone()),
        max_text_chars: config.max_text_chars,
    };
    let streams = worker.clone();
    server.serve(move |incoming| worker.clone().whole(incoming)).await?;
    server.serve(move |incoming| streams.clone().stream(incoming)).await?;
    server.ready().await?;
    place.up(context, offer, server.load());
    context.serve_until_stopped(server).await
}

#[derive(Clone)]
struct Worker {
    bus: Bus,
    voices: Arc<[Arc<dyn Synthesizer>]>,
    classes: Arc<Classes>,
    max_text_chars: usize,
}

impl Worker {
    /// `tts.request`: the whole speech as a WAV.
    async fn whole(self, incoming: Incoming<Request>) -> Result<Speech, Fault> {
        let Incoming { request, cancel, .. } = incoming;
        let begun = Instant::now();
        let (voice, mut sound) = self.speak(request.0, &cancel)?;
        let mut samples = Vec::new();
        while let Some(piece) = sound.recv().await {
            samples.extend(piece?);
        }
        measured::engine("tts", None, millis(begun.elapsed()));
        let rate_hz = voice.rate_hz();
        let wav = wav_bytes(&samples, rate_hz).map_err(|e| Fault::failed(format!("the WAV can't be written: {e}")))?;
        let (wav, clip) = if self.bus.needs_clip(wav.len()) {
            (None, Some(self.bus.put_clip(&wav).await.map_err(|e| e.to_fault())?))
        } else {
            (Some(Blob(wav.into())), None)
        };
        Ok(Speech { wav, clip, audio_ms: audio_ms(samples.len(), rate_hz), voice: voice.voice().to_owned() })
    }

    /// `tts.stream`: chunks as they are made.
    async fn stream(self, incoming: Incoming<Stream>) -> Result<Chunk, Fault> {
        let Incoming { request, replies, cancel, .. } = incoming;
        let begun = Instant::now();
        let (voice, mut sound) = self.speak(request.0, &cancel)?;
        let rate_hz = voice.rate_hz();
        let (mut frames, mut first_audio_ms) = (0, None);
        let chunk_frames = (rate_hz * CHUNK_MS / 1_000) as usize;
        while let Some(piece) = sound.recv().await {
            let piece = piece?;
            frames += piece.len();
            for chunk in piece.chunks(chunk_frames.max(1)) {
                first_audio_ms.get_or_insert_with(|| millis(begun.elapsed()));
                replies.send(&Chunk { pcm: to_wire(chunk, rate_hz), done: None }).await?;
            }
        }
        let done = Spoken {
            audio_ms: audio_ms(frames, rate_hz),
            engine_ms: millis(begun.elapsed()),
            first_audio_ms: first_audio_ms.unwrap_or_default(),
            voice: voice.voice().to_owned(),
        };
        measured::engine("tts", first_audio_ms, done.engine_ms);
        Ok(Chunk { pcm: to_wire(&[], rate_hz), done: Some(done) })
    }

    /// Starts to speak on a thread of its own; gives the voice, and its samples as they come.
    fn speak(&self, say: Say, cancel: &CancellationToken) -> Result<(Arc<dyn Synthesizer>, Sound), Fault> {
        let (voice, options) = self.check(&say)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (speaker, cancel) = (Arc::clone(&voice), cancel.clone());
        tokio::task::spawn_blocking(move || {
            for sentence in sentences(&say.text) {
                let mut chunk = |samples: &[f32]| {
                    let sent = !cancel.is_cancelled() && sender.blocking_send(Ok(samples.to_vec())).is_ok();
                    if sent { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                };
                if let Err(error) = speaker.speak(&sentence, &options, &mut chunk) {
                    // Nobody listens any more if the caller broke it off; then nobody needs the error.
                    let _ = sender.blocking_send(Err(error.into()));
                    return;
                }
            }
        });
        Ok((voice, receiver))
    }

    fn check(&self, say: &Say) -> Result<(Arc<dyn Synthesizer>, SpeakOptions), Fault> {
        let chars = say.text.chars().count();
        if say.text.trim().is_empty() {
            return Err(Fault::invalid("text is empty: say what is to be spoken"));
        }
        if chars > self.max_text_chars {
            return Err(Fault::new(
                FaultCode::TooLarge,
                format!("text has {chars} characters, and {} are taken: send it in parts", self.max_text_chars),
            ));
        }
        let speed = say.speed.unwrap_or(1.0);
        if !(0.5..=2.0).contains(&speed) {
            return Err(Fault::invalid(format!("speed is {speed}; it must be 0.5 to 2.0")));
        }
        let names = || self.voices.iter().map(|voice| voice.voice()).collect::<Vec<_>>().join(", ");
        let voice = match &say.voice {
            None => self.voices.first(),
            Some(name) => {
                let name =
                    providers::of_class(&self.classes, name, |name| self.voices.iter().any(|own| own.voice() == name));
                self.voices.iter().find(|voice| voice.voice() == name)
            }
        };
        let voice = voice.ok_or_else(|| {
            let wanted = say.voice.as_deref().unwrap_or_default();
            Fault::not_found(format!("{} has no voice {wanted:?}; it offers {}", self.bus.node(), names()))
        })?;
        Ok((Arc::clone(voice), SpeakOptions { speed }))
    }
}

type Sound = mpsc::Receiver<Result<Vec<f32>, Fault>>;

/// What is to be spoken of `text`, in pieces that are spoken one by one.
fn sentences(text: &str) -> Vec<String> {
    let (mut splitter, mut filter) = (SentenceSplitter::default(), SpeechFilter::default());
    let mut pieces = splitter.push(text);
    pieces.extend(splitter.finish());
    pieces.iter().map(|piece| filter.speakable(piece)).filter(|piece| !piece.is_empty()).collect()
}

/// The languages of voices, of which a name begins with its own: `en_US-joe-medium` speaks `en-US`.
fn languages(voices: &[String]) -> Vec<String> {
    let tag = |voice: &String| {
        let (language, region) = voice.split('-').next()?.split_once('_')?;
        let is_tag = |part: &str| (2..=3).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphabetic());
        (is_tag(language) && is_tag(region)).then(|| format!("{}-{}", language.to_lowercase(), region.to_uppercase()))
    };
    let mut languages: Vec<String> = voices.iter().filter_map(tag).collect();
    languages.sort();
    languages.dedup();
    languages
}

fn audio_ms(frames: usize, rate_hz: u32) -> u64 {
    frames as u64 * 1_000 / u64::from(rate_hz.max(1))
}
