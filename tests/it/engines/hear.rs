use std::time::Duration;

use sidetone::audio::{Clip, resample};
use sidetone::engine::{EngineError, Recognizer, RecognizerSpec, TranscribeOptions, Whisper, recognizer};
use sidetone::home::Home;
use tokio_util::sync::CancellationToken;

use super::{model, whisper};

/// 11 s of speech, public domain: John F. Kennedy's inaugural address.
fn jfk() -> Vec<f32> {
    let clip = Clip::decode(include_bytes!("../../fixtures/audio/jfk.flac")).unwrap();
    resample(&clip.samples, clip.rate_hz, 16_000).unwrap()
}

fn hear(whisper: &Whisper, samples: &[f32]) -> String {
    whisper.transcribe(samples, &TranscribeOptions::default(), &CancellationToken::new()).unwrap().text
}

fn words(text: &str) -> String {
    text.to_lowercase().chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect()
}

const SAID: &str =
    "and so my fellow americans ask not what your country can do for you ask what you can do for your country";

#[test]
fn speech_is_written_down() {
    let Some(whisper) = whisper(1) else { return };
    let heard = whisper.transcribe(&jfk(), &TranscribeOptions::default(), &CancellationToken::new()).unwrap();
    assert_eq!(words(&heard.text), SAID);
    assert_eq!(heard.language.as_deref(), Some("en"));
    let last = heard.segments.last().unwrap();
    assert!(last.start_ms < last.end_ms && last.end_ms <= 11_000, "{last:?}");
    assert_eq!(whisper.languages(), ["en"]);
    // Shorter than whisper.cpp takes.
    assert!(words(&hear(&whisper, &jfk()[..16_000 * 9 / 10])).starts_with("and so"));
}

#[test]
fn more_than_a_window_is_heard_whole() {
    let Some(whisper) = whisper(1) else { return };
    let clip = jfk();
    let long: Vec<f32> = clip.iter().cycle().take(clip.len() * 4).copied().collect();
    let heard = whisper.transcribe(&long, &TranscribeOptions::default(), &CancellationToken::new()).unwrap();
    assert_eq!(words(&heard.text).matches("my fellow americans").count(), 4, "{}", heard.text);
    assert!(heard.segments.last().unwrap().end_ms > 40_000);
    assert!(heard.segments.is_sorted_by_key(|segment| segment.start_ms));
}

#[test]
fn silence_and_noise_say_nothing() {
    let Some(whisper) = whisper(1) else { return };
    let hum = |level: f32| (0..48_000).map(|at| (at as f32 * 0.0196).sin() * level).collect::<Vec<_>>();
    let mut seed = 1_u32;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    let noise: Vec<f32> = (0..48_000).map(|_| random() * 0.05).collect();
    let clips = [vec![0.0; 100], vec![0.0; 48_000], vec![f32::NAN; 16_000], hum(0.002), hum(0.05), noise];
    for (index, clip) in clips.iter().enumerate() {
        assert_eq!(hear(&whisper, clip), "", "clip {index}");
    }
}

#[test]
fn a_damaged_sample_does_not_spoil_the_rest() {
    let Some(whisper) = whisper(1) else { return };
    let mut clip = jfk();
    clip[5000] = f32::NAN;
    clip[90_000] = f32::INFINITY;
    assert_eq!(words(&hear(&whisper, &clip)), SAID);
}

