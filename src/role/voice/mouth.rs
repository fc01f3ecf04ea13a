//! From sentences to JACK: each is spoken by whoever offers `tts`, one ahead of what sounds.
//!
//! ```text
//! sentences → tts.stream → chunks → resampler → playback ring → JACK
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use crate::audio::{Playback, PlaybackControl, Resampler};
use crate::bus::message::fault::Fault;
use crate::bus::message::tts::{Say, Stream};
use crate::bus::subject::Target;
use crate::bus::{Bus, Call};
use crate::sound::from_wire;

/// Sentences that wait to be spoken. When it is full the reader of the model waits, and so does the model.
const SENTENCES: usize = 64;
/// Chunks (of 200 ms) that are made ahead of what is queued in JACK.
const CHUNKS_AHEAD: usize = 16;
/// How often to look whether the ring has room, or the last sample has left.
const POLL: Duration = Duration::from_millis(3);

/// A playback ring and its rate, while JACK is there.
#[derive(Debug)]
pub struct Output {
    /// The ring.
    pub playback: Playback,
    /// Its rate, in Hz; it may change while somebody speaks.
    pub rate_hz: Arc<AtomicU32>,
}

/// Where the mouth finds the ring: one speaks at a time.
pub type SharedOutput = Arc<tokio::sync::Mutex<Option<Output>>>;

/// What was spoken, and when it began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spoken {
    /// When the first sentence was there.
    pub first_sentence: Option<Instant>,
    /// When its first audio was there.
    pub first_audio: Option<Instant>,
    /// When JACK was given its first sample.
    pub first_sample: Option<Instant>,
    /// How long it sounded.
    pub spoken: Duration,
}

/// Takes sentences, and speaks them in their order.
#[derive(Debug)]
pub struct Mouth {
    sentences: mpsc::Sender<String>,
    work: AbortOnDropHandle<Result<Spoken, Fault>>,
    sounding: watch::Receiver<bool>,
}

/// What one answer is spoken with.
#[derive(Debug, Clone)]
pub struct Voice {
    /// The way to `tts`.
    pub bus: Bus,
    /// The turn.
    pub turn: Ulid,
    /// The voice; `None` takes the default of whoever speaks.
    pub voice: Option<String>,
    /// When everything must be spoken.
    pub until: Instant,
    /// Where it sounds.
    pub output: SharedOutput,
    /// How long after JACK was given it a sample is heard.
    pub latency: Duration,
}

impl Mouth {
    /// Opens it. Dropping it breaks off what it speaks; what is queued in JACK is for the caller to flush.
    #[must_use]
    pub fn open(voice: Voice) -> Self {
        let (sentences, received) = mpsc::channel(SENTENCES);
        let (sounds, sounding) = watch::channel(false);
        let work = AbortOnDropHandle::new(tokio::spawn(speak(voice, received, sounds)));
        Self { sentences, work, sounding }
    }

    /// Speaks a sentence after those before it.
    pub async fn say(&self, sentence: String) {
        // A mouth that has failed takes no more; `finish` tells why.
        let _ = self.sentences.send(sentence).await;
    }

    /// Whether the first sample has left; to be awaited.
    #[must_use]
    pub fn sounding(&self) -> watch::Receiver<bool> {
        self.sounding.clone()
    }

    /// Waits until all is spoken and the last sample has been heard.
    ///
    /// # Errors
    /// Why it could not be spoken to its end.
    pub async fn finish(self) -> Result<Spoken, Fault> {
        let Self { sentences, work, .. } = self;
        drop(sentences);
        work.await.unwrap_or_else(|error| Err(Fault::failed(format!("the speech broke: {error}"))))
    }
}

