//! The stock `nats` CLI against served verbs.

use std::process::Stdio;

use sidetone::bus::message::session::What;
use sidetone::bus::message::{Message as _, tts};
use sidetone::bus::service::Incoming;
use sidetone::bus::session::SessionLog;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::{LONG, chat, serve, serve_llm, serve_stt};
use crate::support::nats::{Nats, program, within};

fn wav() -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for i in 0..16_000i16 {
        writer.write_sample(i.wrapping_mul(31)).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_seen() {
    let (Some(nats), Some(cli)) = (Nats::start().await, program("nats")) else { return };
    let host = nats.host("stage left").await;
    let _servers = (serve_stt(&host, 2).await, serve_llm(&host).await);
    let listed = nats.run_cli(&cli, &["micro", "ls"], b"").await;
    assert!(listed.contains("stt") && listed.contains("llm"), "{listed}");
    let info = nats.run_cli(&cli, &["micro", "info", "llm", "--json"], b"").await;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let info = &info["info"];
    assert_eq!(info["metadata"]["node"], "stage left", "{info:#}");
    assert_eq!(info["metadata"]["models"], "small:1b");
    let endpoints = info["endpoints"].as_array().unwrap();
    let subjects: std::collections::BTreeSet<_> = endpoints.iter().map(|x| x["subject"].as_str().unwrap()).collect();
    assert_eq!(Vec::from_iter(subjects), ["llm.chat", "llm.chat.m.small=3A1b", "llm.chat.n.stage=20left"]);
    let chat = endpoints.iter().find(|endpoint| endpoint["name"] == "chat").unwrap();
    let schema: serde_json::Value = serde_json::from_str(chat["metadata"]["request_schema"].as_str().unwrap()).unwrap();
    assert_eq!(schema["title"], "Chat");
    let told = nats.run_cli(&cli, &["micro", "info", "llm"], b"").await;
    assert!(told.contains("llm.chat.n.stage=20left"), "{told}");
    nats.run_cli(&cli, &["req", "llm.chat", &serde_json::to_string(&super::chat(1, false)).unwrap()], b"").await;
    let stats = nats.run_cli(&cli, &["micro", "stats", "llm", "--json"], b"").await;
    assert!(stats.contains("\"num_requests\": 1") && stats.contains("in_flight"), "{stats}");
    nats.run_cli(&cli, &["micro", "stats", "llm"], b"").await;
    nats.run_cli(&cli, &["micro", "ping", "stt"], b"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_asked_for_and_answered_in_json() {
    let (Some(nats), Some(cli)) = (Nats::start().await, program("nats")) else { return };
    let host = nats.host("studio").await;
    let _server = serve_llm(&host).await;
    let body = serde_json::to_string(&chat(3, false)).unwrap();
    let reply = nats.run_cli(&cli, &["req", "llm.chat", &body], b"").await;
    assert!(reply.contains("{\"text\":\"all\",\"done\":{\"model\":\"small:1b\""), "{reply}");
    assert!(reply.contains("Node: studio"), "{reply}");
    let body = serde_json::to_string(&chat(3, true)).unwrap();
    let stream = ["req", "llm.chat", &body, "--wait-for-empty", "--timeout", "30s", "--reply-timeout", "30s"];
    let reply = nats.run_cli(&cli, &stream, b"").await;
    for part in ["{\"text\":\"0\"}", "{\"text\":\"2\"}", "Seq: 3", "Chunks: 4", "Status: 200"] {
        assert!(reply.contains(part), "{part}: {reply}");
    }
    let error = nats.run_cli(&cli, &["req", "llm.chat", "{oops"], b"").await;
    assert!(error.contains("Nats-Service-Error-Code: 400") && error.contains("is no llm.chat/1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wav_goes_in_and_comes_out_bare() {
    let (Some(nats), Some(cli)) = (Nats::start().await, program("nats")) else { return };
    let host = nats.host("studio").await;
    let (wav, spoken) = (wav(), wav());
    let _stt = serve_stt(&host, 2).await;
    let speech = tts::Speech { wav: Some(sidetone::bus::message::Blob(spoken.into())), ..tts::Speech::example() };
    let _tts = serve(&host, 2, move |_: Incoming<tts::Request>| {
        let speech = speech.clone();
        async move { Ok(speech) }
    })
    .await;
    let heard = nats.run_cli(&cli, &["req", "stt.request", "-H", "Content-Type:audio/wav"], &wav).await;
    assert!(heard.contains(&format!("\"text\":\"{} bytes\"", wav.len())), "{heard}");
    for accept in [&[][..], &["-H", "Accept:audio/wav"]] {
        let arguments = [&["req", "tts.request", "{\"text\":\"hello\"}", "--raw"], accept].concat();
        let mut child = nats.cli(&cli, &arguments).spawn().unwrap();
        let mut bytes = Vec::new();
        within(child.stdout.take().unwrap().read_to_end(&mut bytes)).await.unwrap();
        // The CLI ends what it prints with line breaks.
        let (body, rest) = bytes.split_at(wav.len());
        assert!(body == wav && rest.iter().all(|&byte| byte == b'\n'), "{} of {}", bytes.len(), wav.len());
    }
    let json =
        nats.run_cli(&cli, &["req", "tts.request", "{\"text\":\"hello\"}", "-H", "Accept:application/json"], b"");
    assert!(json.await.contains("\"wav\":\"UklGR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_watched_and_read() {
    let (Some(nats), Some(cli)) = (Nats::start().await, program("nats")) else { return };
    let host = nats.host("studio").await;
    let log = within(SessionLog::start(&host)).await.unwrap();
    let mut watcher = nats.cli(&cli, &["sub", "session.>"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut notes = BufReader::new(watcher.stderr.take().unwrap()).lines();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let subscribed = async {
        loop {
            tokio::select! {
                Ok(Some(line)) = notes.next_line() => if line.contains("Subscribing") { break },
                Ok(Some(line)) = lines.next_line() => if line.contains("Subscribing") { break },
            }
        }
    };
    within(subscribed).await;
    // It says so before the server has it, so the story is told until it is seen.
    let story = |text: &str| What::Utterance { text: text.to_owned(), listener: None, audio_ms: None };
    let told = async {
        loop {
            log.append("s-1", None, story("What time is it?")).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let seen = async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if line.contains("\"text\":\"What time is it?\"") {
                break;
            }
        }
    };
    within(async {
        tokio::select! {
            () = told => {}
            () = seen => {}
        }
    })
    .await;
    watcher.kill().await.unwrap();
    assert!(within(log.flush(LONG)).await);
    // It wants a terminal; `script` is one.
    let view = format!("{} --server {} stream view SESSIONS", cli.display(), nats.url());
    let mut terminal = tokio::process::Command::new("script");
    terminal.args(["-q", "-e", "-c", &view, "/dev/null"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let view = nats.run(terminal.kill_on_drop(true), b"").await;
    assert!(view.contains("What time is it?") && view.contains("\"kind\":\"utterance\""), "{view}");
}
