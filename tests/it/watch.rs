//! `sidetone watch` and `sidetone decode` beside a real server and the stock CLI.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sidetone::bus::Bus;
use sidetone::bus::message::Message as _;
use sidetone::bus::message::fault::Fault;
use sidetone::bus::message::session::What;
use sidetone::bus::message::voice::{State, TurnState};
use sidetone::bus::session::SessionLog;
use sidetone::bus::subject;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use crate::support::nats::Nats;

const PATIENCE: Duration = Duration::from_secs(20);

struct Watch {
    lines: Lines<BufReader<ChildStdout>>,
    _child: tokio::process::Child,
}

impl Watch {
    fn start(nats: &Nats, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sidetone"))
            .arg("watch")
            .args(args)
            .args(["--bus", &nats.url(), "--home"])
            .arg(nats.folder())
            .env("TZ", "UTC")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { lines, _child: child }
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap().expect("watch ended")
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_each_thing_once_and_outlives_the_server() {
    let Some(mut nats) = Nats::start().await else { return };
    let bus = Bus::connect(&nats.url(), "studio").await.unwrap();
    let sessions = SessionLog::start(&bus).await.unwrap();
    let mut people = Watch::start(&nats, &[]);
    let mut programs = Watch::start(&nats, &["--json"]);
    let mut one = Watch::start(&nats, &["--json", "--session", "s.2"]);
    assert!(people.line().await.contains("✓ bus: watching nats-server"));
    for watch in [&mut programs, &mut one] {
        assert_eq!(watch.json().await, json!({"notice": "watching"}));
    }

    // The state of a listener comes twice over the bus, and is shown once.
    let why = "wake phrase \"Computer\"".to_owned();
    let state = What::State { listener: "main".to_owned(), state: TurnState::Listening, why };
    sessions.append("s.2", None, state).await;
    assert!(sessions.flush(PATIENCE).await);
    bus.publish(subject::voice_state("studio", "main"), &State::example()).await.unwrap();
    let line = people.line().await;
    assert!(line.ends_with("F4D2B0  · listening (wake phrase \"Computer\")"), "{line}");
    let shown = programs.json().await;
    assert_eq!(shown["subject"], "voice.studio.main.state");
    assert_eq!(shown["message"], serde_json::to_value(State::example()).unwrap());
    // Whoever looks at one session has it from there.
    let shown = one.json().await;
    assert_eq!((&shown["subject"], &shown["message"]["state"]), (&json!("session.s=2E2.state"), &json!("listening")));

    bus.publish(subject::event("studio", "fault"), &Fault::example()).await.unwrap();
    assert!(people.line().await.contains("✗ error: all 2 slots of stt"), "a fault is shown");
    assert_eq!(programs.json().await["message"]["code"], "busy");

    let lost = bus.lost();
    nats.kill().await;
    lost.await;
    assert!(people.line().await.contains("✗ bus: the connection dropped"));
    assert_eq!(programs.json().await, json!({"notice": "lost"}));
    nats.restart().await;
    assert!(people.line().await.contains("✓ bus: watching"));
    assert_eq!(programs.json().await, json!({"notice": "watching"}));
    bus.until_up().await;
    // What was appended while the server was away is shown when it is back.
    sessions.append("s.2", None, What::Reply { text: "Here again.".to_owned(), model: None }).await;
    let line = people.line().await;
    assert!(line.contains("← said: Here again."), "{line}");
    assert_eq!(programs.json().await["message"]["text"], "Here again.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_whose_reader_has_gone_ends_quietly() {
    let Some(nats) = Nats::start().await else { return };
    let line = "{ sidetone watch --bus \"$NATS_URL\" --home .; echo $? > code; } | head -n 1";
    let Some(mut shell) = nats.shell(line) else { return };
    let bus = Bus::connect(&nats.url(), "studio").await.unwrap();
    let mut child: Child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The pipe breaks with the first line that nobody reads.
    let ended = tokio::task::spawn_blocking(move || {
        let status = child.wait().unwrap();
        let mut errors = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut errors).unwrap();
        (status, errors)
    });
    tokio::pin!(ended);
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let (status, errors) = loop {
        tokio::select! {
            ended = &mut ended => break ended.unwrap(),
            _ = tick.tick() => bus.publish(subject::event("studio", "fault"), &Fault::example()).await.unwrap(),
        }
    };
    assert!(status.success());
    assert_eq!(errors, "");
    assert_eq!(std::fs::read_to_string(nats.folder().join("code")).unwrap(), "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_cli_shows_bodies_by_decode() {
    let Some(nats) = Nats::start().await else { return };
    let Some(mut shell) = nats.shell("nats sub 'session.>' --count 3 --raw --translate 'sidetone decode'") else {
        return;
    };
    let packed = rmp_serde::to_vec_named(&json!({"kind": "reply", "text": "Hello"})).unwrap();
    std::fs::write(nats.folder().join("packed"), packed).unwrap();
    let wav = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/computer-01.wav");
    std::fs::copy(wav, nats.folder().join("wav")).unwrap();
    let mut child: Child = shell.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let shown = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
        assert!(child.wait().unwrap().success());
        text
    });
    tokio::pin!(shown);
    // What is published before the CLI listens is lost, so it is published until three have been shown.
    let publish = "nats pub session.x.reply < packed; nats pub session.x.audio < wav; nats pub session.x.none ''";
    let shown = loop {
        let mut publish = nats.shell(publish).unwrap();
        let publish = tokio::task::spawn_blocking(move || publish.output().unwrap().status);
        tokio::select! {
            shown = &mut shown => break shown.unwrap(),
            status = publish => assert!(status.unwrap().success()),
        }
    };
    assert!(shown.contains("{\n  \"kind\": \"reply\",\n  \"text\": \"Hello\"\n}"), "{shown}");
    assert!(shown.contains("<WAV, 16000 Hz, 1 channel(s), "), "{shown}");
    assert!(shown.contains("(empty)"), "{shown}");
}