async fn speak(
    voice: Voice,
    mut sentences: mpsc::Receiver<String>,
    sounds: watch::Sender<bool>,
) -> Result<Spoken, Fault> {
    let (chunks_out, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let maker = voice.clone();
    let first = Arc::new(OnceLock::new());
    let first_sentence = Arc::clone(&first);
    let make = async move {
        while let Some(sentence) = sentences.recv().await {
            let _ = first_sentence.set(Instant::now());
            if let Err(fault) = make(&maker, sentence, &chunks_out).await {
                // Nobody plays any more if the receiver is gone; it knows why.
                let _ = chunks_out.send(Err(fault)).await;
                return;
            }
        }
    };
    let (_, spoken) = tokio::join!(make, play(&voice, chunks, sounds));
    spoken.map(|spoken| Spoken { first_sentence: first.get().copied(), ..spoken })
}

type Made = Result<(Vec<f32>, u32), Fault>;

/// Has one sentence made.
async fn make(voice: &Voice, sentence: String, chunks: &mpsc::Sender<Made>) -> Result<(), Fault> {
    let left = voice.until.saturating_duration_since(Instant::now());
    let request = Stream(Say { text: sentence, voice: voice.voice.clone(), speed: None });
    let target = voice.voice.as_deref().map_or(Target::Any, Target::Model);
    let call = Call::within(left).of_turn(voice.turn);
    let mut stream = voice.bus.open(target, &request, &call).await.map_err(|e| e.to_fault())?;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| e.to_fault())?;
        let samples = if chunk.pcm.data.0.is_empty() { Vec::new() } else { from_wire(&chunk.pcm)? };
        if !samples.is_empty() && chunks.send(Ok((samples, chunk.pcm.rate_hz))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Queues chunks for JACK as there is room, and waits for the last sample.
async fn play(voice: &Voice, mut chunks: mpsc::Receiver<Made>, sounds: watch::Sender<bool>) -> Result<Spoken, Fault> {
    let Some(mut chunk) = chunks.recv().await else { return Ok(Spoken::default()) };
    let mut output = voice.output.lock().await;
    let out = output.as_mut().ok_or_else(no_audio)?;
    let control = out.playback.control();
    let mut begin = Begin { first_frame: control.played_frames(), control, at: None, sounds };
    let (mut spoken, mut resampler, mut samples) = (Spoken::default(), None, Vec::new());
    loop {
        let (made, rate_hz) = chunk?;
        spoken.first_audio.get_or_insert_with(Instant::now);
        spoken.spoken += Duration::from_secs_f64(made.len() as f64 / f64::from(rate_hz.max(1)));
        let rates = (rate_hz, out.rate_hz.load(Ordering::Relaxed));
        samples.clear();
        match &mut resampler {
            Some(resampler) if Resampler::rates_hz(resampler) == rates => resampler.push(&made, &mut samples),
            other => {
                let new = Resampler::new(rates.0, rates.1).map_err(|e| Fault::failed(e.to_string()))?;
                other.insert(new).push(&made, &mut samples);
            }
        }
        queue(out, &samples, &mut begin, voice.until).await?;
        // The first sample may leave while the next chunk is still being made.
        let next = loop {
            tokio::select! {
                next = chunks.recv() => break next,
                () = begin.wait() => {}
            }
        };
        let Some(next) = next else { break };
        chunk = next;
    }
    if let Some(resampler) = &mut resampler {
        samples.clear();
        resampler.finish(&mut samples);
        queue(out, &samples, &mut begin, voice.until).await?;
    }
    out.playback.end();
    while !out.playback.is_drained() {
        step(out, &mut begin, voice.until).await?;
    }
    spoken.first_sample = Some(begin.now());
    // JACK has the last sample; it is heard when it has gone through the card.
    tokio::time::sleep(voice.latency).await;
    Ok(spoken)
}

/// When the first sample leaves.
struct Begin {
    control: PlaybackControl,
    first_frame: u64,
    at: Option<Instant>,
    sounds: watch::Sender<bool>,
}

impl Begin {
    fn look(&mut self) {
        if self.at.is_none() && self.control.played_frames() > self.first_frame {
            self.now();
        }
    }

    fn now(&mut self) -> Instant {
        self.sounds.send_replace(true);
        *self.at.get_or_insert_with(Instant::now)
    }

    /// Waits until it has left, and for ever after that.
    async fn wait(&mut self) {
        if self.at.is_some() {
            return std::future::pending().await;
        }
        while self.at.is_none() {
            tokio::time::sleep(POLL).await;
            self.look();
        }
    }
}

/// Queues all samples, waiting for room.
async fn queue(out: &mut Output, samples: &[f32], begin: &mut Begin, until: Instant) -> Result<(), Fault> {
    let mut at = 0;
    while let Some(rest) = samples.get(at..).filter(|rest| !rest.is_empty()) {
        let written = out.playback.write(rest);
        at += written;
        if written == 0 {
            step(out, begin, until).await?;
        }
    }
    Ok(())
}

/// Waits a moment for JACK.
async fn step(out: &mut Output, begin: &mut Begin, until: Instant) -> Result<(), Fault> {
    if out.playback.is_closed() {
        return Err(no_audio());
    }
    if Instant::now() > until {
        return Err(Fault::failed("the answer was not spoken in time: JACK takes no more audio"));
    }
    begin.look();
    tokio::time::sleep(POLL).await;
    Ok(())
}

fn no_audio() -> Fault {
    Fault::unavailable("JACK is gone, so the answer can't be heard; speech works again when JACK is back")
}
