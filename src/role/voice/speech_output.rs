//! Speech output: from sentences to JACK. A host that offers `tts` speaks each, one ahead of what sounds.
//!
//! ```text
//! sentences → tts.stream → chunks → resampler → playback ring → JACK
//! ```
//!
//! Speech of another host waits until some of it is at hand, since the network brings it unevenly; that of this host does
//! not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use ulid::Ulid;

use crate::audio::{Playback, PlaybackControl, Resampler};
use crate::bus::Call;
use crate::bus::message::fault::Fault;
use crate::bus::message::tts::{Say, Stream};
use crate::bus::subject::Capability;
use crate::fabric::{self, Fabric};
use crate::router::Need;
use crate::sound::from_wire;

/// Sentences that wait to be spoken. When it is full the reader of the model waits, and so does the model.
const SENTENCES: usize = 64;
/// Chunks (of 200 ms) that are made ahead of what is queued in JACK.
const CHUNKS_AHEAD: usize = 16;
/// How much speech of another host is to be at hand before it sounds, and sounds again after a gap: chunks come unevenly.
const COVER: Duration = Duration::from_millis(400);
/// How long it is waited for at most.
const COVER_WAIT: Duration = Duration::from_millis(250);
/// How long a short signal may wait for room.
const SOUND_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to look whether the ring has room, or the last sample has left.
const POLL: Duration = Duration::from_millis(3);

/// A playback ring and its rate, while JACK is there.
#[derive(Debug)]
pub struct RatedPlayback {
    /// The ring.
    pub playback: Playback,
    /// Its rate, in Hz; it may change while the answer sounds.
    pub rate_hz: Arc<AtomicU32>,
}

/// Where speech finds the ring. Who holds the lock sounds.
pub type SharedPlayback = Arc<tokio::sync::Mutex<Option<RatedPlayback>>>;

/// When an answer was spoken.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpeechTimes {
    /// When the first sentence was there.
    pub first_sentence: Option<Instant>,
    /// When its first audio was there.
    pub first_audio: Option<Instant>,
    /// When JACK was given its first sample.
    pub first_sample: Option<Instant>,
    /// How long it sounded.
    pub spoken: Duration,
}

/// How one answer is spoken.
#[derive(Debug, Clone)]
pub struct SpeechJob {
    /// The way to `tts`.
    pub fabric: Fabric,
    /// The turn.
    pub turn: Ulid,
    /// The voice; `None` takes the default of the host that speaks.
    pub voice: Option<String>,
    /// When all of it must be spoken.
    pub until: Instant,
    /// Where it sounds.
    pub playback: SharedPlayback,
    /// How long after JACK was given it a sample is heard.
    pub latency: Duration,
}

/// Takes sentences, to be spoken in their order. Dropping it says that there are no more.
#[derive(Debug)]
pub struct SpeechOutput(mpsc::Sender<String>);

impl SpeechOutput {
    /// Opens it; gives it, and the work of speaking, which ends when all has been heard. The work signals `first_sound` when
    /// the first sample has left. Dropping the work breaks it off; what is queued in JACK is for the caller to flush.
    pub fn open(
        job: SpeechJob,
        first_sound: oneshot::Sender<()>,
    ) -> (Self, impl Future<Output = Result<SpeechTimes, Fault>>) {
        let (sentences, received) = mpsc::channel(SENTENCES);
        (Self(sentences), speak(job, received, first_sound))
    }

    /// Speaks a sentence after those before it.
    pub async fn say(&self, sentence: String) {
        // Output that has failed takes no more; its work returns why.
        let _ = self.0.send(sentence).await;
    }
}

async fn speak(
    job: SpeechJob,
    mut sentences: mpsc::Receiver<String>,
    first_sound: oneshot::Sender<()>,
) -> Result<SpeechTimes, Fault> {
    let (chunks_out, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let first = OnceLock::new();
    let make = async {
        // Moved in here, so that the end of the last sentence ends the chunks.
        let chunks_out = chunks_out;
        while let Some(sentence) = sentences.recv().await {
            first.get_or_init(Instant::now);
            if let Err(fault) = make(&job, sentence, &chunks_out).await {
                // If the receiver is gone, playing has ended, and its result says why.
                let _ = chunks_out.send(Err(fault)).await;
                return;
            }
        }
    };
    let play = play(&job, chunks, first_sound);
    tokio::pin!(play);
    let spoken = tokio::select! {
        biased;
        spoken = &mut play => spoken,
        () = make => play.await,
    };
    spoken.map(|spoken| SpeechTimes { first_sentence: first.get().copied(), ..spoken })
}

/// A chunk.
#[derive(Debug)]
struct SpeechChunk {
    samples: Vec<f32>,
    rate_hz: u32,
    /// Whether it came from another host.
    is_far: bool,
}

impl SpeechChunk {
    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.samples.len() as f64 / f64::from(self.rate_hz.max(1)))
    }
}

