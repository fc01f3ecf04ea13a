//! The contract of the bus in `subjects/`: it is what the program speaks, and what it said once is still understood.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};
use sidetone::bus::Bus;
use sidetone::bus::codec::Format;
use sidetone::bus::contract::table::{MessageRow, VERBS, messages};
use sidetone::bus::contract::{example_file, render, schema_file};
use sidetone::bus::message::{Ask, Message as _, agent, audio, llm, midi, node, osc, stt, tts, voice};
use sidetone::bus::service::{Server, ServiceSpec};
use sidetone::bus::subject::{self, Capability};
use sidetone::cli::contract::drift;

use crate::support::nats::Nats;

fn subjects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("subjects")
}

fn read(file: &str) -> Value {
    let path = subjects().join(file);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn row(name: &str) -> MessageRow {
    *messages().iter().find(|row| row.name() == name).unwrap_or_else(|| panic!("there is no message {name} any more"))
}

/// What today's program makes of a body.
fn through(row: &MessageRow, body: impl Into<Bytes>, from: Format) -> Value {
    let json = (row.convert)(&body.into(), from, Format::Json).unwrap_or_else(|e| panic!("{}: {e}", row.schema));
    serde_json::from_slice(&json).unwrap()
}

/// Whether everything in `part` is in `whole`, with the same value.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|whole| contains(whole, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (Value::Number(whole), Value::Number(part)) => {
            // 32-bit floats come back with the digits that they have.
            whole == part || whole.as_f64().zip(part.as_f64()).is_some_and(|(a, b)| (a - b).abs() < 1e-6)
        }
        _ => whole == part,
    }
}

#[test]
fn the_folder_subjects_says_what_the_program_speaks() {
    let drift = drift(&subjects(), &render().unwrap()).unwrap();
    let list: Vec<_> = drift.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "subjects/ differs from src/wire; `make contract` mends it: {list:#?}");
}

#[test]
fn every_committed_example_is_read_back_whole() {
    let mut count = 0;
    for entry in std::fs::read_dir(subjects().join("examples")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".json").unwrap();
        let (row, example) = (row(name), read(&example_file(name)));
        let json = serde_json::to_vec(&example).unwrap();
        let again = through(&row, json.clone(), Format::Json);
        assert!(contains(&again, &example), "{name}: {example} came back as {again}");
        let packed = (row.convert)(&json.into(), Format::Json, Format::MsgPack).unwrap();
        let unpacked = through(&row, packed, Format::MsgPack);
        assert!(contains(&unpacked, &example), "{name} in MessagePack: {example} came back as {unpacked}");
        count += 1;
    }
    assert_eq!(count, messages().len(), "an example a message");
}

#[test]
fn every_example_is_what_its_schema_describes_and_an_alien_is_not() {
    for row in messages() {
        let validator = jsonschema::draft202012::new(&read(&schema_file(row.name()))).unwrap();
        let example = read(&example_file(row.name()));
        let errors: Vec<_> = validator.iter_errors(&example).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", row.schema);
        assert!(!validator.is_valid(&json!("no message is a bare text")), "{}", row.schema);
    }
}

#[test]
fn messages_of_earlier_and_later_versions_are_understood() {
    for (name, message, is_read_as) in [
        // Earlier ones lack what was added since.
        (
            "llm.chat",
            json!({"messages": [{"role": "user", "content": "Hi"}]}),
            json!({"messages": [{"role": "user", "content": "Hi"}], "stream": true}),
        ),
        ("agent.run", json!({"text": "What time is it?"}), json!({"text": "What time is it?", "stream": true})),
        (
            "stt.transcript",
            json!({"text": "Hi", "audio_ms": 300, "engine_ms": 80, "model": "tiny"}),
            json!({"text": "Hi", "segments": [], "audio_ms": 300, "engine_ms": 80, "model": "tiny"}),
        ),
        (
            "voice.state",
            json!({"node": "a", "listener": "b", "state": "idle", "at": "2026-01-01T00:00:00Z"}),
            json!({"node": "a", "listener": "b", "state": "idle", "at": "2026-01-01T00:00:00Z", "mode": "wake",
                   "muted": false, "audio": false}),
        ),
        (
            "session.event",
            json!({"id": "1", "session": "2", "at": "2026-01-01T00:00:00Z", "node": "a", "kind": "command", "name": "time"}),
            json!({"id": "1", "session": "2", "at": "2026-01-01T00:00:00Z", "node": "a", "kind": "command", "name": "time",
                   "slots": {}}),
        ),
        ("control.stop", json!({}), json!({})),
        // Later ones have what is not known yet, at any depth.
        (
            "llm.answer",
            json!({"text": "Hi", "mood": "good", "done": {"model": "m", "provider": "p", "finish": "stop", "first_text_ms": 1,
                   "engine_ms": 2, "cost": {"cents": 1}}}),
            json!({"text": "Hi", "done": {"model": "m", "provider": "p", "finish": "stop", "first_text_ms": 1, "engine_ms": 2}}),
        ),
        (
            "voice.control",
            json!({"do": "push_to_talk", "held": true, "by": "pedal"}),
            json!({"do": "push_to_talk", "held": true}),
        ),
        ("voice.control", json!({"do": "stop", "fade_ms": 20}), json!({"do": "stop"})),
        (
            "session.event",
            json!({"id": "1", "session": "2", "at": "2026-01-01T00:00:00Z", "node": "a", "kind": "reply", "text": "Hi",
                   "voice": "joe", "place": {"room": "stage"}}),
            json!({"id": "1", "session": "2", "at": "2026-01-01T00:00:00Z", "node": "a", "kind": "reply", "text": "Hi"}),
        ),
        ("agent.event", json!({"event": "text", "text": "Hi", "tone": 3}), json!({"event": "text", "text": "Hi"})),
    ] {
        let row = row(name);
        assert_eq!(through(&row, serde_json::to_vec(&message).unwrap(), Format::Json), is_read_as, "{name}");
        assert_eq!(through(&row, rmp_serde::to_vec_named(&message).unwrap(), Format::MsgPack), is_read_as, "{name}");
    }
}

