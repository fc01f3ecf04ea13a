//! The pattern language of commands.
//!
//! ```text
//! pattern  = { text | "[" choices "]" | "(" choices ")" | slot }     [ ] may be left out, ( ) must be there
//! choices  = pattern { "|" pattern }
//! slot     = "<" name [ ":" kind ] ">"            kind: text (the default), word, number, chord, note
//! ```
//!
//! A pattern is spelled out into its variants, each a plain row of words and slots, when it is loaded: what is
//! ambiguous, empty or too greedy is then found before anyone speaks.

use std::collections::HashSet;

use super::words::tokens;

/// How many variants a pattern may have, how many words and slots a variant, and how deep its brackets may nest.
const VARIANTS_MAX: usize = 256;
const PARTS_MAX: usize = 64;
const DEPTH_MAX: usize = 8;

/// What a slot takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum SlotKind {
    /// One or more words, up to the next literal word of the pattern or to the end.
    Text,
    /// What stands between two spaces.
    Word,
    /// A number in digits or in English words, zero to nine hundred and ninety-nine.
    Number,
    /// The name of a chord, written or spoken.
    Chord,
    /// The name of a note, written or spoken.
    Note,
}

/// A step of a variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// This word, spelled as [`Token::norm`](super::words::Token::norm).
    Word(String),
    /// Something to be taken out of the utterance.
    Slot(String, SlotKind),
}

/// The problem with a pattern; `at` is the character it is about, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PatternError {
    pub at: usize,
    pub problem: String,
}

/// One way to say a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variant {
    pub parts: Vec<Part>,
}

impl Variant {
    /// What the variant hears, with the slots' names left out: two of the same shape hear the same words.
    pub(super) fn shape(&self) -> Vec<Part> {
        let nameless = |part: &Part| match part {
            Part::Word(word) => Part::Word(word.clone()),
            Part::Slot(_, kind) => Part::Slot(String::new(), *kind),
        };
        self.parts.iter().map(nameless).collect()
    }

    /// The slots' names, in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Slot(name, _) => Some(name.as_str()),
            Part::Word(_) => None,
        })
    }

    /// How many words are literal, and how many slots are typed.
    pub(super) fn weight(&self) -> (usize, usize) {
        let literal = self.parts.iter().filter(|part| matches!(part, Part::Word(_))).count();
        let is_typed = |part: &&Part| matches!(part, Part::Slot(_, kind) if *kind != SlotKind::Text);
        let typed = self.parts.iter().filter(is_typed).count();
        (literal, typed)
    }
}

/// Text and slots in the order of a pattern, before the text is cut into words.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Raw {
    Text(String),
    Slot(String, SlotKind),
}

/// Spells a pattern out into its variants.
///
/// # Errors
/// [`PatternError`] with the place, for brackets that don't match, slots that can't be told apart, a variant without a
/// literal word, or too many variants.
pub(super) fn parse(pattern: &str) -> Result<Vec<Variant>, PatternError> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut parser = Parser { chars: &chars, at: 0, depth: 0 };
    let rows = parser.choices(None)?;
    let mut variants: Vec<Variant> = Vec::new();
    for row in rows {
        let variant = Variant { parts: join(row) };
        check(&variant)?;
        if !variants.contains(&variant) {
            variants.push(variant);
        }
    }
    Ok(variants)
}

/// Joins what was written side by side, so that `what['s]` and `twenty (one|two)` are cut into words as they are heard.
fn join(row: Vec<Raw>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let flush = |text: &mut String, parts: &mut Vec<Part>| {
        parts.extend(tokens(text).into_iter().map(|token| Part::Word(token.norm)));
        text.clear();
    };
    for raw in row {
        match raw {
            Raw::Text(more) => text.push_str(&more),
            Raw::Slot(name, kind) => {
                flush(&mut text, &mut parts);
                parts.push(Part::Slot(name, kind));
            }
        }
    }
    flush(&mut text, &mut parts);
    parts
}