#[test]
fn bad_requests_are_refused() {
    let Some(whisper) = whisper(1) else { return };
    let none = CancellationToken::new();
    let refused = |samples: &[f32], language: Option<&str>, prompt: Option<&str>| {
        let options = TranscribeOptions { language: language.map(str::to_owned), prompt: prompt.map(str::to_owned) };
        match whisper.transcribe(samples, &options, &none) {
            Err(EngineError::Invalid(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&[], None, None).contains("empty"));
    assert!(refused(&[0.1; 100], Some("de"), None).contains("only English"));
    assert!(refused(&[0.1; 100], None, Some("a\0b")).contains("NUL"));
    assert!(refused(&[0.1; 100], Some("en\0"), None).contains("only English"));
}

#[test]
fn a_long_prompt_is_cut_and_not_repeated() {
    let Some(whisper) = whisper(1) else { return };
    let options = TranscribeOptions { prompt: Some("Kennedy, ".repeat(400)), ..TranscribeOptions::default() };
    let heard = whisper.transcribe(&jfk(), &options, &CancellationToken::new()).unwrap();
    assert!(words(&heard.text).ends_with("what you can do for your country"), "{}", heard.text);
    // The next one in the same slot knows nothing of it.
    assert_eq!(words(&hear(&whisper, &jfk())), SAID);
}

#[test]
fn it_stops_when_cancelled_and_works_again() {
    let Some(whisper) = whisper(1) else { return };
    let long: Vec<f32> = jfk().iter().cycle().take(16_000 * 600).copied().collect();
    let cancel = CancellationToken::new();
    std::thread::scope(|scope| {
        let working = scope.spawn(|| whisper.transcribe(&long, &TranscribeOptions::default(), &cancel));
        // Ten minutes of speech take longer than this on any machine; if not, the assertion below tells.
        std::thread::sleep(Duration::from_millis(300));
        cancel.cancel();
        assert!(matches!(working.join().unwrap(), Err(EngineError::Cancelled)));
    });
    // Waiting for a slot that somebody else has ends as well: `cancel` has fired already.
    assert!(matches!(whisper.transcribe(&jfk(), &TranscribeOptions::default(), &cancel), Err(EngineError::Cancelled)));
    assert_eq!(words(&hear(&whisper, &jfk())), SAID);
}

#[test]
fn several_are_heard_at_once() {
    let Some(whisper) = whisper(2) else { return };
    let clip = jfk();
    std::thread::scope(|scope| {
        let heard: Vec<_> = (0..4).map(|_| scope.spawn(|| words(&hear(&whisper, &clip)))).collect();
        for one in heard {
            assert_eq!(one.join().unwrap(), SAID);
        }
    });
}

#[tokio::test]
async fn a_model_cut_off_does_not_load() {
    let Some(path) = model("whisper-tiny.en", "model.bin") else { return };
    let bytes = std::fs::read(path.join("model.bin")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for length in [10, 60, 100_000, bytes.len() / 4, bytes.len() / 2, bytes.len() - 3_000_000] {
        std::fs::write(dir.path().join("model.bin"), &bytes[..length]).unwrap();
        let spec = RecognizerSpec {
            model: "whisper-tiny.en".into(),
            path: dir.path().into(),
            language: None,
            threads: 1,
            slots: 1,
        };
        let error = recognizer("whisper", &spec, &Home::find(None)).await.err().unwrap();
        assert!(matches!(error, EngineError::Failed(_)), "{error}");
        assert!(error.to_string().contains("sidetone models fetch whisper-tiny.en"), "{error}");
    }
}

/// Speech whose end was heard twice while the encoder was given no silence behind the clip.
#[test]
fn the_end_of_an_answer_is_heard_once() {
    let Some(whisper) = whisper(1) else { return };
    let (lights, train, sky, pedal) = (
        "the lights in the kitchen are on",
        "the next train to hamburg leaves in 12 minutes from platform 4",
        // Said was 'scatters'.
        "the sky is blue because air scatter short waves of light more than long ones",
        "you can set the tempo by tapping the pedal twice",
    );
    let clips: [(&[u8], _); 2] = [
        (include_bytes!("../../fixtures/audio/said-lights-train-sky.flac"), [lights, train, sky]),
        (include_bytes!("../../fixtures/audio/said-train-sky-pedal.flac"), [train, sky, pedal]),
    ];
    for (clip, said) in clips {
        let clip = Clip::decode(clip).unwrap();
        let mut samples = resample(&clip.samples, clip.rate_hz, 16_000).unwrap();
        samples.extend([0.0; 8_000]);
        assert_eq!(words(&hear(&whisper, &samples)), said.join(" "));
    }
}

/// 'It is 3:18 PM.' by Piper, of which the quick try makes '3.8.8.8.8.8…'.
#[test]
fn a_loop_is_heard_again() {
    let Some(whisper) = whisper(1) else { return };
    let clip = Clip::decode(include_bytes!("../../fixtures/audio/loop.wav")).unwrap();
    let heard = words(&hear(&whisper, &resample(&clip.samples, clip.rate_hz, 16_000).unwrap()));
    assert!(heard.starts_with("it is 3") && heard.len() < 20, "{heard}");
}
