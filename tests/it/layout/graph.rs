//! Which file imports which, and the circles among them.
//!
//! A file imports those whose names it uses. A name that a file only hands on (`pub use`) counts as that of the file that
//! defines it, so that a folder's `mod.rs` may be the face of its parts. Tests don't count.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenTree;

use super::source::{Source, beginning, children, ident, inside, is_punct, paths};

type Names = Vec<String>;

/// A file as the graph sees it.
struct File {
    path: String,
    module: Names,
    /// What its code names.
    named: BTreeSet<Names>,
    /// What its own `use` lines bring in, by the name there.
    bound: BTreeMap<String, Names>,
    /// Everything of these is brought in.
    globs: Vec<Names>,
    /// What it defines itself.
    defined: BTreeSet<String>,
}

/// The files of a source tree and their imports.
pub struct Graph {
    files: Vec<File>,
    /// From, to, and by which names.
    imports: BTreeMap<usize, BTreeMap<usize, BTreeSet<String>>>,
}

/// One file that imports another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The path of the file that imports.
    pub from: String,
    /// The path of the file that is imported.
    pub to: String,
    /// The names that it takes.
    pub names: String,
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} → {}: {}", self.from, self.to, self.names)
    }
}

impl Graph {
    /// Reads the files but for those that hold tests alone, and the top of the library, which defines nothing.
    pub fn of(sources: &[Source]) -> Self {
        let files: Vec<File> = sources.iter().filter(|it| !it.is_tests() && !it.module.is_empty()).map(file).collect();
        let mut graph = Self { files, imports: BTreeMap::new() };
        for from in 0..graph.files.len() {
            for path in &graph.files[from].named {
                if let Some((to, name)) = graph.find(path, 0).filter(|(to, _)| *to != from) {
                    graph.imports.entry(from).or_default().entry(to).or_default().insert(name);
                }
            }
        }
        graph
    }

    /// Every import.
    pub fn imports(&self) -> impl Iterator<Item = Import> {
        self.imports.iter().flat_map(move |(from, all)| all.keys().map(move |to| self.import(*from, *to)))
    }

    /// The circles: sets of files each of which leads to all others of the set, and the imports that tie them.
    pub fn circles(&self) -> Vec<(BTreeSet<&str>, Vec<Import>)> {
        let reached: Vec<BTreeSet<usize>> = (0..self.files.len()).map(|file| self.reached_from(file)).collect();
        let mut circles = Vec::new();
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        for file in 0..self.files.len() {
            if !reached[file].contains(&file) || seen.contains(&file) {
                continue;
            }
            let circle: BTreeSet<usize> =
                reached[file].iter().copied().filter(|other| reached[*other].contains(&file)).collect();
            seen.extend(&circle);
            let ties = circle.iter().flat_map(|from| {
                let all = self.imports.get(from).into_iter().flat_map(BTreeMap::keys);
                all.filter(|to| circle.contains(to)).map(|to| self.import(*from, *to))
            });
            let ties = ties.collect();
            circles.push((circle.iter().map(|file| self.files[*file].path.as_str()).collect(), ties));
        }
        circles
    }

    fn import(&self, from: usize, to: usize) -> Import {
        let names = &self.imports[&from][&to];
        let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        Import { from: self.files[from].path.clone(), to: self.files[to].path.clone(), names }
    }

    /// The files that one leads to by one import or more.
    fn reached_from(&self, start: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(file) = open.pop() {
            for next in self.imports.get(&file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(*next) {
                    open.push(*next);
                }
            }
        }
        reached
    }

    /// The file that defines what `path` names, and the name there.
    fn find(&self, path: &[String], depth: u32) -> Option<(usize, String)> {
        let path = path.strip_suffix(&["*".to_owned()]).unwrap_or(path);
        let (at, rest) = self.module(path)?;
        let (file, Some(name)) = (&self.files[at], rest.first()) else {
            return Some((at, "itself".to_owned()));
        };
        let own = Some((at, name.clone()));
        // A module that is brought in under its own name would lead here again.
        if file.defined.contains(name) || depth > 8 {
            return own;
        }
        if let Some(bound) = file.bound.get(name) {
            let whole: Names = bound.iter().chain(&rest[1..]).cloned().collect();
            return self.find(&whole, depth + 1).or(own);
        }
        let of_glob = file.globs.iter().find_map(|glob| {
            let (other, _) = self.module(glob).filter(|(other, rest)| rest.is_empty() && *other != at)?;
            let has = self.files[other].defined.contains(name) || self.files[other].bound.contains_key(name);
            has.then(|| self.find(&glob.iter().chain(rest).cloned().collect::<Names>(), depth + 1)).flatten()
        });
        of_glob.or(own)
    }

