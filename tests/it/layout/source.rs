//! Reading Rust files: what stands in them, and what they name of the library.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A file.
pub struct Source {
    /// From the top of the package.
    pub path: String,
    /// Its text.
    pub text: String,
    /// The module, such as `["role", "agent", "memory"]`; `["main"]` for the binary and `[]` for the library.
    pub module: Vec<String>,
}

impl Source {
    /// A file at `path`, such as `src/bus/mod.rs`.
    pub fn new(path: &str, text: &str) -> Self {
        let module = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs").trim_end_matches("/mod");
        let module = module.split('/').filter(|name| *name != "lib").map(str::to_owned).collect();
        Self { path: path.to_owned(), text: text.to_owned(), module }
    }

    /// Its tokens but for comments and attributes.
    pub fn tokens(&self) -> Vec<TokenTree> {
        without_attributes(self.stream(), false)
    }

    /// The same without what is compiled for tests alone.
    pub fn tokens_without_tests(&self) -> Vec<TokenTree> {
        without_attributes(self.stream(), true)
    }

    /// Whether it holds nothing but tests.
    pub fn is_tests(&self) -> bool {
        self.module.iter().any(|name| name == "tests" || name.ends_with("_tests"))
    }

    /// Every path from the top of the library that it names, be it in a `use` line or not.
    pub fn paths(&self) -> BTreeSet<Vec<String>> {
        let mut found = BTreeSet::new();
        let tokens = self.tokens();
        paths(&tokens, &self.module, &children(&tokens), &mut found);
        found
    }

    fn stream(&self) -> TokenStream {
        self.text.parse().unwrap_or_else(|e| panic!("{}: {e}", self.path))
    }
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

/// Every file of a folder of the package.
pub fn sources(folder: &str) -> Vec<Source> {
    let source = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        Source::new(path.strip_prefix(root()).unwrap().to_str().unwrap(), &text)
    };
    files(&root().join(folder)).into_iter().map(source).collect()
}

/// The tokens of a group but for attributes, doc comments among them.
pub fn inside(group: &proc_macro2::Group) -> Vec<TokenTree> {
    without_attributes(group.stream(), false)
}

fn without_attributes(stream: TokenStream, without_tests: bool) -> Vec<TokenTree> {
    let mut out: Vec<TokenTree> = Vec::new();
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if !is_punct(Some(&token), '#') {
            out.push(token);
            continue;
        }
        if is_punct(tokens.peek(), '!') {
            tokens.next();
        }
        let is_test = tokens.next().is_some_and(|attribute| is_for_tests(&attribute));
        if is_test && without_tests {
            // The item: up to its body or its semicolon.
            for token in tokens.by_ref() {
                let is_body = matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                if is_body || is_punct(Some(&token), ';') {
                    break;
                }
            }
        }
    }
    out
}

/// Whether an attribute is `[cfg(test)]`.
fn is_for_tests(attribute: &TokenTree) -> bool {
    let TokenTree::Group(attribute) = attribute else { return false };
    let tokens: Vec<_> = attribute.stream().into_iter().collect();
    let [name, TokenTree::Group(what)] = tokens.as_slice() else { return false };
    ident(Some(name)).as_deref() == Some("cfg") && what.stream().to_string() == "test"
}

/// Whether a token is this character.
pub fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// The name that a token is, if it is one.
pub fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

/// Whether `::` stands at `at`.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// The modules that a file declares and that have files of their own.
pub fn children(tokens: &[TokenTree]) -> BTreeSet<String> {
    let declared =
        tokens.windows(3).filter(|three| ident(three.first()).as_deref() == Some("mod") && is_punct(three.get(2), ';'));
    declared.filter_map(|three| ident(three.get(1))).collect()
}

/// Every path from the top of the library that `tokens` of `module` name, be it in a `use` line or not; `children` are the
/// modules below it that can be named without a beginning.
pub fn paths(tokens: &[TokenTree], module: &[String], children: &BTreeSet<String>, found: &mut BTreeSet<Vec<String>>) {
    let mut at = 0;
    while at < tokens.len() {
        // Within `mod name { … }` one `super` more is needed to get out.
        if ident(tokens.get(at)).as_deref() == Some("mod")
            && let (Some(name), Some(TokenTree::Group(body))) = (ident(tokens.get(at + 1)), tokens.get(at + 2))
        {
            let inner: Vec<_> = module.iter().cloned().chain([name]).collect();
            paths(&inside(body), &inner, &BTreeSet::new(), found);
            at += 3;
            continue;
        }
        // `pub(in crate::bus)` says who may import, and imports nothing.
        if ident(tokens.get(at)).as_deref() == Some("pub")
            && matches!(tokens.get(at + 1), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
        {
            at += 2;
            continue;
        }
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) if is_path(tokens, at + 1) => {
                let (start, next) = beginning(tokens, at, &name.to_string(), module, children);
                let mut named = BTreeSet::new();
                at = branch(tokens, next, start.clone().unwrap_or_default(), &mut named);
                if start.is_some() {
                    found.extend(named);
                }
            }
            Some(TokenTree::Group(group)) => {
                paths(&inside(group), module, children, found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Where a path begins whose first name stands at `at`, and where it goes on; `None` for one that leads out of the library.
pub fn beginning(
    tokens: &[TokenTree],
    at: usize,
    name: &str,
    module: &[String],
    children: &BTreeSet<String>,
) -> (Option<Vec<String>>, usize) {
    match name {
        "crate" | "sidetone" => (Some(Vec::new()), at + 1),
        "self" => (Some(module.to_vec()), at + 1),
        "super" => {
            let (mut up, mut at) = (1, at + 1);
            while is_path(tokens, at) && ident(tokens.get(at + 2)).as_deref() == Some("super") {
                (up, at) = (up + 1, at + 3);
            }
            let start = module.len().checked_sub(up).expect("no `super` leads out of the library");
            (module.get(..start).map(<[String]>::to_vec), at)
        }
        child if children.contains(child) => (Some(module.iter().cloned().chain([child.to_owned()]).collect()), at + 1),
        _ => (None, at + 1),
    }
}

/// Follows a path from `at`, into its braces. A path that ends with `*` is everything there.
fn branch(tokens: &[TokenTree], mut at: usize, mut path: Vec<String>, found: &mut BTreeSet<Vec<String>>) -> usize {
    while is_path(tokens, at) {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                for part in inside(group).split(|token| is_punct(Some(token), ',')) {
                    let first = match part.first() {
                        Some(TokenTree::Punct(star)) => star.to_string(),
                        first => ident(first).unwrap_or_default(),
                    };
                    let inner = path.iter().cloned().chain([first].into_iter().filter(|name| name != "self"));
                    if !part.is_empty() {
                        branch(part, 1, inner.collect(), found);
                    }
                }
                return at + 3;
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => path.push("*".to_owned()),
            _ => break,
        }
        at += 3;
    }
    found.insert(path);
    at
}

/// Whether `name` stands in the file as a crate's name: before `::` and not after it.
pub fn uses_crate(tokens: &[TokenTree], name: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Ident(ident) if ident == name => {
            let before = at.checked_sub(1).and_then(|at| tokens.get(at));
            is_path(tokens, at + 1) && !is_punct(before, ':')
        }
        TokenTree::Group(group) => uses_crate(&inside(group), name),
        _ => false,
    })
}
