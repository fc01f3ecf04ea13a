//! `run`, `nodes`, `doctor`, and what exit codes tell.

use super::host::{NAME, Site, first_output};
use crate::support::jack::wait_for;

/// The roles of host `name` as they are listed; empty if it is not. What a host says of itself is renewed every 3 s.
fn roles(site: &Site, name: &str) -> Vec<String> {
    let nodes = site.run(&["nodes", "--json"]).json();
    let host = nodes.as_array().unwrap().iter().find(|node| node["node"] == name);
    let offers = host.and_then(|host| host["offers"].as_array()).map(Vec::as_slice).unwrap_or_default();
    offers.iter().map(|offer| offer["role"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_hosts_are_listed_with_their_roles() {
    let Some(site) = Site::with("stt,tts,llm,agent") else { return };
    let site = &site;
    wait_for("all roles to be listed", || (roles(site, NAME) == ["agent", "llm", "stt", "tts"]).then_some(()));
    assert!(site.run(&["nodes"]).text().contains("whisper-tiny.en"));
}

#[test]
fn a_healthy_host_is_found_healthy() {
    let Some(site) = Site::with("stt,tts,llm,agent") else { return };
    let roles = "node.roles=[\"stt\", \"tts\", \"llm\", \"agent\"]";
    let rows = site.run(&["doctor", "--json", "--set", roles, "--set", "llm.engine=llamacpp"]).json();
    let row = |what: &str| {
        let found = rows.as_array().unwrap().iter().find(|row| row["what"] == what);
        found.unwrap_or_else(|| panic!("no row {what}: {rows}"))
    };
    for what in [
        "settings",
        "home",
        "nats-server",
        "bus",
        "hosts",
        "speech model",
        "voice",
        "espeak-ng",
        "chat model",
        "commands",
    ] {
        assert_ne!(row(what)["status"], "fail", "{}", row(what));
    }
    assert!(row("hosts")["detail"].as_str().unwrap().contains(NAME));
    assert!(rows.as_array().unwrap().iter().all(|row| row["what"] != "JACK"), "no role needs JACK: {rows}");
}

#[test]
fn what_is_missing_is_found_with_what_to_do() {
    let Some(site) = Site::with("agent") else { return };
    let only = |role: &str| format!("node.roles=[\"{role}\"]");
    for (role, set, what, todo) in [
        ("stt", "stt.model=whisper-huge", "speech model", "models fetch"),
        ("tts", "tts.engine=festival", "tts.engine", "choose from"),
        ("agent", "agent.commands=[\"/no/such/folder\"]", "commands", "agent.commands"),
        ("llm", "llm.key_env=SIDETONE_NO_SUCH_KEY", "OpenAI key", "export it"),
        ("agent", "bus.url=nats://127.0.0.1:1", "bus", "start it"),
    ] {
        let openai = if role == "llm" { "llm.engine=openai" } else { "node.drain_timeout_ms=1000" };
        let done = site.run(&["doctor", "--set", &only(role), "--set", set, "--set", openai]);
        let lines = String::from_utf8_lossy(&done.stdout).into_owned();
        let line = lines.lines().find(|line| line.starts_with("FAIL")).unwrap_or_else(|| panic!("{lines}"));
        assert!(line.contains(what) && line.contains(todo), "{line}");
        assert!(done.error(1).contains("1 check failed"));
    }
    let done = site.run(&["doctor", "--set", "stt.slotz=1", "--set", "llm.engine=llamacpp"]);
    assert!(String::from_utf8_lossy(&done.stdout).contains("unknown field `slotz`"), "{done:?}");
    done.error(1);
}

#[test]
fn a_wrong_command_line_or_setting_is_told_from_what_went_wrong() {
    let site = Site::new();
    for (args, word) in [
        (&["ask", "hello", "--set", "stt.slotz=1"][..], "unknown field `slotz`"),
        (&["run", "--set", "tts.voices=[]"], "at least one voice"),
        (&["run", "--roles", "stt,tss"], "there is no role \"tss\"; there are voice, stt, tts, llm, agent"),
        (&["run", "--config", "/no/such/file.toml"], "/no/such/file.toml"),
        (&["transcribe"], "FILE"),
        (&["sing"], "sing"),
    ] {
        let error = site.run(args).error(2);
        assert!(error.contains(word), "{args:?}: {error}");
    }
}

#[test]
fn without_a_bus_it_is_said_at_once_how_to_get_one() {
    let site = Site::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/jfk.flac");
    for args in [&["ask", "hello"][..], &["nodes"], &["say", "hello", "-o", "-"], &["transcribe", file], &["watch"]] {
        let error = site.run(args).error(3);
        assert!(error.contains("sidetone run"), "{args:?}: {error}");
    }
    let error = site.run(&["nodes", "--bus", "nats://127.0.0.1:1"]).error(3);
    assert!(error.contains("nats://127.0.0.1:1") && error.contains("--bus"), "{error}");
}

#[test]
fn a_second_host_of_the_same_name_is_refused() {
    let Some(site) = Site::with("agent") else { return };
    let site = &site;
    let bus = format!("nats://127.0.0.1:{}", site.port);
    let error = site.run(&["run", "--bus", &bus, "--name", NAME, "--roles", "agent"]).error(1);
    assert!(error.contains(NAME) && error.contains("--name"), "{error}");
    // The first one is none the worse.
    wait_for("the first host to be listed", || roles(site, NAME).contains(&"agent".to_owned()).then_some(()));
    let error = site.run(&["run", "--name", "other", "--roles", "agent"]).error(3);
    assert!(error.contains("is taken") && error.contains("--bus"), "{error}");
}

#[test]
fn told_to_end_a_host_finishes_its_answers_and_leaves() {
    let Some(shared) = Site::with("agent") else { return };
    let shared = &shared;
    let bus = format!("nats://127.0.0.1:{}", shared.port);
    let second = shared.host_with(&["run", "--bus", &bus, "--name", "second", "--roles", "agent"]);
    wait_for("the second host to be listed", || (roles(shared, "second") == ["agent"]).then_some(()));
    assert_eq!(second.terminate(), Some(0));
    assert!(roles(shared, "second").is_empty(), "a host that has left is listed");

    let site = Site::new();
    // A short answer and much time: on a busy machine the model writes a word a second.
    let settings = ["--set", "agent.max_tokens=60", "--set", "node.drain_timeout_ms=120000"];
    let run = ["run", "--name", "draining", "--roles", "llm,agent"];
    let host = site.host_with(&[run.as_slice(), &settings].concat());
    let (ask, _first_words) = first_output(site.command(&["ask", "Write a long story about a lighthouse keeper."]));
    assert_eq!(host.terminate(), Some(0));
    let output = ask.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.ends_with(b"\n"), "the answer was cut off: {output:?}");
}
