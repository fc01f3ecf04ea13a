//! Recordings that are too long, and transcripts that break off: real hosts with a scripted engine.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use sidetone::audio::{Clip, wav_bytes};
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::stt::Request;
use sidetone::bus::subject::Target;
use sidetone::bus::{BusError, Call};

use crate::support::host::{FAKES, Host, HostSpec};
use crate::support::nats::{program, within};

async fn host(script: &str) -> Option<Host> {
    program("nats-server")?;
    let model = format!("stt.model={script}");
    Some(HostSpec::new("desk", "stt").set(FAKES).set(&[&model]).start().await)
}

async fn transcribe(host: &Host, arguments: &[&str]) -> Output {
    let mut command = host.cli(&[&["transcribe"], arguments].concat());
    within(tokio::task::spawn_blocking(move || command.output())).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_before_an_error_is_given() {
    let Some(host) = host("short:13000").await else { return };
    let jfk = Clip::decode(include_bytes!("../fixtures/audio/jfk.flac")).unwrap().samples;
    let silence = |seconds: f32| vec![0.0; (seconds * 16_000.0) as usize];
    // A piece of 11 s, and after the pause one that is longer than the engine takes.
    let samples = [jfk.clone(), silence(4.0), jfk.clone(), silence(0.3), jfk].concat();
    let file = host.spec.home().join("talk.wav");
    std::fs::write(&file, wav_bytes(&samples, 16_000).unwrap()).unwrap();
    let file = file.to_str().unwrap();

    let Output { status, stdout, stderr } = transcribe(&host, &["--json", file]).await;
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!((status.code(), stdout.lines().count()), (Some(1), 1), "{stdout} {stderr}");
    let heard: Value = serde_json::from_str(&stdout).unwrap();
    assert!(heard["text"].as_str().unwrap().ends_with(" milliseconds"), "{heard}");
    assert_eq!(heard["segments"].as_array().unwrap().len(), 1, "{heard}");
    let audio_ms = heard["audio_ms"].as_u64().unwrap();
    assert!((10_000..13_000).contains(&audio_ms), "{heard}");
    let note = heard["notes"][0].as_str().unwrap();
    assert!(note.contains(" is missing: ") && note.contains("the fake engine fails"), "{heard}");
    assert!(stderr.contains("only the first 0:1") && stderr.contains("the fake engine fails"), "{stderr}");

    // The text was printed as it came, and the error says where it ends.
    let Output { status, stdout, stderr } = transcribe(&host, &[file]).await;
    assert_eq!(status.code(), Some(1));
    assert_eq!(String::from_utf8(stdout).unwrap().trim_end(), heard["text"]);
    assert!(String::from_utf8(stderr).unwrap().contains("talk.wav: only the first 0:1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_is_too_long_for_a_request_is_told_what_takes_it() {
    let Some(host) = host("echo").await else { return };
    // Through CLIPS, since no message takes it.
    let long = within(host.bus().put_clip(&wav_bytes(&vec![0.0; 601 * 4_000], 4_000).unwrap())).await.unwrap();
    let request = Request { clip: Some(long), ..Request::default() };
    let call = Call::within(Duration::from_secs(120));
    let error = within(host.bus().ask(Target::Node("desk"), &request, &call)).await.unwrap_err();
    let BusError::Fault(fault) = error else { panic!("{error}") };
    assert_eq!(fault.code, FaultCode::TooLarge, "{fault}");
    assert!(fault.message.contains("601 s long, and 600 s are taken: `sidetone transcribe FILE`"), "{fault}");
}