    /// The file of the longest beginning of `path` that is a module, and what follows.
    fn module<'a>(&self, path: &'a [String]) -> Option<(usize, &'a [String])> {
        (1..=path.len()).rev().find_map(|length| {
            let (module, rest) = path.split_at(length);
            self.files.iter().position(|file| file.module == module).map(|file| (file, rest))
        })
    }
}

fn file(source: &Source) -> File {
    let tokens = source.tokens_without_tests();
    let children = children(&tokens);
    let mut file = File {
        path: source.path.clone(),
        module: source.module.clone(),
        named: BTreeSet::new(),
        bound: BTreeMap::new(),
        globs: Vec::new(),
        defined: defined(&tokens),
    };
    // `pub use` lines apart from all else.
    let (mut code, mut handed_on): (Vec<TokenTree>, Vec<(String, Names)>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        // `use<'a>` in a type says what it captures.
        if ident(tokens.get(at)).as_deref() != Some("use") || is_punct(tokens.get(at + 1), '<') {
            code.extend(tokens.get(at).cloned());
            at += 1;
            continue;
        }
        let end = tokens.iter().skip(at).position(|token| is_punct(Some(token), ';')).map_or(tokens.len(), |n| at + n);
        let line = &tokens[at..end];
        let is_pub = match (code.last(), code.iter().rev().nth(1)) {
            (Some(TokenTree::Group(_)), before) => ident(before).as_deref() == Some("pub"),
            (last, _) => ident(last).as_deref() == Some("pub"),
        };
        let mut bound = Vec::new();
        if let Some(name) = ident(line.get(1)) {
            let (start, next) = beginning(line, 1, &name, &source.module, &children);
            if let Some(start) = start {
                bindings(line, next, start, &mut bound);
            }
        }
        if is_pub {
            handed_on.extend(bound.iter().cloned());
        } else {
            paths(line, &source.module, &children, &mut file.named);
        }
        for (name, path) in bound {
            if name == "*" {
                file.globs.push(path);
            } else {
                file.bound.insert(name, path);
            }
        }
        at = end;
    }
    paths(&code, &source.module, &children, &mut file.named);
    let mut mentioned = BTreeSet::new();
    mentions(&code, &mut mentioned);
    file.named.extend(handed_on.into_iter().filter(|(name, _)| mentioned.contains(name)).map(|(_, path)| path));
    file
}

/// What a `use` line brings in: the name here, and the path; the name `*` for everything there.
fn bindings(tokens: &[TokenTree], mut at: usize, mut path: Names, found: &mut Vec<(String, Names)>) {
    while is_punct(tokens.get(at), ':') {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
            Some(TokenTree::Group(group)) => {
                for part in inside(group).split(|token| is_punct(Some(token), ',')) {
                    match part.first() {
                        Some(TokenTree::Punct(_)) => found.push(("*".to_owned(), path.clone())),
                        Some(TokenTree::Ident(name)) if name == "self" => bindings(part, 1, path.clone(), found),
                        Some(TokenTree::Ident(name)) => {
                            bindings(part, 1, path.iter().cloned().chain([name.to_string()]).collect(), found);
                        }
                        _ => {}
                    }
                }
                return;
            }
            _ => {
                found.push(("*".to_owned(), path));
                return;
            }
        }
        at += 3;
    }
    let alias = (ident(tokens.get(at)).as_deref() == Some("as")).then(|| ident(tokens.get(at + 1))).flatten();
    if let Some(name) = alias.or_else(|| path.last().cloned()) {
        found.push((name, path));
    }
}

/// What a file defines at its top.
fn defined(tokens: &[TokenTree]) -> BTreeSet<String> {
    let keywords = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];
    let pairs = tokens.windows(2).filter(|two| ident(two.first()).is_some_and(|it| keywords.contains(&it.as_str())));
    let inline = tokens.windows(3).filter(|three| {
        ident(three.first()).as_deref() == Some("mod") && matches!(three.get(2), Some(TokenTree::Group(_)))
    });
    let names = pairs.filter_map(|two| ident(two.get(1))).chain(inline.filter_map(|three| ident(three.get(1))));
    names.collect()
}

