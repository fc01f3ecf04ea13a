//! Inside a folder, imports run downward as well, and no files import each other in a circle.
//!
//! - A file imports what stands on a floor below its own: [`FLOORS`] lists them from above. Files of one floor don't import each
//!   other.
//! - The file that heads a folder (`bus/mod.rs`, `cli/doctor.rs` beside `cli/doctor/`) stands above its parts, and so none of
//!   them imports it. Where it is what its parts build on instead ([`BASES`]), it imports none of them.
//! - No files import each other in a circle, but those of [`CIRCLES`].

use std::collections::BTreeSet;

use super::graph::{Graph, Import};
use super::source::{Source, sources};

/// The floors of a folder, from above; names on one floor are separated by spaces. `*` is whatever is not named.
type Floors = (&'static str, &'static [&'static str]);

/// Folders and their floors.
const FLOORS: &[Floors] = &[
    ("action", &["listener midi osc stop text tool", "kind", "effect", "listener_name urgency"]),
    ("bus", &["serve", "kept", "ask", "connect"]),
    ("bus/ask", &["listen", "stream", "request", "cancel", "call"]),
    ("bus/connect", &["embedded events", "bus", "acks", "connection", "access headers", "error"]),
    ("bus/kept", &["jobs", "roster session clips", "registry", "copies health"]),
    ("bus/serve", &["batch ingest", "service", "worker", "spec", "engines", "sink slots"]),
    ("cli", &["exit", "deploy jobs session", "*", "client", "globals print"]),
    ("command", &["explain", "set", "file fit", "pattern", "words", "action error numbers"]),
    ("fabric", &["ask listen", "stream", "route", "state", "departures liveness view"]),
    ("node", &["health presence", "card connect supervise", "error"]),
    ("process", &["supervise", "spawn", "answer error output spec"]),
    ("role", &["table", "*", "providers", "context", "offers model_cache", "error"]),
    ("wire", &["contract", "pack", "codec", "message", "subject", "storage stream"]),
];

/// Folders whose heads stand above their parts, with all folders below them.
const HEADED: &[&str] =
    &["action", "bus", "cli", "command", "fabric", "midi", "models", "node", "process", "rig", "role", "wire"];

/// Heads that their parts build on: what they define is extended or used there.
const BASES: &[&str] = &["wire/subject"];

/// Files that may import each other.
const CIRCLES: &[&[&str]] = &[
    // How an order is found, and why it is that one, are one thought.
    &["src/router/decide.rs", "src/router/explain.rs"],
];

/// The floor of a part among `floors`, from above.
fn floor(floors: &[&str], part: &str) -> Option<usize> {
    let named = |name: &str| floors.iter().position(|floor| floor.split(' ').any(|other| other == name));
    named(part).or_else(|| named("*"))
}

/// A file's module as a path, such as `bus/connect`.
fn place(path: &str) -> &str {
    path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod")
}

/// The part of a folder that a file belongs to; `mod` for the head.
fn part<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    let place = place(path);
    match place.strip_prefix(folder)? {
        "" => Some("mod"),
        below => below.strip_prefix('/')?.split('/').next(),
    }
}

/// What is wrong with an import, by the floors of one folder.
fn against_floors(import: &Import, (folder, floors): &Floors) -> Option<String> {
    let (from, to) = (part(folder, &import.from)?, part(folder, &import.to)?);
    // A head that has no floor stands above all.
    let (above, below) = (floor_or_top(floors, from)?, floor_or_top(floors, to)?);
    (from != to && above >= below).then(|| format!("{import} (floors of {folder}: {from} does not stand above {to})"))
}

fn floor_or_top(floors: &[&str], part: &str) -> Option<i64> {
    let named = floors.iter().position(|floor| floor.split(' ').any(|other| other == part));
    match (part, named) {
        ("mod", None) => Some(-1),
        _ => floor(floors, part).and_then(|floor| i64::try_from(floor).ok()),
    }
}

/// What is wrong with an import between a head and its part.
fn against_head(import: &Import, headed: &[&str], bases: &[&str]) -> Option<String> {
    let is_in = |folder: &str, path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let (from, to) = (place(&import.from), place(&import.to));
    if !headed.iter().any(|folder| from == *folder || is_in(folder, from)) {
        return None;
    }
    if is_in(to, from) && !bases.contains(&to) {
        return Some(format!("{import} (a part imports its head)"));
    }
    (is_in(from, to) && bases.contains(&from)).then(|| format!("{import} (what parts build on imports one of them)"))
}

/// Every folder's names that its floors lack, or that are not there.
fn unlisted(sources: &[Source], (folder, floors): &Floors) -> Vec<String> {
    let there: BTreeSet<&str> = sources.iter().filter_map(|source| part(folder, &source.path)).collect();
    let listed: BTreeSet<&str> = floors.iter().flat_map(|floor| floor.split(' ')).collect();
    let missing = there.iter().filter(|name| !matches!(**name, "mod" | "tests") && floor(floors, name).is_none());
    let missing = missing.map(|name| format!("{folder}/{name} has no floor"));
    let gone = listed.iter().filter(|name| **name != "*" && !there.contains(*name));
    missing.chain(gone.map(|name| format!("{folder}/{name} is not there"))).collect()
}

#[test]
fn inside_a_folder_imports_run_downward() {
    let sources = sources("src");
    let graph = Graph::of(&sources);
    let mut wrong: Vec<String> = FLOORS.iter().flat_map(|floors| unlisted(&sources, floors)).collect();
    for import in graph.imports() {
        wrong.extend(FLOORS.iter().filter_map(|floors| against_floors(&import, floors)));
        wrong.extend(against_head(&import, HEADED, BASES));
    }
    assert!(wrong.is_empty(), "move what both need below both: {wrong:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources("src");
    let graph = Graph::of(&sources);
    assert!(graph.imports().count() > sources.len(), "the imports were not found");
    let mut wrong = Vec::new();
    for (files, ties) in graph.circles() {
        let is_known = CIRCLES.iter().any(|known| files.iter().all(|file| known.contains(file)));
        if !is_known {
            wrong.push(ties.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
    }
    assert!(wrong.is_empty(), "give what ties these a file of its own, below both: {wrong:#?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUSE: Floors = ("house", &["roof", "*", "cellar"]);

    fn wrong(files: &[(&str, &str)], bases: &[&str]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        let graph = Graph::of(&sources);
        let all = graph.imports();
        all.flat_map(|it| against_floors(&it, &HOUSE).into_iter().chain(against_head(&it, &["house"], bases))).collect()
    }

    #[test]
    fn a_file_imports_what_stands_below_it() {
        let cellar = ("src/house/cellar.rs", "pub struct Wine;");
        let roof = ("src/house/roof.rs", "use super::hall::floor::Chair;\nuse super::cellar::Wine;\npub struct Tile;");
        let hall = ("src/house/hall/floor.rs", "use crate::house::cellar::Wine;\npub struct Chair;");
        assert!(wrong(&[cellar, roof, hall], &[]).is_empty());
        let digs = ("src/house/cellar.rs", "use super::hall::floor::Chair;\npub struct Wine;");
        assert_eq!(
            wrong(&[digs, roof, ("src/house/hall/floor.rs", "pub struct Chair;")], &[]),
            [
                "src/house/cellar.rs → src/house/hall/floor.rs: Chair (floors of house: cellar does not stand above hall)"
            ]
        );
        // Beside each other.
        let kitchen = ("src/house/kitchen.rs", "use super::hall::floor::Chair;");
        assert_eq!(wrong(&[cellar, hall, kitchen], &[]).len(), 1);
    }

    #[test]
    fn a_head_stands_above_its_parts_or_below() {
        let part = ("src/house/hall/floor.rs", "use super::Size;\npub struct Chair;");
        let head = ("src/house/hall.rs", "mod floor;\npub struct Size;");
        let found = wrong(&[part, head], &[]);
        assert_eq!(found, ["src/house/hall/floor.rs → src/house/hall.rs: Size (a part imports its head)"]);
        assert!(wrong(&[part, head], &["house/hall"]).is_empty());
        let both = ("src/house/hall.rs", "mod floor;\npub struct Size;\nfn f(_: floor::Chair) {}");
        assert_eq!(wrong(&[part, both], &["house/hall"]).len(), 1);
        // What is handed on is no import of the head.
        let face = ("src/house/mod.rs", "mod hall;\nmod roof;\npub use hall::Size;");
        let roof = ("src/house/roof.rs", "use super::Size;");
        assert!(wrong(&[face, roof, ("src/house/hall.rs", "pub struct Size;")], &[]).is_empty());
    }

    #[test]
    fn floors_name_what_is_there() {
        let sources = ["src/house/roof.rs", "src/house/hall/mod.rs"].map(|path| Source::new(path, ""));
        assert_eq!(unlisted(&sources, &HOUSE), ["house/cellar is not there"]);
        assert_eq!(unlisted(&sources, &("house", &["roof"])), ["house/hall has no floor"]);
    }
}
