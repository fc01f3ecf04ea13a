//! Text to speech with [Piper](https://github.com/OHF-Voice/piper1-gpl) voices by
//! [sherpa-onnx](https://github.com/k2-fsa/sherpa-onnx).

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt as _;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sherpa_onnx::{GenerationConfig, OfflineTts, OfflineTtsConfig, OfflineTtsModelConfig, OfflineTtsVitsModelConfig};

use super::clause::clauses;
use super::espeak::Espeak;
use super::table::load;
use super::{EngineError, Finding, Needs, SpeakOptions, Synthesizer, SynthesizerRow, SynthesizerSpec};
use super::{default_threads, onnx};
use crate::models::ModelKind;
use crate::process;

/// The first piece of a text may end at any clause once it has this many phonemes, about one and a half seconds: it is
/// spoken while the next is made.
const FIRST_PHONEMES: usize = 16;
/// Later pieces end with a sentence, or at a clause once they have this many, about six seconds.
const PIECE_PHONEMES: usize = 70;
/// What sherpa-onnx reads from the model's metadata; without one of these it ends the process.
const METADATA: &[&str] = &["model_type", "comment", "language", "voice", "has_espeak", "n_speakers", "sample_rate"];
/// Without an arena, memory goes back after each piece: a sentence of 6 s took 180 MB for good, against a tenth more time.
/// Without spinning, threads that are short of a core do not hold up each other.
const SESSION_OPTIONS: &str = "EnableCpuMemArena=0\nsession.intra_op.allow_spinning=0\n";
/// Quieter than this (−50 dBFS) is the silence before a voice sets in.
const ONSET: f32 = 0.003;
/// How much of that silence is kept, in ms.
const LEAD_IN_MS: usize = 10;

inventory::submit! {
    SynthesizerRow {
        name: "piper",
        about: "Piper voices by sherpa-onnx and espeak-ng",
        needs: Needs { model: Some(ModelKind::Piper), ..Needs::NOTHING },
        build: |spec, _| load(spec, |spec| Ok(Arc::new(Piper::load(spec)?) as Arc<dyn Synthesizer>)),
        check: Some(|_, _| async { vec![check().await] }.boxed()),
    }
}

/// Whether there is what makes phonemes of text.
async fn check() -> Finding {
    let (what, todo) = ("espeak-ng", "install it, such as by `apt install espeak-ng`".to_owned());
    match process::answer(Path::new(what), &["--version"]).await {
        Ok(Some(text)) => {
            let detail = process::version(&text).map_or("unknown version", |(version, _)| version).to_owned();
            Finding::Ok { what, detail }
        }
        Ok(None) => Finding::Fail { what, detail: "there is no program espeak-ng".to_owned(), todo },
        Err(why) => Finding::Fail { what, detail: format!("espeak-ng does not run ({why})"), todo },
    }
}

/// A Piper voice in memory.
pub struct Piper {
    voice: String,
    language: String,
    rate_hz: u32,
    tts: OfflineTts,
    espeak: Espeak,
    phonemes: HashSet<char>,
}

