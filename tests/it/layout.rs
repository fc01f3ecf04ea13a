//! The rules of the source tree, read from the source itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use sidetone::bus::contract::table::VERBS;

/// Files are split by responsibility long before this.
const LINES_MAX: usize = 600;

/// Which parts of the library each part may import. A new part gets a row.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli", "telemetry"]),
    (
        "cli",
        &[
            "action",
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
    ("action", &["bus", "wire", "text"]),
    ("config", &["action", "midi", "router", "secret"]),
    ("home", &[]),
    ("secret", &[]),
    ("text", &[]),
];

/// Modules of `role` that are no roles: what several roles use.
const SHARED_BY_ROLES: &[&str] = &["pool"];

struct Source {
    /// From the top of the package.
    path: String,
    text: String,
    /// The module, such as `["role", "agent", "memory"]`; `["main"]` for the binary and `[]` for the library.
    module: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn sources(folder: &str) -> Vec<Source> {
    let source = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let module = path.strip_prefix("src/").unwrap_or(&path).trim_end_matches(".rs").trim_end_matches("/mod");
        let module = module.split('/').filter(|name| *name != "lib").map(str::to_owned).collect();
        Source { path, text, module }
    };
    files(&root().join(folder)).into_iter().map(source).collect()
}

fn tokens(source: &Source) -> Vec<TokenTree> {
    let stream: TokenStream = source.text.parse().unwrap_or_else(|e| panic!("{}: {e}", source.path));
    without_docs(stream)
}

/// The tokens but for doc comments and other attributes.
fn without_docs(stream: TokenStream) -> Vec<TokenTree> {
    let mut out: Vec<TokenTree> = Vec::new();
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if is_punct(Some(&token), '#') {
            if is_punct(tokens.peek(), '!') {
                tokens.next();
            }
            tokens.next();
        } else {
            out.push(token);
        }
    }
    out
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

/// Every path from the top of the library that `tokens` of `module` name, be it in a `use` line or not.
fn paths(tokens: &[TokenTree], module: &[String], found: &mut BTreeSet<Vec<String>>) {
    let mut at = 0;
    while at < tokens.len() {
        // Within `mod name { … }` one `super` more is needed to get out.
        if ident(tokens.get(at)).as_deref() == Some("mod")
            && let (Some(name), Some(TokenTree::Group(body))) = (ident(tokens.get(at + 1)), tokens.get(at + 2))
        {
            let inner: Vec<_> = module.iter().cloned().chain([name]).collect();
            paths(&without_docs(body.stream()), &inner, found);
            at += 3;
            continue;
        }
        let is_after_path = at > 1 && is_punct(tokens.get(at - 1), ':') && is_punct(tokens.get(at - 2), ':');
        match ident(tokens.get(at)).as_deref() {
            Some("crate" | "sidetone") if !is_after_path => at = branch(tokens, at + 1, Vec::new(), found),
            Some("super") if !is_after_path => {
                let mut up = 1;
                at += 1;
                while is_punct(tokens.get(at), ':') && ident(tokens.get(at + 2)).as_deref() == Some("super") {
                    (up, at) = (up + 1, at + 3);
                }
                let start = module.len().checked_sub(up).expect("no `super` leads out of the library");
                at = branch(tokens, at, module.get(..start).unwrap().to_vec(), found);
            }
            _ => {
                if let Some(TokenTree::Group(group)) = tokens.get(at) {
                    paths(&without_docs(group.stream()), module, found);
                }
                at += 1;
            }
        }
    }
}

/// Follows a path from `at`, into its braces.
fn branch(tokens: &[TokenTree], mut at: usize, mut path: Vec<String>, found: &mut BTreeSet<Vec<String>>) -> usize {
    while is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':') {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner = without_docs(group.stream());
                for part in inner.split(|token| is_punct(Some(token), ',')) {
                    if let Some(name) = ident(part.first()) {
                        let path: Vec<_> = path.iter().cloned().chain([name]).collect();
                        branch(part, 1, path, found);
                    }
                }
                return at + 3;
            }
            _ => break,
        }
        at += 3;
    }
    found.insert(path);
    at
}

fn imports(source: &Source) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    paths(&tokens(source), &source.module, &mut found);
    found
}

/// Whether `name` stands in the file as a crate's name: before `::` and not after it.
fn uses_crate(tokens: &[TokenTree], name: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Ident(ident) if ident == name => {
            let before = at.checked_sub(1).and_then(|at| tokens.get(at));
            is_punct(tokens.get(at + 1), ':') && is_punct(tokens.get(at + 2), ':') && !is_punct(before, ':')
        }
        TokenTree::Group(group) => uses_crate(&without_docs(group.stream()), name),
        _ => false,
    })
}

#[test]
fn parts_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let Some(part) = source.module.first() else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == part) else {
            panic!("{}: give {part} a row in MAY_IMPORT", source.path);
        };
        let parts: BTreeSet<_> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
        for path in imports(&source) {
            let Some(other) = path.first().map(String::as_str) else { continue };
            if other != part && parts.contains(other) && !allowed.contains(&other) {
                wrong.push(format!("{} imports {}", source.path, path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "main → cli → node → role → the rest, see DESIGN: {wrong:#?}");
}

#[test]
fn roles_meet_on_the_bus() {
    let mut wrong = Vec::new();
    let mut roles = BTreeSet::new();
    let sources = sources("src/role");
    let of_role =
        |source: &Source| source.module.get(1).cloned().filter(|name| !SHARED_BY_ROLES.contains(&name.as_str()));
    roles.extend(sources.iter().filter_map(of_role));
    assert!(roles.contains("agent") && roles.contains("stt"), "the roles were not found: {roles:?}");
    for source in &sources {
        // The table of roles itself names them all.
        let Some(own) = source.module.get(1) else { continue };
        for path in imports(source) {
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
        let tokens = tokens(&source);
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
            TokenTree::Group(group) => texts(&without_docs(group.stream()), found),
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
        texts(&tokens(&source), &mut found);
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