/// Every name in `tokens`.
fn mentions(tokens: &[TokenTree], found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => drop(found.insert(ident.to_string())),
            TokenTree::Group(group) => mentions(&inside(group), found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> Graph {
        Graph::of(&files.iter().map(|(path, text)| Source::new(path, text)).collect::<Vec<_>>())
    }

    fn all(graph: &Graph) -> Vec<String> {
        graph.imports().map(|import| import.to_string()).collect()
    }

    #[test]
    fn imports_are_found_however_they_are_written() {
        let graph = graph(&[
            ("src/a/mod.rs", "mod part;\nfn f() { part::run(crate::b::Thing::new()) }"),
            (
                "src/a/part.rs",
                "use super::super::c;\nuse crate::{b::{Thing as Other, inner::*}, c::C};\npub fn run() {}",
            ),
            ("src/b.rs", "pub struct Thing; pub mod inner {}"),
            ("src/c.rs", "pub struct C;\nuse std::{b::Nothing, io};"),
        ]);
        assert_eq!(
            all(&graph),
            [
                "src/a/mod.rs → src/a/part.rs: run",
                "src/a/mod.rs → src/b.rs: Thing",
                "src/a/part.rs → src/b.rs: Thing, inner",
                "src/a/part.rs → src/c.rs: C, itself",
            ]
        );
        assert!(graph.circles().is_empty());
    }

    #[test]
    fn a_name_that_is_handed_on_is_that_of_its_definer() {
        let face = "mod one;\nmod two;\npub use one::One;\npub use two::*;\npub(super) use two::turn;";
        let files = |face: &'static str| {
            [
                ("src/a/mod.rs", face),
                ("src/a/one.rs", "use super::Two;\npub struct One;"),
                ("src/a/two.rs", "pub struct Two;\npub fn turn() {}"),
                ("src/b.rs", "use crate::a::{One, Two as Second, turn};"),
            ]
        };
        let expected =
            ["src/a/one.rs → src/a/two.rs: Two", "src/b.rs → src/a/one.rs: One", "src/b.rs → src/a/two.rs: Two, turn"];
        assert_eq!(all(&graph(&files(face))), expected);
        // Once the face works with it, it imports it.
        let works = "mod one;\nmod two;\npub use one::One;\npub use two::*;\npub use two::turn;\nfn f(_: One) {}";
        assert!(all(&graph(&files(works))).contains(&"src/a/mod.rs → src/a/one.rs: One".to_owned()));
    }

    #[test]
    fn a_circle_is_named_with_what_ties_it() {
        let graph = graph(&[
            ("src/a.rs", "use crate::b::B;\npub struct A;"),
            ("src/b.rs", "use crate::c::C;\npub struct B;"),
            ("src/c.rs", "pub struct C;\nfn f() { let _ = crate::a::A; }"),
            ("src/d.rs", "use crate::a::A;"),
        ]);
        let circles = graph.circles();
        let [(files, ties)] = circles.as_slice() else { panic!("one circle: {circles:?}") };
        assert_eq!(Vec::from_iter(files.iter().copied()), ["src/a.rs", "src/b.rs", "src/c.rs"]);
        let ties: Vec<_> = ties.iter().map(ToString::to_string).collect();
        assert_eq!(ties, ["src/a.rs → src/b.rs: B", "src/b.rs → src/c.rs: C", "src/c.rs → src/a.rs: A"]);
    }

    #[test]
    fn a_part_and_its_head_can_be_a_circle() {
        let graph = graph(&[
            ("src/a/mod.rs", "mod part;\npub struct Head;\nfn f() { part::run() }"),
            ("src/a/part.rs", "use super::Head;\npub fn run() {}"),
        ]);
        assert_eq!(graph.circles().len(), 1);
    }

    #[test]
    fn tests_and_visibility_import_nothing() {
        let graph = graph(&[
            ("src/a/mod.rs", "mod part;\n#[cfg(test)]\nmod tests;\nfn f() { part::run() }\npub struct Head;"),
            (
                "src/a/part.rs",
                "pub(in crate::a) fn run() {}\n#[cfg(test)]\nmod tests { use super::*; use crate::a::Head; }\n#[cfg(test)]\nuse super::Head;",
            ),
            ("src/a/tests.rs", "use super::*;"),
        ]);
        assert_eq!(all(&graph), ["src/a/mod.rs → src/a/part.rs: run"]);
    }
}