type ChunkResult = Result<SpeechChunk, Fault>;

/// Chunks as they come, with those that were waited for.
struct ChunkBuffer {
    come: mpsc::Receiver<ChunkResult>,
    at_hand: VecDeque<ChunkResult>,
}

impl ChunkBuffer {
    /// The next one. Safe to drop and call again.
    async fn next(&mut self) -> Option<ChunkResult> {
        match self.at_hand.pop_front() {
            Some(made) => Some(made),
            None => self.come.recv().await,
        }
    }

    /// Waits until there is a cover against chunks that come late, or the end, or it has taken long enough.
    async fn cover(&mut self, first: &SpeechChunk) {
        let until = tokio::time::Instant::now() + COVER_WAIT;
        let mut length = first.length();
        length += self.at_hand.iter().flatten().map(SpeechChunk::length).sum::<Duration>();
        while length < COVER
            && let Ok(Some(made)) = tokio::time::timeout_at(until, self.come.recv()).await
        {
            length += made.as_ref().map_or(COVER, SpeechChunk::length);
            self.at_hand.push_back(made);
        }
    }
}

/// Has one sentence made.
async fn make(job: &SpeechJob, sentence: String, chunks: &mpsc::Sender<ChunkResult>) -> Result<(), Fault> {
    let left = job.until.saturating_duration_since(Instant::now());
    let request = Stream(Say { text: sentence, voice: job.voice.clone(), speed: None });
    let need = Need { voice: job.voice.clone().unwrap_or_default(), ..fabric::need(Capability::Tts) };
    let call = Call::within(left).of_turn(job.turn);
    let mut stream = job.fabric.open(&need, request.clone(), &call).await.map_err(|e| e.to_fault())?;
    // How much of the sentence is there, and how much of it another host has to leave out when it begins anew.
    let (mut made, mut skip) = (Duration::ZERO, Duration::ZERO);
    while let Some(chunk) = stream.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) if stream.go_on(&error, request.clone()) => {
                skip = made;
                continue;
            }
            Err(error) => return Err(error.to_fault()),
        };
        let mut samples = if chunk.pcm.data.0.is_empty() { Vec::new() } else { from_wire(&chunk.pcm)? };
        let rate_hz = f64::from(chunk.pcm.rate_hz.max(1));
        let skipped = samples.len().min((skip.as_secs_f64() * rate_hz).round() as usize);
        samples.drain(..skipped);
        skip = skip.saturating_sub(Duration::from_secs_f64(skipped as f64 / rate_hz));
        made += Duration::from_secs_f64(samples.len() as f64 / rate_hz);
        let is_far = !job.fabric.is_here(&stream.choice().host);
        let chunk = SpeechChunk { samples, rate_hz: chunk.pcm.rate_hz, is_far };
        if !chunk.samples.is_empty() && chunks.send(Ok(chunk)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Queues chunks for JACK as there is room, and waits for the last sample.
async fn play(
    job: &SpeechJob,
    chunks: mpsc::Receiver<ChunkResult>,
    first_sound: oneshot::Sender<()>,
) -> Result<SpeechTimes, Fault> {
    let mut chunks = ChunkBuffer { come: chunks, at_hand: VecDeque::new() };
    let Some(first) = chunks.next().await else { return Ok(SpeechTimes::default()) };
    let mut playback = job.playback.lock().await;
    let out = playback.as_mut().ok_or_else(no_audio)?;
    let mut begin = FirstSample::new(out, first_sound);
    let (mut spoken, mut resampler, mut samples) = (SpeechTimes::default(), None, Vec::new());
    // How often it had run dry when there was a cover last.
    let mut covered = None;
    let mut next = Some(first);
    // What was made before a failure is still spoken.
    let mut end = Ok(());
    while let Some(made) = next {
        let chunk = match made {
            Ok(chunk) => chunk,
            Err(fault) => {
                end = Err(fault);
                break;
            }
        };
        spoken.first_audio.get_or_insert_with(Instant::now);
        spoken.spoken += chunk.length();
        if chunk.is_far && covered != Some(begin.control.underruns()) {
            chunks.cover(&chunk).await;
            covered = Some(begin.control.underruns());
        }
        let SpeechChunk { samples: made, rate_hz, .. } = chunk;
        let rates = (rate_hz, out.rate_hz.load(Ordering::Relaxed));
        samples.clear();
        match &mut resampler {
            Some(resampler) if Resampler::rates_hz(resampler) == rates => resampler.push(&made, &mut samples),
            other => {
                let new = Resampler::new(rates.0, rates.1).map_err(|e| Fault::failed(e.to_string()))?;
                other.insert(new).push(&made, &mut samples);
            }
        }
        queue(out, &samples, &mut begin, job.until).await?;
        // The first sample may leave while the next chunk is still being made.
        next = loop {
            tokio::select! {
                next = chunks.next() => break next,
                () = begin.wait() => {}
            }
        };
    }
    if let Some(resampler) = &mut resampler {
        samples.clear();
        resampler.finish(&mut samples);
        queue(out, &samples, &mut begin, job.until).await?;
        out.playback.end();
        while !out.playback.is_drained() {
            step(out, &mut begin, job.until).await?;
        }
        spoken.first_sample = Some(begin.now());
        // JACK has the last sample; it is heard when it has gone through the card.
        tokio::time::sleep(job.latency).await;
    }
    end.map(|()| spoken)
}

/// When the first sample leaves.
struct FirstSample {
    control: PlaybackControl,
    /// Frames that were queued before; JACK plays or discards them first.
    before: u64,
    at: Option<Instant>,
    first_sound: Option<oneshot::Sender<()>>,
}

impl FirstSample {
    fn new(out: &RatedPlayback, first_sound: oneshot::Sender<()>) -> Self {
        let control = out.playback.control();
        Self { before: control.written_frames(), control, at: None, first_sound: Some(first_sound) }
    }

    fn look(&mut self) {
        if self.at.is_none() && self.control.played_frames() + self.control.flushed_frames() > self.before {
            self.now();
        }
    }

    fn now(&mut self) -> Instant {
        if let Some(first_sound) = self.first_sound.take() {
            // The work that asked for the speech waits for it until it ends.
            let _ = first_sound.send(());
        }
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

/// Sounds `samples` (at the rate of the output) after what sounds now, if that is over in time.
pub async fn sound(playback: SharedPlayback, samples: impl Fn(u32) -> Vec<f32>) {
    let mut playback = playback.lock().await;
    let Some(out) = playback.as_mut() else { return };
    let until = Instant::now() + SOUND_TIMEOUT;
    let samples = samples(out.rate_hz.load(Ordering::Relaxed));
    let mut begin = FirstSample { control: out.playback.control(), before: 0, at: None, first_sound: None };
    if let Err(fault) = queue(out, &samples, &mut begin, until).await {
        tracing::debug!(%fault, "a signal was not heard");
    }
    out.playback.end();
}

/// Queues all samples, waiting for room.
async fn queue(out: &mut RatedPlayback, samples: &[f32], begin: &mut FirstSample, until: Instant) -> Result<(), Fault> {
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
async fn step(out: &mut RatedPlayback, begin: &mut FirstSample, until: Instant) -> Result<(), Fault> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(ms: u32) -> SpeechChunk {
        SpeechChunk { samples: vec![0.0; ms as usize * 16], rate_hz: 16_000, is_far: true }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cover_is_waited_for_and_not_for_long() {
        let (out, come) = mpsc::channel(16);
        let mut chunks = ChunkBuffer { come, at_hand: VecDeque::new() };
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            out.send(Ok(chunk(150))).await.unwrap();
        }
        chunks.cover(&chunk(150)).await;
        assert_eq!((chunks.at_hand.len(), begun.elapsed()), (2, Duration::ZERO), "400 ms are at hand");
        chunks.cover(&chunk(200)).await;
        assert_eq!(chunks.at_hand.len(), 2, "they still are");
        for _ in 0..3 {
            assert_eq!(chunks.next().await.unwrap().unwrap().length(), Duration::from_millis(150));
        }
        chunks.cover(&chunk(200)).await;
        assert_eq!(begun.elapsed(), COVER_WAIT, "no more came");
        out.send(Err(Fault::cancelled())).await.unwrap();
        drop(out);
        chunks.cover(&chunk(200)).await;
        assert_eq!(begun.elapsed(), COVER_WAIT, "nothing more will come");
        assert!(chunks.next().await.unwrap().is_err() && chunks.next().await.is_none());
    }
}
