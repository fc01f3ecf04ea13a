//! `transcribe`: every kind of recording.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sidetone::audio::{Clip, resample, wav_bytes};

use super::host::{NAME, Site, finish};
use crate::support::nats::program;

const JFK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/jfk.flac");

fn jfk() -> Vec<f32> {
    let clip = Clip::decode(&std::fs::read(JFK).unwrap()).unwrap();
    assert_eq!(clip.rate_hz, 16_000);
    clip.samples
}

/// Writes a WAV of `channels` equal channels.
fn wav(site: &Site, name: &str, samples: &[f32], rate_hz: u32, bits: u16, channels: u16) -> PathBuf {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels, sample_rate: rate_hz, bits_per_sample: bits, sample_format };
    let path = site.file(name);
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    let full_scale = f32::from(i16::MAX >> (16 - bits));
    for sample in samples {
        for _ in 0..channels {
            writer.write_sample((sample * full_scale) as i32).unwrap();
        }
    }
    writer.finalize().unwrap();
    path
}

/// What is heard, in lower case without punctuation.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect::<String>().to_lowercase()
}

#[test]
fn recordings_of_any_format_are_heard() {
    let Some(site) = Site::with("stt") else { return };
    let samples = jfk();
    let studio = resample(&samples, 16_000, 96_000).unwrap();
    for file in [
        PathBuf::from(JFK),
        wav(&site, "studio.wav", &studio, 96_000, 16, 2),
        wav(&site, "8-bit.wav", &samples, 16_000, 8, 1),
        wav(&site, "surround.wav", &samples, 16_000, 16, 8),
    ] {
        let heard = plain(&site.run(&["transcribe", file.to_str().unwrap()]).text());
        // The noise of 8 bits costs a letter here and there.
        assert!(heard.contains("so my fellow america") && heard.contains("do for your country"), "{file:?}: {heard}");
    }
}

#[test]
fn a_long_recording_is_cut_and_its_times_are_those_of_the_file() {
    let Some(site) = Site::with("stt") else { return };
    let one = jfk();
    // Three times with 4 s between, so that no two fit into one piece.
    let gap = vec![0.0; 64_000];
    let samples = [one.as_slice(), &gap, &one, &gap, &one].concat();
    let file = wav(&site, "long.wav", &samples, 16_000, 16, 1);
    let heard = site.run(&["transcribe", "--json", file.to_str().unwrap()]).json();
    assert_eq!(heard["audio_ms"], samples.len() as u64 / 16);
    assert_eq!((heard["model"].as_str(), heard["language"].as_str()), (Some("whisper-tiny.en"), Some("en")));
    assert_eq!(plain(heard["text"].as_str().unwrap()).matches("fellow americans").count(), 3, "{heard}");
    let starts: Vec<u64> =
        heard["segments"].as_array().unwrap().iter().map(|segment| segment["start_ms"].as_u64().unwrap()).collect();
    for start_ms in [0, 15_000, 30_000] {
        let near = |start: &u64| start.abs_diff(start_ms) < 1_500;
        assert!(starts.iter().any(near), "no segment starts near {start_ms} ms: {starts:?}");
    }
}

#[test]
fn what_is_there_of_a_file_that_was_cut_short_is_heard() {
    let Some(site) = Site::with("stt") else { return };
    let whole = wav_bytes(&jfk(), 16_000).unwrap();
    let file = site.file("cut.wav");
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let done = site.run(&["transcribe", file.to_str().unwrap()]);
    assert!(done.stderr.contains("cut.wav: the file ends before its header says"), "{}", done.stderr);
    assert!(plain(&done.text()).contains("fellow americans"));
}

#[test]
fn standard_input_is_read() {
    let Some(site) = Site::with("stt") else { return };
    let done = finish(site.command(&["transcribe", "-"]), &std::fs::read(JFK).unwrap());
    assert!(plain(&done.text()).contains("fellow americans"));
    let error = finish(site.command(&["transcribe", "-"]), b"").error(1);
    assert!(error.contains("0 bytes"), "{error}");
    // It is read as it is transcribed and kept nowhere, so a recorder may write for hours.
    for input in [wav_bytes(&jfk(), 16_000).unwrap(), endless(&jfk())] {
        let mut command = site.command(&["transcribe", "--json", "-"]);
        command.env("TMPDIR", site.file("no such folder"));
        let heard = finish(command, &input).json();
        assert!(plain(heard["text"].as_str().unwrap()).contains("fellow americans"), "{heard}");
        assert_eq!((&heard["audio_ms"], &heard["notes"]), (&11_000.into(), &serde_json::json!([])));
    }
}

#[test]
fn a_bare_wav_is_heard_that_the_stock_program_sends() {
    let (Some(site), Some(nats)) = (Site::with("stt"), program("nats")) else { return };
    let mut command = Command::new(nats);
    command.args(["--server", &format!("nats://127.0.0.1:{}", site.port), "--timeout", "120s"]);
    command.args(["req", "stt.request", "-H", "Content-Type:audio/wav"]).env("XDG_CONFIG_HOME", &site.home);
    let answer = finish(command, &wav_bytes(&jfk(), 16_000).unwrap()).text();
    let json = answer.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{answer}"));
    let heard: serde_json::Value = serde_json::from_str(json).unwrap();
    assert!(plain(heard["text"].as_str().unwrap()).contains("fellow americans"), "{answer}");
    assert_eq!((&heard["audio_ms"], &heard["model"]), (&11_000.into(), &"whisper-tiny.en".into()));
}

