use super::*;
use crate::audio::ring::{Frame, Playback};
use crate::audio::wav_bytes;

const PATIENCE: Duration = Duration::from_secs(20);

fn settings() -> JackSettings {
    JackSettings { playback_ms: 200, ..JackSettings::for_listener("test") }
}

/// Waits for what `look` finds.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn up(source: &Source) -> (u32, Capture, Playback) {
    match until(|| source.event().ok()) {
        AudioEvent::Up { rate_hz, capture, playback, .. } => (rate_hz, capture, playback),
        other => panic!("expected the source to come up, got {other:?}"),
    }
}

/// Reads until there are `frames`.
fn read(capture: &mut Capture, frames: usize) -> Vec<Frame> {
    let mut heard = Vec::new();
    until(|| {
        capture.read_frames(&mut heard);
        (heard.len() >= frames).then_some(())
    });
    heard
}

fn recording(samples: &[f32], rate_hz: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), wav_bytes(samples, rate_hz).unwrap()).unwrap();
    file
}

#[test]
fn a_source_is_known_by_its_name() {
    assert_eq!("jack".parse::<SourceKind>().unwrap(), SourceKind::Jack);
    assert_eq!("file:/a:b.wav".parse::<SourceKind>().unwrap(), SourceKind::File("/a:b.wav".into()));
    for wrong in ["", "file:", "alsa", "jack:x"] {
        let error = wrong.parse::<SourceKind>().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("there is no source {wrong:?}; there are: \"jack\", and \"file:PATH\" for a recording")
        );
    }
}

#[test]
fn a_file_is_heard_whole_faster_than_it_was_recorded_and_then_there_is_silence() {
    // Half a minute: longer than anything here waits, and not so long that a busy machine takes as long for it.
    let samples: Vec<f32> = (0..240_000_u32).map(|n| ((n % 1_000) as f32 * 0.05).sin() * 0.5).collect();
    let file = recording(&samples, 8_000);
    let source = Source::file(file.path(), Pace::Fast, settings(), false).unwrap();
    let (rate_hz, mut capture, _playback) = up(&source);
    assert_eq!(rate_hz, 8_000);
    // More than there is: time goes on after the end.
    let heard = read(&mut capture, samples.len() + 400);
    assert_eq!(capture.dropped_frames(), 0);
    let close = |(heard, sample): (&Frame, &f32)| (heard.mic - sample).abs() < 1e-3;
    assert!(heard.iter().zip(&samples).all(close));
    assert!(heard[samples.len()..].iter().all(|frame| frame.mic == 0.0));
}

#[test]
fn a_file_is_heard_as_it_was_recorded_and_what_is_played_stands_beside_it() {
    let file = recording(&[0.25; 2_400], 8_000);
    let source = Source::file(file.path(), Pace::Recorded, settings(), false).unwrap();
    let begun = Instant::now();
    let (_, mut capture, mut playback) = up(&source);
    assert_eq!(playback.write(&[0.5; 400]), 400);
    playback.end();
    let heard = read(&mut capture, 2_400);
    assert!(begun.elapsed() >= Duration::from_millis(250), "it came too soon");
    assert!(playback.is_drained());
    let played = heard.iter().filter(|frame| frame.reference == 0.5).count();
    assert_eq!(played, 400);
}

#[test]
fn a_file_that_is_no_audio_is_said_by_its_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"no audio at all").unwrap();
    assert!(matches!(Source::file(file.path(), Pace::Fast, settings(), false), Err(SourceError::Clip(_))));
    let missing = Source::file(Path::new("/no/such.wav"), Pace::Fast, settings(), false).unwrap_err();
    assert!(missing.to_string().contains("/no/such.wav"), "{missing}");
}

#[test]
fn a_stream_is_heard_as_it_arrives_and_hears_what_is_played() {
    let (chunks, chunks_in) = mpsc::sync_channel(4);
    let (played_out, played) = mpsc::sync_channel(64);
    let source = Source::stream(8_000, chunks_in, played_out, &settings()).unwrap();
    let (rate_hz, mut capture, mut playback) = up(&source);
    assert_eq!(rate_hz, 8_000);
    playback.write(&[0.5; 300]);
    for number in 0..10_u8 {
        chunks.send(vec![f32::from(number) / 10.0; 100]).unwrap();
    }
    let heard = read(&mut capture, 1_000);
    let mics: Vec<f32> = heard.iter().map(|frame| frame.mic).filter(|mic| *mic != 0.0).collect();
    let sent: Vec<f32> = (1..10_u8).flat_map(|number| [f32::from(number) / 10.0; 100]).collect();
    assert_eq!(mics, sent);
    let mut sounded = Vec::new();
    while sounded.len() < heard.len() {
        sounded.extend(played.recv_timeout(PATIENCE).unwrap());
    }
    let references: Vec<f32> = heard.iter().map(|frame| frame.reference).collect();
    assert_eq!(sounded[..heard.len()], references);
    assert_eq!(sounded.iter().filter(|sample| **sample == 0.5).count(), 300);

    // Time goes on while nothing arrives.
    read(&mut capture, 800);
    drop(chunks);
    let down = until(|| source.event().ok());
    assert!(matches!(&down, AudioEvent::Down { reason } if reason.contains("has gone")), "{down:?}");
}

#[test]
fn a_sender_that_is_ahead_waits_for_the_listener() {
    let (chunks, chunks_in) = mpsc::sync_channel(1);
    let (played_out, _played) = mpsc::sync_channel(1);
    let rings = JackSettings { capture_ms: 100, ..settings() };
    let source = Source::stream(8_000, chunks_in, played_out, &rings).unwrap();
    let (_, mut capture, _playback) = up(&source);
    let sending = std::thread::spawn(move || {
        for _ in 0..100 {
            chunks.send(vec![0.5; 80]).unwrap();
        }
        chunks
    });
    let mut heard = Vec::new();
    let spoken = |heard: &[Frame]| heard.iter().filter(|frame| frame.mic == 0.5).count();
    until(|| {
        capture.read_frames(&mut heard);
        (spoken(&heard) == 8_000).then_some(())
    });
    assert_eq!(capture.dropped_frames(), 0);
    drop(sending.join().unwrap());
}
