//! `stt.stream`: live speech is transcribed. Here is the way between the bus and the engine's stream.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::worker::{Worker, segment};
use crate::audio::{PcmFormat, build_vad, pcm_to_mono};
use crate::bus::ingest::{CHUNKS, Ingest, MAX_CHUNK_BYTES};
use crate::bus::message::SampleFormat;
use crate::bus::message::fault::Fault;
use crate::bus::message::stt::{Started, Stream, StreamDone, StreamEvent};
use crate::bus::service::Incoming;
use crate::bus::sink::Sink;
use crate::engine::Transcription;
use crate::engine::stream::{Recognized, RecognizerStream, StreamOptions, StreamTotals};
use crate::role::millis;

/// How often the caller is looked for while nothing is sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) async fn listen(self, incoming: Incoming<Stream>) -> Result<StreamEvent, Fault> {
        let Incoming { request, replies, .. } = incoming;
        let transcribe = self.options(request.model.as_deref(), request.language.as_deref(), request.prompt.clone())?;
        let vad = build_vad(&self.vad, &self.home.models()).map_err(|e| Fault::failed(e.to_string()))?;
        let (rate_hz, partials) = (request.rate_hz, request.partials);
        let speech = self.recognizer.open(StreamOptions { rate_hz, partials, transcribe, vad })?;
        if request.channels == 0 {
            return Err(Fault::invalid("channels is 0: say how many samples a frame has"));
        }
        let ingest = self.bus.ingest(self.stream_idle).await.map_err(|e| e.to_fault())?;
        let model = self.recognizer.model().to_owned();
        let started = Started {
            ingest: ingest.subject().to_owned(),
            credit: CHUNKS,
            max_bytes: MAX_CHUNK_BYTES,
            idle_ms: millis(self.stream_idle),
            node: self.bus.node().to_owned(),
            model: model.clone(),
        };
        replies.send(&StreamEvent::Started(started)).await?;
        let format = match request.format {
            SampleFormat::S16le => PcmFormat::S16Le,
            SampleFormat::F32le => PcmFormat::F32Le,
        };
        let relay = Relay { format, channels: request.channels, replies, ingest, speech, has_ended: false };
        let StreamTotals { audio_ms, engine } = relay.run().await?;
        Ok(StreamEvent::Done(StreamDone { audio_ms, engine_ms: millis(engine), model }))
    }
}

/// One stream.
struct Relay {
    format: PcmFormat,
    channels: u16,
    replies: Sink<StreamEvent>,
    ingest: Ingest,
    speech: Box<dyn RecognizerStream>,
    /// Whether the audio has ended.
    has_ended: bool,
}

impl Relay {
    /// Listens to the end. Where the engine takes no more audio, no more is asked for, and the caller waits.
    async fn run(mut self) -> Result<StreamTotals, Fault> {
        let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let takes = !self.has_ended && self.speech.is_ready();
            tokio::select! {
                biased;
                heard = self.speech.next() => match heard.transpose()? {
                    Some(heard) => self.replies.send(&event(heard)).await?,
                    None => return Ok(self.speech.totals()),
                },
                chunk = self.ingest.next(), if takes => match chunk.transpose()? {
                    Some(chunk) => {
                        let samples = pcm_to_mono(&chunk, self.format, self.channels);
                        self.speech.push(&samples.map_err(|e| Fault::invalid(e.to_string()))?);
                    }
                    None => {
                        self.has_ended = true;
                        self.speech.finish();
                    }
                },
                _ = looks.tick() => self.replies.look().await,
            }
        }
    }
}

fn event(heard: Recognized) -> StreamEvent {
    match heard {
        Recognized::Partial { start_ms, text } => StreamEvent::Partial { start_ms, text },
        Recognized::Final(Transcription { text, language, segments }) => {
            StreamEvent::Final { text, language, segments: segments.into_iter().map(segment).collect() }
        }
    }
}
