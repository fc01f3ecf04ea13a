//! The rules of the source tree, read from the source itself.

mod floors;
mod graph;
mod source;

use std::collections::BTreeSet;

use proc_macro2::TokenTree;
use sidetone::bus::contract::table::VERBS;

use source::{ident, inside, sources, uses_crate};

/// Files are split by responsibility long before this.
const LINES_MAX: usize = 600;

/// Which parts of the library each part may import. A new part gets a row.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli", "telemetry"]),
    (
        "cli",
        &[
            "action",
            "command",
            "node",
            "role",
            "bus",
            "wire",
            "audio",
            "engine",
            "fabric",
            "router",
            "midi",
            "models",
            "osc",
            "config",
            "home",
            "process",
            "secret",
            "sound",
            "telemetry",
            "text",
        ],
    ),
    (
        "node",
        &[
            "role",
            "fabric",
            "router",
            "bus",
            "wire",
            "hardware",
            "models",
            "config",
            "home",
            "http",
            "memory",
            "process",
            "rig",
            "secret",
            "telemetry",
            "text",
        ],
    ),
    (
        "role",
        &[
            "action",
            "command",
            "fabric",
            "router",
            "bus",
            "wire",
            "audio",
            "engine",
            "store",
            "midi",
            "models",
            "osc",
            "config",
            "home",
            "http",
            "process",
            "rig",
            "secret",
            "sound",
            "telemetry",
            "text",
            "turn",
        ],
    ),
    ("rig", &["action", "fabric", "midi", "router", "bus", "wire"]),
    ("sound", &["bus", "wire", "audio"]),
    ("fabric", &["router", "bus", "wire", "config"]),
    ("memory", &[]),
    ("hardware", &[]),
    ("bus", &["wire", "home", "process", "secret", "telemetry"]),
    ("wire", &["midi"]),
    ("audio", &["home", "telemetry"]),
    ("engine", &["audio", "models", "home", "process", "secret", "text"]),
    ("store", &["home", "process", "secret"]),
    ("router", &[]),
    ("midi", &[]),
    ("models", &["home"]),
    ("process", &["home"]),
    ("telemetry", &[]),
    ("http", &[]),
    ("osc", &[]),
    ("action", &["wire", "midi", "text"]),
    ("command", &["action", "midi", "text"]),
    ("config", &["action", "midi", "router", "secret"]),
    ("home", &[]),
    ("secret", &[]),
    ("text", &[]),
    ("turn", &[]),
];

/// Modules of `role` that are no roles: what several roles use.
const SHARED_BY_ROLES: &[&str] = &["context", "error", "model_cache", "offers", "providers", "table"];

