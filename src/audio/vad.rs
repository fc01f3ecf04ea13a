//! Tells speech from everything else, frame by frame.
//!
//! A detector is a row in [`VADS`]. All take mono at [`VAD_RATE_HZ`], in frames of their own length.

use std::path::Path;

/// The sample rate that every detector takes, in Hz.
pub const VAD_RATE_HZ: u32 = 16_000;

/// A voice activity detector, with the state of one stream.
pub trait Vad: Send {
    /// Its name, as in [`VADS`].
    fn name(&self) -> &'static str;
    /// How many samples [`Vad::speech`] takes at a time.
    fn frame_len(&self) -> usize;
    /// The probability, 0 to 1, that the next frame of the stream is speech. A frame of another length than
    /// [`Vad::frame_len`] is padded with silence or cut.
    fn speech(&mut self, frame: &[f32]) -> f32;
    /// Forgets the stream so far: the next frame is from elsewhere.
    fn reset(&mut self);
}

/// A detector that can be had by name.
pub struct VadRow {
    /// What a configuration calls it.
    pub name: &'static str,
    /// What it is good for, in a line.
    pub about: &'static str,
    build: fn(models: &Path) -> Result<Box<dyn Vad>, VadError>,
}

/// Every detector.
pub const VADS: &[VadRow] = &[
    VadRow {
        name: "earshot",
        about: "small network in pure Rust, no model to fetch, 16 ms frames",
        build: |_| Ok(usual_vad()),
    },
    VadRow { name: "silero", about: "Silero VAD by sherpa-onnx, steadier in noise, 32 ms frames", build: build_silero },
];

/// Why a detector can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VadError {
    /// No such row.
    #[error("there is no VAD '{name}'; there are: {offered}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        offered: String,
    },
    /// The program was built without it.
    #[error("VAD 'silero' is not compiled in; build with feature 'sherpa', or set voice.vad to 'earshot'")]
    NotCompiled,
    /// Its model is not there.
    #[error(
        "VAD 'silero' needs its model at {path}; fetch it with 'sidetone models fetch silero-vad', or set voice.vad to 'earshot'"
    )]
    ModelMissing {
        /// Where the model should be.
        path: String,
    },
    /// Its model is there and can't be used.
    #[error("VAD 'silero' can't load {path}; fetch it again with 'sidetone models fetch silero-vad'")]
    ModelBroken {
        /// Where the model is.
        path: String,
    },
}

/// Builds the detector `name`; models are looked for in `models`, a folder each (see `Home::models`).
///
/// # Errors
/// [`VadError`], which says what to do.
pub fn build_vad(name: &str, models: &Path) -> Result<Box<dyn Vad>, VadError> {
    let row = VADS.iter().find(|row| row.name == name).ok_or_else(|| VadError::Unknown {
        name: name.to_owned(),
        offered: VADS.iter().map(|row| row.name).collect::<Vec<_>>().join(", "),
    })?;
    (row.build)(models)
}

/// The detector that needs no model.
#[must_use]
pub fn usual_vad() -> Box<dyn Vad> {
    Box::new(Earshot::new())
}

/// Copies `frame` into `fixed`, whatever its length, as finite samples within full scale.
fn fit(frame: &[f32], fixed: &mut [f32]) {
    let (head, tail) = fixed.split_at_mut(frame.len().min(fixed.len()));
    for (to, &from) in head.iter_mut().zip(frame) {
        *to = if from.is_finite() { from.clamp(-1.0, 1.0) } else { 0.0 };
    }
    tail.fill(0.0);
}

struct Earshot {
    detector: Box<earshot::Detector>,
    frame: [f32; Self::FRAME],
}

impl Earshot {
    const FRAME: usize = 256;

    fn new() -> Self {
        Self { detector: Box::default(), frame: [0.0; Self::FRAME] }
    }
}

impl Vad for Earshot {
    fn name(&self) -> &'static str {
        "earshot"
    }

    fn frame_len(&self) -> usize {
        Self::FRAME
    }

    fn speech(&mut self, frame: &[f32]) -> f32 {
        fit(frame, &mut self.frame);
        self.detector.predict_f32(&self.frame).clamp(0.0, 1.0)
    }

    fn reset(&mut self) {
        self.detector.reset();
    }
}

#[cfg(not(feature = "sherpa"))]
fn build_silero(_models: &Path) -> Result<Box<dyn Vad>, VadError> {
    Err(VadError::NotCompiled)
}

#[cfg(feature = "sherpa")]
fn build_silero(models: &Path) -> Result<Box<dyn Vad>, VadError> {
    silero::Silero::new(models).map(|vad| Box::new(vad) as Box<dyn Vad>)
}

#[cfg(feature = "sherpa")]
mod silero {
    use std::path::Path;

    use sherpa_onnx::{SileroVadModelConfig, VadModelConfig, VoiceActivityDetector};

    use super::{VAD_RATE_HZ, Vad, VadError, fit};

    /// sherpa gives a yes or no, not a probability. Its own smoothing is set as short as it goes, since the segmenter
    /// has its own; the threshold is what Silero recommends.
    pub struct Silero {
        detector: VoiceActivityDetector,
        frame: [f32; Self::FRAME],
    }

    impl Silero {
        const FRAME: usize = 512;
        const THRESHOLD: f32 = 0.5;
        /// Speech and silence that sherpa wants to see before it changes its mind, in seconds: one frame.
        const STEADY_S: f32 = 0.032;
        /// From this length of speech on sherpa raises its threshold to find an end; and it keeps that much audio.
        const LONGEST_S: f32 = 120.0;