/// Serves a verb with its reply's example.
async fn mock<A: Ask>(server: &Server, served: &mut BTreeSet<String>) {
    served.insert(A::VERB.to_string());
    if A::VERB.capability == Capability::Voice {
        let control = subject::voice_control("studio", "main");
        server.serve_at::<A, _, _>("control", control, |_| async { Ok(A::Reply::example()) }).await.unwrap();
    } else {
        server.serve::<A, _, _>(|_| async { Ok(A::Reply::example()) }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_readme_work_when_pasted() {
    let Some(nats) = Nats::start().await else { return };
    if nats.shell("true").is_none() {
        return;
    }
    let bus = Bus::connect(&nats.url(), "studio").await.unwrap();
    let (mut servers, mut served) = (Vec::new(), BTreeSet::new());
    for capability in Capability::ALL {
        let spec = ServiceSpec {
            capability,
            about: "answers with examples",
            engine: "none".to_owned(),
            models: vec!["smollm2-135m-instruct".to_owned()],
            slots: 4,
        };
        let server = bus.service(spec).await.unwrap();
        match capability {
            Capability::Stt => {
                mock::<stt::Request>(&server, &mut served).await;
                mock::<stt::Stream>(&server, &mut served).await;
            }
            Capability::Tts => {
                mock::<tts::Request>(&server, &mut served).await;
                mock::<tts::Stream>(&server, &mut served).await;
            }
            Capability::Llm => {
                mock::<llm::Chat>(&server, &mut served).await;
                mock::<llm::ListModels>(&server, &mut served).await;
            }
            Capability::Agent => {
                mock::<agent::Run>(&server, &mut served).await;
                mock::<agent::Commands>(&server, &mut served).await;
            }
            Capability::Voice => mock::<voice::Control>(&server, &mut served).await,
            Capability::Osc => mock::<osc::Out>(&server, &mut served).await,
            Capability::Midi => {
                mock::<midi::Out>(&server, &mut served).await;
                mock::<midi::StateQuery>(&server, &mut served).await;
            }
            Capability::Audio => {
                mock::<audio::AskGraph>(&server, &mut served).await;
                mock::<audio::Apply>(&server, &mut served).await;
                mock::<audio::LinkOrder>(&server, &mut served).await;
            }
            Capability::Node => {
                mock::<node::AskInfo>(&server, &mut served).await;
                mock::<node::Drain>(&server, &mut served).await;
            }
        }
        server.ready().await.unwrap();
        servers.push(server);
    }
    let all: BTreeSet<_> = VERBS.iter().map(|row| row.verb.to_string()).collect();
    assert_eq!(served, all, "each verb of the table has a stand-in here");

    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio/computer-01.wav");
    std::fs::copy(fixture, nats.folder().join("question.wav")).unwrap();
    let readme = std::fs::read_to_string(subjects().join("README.md")).unwrap();
    let mut asked = BTreeSet::new();
    for line in readme.lines().filter(|line| line.starts_with("nats req ")) {
        let subject = line.split(' ').nth(2).unwrap();
        let row = VERBS
            .iter()
            .find(|row| {
                subject.strip_suffix(".n.studio").unwrap_or(subject) == row.verb.to_string()
                    || subject == subject::voice_control("studio", "main") && row.verb.capability == Capability::Voice
            })
            .unwrap_or_else(|| panic!("{line} asks for nothing known"));
        asked.insert(row.verb.to_string());
        let mut command = nats.shell(line).unwrap();
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if line.contains("> answer.wav") {
            said = std::fs::read_to_string(nats.folder().join("answer.wav")).unwrap();
        }
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {told}");
        let example = String::from_utf8((row.reply.example)().unwrap().to_vec()).unwrap();
        let (said, example) = (said.replace([' ', '\n'], ""), example.replace(' ', ""));
        assert!(said.contains(&example), "{line} said {said} and {told} instead of {example}");
    }
    assert_eq!(asked, all, "each verb has a command in the README");
}
