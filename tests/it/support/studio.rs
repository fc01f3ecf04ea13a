//! What is around a host: somebody who speaks and listens through JACK.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use sidetone::audio::{Clip, Playback, resample, voice_rings};
use sidetone::engine::{Recognizer as _, RecognizerSpec, TranscribeOptions, Whisper};
use tokio_util::sync::CancellationToken;

use super::host::{LISTENER, PATIENCE};
use super::jack::{JackServer, Peer};
use super::{model, need};

/// The rate of the clips, in Hz.
pub const RATE_HZ: u32 = 16_000;

/// A client beside the host: its port `mouth` goes to the microphone, `ear` records the loudspeaker.
pub struct Studio {
    peer: Peer,
    rate_hz: u32,
    heard: Arc<Mutex<Vec<f32>>>,
    over: Arc<AtomicBool>,
}

impl Studio {
    /// Opens it on `jack`, which runs at `rate_hz`.
    pub fn open(jack: &JackServer, rate_hz: u32) -> Self {
        let mut peer = Peer::open(jack, "studio");
        let (heard, over) = (Arc::<Mutex<Vec<f32>>>::default(), Arc::<AtomicBool>::default());
        let mut ear = std::mem::replace(&mut peer.ear, voice_rings(1, 1, rate_hz).1);
        let (keep, end) = (Arc::clone(&heard), Arc::clone(&over));
        // JACK can wake nobody.
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) && !ear.is_closed() {
                ear.read_into(&mut keep.lock().unwrap());
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { peer, rate_hz, heard, over }
    }

    /// Waits until the listener's ports are connected to it.
    pub async fn connected(&self) {
        let until = Instant::now() + PATIENCE;
        let (into, out) = (format!("sidetone-{LISTENER}:voice_in"), format!("sidetone-{LISTENER}:voice_out"));
        while !(self.peer.connections("studio:mouth").contains(&into)
            && self.peer.connections("studio:ear").contains(&out))
        {
            assert!(Instant::now() < until, "the listener is not connected to the studio");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Says a clip of 16 kHz into the microphone; returns when its last sample has left.
    pub async fn say(&mut self, clip: &[f32]) {
        let samples = resample(clip, RATE_HZ, self.rate_hz).unwrap();
        let until = Instant::now() + PATIENCE;
        let mut left = samples.as_slice();
        while !left.is_empty() || !self.mouth().is_drained() {
            left = &left[self.mouth().write(left)..];
            assert!(Instant::now() < until, "JACK does not take the clip");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.mouth().end();
    }

    fn mouth(&mut self) -> &mut Playback {
        &mut self.peer.mouth
    }

    /// What has come out of the loudspeaker since the last call, at 16 kHz.
    pub fn take_heard(&self) -> Vec<f32> {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        resample(&heard, self.rate_hz, RATE_HZ).unwrap()
    }

    /// How much JACK itself has left out since this was opened, in ms.
    pub fn missed_ms(&self) -> usize {
        self.peer.missed_ms()
    }

    /// Waits until it has been silent for `ms`; gives how long that took.
    pub async fn silent_for(&self, ms: u32) -> Duration {
        let begun = Instant::now();
        let wanted = (self.rate_hz * ms / 1_000) as usize;
        loop {
            let quiet = |sample: &&f32| sample.abs() < 1e-4;
            let silent = self.heard.lock().unwrap().iter().rev().take(wanted).filter(quiet).count();
            if silent == wanted {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "the loudspeaker does not fall silent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until something sounds.
    pub async fn sounds(&self) {
        let begun = Instant::now();
        while self.heard.lock().unwrap().iter().all(|sample| sample.abs() < 0.01) {
            assert!(begun.elapsed() < PATIENCE, "the loudspeaker stays silent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A recording of the fixtures, at 16 kHz.
pub fn fixture(name: &str) -> Vec<f32> {
    let path = format!("{}/tests/fixtures/audio/{name}", env!("CARGO_MANIFEST_DIR"));
    let clip = Clip::decode(&std::fs::read(path).unwrap()).unwrap();
    resample(&clip.samples, clip.rate_hz, RATE_HZ).unwrap()
}

/// `ms` of silence.
pub fn silence(ms: u32) -> Vec<f32> {
    vec![0.0; (RATE_HZ * ms / 1_000) as usize]
}

/// White noise, the same each time (xorshift32).
pub fn noise(ms: u32, level: f32) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32 * 2.0 - 1.0) * level
    };
    std::iter::repeat_with(next).take((RATE_HZ * ms / 1_000) as usize).collect()
}

/// Whether everything for spoken tests is there: JACK, espeak-ng, and the models.
pub fn available() -> bool {
    let espeak = std::process::Command::new("espeak-ng").arg("--version").output().is_ok();
    super::jack::available()
        && need(espeak, "the program espeak-ng")
        && model("whisper-tiny.en", "model.bin").is_some()
        && model("en_US-joe-medium", "model.onnx").is_some()
        && model("smollm2-135m-instruct", "model.gguf").is_some()
}

/// What Whisper hears in a clip, in lower-case words.
pub fn words_in(clip: &[f32]) -> Vec<String> {
    static WHISPER: OnceLock<Whisper> = OnceLock::new();
    let whisper = WHISPER.get_or_init(|| {
        let path = model("whisper-tiny.en", "model.bin").unwrap();
        let model = "whisper-tiny.en".to_owned();
        Whisper::load(&RecognizerSpec { model, path, language: Some("en".to_owned()), threads: 1, slots: 1 }).unwrap()
    });
    let heard = whisper.transcribe(clip, &TranscribeOptions::default(), &CancellationToken::new()).unwrap();
    words(&heard.text)
}

/// The words of a text, in lower case.
pub fn words(text: &str) -> Vec<String> {
    let letters = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    text.replace('\'', "").chars().map(letters).collect::<String>().split_whitespace().map(str::to_owned).collect()
}

/// Checks that most words of `text` are among those that were heard.
#[track_caller]
pub fn assert_heard(text: &str, heard: &[String]) {
    let wanted = words(text);
    assert!(missing(&wanted, heard) * 3 <= wanted.len(), "{wanted:?} was said, {heard:?} was heard");
}

/// How many of the words that were said were not heard.
pub fn missing(said: &[String], heard: &[String]) -> usize {
    said.iter().filter(|word| !heard.contains(word)).count()
}