        pub fn new(models: &Path) -> Result<Self, VadError> {
            let model = models.join("silero-vad/model.onnx");
            let path = model.display().to_string();
            if !model.is_file() {
                return Err(VadError::ModelMissing { path });
            }
            let config = VadModelConfig {
                silero_vad: SileroVadModelConfig {
                    model: Some(path.clone()),
                    threshold: Self::THRESHOLD,
                    min_silence_duration: Self::STEADY_S,
                    min_speech_duration: Self::STEADY_S,
                    window_size: Self::FRAME as i32,
                    max_speech_duration: Self::LONGEST_S,
                },
                sample_rate: VAD_RATE_HZ as i32,
                num_threads: 1,
                provider: Some("cpu".to_owned()),
                ..VadModelConfig::default()
            };
            let detector =
                VoiceActivityDetector::create(&config, Self::LONGEST_S).ok_or(VadError::ModelBroken { path })?;
            Ok(Self { detector, frame: [0.0; Self::FRAME] })
        }
    }

    impl Vad for Silero {
        fn name(&self) -> &'static str {
            "silero"
        }

        fn frame_len(&self) -> usize {
            Self::FRAME
        }

        fn speech(&mut self, frame: &[f32]) -> f32 {
            fit(frame, &mut self.frame);
            self.detector.accept_waveform(&self.frame);
            // sherpa cuts segments of its own, which would pile up.
            self.detector.clear();
            f32::from(u8::from(self.detector.detected()))
        }

        fn reset(&mut self) {
            self.detector.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Clip;
    use crate::home::Home;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio");

    fn clip(name: &str) -> Vec<f32> {
        let clip = Clip::decode(&std::fs::read(format!("{FOLDER}/{name}")).unwrap()).unwrap();
        assert_eq!(clip.rate_hz, VAD_RATE_HZ);
        clip.samples
    }

    fn share_of_speech(vad: &mut dyn Vad, samples: &[f32]) -> f32 {
        let frames: Vec<bool> = samples.chunks_exact(vad.frame_len()).map(|frame| vad.speech(frame) >= 0.5).collect();
        frames.iter().filter(|&&speech| speech).count() as f32 / frames.len() as f32
    }

    /// White noise at `level`, the same each time (xorshift32).
    fn noise(seconds: usize, level: f32) -> Vec<f32> {
        let mut state = 0x9E37_79B9_u32;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state as f32 / u32::MAX as f32 * 2.0 - 1.0) * level
        })
        .take(seconds * VAD_RATE_HZ as usize)
        .collect()
    }

    /// Every detector that is compiled in and whose model is there.
    fn all() -> Vec<Box<dyn Vad>> {
        let models = Home::find(None).models();
        VADS.iter()
            .filter_map(|row| match build_vad(row.name, &models) {
                Ok(vad) => Some(vad),
                Err(VadError::NotCompiled) => None,
                Err(err) if std::env::var_os("CI").is_none() => {
                    eprintln!("skipped: {err}");
                    None
                }
                Err(err) => panic!("{err}"),
            })
            .collect()
    }

    #[test]
    fn speech_is_heard() {
        for mut vad in all() {
            for name in ["jfk.flac", "computer-01.wav", "computer-02.flac", "computer-03.flac", "computer-04.flac"] {
                vad.reset();
                let share = share_of_speech(vad.as_mut(), &clip(name));
                assert!((0.1..=0.9).contains(&share), "{}: {share} of {name} is speech", vad.name());
            }
        }
    }

    #[test]
    fn silence_and_noise_are_not() {
        for mut vad in all() {
            for (what, samples) in
                [("silence", vec![0.0; 160_000]), ("faint noise", noise(10, 0.001)), ("noise", noise(10, 0.05))]
            {
                vad.reset();
                let share = share_of_speech(vad.as_mut(), &samples);
                // earshot takes the beginning of loud noise for speech, and then no more of it.
                assert!(share < 0.05, "{}: {share} of {what} is speech", vad.name());
            }
        }
    }

    #[test]
    fn broken_samples_and_frames_of_any_length_are_taken() {
        for mut vad in all() {
            for frame in [&[f32::NAN; 512][..], &[f32::INFINITY; 512], &[1e9; 512], &[0.5; 3], &[0.1; 5000], &[]] {
                assert!((0.0..=1.0).contains(&vad.speech(frame)), "{}", vad.name());
            }
            vad.reset();
            assert!(share_of_speech(vad.as_mut(), &clip("jfk.flac")) > 0.2, "{} never recovers", vad.name());
        }
    }

    #[test]
    fn after_a_reset_the_same_audio_gives_the_same() {
        let samples = clip("jfk.flac");
        for mut vad in all() {
            let first = share_of_speech(vad.as_mut(), &samples);
            vad.reset();
            assert_eq!(share_of_speech(vad.as_mut(), &samples), first, "{}", vad.name());
        }
    }

    #[test]
    fn what_can_not_be_had_says_what_to_do() {
        let nowhere = Path::new("no-such-folder");
        let error = build_vad("webrtc", nowhere).err().unwrap();
        assert_eq!(error.to_string(), "there is no VAD 'webrtc'; there are: earshot, silero");
        let error = build_vad("silero", nowhere).err().unwrap();
        let wanted = if cfg!(feature = "sherpa") { "sidetone models fetch silero-vad" } else { "feature 'sherpa'" };
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