#[test]
fn parts_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let Some(part) = source.module.first() else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == part) else {
            panic!("{}: give {part} a row in MAY_IMPORT", source.path);
        };
        let parts: BTreeSet<_> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
        for path in source.paths() {
            let Some(other) = path.first().map(String::as_str) else { continue };
            if other != part && parts.contains(other) && !allowed.contains(&other) {
                wrong.push(format!("{} imports {}", source.path, path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "main → cli → node → role → the rest, see ARCHITECTURE.md: {wrong:#?}");
}

#[test]
fn roles_meet_on_the_bus() {
    let mut wrong = Vec::new();
    let mut roles = BTreeSet::new();
    let sources = sources("src/role");
    let of_role = |source: &source::Source| {
        source.module.get(1).cloned().filter(|name| !SHARED_BY_ROLES.contains(&name.as_str()))
    };
    roles.extend(sources.iter().filter_map(of_role));
    assert!(roles.contains("agent") && roles.contains("stt"), "the roles were not found: {roles:?}");
    for source in &sources {
        // The table of roles names them all.
        let Some(own) = source.module.get(1).filter(|own| *own != "table") else { continue };
        for path in source.paths() {
            if let [role, other, ..] = path.as_slice()
                && role == "role"
                && other != own
                && roles.contains(other)
            {
                wrong.push(format!("{} imports {}", source.path, path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "a role imports another: {wrong:#?}");
}

#[test]
fn foreign_systems_have_one_user_each() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources("src") {
        let tokens = source.tokens();
        for (name, home) in [
            ("async_nats", "src/bus/"),
            ("jack", "src/audio/jack"),
            ("midir", "src/role/midi/"),
            ("sqlx", "src/store/"),
        ] {
            // `jack` is also the name of a module: `audio::jack` is spelled `jack` beside it.
            let is_module = name == "jack" && source.path.starts_with("src/audio/mod.rs");
            if uses_crate(&tokens, name) && !is_module {
                seen.insert(name);
                if !source.path.starts_with(home) {
                    wrong.push(format!("{} uses {name}, which is for {home} alone", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.contains("async_nats") && seen.contains("jack"), "the users were not found: {seen:?}");
}

#[test]
fn what_is_said_knows_nothing_of_how_it_is_carried() {
    let mut wrong = Vec::new();
    let sources = sources("src/wire");
    assert!(sources.iter().any(|source| source.path == "src/wire/subject.rs"), "the messages were not found");
    for source in sources {
        let tokens = source.tokens();
        for name in ["async_nats", "tokio", "tokio_util", "futures"] {
            if uses_crate(&tokens, name) {
                wrong.push(format!("{} uses {name}: that belongs into src/bus", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_stay_short() {
    let all = sources("src").into_iter().chain(sources("tests"));
    let long: Vec<_> =
        all.map(|source| (source.text.lines().count(), source.path)).filter(|(lines, _)| *lines >= LINES_MAX).collect();
    assert!(long.is_empty(), "split these by responsibility: {long:#?}");
}

/// Whether a text of the source is a subject or the beginning of one.
fn is_subject(text: &str) -> bool {
    // The names of messages, `llm.chat/1`, look alike.
    if text.contains('/') || text.contains(' ') {
        return false;
    }
    let starts = |beginning: &str| text.strip_prefix(beginning);
    let is_verb = VERBS.iter().any(|row| {
        let verb = row.verb.to_string();
        row.verb.capability.token() != "voice"
            && starts(&verb).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    let varies = |rest: &str| rest.is_empty() || rest.starts_with(['{', '*', '>', '<']);
    let is_event =
        ["voice.", "session.", "event.", "job."].iter().any(|beginning| starts(beginning).is_some_and(varies));
    is_verb
        || is_event
        || text.contains(".cancel.")
        || starts("control.stop").is_some()
        || starts("$KV.").is_some()
        || starts("$O.").is_some()
}

/// Every text in `tokens` outside test modules.
fn texts(tokens: &[TokenTree], found: &mut Vec<String>) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if ident(Some(token)).as_deref() == Some("mod") && ident(tokens.get(at + 1)).as_deref() == Some("tests") {
            at += 3;
            continue;
        }
        match token {
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                if let Some((_, text)) = text.split_once('"') {
                    found.push(text.trim_end_matches('#').trim_end_matches('"').to_owned());
                }
            }
            TokenTree::Group(group) => texts(&inside(group), found),
            _ => {}
        }
        at += 1;
    }
}

#[test]
fn subjects_are_spelled_in_one_file() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let mut found = Vec::new();
        texts(&source.tokens(), &mut found);
        let found: Vec<_> = found.into_iter().filter(|text| is_subject(text)).collect();
        if source.path == "src/wire/subject.rs" {
            assert!(found.len() > 5, "the subjects were not found: {found:?}");
        } else if !found.is_empty() && !source.path.ends_with("tests.rs") {
            wrong.push((source.path, found));
        }
    }
    assert!(wrong.is_empty(), "subjects are built and parsed in src/wire/subject.rs alone: {wrong:#?}");
    assert!(is_subject("llm.chat.m.{}") && is_subject("voice.*.*.state") && is_subject("stt.cancel.{id}"));
    assert!(!is_subject("llm.chat/1") && !is_subject("voice.listeners.name") && !is_subject("stt.slots"));
}
