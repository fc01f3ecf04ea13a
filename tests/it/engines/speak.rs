use std::ops::ControlFlow;
use std::path::PathBuf;

use sidetone::engine::{
    EngineError, Piper, Recognizer, SpeakOptions, Synthesizer, SynthesizerSpec, TranscribeOptions, synthesizer,
};
use sidetone::home::Home;
use tokio_util::sync::CancellationToken;

use super::{model, need, whisper};
use crate::support::{VOICE, steady_voice};

/// The voice as it is.
fn piper() -> Option<Piper> {
    piper_of(model(VOICE, "model.onnx")?)
}

/// The voice as it says a text the same way each time.
fn steady_piper() -> Option<Piper> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(VOICE);
    steady_voice(&model(VOICE, "model.onnx")?, &path);
    piper_of(path)
}

fn piper_of(path: PathBuf) -> Option<Piper> {
    let espeak = std::process::Command::new("espeak-ng").arg("--version").output().is_ok();
    if !need(espeak, "the program espeak-ng") {
        return None;
    }
    Some(Piper::load(&SynthesizerSpec { voice: VOICE.into(), path, threads: 1 }).expect("the voice must load"))
}

/// What is said, in the chunks that it comes in.
fn say(piper: &Piper, text: &str, speed: f32) -> Vec<Vec<f32>> {
    let mut chunks = vec![];
    piper
        .speak(text, &SpeakOptions { speed }, &mut |samples| {
            chunks.push(samples.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    chunks
}

/// Linear interpolation to the recognizer's rate: good enough to be understood.
fn resample(samples: &[f32], rate_hz: u32) -> Vec<f32> {
    let step = f64::from(rate_hz) / 16_000.0;
    let count = (samples.len() as f64 / step) as usize;
    let at = |index: usize| samples.get(index).copied().unwrap_or(0.0);
    (0..count)
        .map(|index| {
            let place = index as f64 * step;
            let share = place.fract() as f32;
            at(place as usize) * (1.0 - share) + at(place as usize + 1) * share
        })
        .collect()
}

#[test]
fn what_is_said_is_understood() {
    let (Some(piper), Some(whisper)) = (steady_piper(), whisper(1)) else { return };
    assert_eq!((piper.language(), piper.rate_hz(), piper.voice()), ("en-US", 22_050, VOICE));
    for (text, expected) in [
        ("Hello there, my friend.", "hello there my friend"),
        (
            "Mr. Smith went to Washington, and he never came back; nobody knows why.",
            "mr smith went to washington and he never came back nobody knows why",
        ),
        (
            "The quick brown fox jumps over the lazy dog. Then it runs away!",
            "the quick brown fox jumps over the lazy dog then it runs away",
        ),
    ] {
        let samples = say(&piper, text, 1.0).concat();
        assert!(samples.iter().all(|sample| sample.abs() <= 1.0));
        let clip = resample(&samples, piper.rate_hz());
        let heard = whisper.transcribe(&clip, &TranscribeOptions::default(), &CancellationToken::new()).unwrap().text;
        let heard: String = heard.to_lowercase().chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect();
        assert_eq!(heard.trim(), expected);
    }
}

#[test]
fn the_first_clause_comes_alone_and_sentences_apart() {
    let Some(piper) = piper() else { return };
    assert_eq!(say(&piper, "Well, yes.", 1.0).len(), 1);
    assert_eq!(say(&piper, "After a very long rest, the fox runs away, far away. It is gone.", 1.0).len(), 3);
    // One clause without any mark, longer than espeak-ng's lines may be.
    let chunks = say(&piper, &"and so on ".repeat(60), 1.0);
    assert!(chunks.len() > 1, "{}", chunks.len());
    // The voice sets in at once: within 20 ms something is louder than silence.
    assert!(chunks[0][..441].iter().any(|sample| sample.abs() > 0.003));
}

#[test]
fn a_higher_speed_is_shorter() {
    let Some(piper) = piper() else { return };
    let length = |speed| say(&piper, "The quick brown fox jumps over the lazy dog.", speed).concat().len();
    assert!(length(1.6) < length(1.0) && length(1.0) < length(0.6));
    assert!(length(f32::NAN) > 0);
}

#[test]
fn nothing_to_pronounce_is_no_error() {
    let Some(piper) = piper() else { return };
    for text in ["", " ", "...", "?!", "—", "\n", "🎉"] {
        let chunks = say(&piper, text, 1.0);
        assert!(chunks.len() <= 1, "{text:?}");
    }
    assert_eq!(say(&piper, "...", 1.0).len(), 0);
    assert!(!say(&piper, "[[h@l'oU]] \0 <b>hello</b> & so on", 1.0).concat().is_empty());
}

#[test]
fn it_stops_when_told() {
    let Some(piper) = piper() else { return };
    let mut chunks = 0;
    let stopped = piper.speak("One. Two. Three.", &SpeakOptions::default(), &mut |_| {
        chunks += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(EngineError::Cancelled)));
    assert_eq!(chunks, 1);
}

#[test]
fn several_speak_at_once() {
    let Some(piper) = piper() else { return };
    std::thread::scope(|scope| {
        let said: Vec<_> =
            (0..3).map(|_| scope.spawn(|| say(&piper, "One, two, three.", 1.0).concat().len())).collect();
        for one in said {
            assert!(one.join().unwrap() > 10_000);
        }
    });
}

#[tokio::test]
async fn a_voice_cut_off_does_not_end_the_process() {
    let Some(path) = model(VOICE, "model.onnx") else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokens.txt", "voice.json"] {
        std::fs::copy(path.join(name), dir.path().join(name)).unwrap();
    }
    let bytes = std::fs::read(path.join("model.onnx")).unwrap();
    for length in [100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(dir.path().join("model.onnx"), &bytes[..length]).unwrap();
        let spec = SynthesizerSpec { voice: VOICE.into(), path: dir.path().into(), threads: 1 };
        let error = synthesizer("piper", &spec, &Home::find(None)).await.err().unwrap();
        assert!(error.to_string().contains("it is cut off; fetch it again"), "{error}");
    }
}