/// The parts of Piper's `voice.json` that are needed here.
#[derive(Deserialize)]
struct Voice {
    espeak: EspeakVoice,
    language: Option<Language>,
    #[serde(default)]
    inference: Inference,
    phoneme_id_map: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct EspeakVoice {
    voice: String,
}

#[derive(Deserialize)]
struct Language {
    code: String,
}

#[derive(Deserialize)]
#[serde(default)]
struct Inference {
    noise_scale: f32,
    length_scale: f32,
    noise_w: f32,
}

impl Default for Inference {
    fn default() -> Self {
        Self { noise_scale: 0.667, length_scale: 1.0, noise_w: 0.8 }
    }
}

impl Piper {
    /// Loads a voice from its folder and starts its phonemizer.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when a file of the voice or espeak-ng is missing, [`EngineError::Failed`] when the voice is
    /// damaged or was not converted for sherpa-onnx.
    pub fn load(spec: &SynthesizerSpec) -> Result<Self, EngineError> {
        let model = file(spec, "model.onnx")?;
        let tokens = file(spec, "tokens.txt")?;
        let voice: Voice = json(spec, &file(spec, "voice.json")?)?;
        let damaged = |why: &str| {
            EngineError::Failed(format!(
                "the voice {} does not load: {model}: {why}; fetch it again by `sidetone models fetch {}`",
                spec.voice, spec.voice
            ))
        };
        let metadata = onnx::metadata(Path::new(&model)).map_err(|why| damaged(&why))?;
        if let Some(missing) = METADATA.iter().find(|key| !metadata.contains_key(**key)) {
            return Err(damaged(&format!("it was not converted for sherpa-onnx (its metadata lacks {missing:?})")));
        }
        let espeak = Espeak::new("espeak-ng", &voice.espeak.voice)?;
        let threads = if spec.threads == 0 { default_threads() } else { spec.threads };
        let session = session_options().map_err(|error| damaged(&format!("no memory for its options ({error})")))?;
        let config = OfflineTtsConfig {
            model: OfflineTtsModelConfig {
                vits: OfflineTtsVitsModelConfig {
                    model: Some(model.clone()),
                    tokens: Some(tokens),
                    noise_scale: voice.inference.noise_scale,
                    noise_scale_w: voice.inference.noise_w,
                    length_scale: voice.inference.length_scale,
                    ..OfflineTtsVitsModelConfig::default()
                },
                num_threads: i32::try_from(threads).unwrap_or(1),
                provider: Some(format!("cpu:/proc/self/fd/{}", session.as_raw_fd())),
                ..OfflineTtsModelConfig::default()
            },
            max_num_sentences: 1,
            silence_scale: 1.0,
            ..OfflineTtsConfig::default()
        };
        let tts = OfflineTts::create(&config).ok_or_else(|| damaged("sherpa-onnx refuses it"))?;
        let rate_hz = u32::try_from(tts.sample_rate()).ok().filter(|rate| *rate > 0);
        Ok(Self {
            voice: spec.voice.clone(),
            language: voice.language.map_or(voice.espeak.voice, |language| language.code).replace('_', "-"),
            rate_hz: rate_hz.ok_or_else(|| damaged("it has no sample rate"))?,
            tts,
            espeak,
            phonemes: voice.phoneme_id_map.into_keys().filter_map(|key| single(&key)).collect(),
        })
    }

    /// The samples of one piece, given as phonemes.
    fn synthesize(&self, phonemes: &str, speed: f32, leads: bool) -> Result<Vec<f32>, EngineError> {
        let codepoints = phonemes.chars().filter_map(|c| i32::try_from(u32::from(c)).ok()).collect();
        let config = GenerationConfig {
            speed,
            // The voices make their own pauses; the default shortens them to a fifth.
            silence_scale: 1.0,
            phoneme_codepoints: Some(vec![codepoints]),
            ..GenerationConfig::default()
        };
        let audio = self.tts.generate_with_config("", &config, None::<fn(&[f32], f32) -> bool>);
        let audio = audio.ok_or_else(|| EngineError::Failed(format!("the voice {} gave no audio", self.voice)))?;
        let samples = audio.samples();
        let lead_in = LEAD_IN_MS * self.rate_hz as usize / 1000;
        let onset = if leads { samples.iter().position(|sample| sample.abs() > ONSET).unwrap_or(0) } else { 0 };
        Ok(samples[onset.saturating_sub(lead_in)..].to_vec())
    }
}

impl Synthesizer for Piper {
    fn voice(&self) -> &str {
        &self.voice
    }

    fn language(&self) -> &str {
        &self.language
    }

    fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn speak(
        &self,
        text: &str,
        options: &SpeakOptions,
        chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let speed = if options.speed.is_finite() { options.speed.clamp(0.5, 2.0) } else { 1.0 };
        let clauses = clauses(text);
        let mut piece = String::new();
        let mut first = true;
        for (index, clause) in clauses.iter().enumerate() {
            let phonemes = self.espeak.phonemes(clause.text)?;
            let known = phonemes.chars().filter(|c| self.phonemes.contains(c));
            if !piece.is_empty() {
                piece.push(' ');
            }
            piece.extend(known);
            piece.extend(clause.mark);
            let enough = if first { FIRST_PHONEMES } else { PIECE_PHONEMES };
            let last = index + 1 == clauses.len();
            let ends = last || clause.ends_sentence() || piece.chars().count() >= enough;
            if !ends || !piece.contains(char::is_alphabetic) {
                continue;
            }
            let samples = self.synthesize(&piece, speed, first)?;
            if chunk(&samples).is_break() {
                return Err(EngineError::Cancelled);
            }
            piece.clear();
            first = false;
        }
        Ok(())
    }
}

/// Options of the ONNX runtime, as a file in memory: sherpa-onnx takes more than its own few from a file only.
fn session_options() -> std::io::Result<File> {
    let mut file = File::from(memfd_create("sidetone-onnx", MemfdFlags::CLOEXEC)?);
    file.write_all(SESSION_OPTIONS.as_bytes())?;
    Ok(file)
}

fn single(key: &str) -> Option<char> {
    let mut chars = key.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// The path of one of the voice's files.
fn file(spec: &SynthesizerSpec, name: &str) -> Result<String, EngineError> {
    let path = spec.path.join(name);
    let text = path.to_str().filter(|path| !path.contains('\0'));
    match text {
        Some(text) if path.metadata().is_ok_and(|found| found.is_file() && found.len() > 0) => Ok(text.to_owned()),
        Some(text) => Err(EngineError::Missing(format!(
            "the voice {} is not complete: there is no {text}; fetch it by `sidetone models fetch {}`",
            spec.voice, spec.voice
        ))),
        None => Err(EngineError::Invalid(format!("sherpa-onnx can't open {}: it is not UTF-8", path.display()))),
    }
}

fn json<T: DeserializeOwned>(spec: &SynthesizerSpec, path: &str) -> Result<T, EngineError> {
    let bad = |why: String| EngineError::Failed(format!("the voice {} does not load: {path}: {why}", spec.voice));
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| bad(format!("it is no description of a Piper voice ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(path: &Path) -> SynthesizerSpec {
        SynthesizerSpec { voice: "en-x".into(), path: path.into(), threads: 1 }
    }

    fn load_error(path: &Path) -> EngineError {
        Piper::load(&spec(path)).err().unwrap()
    }

    #[test]
    fn an_incomplete_or_damaged_voice_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = load_error(dir.path());
        assert!(matches!(error, EngineError::Missing(_)));
        assert!(error.to_string().ends_with("model.onnx; fetch it by `sidetone models fetch en-x`"), "{error}");

        let voice = r#"{"espeak":{"voice":"en-us"},"phoneme_id_map":{"a":[1]}}"#;
        for (name, content) in [("model.onnx", "<html>"), ("tokens.txt", "a 1"), ("voice.json", "{}")] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let error = load_error(dir.path());
        assert!(error.to_string().contains("no description of a Piper voice (missing field `espeak`"), "{error}");

        std::fs::write(dir.path().join("voice.json"), voice).unwrap();
        let error = load_error(dir.path());
        assert!(matches!(error, EngineError::Failed(_)));
        assert!(error.to_string().contains("model.onnx: it is no ONNX model; fetch it again"), "{error}");

        // A graph of one byte and no metadata: Piper's own export.
        std::fs::write(dir.path().join("model.onnx"), [0x3a, 1, 0]).unwrap();
        let error = load_error(dir.path());
        assert!(
            error.to_string().contains("was not converted for sherpa-onnx (its metadata lacks \"model_type\")"),
            "{error}"
        );
    }
}