fn check(variant: &Variant) -> Result<(), PatternError> {
    let err = |problem: String| Err(PatternError { at: 1, problem });
    if variant.parts.is_empty() {
        return err("has nothing to say in it; write the words that a person would say".to_owned());
    }
    if variant.weight().0 == 0 {
        return err("would match everything when all its optional words are left out; make at least one word outside of <slots> \
             and [brackets] part of it"
            .to_owned());
    }
    if variant.parts.len() > PARTS_MAX {
        return err(format!("has more than {PARTS_MAX} words; shorten it"));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = variant.slots().find(|name| !seen.insert(*name)) {
        return err(format!("has the slot <{twice}> twice; give each its own name"));
    }
    for pair in variant.parts.windows(2) {
        if let [Part::Slot(a, SlotKind::Text), Part::Slot(b, SlotKind::Text)] = pair {
            return err(format!(
                "has nothing between <{a}> and <{b}>, so it can't be known where one ends; put a word between them, or make \
                 the first <{a}:word> or <{a}:number>"
            ));
        }
    }
    Ok(())
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error<T>(&self, at: usize, problem: impl Into<String>) -> Result<T, PatternError> {
        Err(PatternError { at: at + 1, problem: problem.into() })
    }

    /// Reads choices up to `close` (which is left to the caller) or to the end.
    fn choices(&mut self, close: Option<char>) -> Result<Vec<Vec<Raw>>, PatternError> {
        let start = self.at;
        let mut all = Vec::new();
        loop {
            let before = self.at;
            let rows = self.sequence(close)?;
            if self.at == before || self.chars[before..self.at].iter().all(|c| c.is_whitespace()) {
                let what = if close.is_some() {
                    "is an empty choice; write words in it, or use [ ] for what may be left out"
                } else {
                    "is empty; write the words that a person would say"
                };
                return self.error(before, what);
            }
            all.extend(rows);
            if all.len() > VARIANTS_MAX {
                return self
                    .error(start, format!("has more than {VARIANTS_MAX} variants; split it into several patterns"));
            }
            match self.chars.get(self.at) {
                Some('|') => self.at += 1,
                _ => return Ok(all),
            }
        }
    }

    fn sequence(&mut self, close: Option<char>) -> Result<Vec<Vec<Raw>>, PatternError> {
        let mut rows: Vec<Vec<Raw>> = vec![Vec::new()];
        while let Some(&c) = self.chars.get(self.at) {
            let at = self.at;
            let more: Vec<Vec<Raw>> = match c {
                '|' if close.is_some() => return Ok(rows),
                _ if Some(c) == close => return Ok(rows),
                '|' => return self.error(at, "`|` stands outside of brackets; write (this|that) or [this|that]"),
                '(' => self.group(')')?,
                '[' => {
                    let mut more = self.group(']')?;
                    more.push(Vec::new());
                    more
                }
                ')' | ']' | '>' => return self.error(at, format!("`{c}` closes what was not opened")),
                '<' => vec![vec![self.slot()?]],
                _ => {
                    let text: String = self.chars[at..].iter().take_while(|c| !"|()[]<>".contains(**c)).collect();
                    self.at += text.chars().count();
                    vec![vec![Raw::Text(text)]]
                }
            };
            if rows.len() * more.len() > VARIANTS_MAX {
                return self
                    .error(at, format!("makes more than {VARIANTS_MAX} variants; split it into several patterns"));
            }
            rows = rows.iter().flat_map(|row| more.iter().map(move |tail| [row.as_slice(), tail].concat())).collect();
        }
        Ok(rows)
    }

    fn group(&mut self, close: char) -> Result<Vec<Vec<Raw>>, PatternError> {
        let at = self.at;
        if self.depth == DEPTH_MAX {
            return self.error(at, format!("nests brackets deeper than {DEPTH_MAX}; split it into several patterns"));
        }
        self.at += 1;
        self.depth += 1;
        let rows = self.choices(Some(close))?;
        self.depth -= 1;
        if self.chars.get(self.at) != Some(&close) {
            return self.error(at, format!("`{}` is never closed; end it with `{close}`", self.chars[at]));
        }
        self.at += 1;
        Ok(rows)
    }

    fn slot(&mut self) -> Result<Raw, PatternError> {
        let at = self.at;
        let inner: String = self.chars[at + 1..].iter().take_while(|c| !"<>".contains(**c)).collect();
        let end = at + 1 + inner.chars().count();
        if self.chars.get(end) != Some(&'>') {
            return self.error(at, "`<` is never closed; a slot is <name>, <name:word> or <name:number>");
        }
        self.at = end + 1;
        let (name, kind) = inner.split_once(':').unwrap_or((&inner, "text"));
        let kind = match kind {
            "text" => SlotKind::Text,
            "word" => SlotKind::Word,
            "number" => SlotKind::Number,
            "chord" => SlotKind::Chord,
            "note" => SlotKind::Note,
            other => {
                return self.error(
                    at,
                    format!("<{name}:{other}> is of no known kind; there are text, word, number, chord and note"),
                );
            }
        };
        let named = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !named {
            return self.error(at, format!("`{name}` is no name for a slot; use a-z, 0-9 and _, a letter first"));
        }
        Ok(Raw::Slot(name.to_owned(), kind))
    }
}