#[test]
fn silence_is_no_error_and_no_text() {
    let Some(site) = Site::with("stt") else { return };
    for (name, seconds) in [("silence.wav", 2), ("long-silence.wav", 40)] {
        let file = wav(&site, name, &vec![0.0; seconds * 8_000], 8_000, 16, 1);
        let done = site.run(&["transcribe", file.to_str().unwrap()]);
        assert!(done.stderr.contains(&format!("{name}: nobody speaks in it")), "{}", done.stderr);
        assert_eq!(done.text(), "");
    }
}

#[test]
fn what_can_not_be_read_is_said_and_the_other_files_are_transcribed() {
    let Some(site) = Site::with("stt") else { return };
    let (empty, text, header) = (site.file("empty.wav"), site.file("text.wav"), site.file("header.wav"));
    std::fs::write(&empty, b"").unwrap();
    std::fs::write(&text, b"this is no audio at all").unwrap();
    std::fs::write(&header, wav_bytes(&[], 16_000).unwrap()).unwrap();
    let missing = site.file("missing.wav");
    for (file, word) in
        [(&empty, "0 bytes"), (&text, "no audio file"), (&header, "no sample"), (&missing, "No such file")]
    {
        let error = site.run(&["transcribe", file.to_str().unwrap()]).error(1);
        assert!(error.contains(word) && error.contains(file.to_str().unwrap()), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let done = site.run(&["transcribe", missing.to_str().unwrap(), JFK, empty.to_str().unwrap()]);
    assert!(plain(&String::from_utf8_lossy(&done.stdout)).contains("fellow americans"), "{done:?}");
    assert!(done.error(1).contains("2 of 3 files"));
}

#[test]
fn a_model_or_language_that_is_not_there_is_refused() {
    let Some(site) = Site::with("stt") else { return };
    let error = site.run(&["transcribe", JFK, "--model", "whisper-huge"]).error(3);
    assert!(error.contains("nobody offers") && error.contains("whisper-huge"), "{error}");
    let error = site.run(&["transcribe", JFK, "--language", "fr"]).error(3);
    assert!(error.contains("language fr") && error.contains("offered: en"), "{error}");
}

/// The header of a WAV that a recorder writes into a pipe: it does not know the length.
fn endless(samples: &[f32]) -> Vec<u8> {
    let mut wav = wav_bytes(samples, 16_000).unwrap();
    wav[4..8].fill(0xff);
    wav[40..44].fill(0xff);
    wav
}

#[test]
fn what_is_being_recorded_is_heard_before_it_ends() {
    let Some(site) = Site::with("stt") else { return };
    let samples = jfk();
    let wav = endless(&samples);
    let raw = &wav_bytes(&resample(&samples, 16_000, 44_100).unwrap(), 44_100).unwrap()[44..];
    let args = ["transcribe", "--live", "-"];
    let whole = site.run(&["transcribe", JFK]).text();
    assert_eq!(finish(site.command(&args), &wav).text(), whole);
    assert_eq!(site.run(&["transcribe", "--live", JFK, "--node", NAME]).text(), whole);
    let from_raw = finish(site.command(&["transcribe", "--live", "--raw", "44100", "-"]), raw).text();
    assert!(plain(&from_raw).contains("fellow americans"), "{from_raw}");

    // A recorder that goes on: the running text comes while it does.
    let mut command = site.command(&["transcribe", "--live", "--json", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    stdin.write_all(&wav[..wav.len() / 2]).unwrap();
    let mut events = stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let partial = events.find(|event| event["event"] == "partial" && event["text"] != "").unwrap();
    assert!(plain(partial["text"].as_str().unwrap()).contains("fellow americans"), "{partial}");
    stdin.write_all(&wav[wav.len() / 2..]).unwrap();
    drop(stdin);
    let last: Vec<_> = events.filter(|event| event["event"] != "partial").collect();
    assert_eq!(last.len(), 2, "{last:?}");
    assert_eq!(last[0]["text"], whole.trim_end());
    assert_eq!(
        (last[1]["event"].as_str(), last[1]["audio_ms"].as_u64()),
        (Some("done"), Some(samples.len() as u64 / 16))
    );
    assert!(child.wait().unwrap().success());

    for (args, word) in [
        (&["transcribe", "--live", JFK, "--node", "nowhere"][..], "nobody offers"),
        (&["transcribe", "--live", JFK, "--model", "whisper-huge"], "whisper-huge"),
    ] {
        let error = site.run(args).error(3);
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn ctrl_c_ends_a_recording_with_its_text() {
    let Some(site) = Site::with("stt") else { return };
    let mut command = site.command(&["transcribe", "--live", "--json", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    stdin.write_all(&endless(&jfk())).unwrap();
    let mut events = stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let said = |event: &serde_json::Value| {
        event["event"] == "partial" && plain(event["text"].as_str().unwrap()).contains("do for your country")
    };
    events.find(said).unwrap();
    // SAFETY: a plain system call on a child that has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    let last: Vec<_> = events.map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    assert!(last.ends_with(&["final".to_owned(), "done".to_owned()]), "{last:?}");
    assert!(child.wait().unwrap().success());
}
