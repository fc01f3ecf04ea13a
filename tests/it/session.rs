//! `sidetone session`: what is kept is read back as a user does it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use sidetone::bus::message::session::{SessionEvent, What};
use sidetone::bus::session::SessionLog;
use tokio::process::Command;
use ulid::Ulid;

use crate::support::nats::{Nats, within};

const TALK: &str = "main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE";

/// What a run of the program came to.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(nats: &Nats, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    for variable in ["SIDETONE_CONFIG", "SIDETONE_BUS", "SIDETONE_NAME", "SIDETONE_LOG"] {
        command.env_remove(variable);
    }
    command.arg("session").args(args).args(["--bus", &nats.url(), "--home"]).arg(nats.folder());
    command.env("TZ", "UTC").stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn session(nats: &Nats, args: &[&str]) -> Done {
    let output = within(command(nats, args).output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// What it prints, after it did as it was told.
async fn printed(nats: &Nats, args: &[&str]) -> String {
    let done = session(nats, args).await;
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    done.out
}

/// A server with a talk of one turn, and another session.
async fn with_a_talk() -> Option<Nats> {
    let nats = Nats::start().await?;
    let host = nats.host("studio").await;
    let log = within(SessionLog::start(&host)).await.unwrap();
    let turn = Some(Ulid::generate());
    let said = |text: &str| What::Utterance { text: text.to_owned(), listener: None, audio_ms: None };
    within(log.append("kitchen", None, said("Anybody?"))).await;
    within(log.append(TALK, turn, said("What time is it?"))).await;
    let listening = sidetone::bus::message::voice::TurnState::Listening;
    let state = What::State { listener: "main".to_owned(), state: listening, why: String::new() };
    within(log.append(TALK, turn, state)).await;
    within(log.append(TALK, turn, What::Reply { text: "It is *ten*.".to_owned(), model: None })).await;
    assert!(within(log.flush(Duration::from_secs(20))).await);
    Some(nats)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_shown() {
    let Some(nats) = with_a_talk().await else { return };
    let list = printed(&nats, &["list"]).await;
    let lines: Vec<_> = list.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("SESSION") && lines[0].contains("LAST SAID"), "{list}");
    assert!(lines[1].starts_with(TALK) && lines[1].contains("studio"), "{list}");
    assert!(lines[1].trim_end().ends_with("What time is it?"), "{list}");
    assert!(lines[2].starts_with("kitchen"), "{list}");
    let json = printed(&nats, &["list", "--json", "--limit", "1"]).await;
    assert_eq!(json.lines().count(), 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["session"], &json["utterances"], &json["events"]), (&TALK.into(), &1.into(), &3.into()));

    let shown = printed(&nats, &["show", TALK]).await;
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("→ written: What time is it?"), "{shown}");
    assert!(lines[1].ends_with("← said: It is *ten*."), "{shown}");
    assert!(printed(&nats, &["show", TALK, "--states"]).await.contains("· listening"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_exported_whole() {
    let Some(nats) = with_a_talk().await else { return };
    let lines = printed(&nats, &["export", TALK]).await;
    let events: Vec<SessionEvent> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.iter().map(|event| event.what.kind()).collect::<Vec<_>>(), ["utterance", "state", "reply"]);
    let file = nats.folder().join("talk.md");
    let told = printed(&nats, &["export", TALK, "--format", "md", "--out", file.to_str().unwrap()]).await;
    assert!(told.contains("talk.md (3 events)"), "{told}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&format!("# Session {TALK}\n\n## ")), "{text}");
    assert!(text.ends_with("**Person**: What time is it?\n\n**Sidetone**: It is \\*ten\\*.\n\n"), "{text}");
    assert_eq!(printed(&nats, &["export", TALK, "--format", "md"]).await, text);
    let nowhere = session(&nats, &["export", TALK, "--out", "/nowhere/talk.md"]).await;
    assert!(nowhere.code == Some(1) && nowhere.err.contains("can't write /nowhere/talk.md"), "{}", nowhere.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_session_is_an_error_that_names_those_like_it() {
    let Some(nats) = with_a_talk().await else { return };
    for (verb, id, wanted) in
        [("show", "kitchn", "kitchen"), ("export", "T8Q6RE", TALK), ("replay", "Kitchen", "kitchen")]
    {
        let done = session(&nats, &[verb, id]).await;
        assert_eq!(done.code, Some(1));
        assert!(done.err.contains(&format!("there is no session {id:?}: did you mean {wanted}?")), "{}", done.err);
    }
    let done = session(&nats, &["show", "zzz"]).await;
    assert!(done.err.contains("`sidetone session list` shows them") && !done.err.contains("mean"), "{}", done.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_replayed_at_its_pace() {
    let Some(nats) = Nats::start().await else { return };
    let host = nats.host("studio").await;
    let log = within(SessionLog::start(&host)).await.unwrap();
    within(log.append("s", None, What::Reply { text: "One.".to_owned(), model: None })).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    within(log.append("s", None, What::Reply { text: "Two.".to_owned(), model: None })).await;
    assert!(within(log.flush(Duration::from_secs(20))).await);
    let begun = Instant::now();
    let shown = printed(&nats, &["replay", "s"]).await;
    // It can't be faster than it was; how much slower is the machine's business.
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(shown.lines().count(), 2);
    assert!(shown.trim_end().ends_with("← said: Two."), "{shown}");
    // An hour is not waited for.
    assert_eq!(printed(&nats, &["replay", "s", "--speed", "0.0001", "--max-pause", "0"]).await.lines().count(), 2);
    let wrong = session(&nats, &["replay", "s", "--speed", "0"]).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("--speed is 0"), "{}", wrong.err);
}

#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_answer_is_spoken() {
    use sidetone::bus::message::voice::TurnState;

    use crate::support::host::{FAKES, Follow, HostSpec, LISTENER};
    use crate::support::jack::{self, JackServer};
    use crate::support::studio::Studio;

    let Some(nats) = with_a_talk().await else { return };
    if !jack::available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let spec = HostSpec::new("stage", "voice,stt,tts").set(FAKES).on(&nats.url());
    let host = spec.listener(&jack, "mode = \"push_to_talk\"").start().await;
    let studio = Studio::open(&jack, 48_000);
    studio.connected().await;
    host.has_audio().await;
    let mut follow = Follow::new(host.bus()).await;
    printed(&nats, &["replay", TALK, "--speak", "--node", "stage", "--listener", LISTENER]).await;
    follow.state(TurnState::Speaking).await;
    studio.sounds().await;
    follow.state(TurnState::Idle).await;
    let done = session(&nats, &["replay", TALK, "--speak", "--node", "nobody"]).await;
    assert_eq!(done.code, Some(3), "{}", done.err);
}
