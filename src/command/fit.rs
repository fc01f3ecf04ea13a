//! Matching: whether the words of an utterance are a variant of a pattern, and what its slots take.

use std::collections::{BTreeMap, HashSet};

use super::pattern::{Part, SlotKind, Variant};
use super::words::Token;
use crate::midi::chord::OCTAVE;
use crate::midi::{Chord, Note};

/// The most words of a chord: "F sharp minor seven flat five over B flat".
const MUSIC_WORDS_MAX: usize = 9;

/// A whole utterance, of which a stretch of words is to be matched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch<'a> {
    /// The utterance as it was written.
    pub text: &'a str,
    /// All its words.
    pub all: &'a [Token],
    /// The first word to match.
    pub from: usize,
    /// One past the last.
    pub to: usize,
}

/// How far a variant got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// To the end, with these slots.
    Whole(BTreeMap<String, String>),
    /// Up to the part `part` and the word `word` of [`Stretch::all`]; either may be one past the last.
    Part { part: usize, word: usize },
}

impl Variant {
    /// Matches the whole stretch, or says how far it went. A text slot ends at the first place from which the rest
    /// of the variant matches.
    pub(super) fn fit(&self, heard: Stretch<'_>) -> Fit {
        let mut search = Search { parts: &self.parts, heard, dead: HashSet::new(), furthest: (0, heard.from) };
        let mut ranges = Vec::new();
        if !search.step(0, heard.from, &mut ranges) {
            return Fit::Part { part: search.furthest.0, word: search.furthest.1 };
        }
        let values = ranges.into_iter().rev().map(|(part, from, to)| {
            let (name, kind) = match &self.parts[part] {
                Part::Slot(name, kind) => (name.clone(), *kind),
                Part::Word(word) => (word.clone(), SlotKind::Text),
            };
            let value = match kind {
                SlotKind::Number => number_at(heard, from).map(|(value, _)| value).unwrap_or_default(),
                SlotKind::Text | SlotKind::Word => spelling(heard, from, to),
                SlotKind::Chord | SlotKind::Note => music(kind, &spelling(heard, from, to)).unwrap_or_default(),
            };
            (name, value)
        });
        Fit::Whole(values.collect())
    }
}

/// A depth-first search that never tries the same part at the same word twice.
struct Search<'a> {
    parts: &'a [Part],
    heard: Stretch<'a>,
    dead: HashSet<(usize, usize)>,
    furthest: (usize, usize),
}

impl Search<'_> {
    /// Whether the parts from `part` on match all words from `word` on; the slots found are pushed last first.
    fn step(&mut self, part: usize, word: usize, ranges: &mut Vec<(usize, usize, usize)>) -> bool {
        self.furthest = self.furthest.max((part, word));
        let Some(current) = self.parts.get(part) else { return word == self.heard.to };
        if word >= self.heard.to || !self.dead.insert((part, word)) {
            return false;
        }
        let tokens = self.heard.all;
        if let Part::Word(literal) = current {
            return tokens[word].norm == *literal && self.step(part + 1, word + 1, ranges);
        }
        if !tokens[word].opens {
            return false;
        }
        let Part::Slot(_, kind) = current else { return false };
        if matches!(kind, SlotKind::Chord | SlotKind::Note) {
            // The longest name first: "C major" before "C".
            let most = self.heard.to.min(word + MUSIC_WORDS_MAX);
            for end in (word + 1..=most).rev() {
                let is_name = tokens[end - 1].closes && music(*kind, &spelling(self.heard, word, end)).is_some();
                if is_name && self.step(part + 1, end, ranges) {
                    ranges.push((part, word, end));
                    return true;
                }
            }
            return false;
        }
        let last = part + 1 == self.parts.len();
        let ends: std::ops::RangeInclusive<usize> = match kind {
            SlotKind::Text if last => self.heard.to..=self.heard.to,
            SlotKind::Text => word + 1..=self.heard.to,
            SlotKind::Number => match number_at(self.heard, word) {
                Some((_, end)) => end..=end,
                None => return false,
            },
            SlotKind::Word => {
                if word > self.heard.from && tokens[word - 1].piece == tokens[word].piece {
                    return false;
                }
                let same = tokens[word..self.heard.to].iter().take_while(|token| token.piece == tokens[word].piece);
                let end = word + same.count();
                end..=end
            }
            SlotKind::Chord | SlotKind::Note => return false,
        };
        for end in ends {
            if tokens[end - 1].closes && self.step(part + 1, end, ranges) {
                ranges.push((part, word, end));
                return true;
            }
        }
        false
    }
}

/// The number that begins at the word `word`, in digits, and the word after it.
fn number_at(heard: Stretch<'_>, word: usize) -> Option<(String, usize)> {
    let token = heard.all.get(word).filter(|_| word < heard.to)?;
    if matches!(token.norm.as_str(), "minus" | "negative") {
        let (value, end) = number_at(heard, word + 1)?;
        return (!value.starts_with('-')).then(|| (format!("-{value}"), end));
    }
    let (whole, fraction) = token.norm.split_once('.').map_or((token.norm.as_str(), None), |(a, b)| (a, Some(b)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = whole.split(',');
    let first = groups.next().filter(|group| digits(group))?;
    let grouped = whole.contains(',');
    if (grouped && first.len() > 3) || !groups.all(|group| digits(group) && group.len() == 3) {
        return None;
    }
    if fraction.is_some_and(|part| !digits(part)) {
        return None;
    }
    let before = &heard.text[..token.start];
    let minus = before
        .strip_suffix(['-', '\u{2212}'])
        .is_some_and(|rest| rest.is_empty() || rest.ends_with(char::is_whitespace));
    let plain = token.norm.replace(',', "");
    Some((if minus { format!("-{plain}") } else { plain }, word + 1))
}

/// The name of a chord or note as it is written, of what was said.
fn music(kind: SlotKind, said: &str) -> Option<String> {
    match kind {
        SlotKind::Chord => Chord::spoken(said).map(|chord| chord.name().to_owned()),
        SlotKind::Note => Note::spoken(said, OCTAVE).map(Note::name),
        SlotKind::Text | SlotKind::Word | SlotKind::Number => None,
    }
}

/// How the speaker's text spells the words `from..to`: marks inside are kept, quotes around it and a full stop or
/// comma at its end are not.
fn spelling(heard: Stretch<'_>, from: usize, to: usize) -> String {
    let start = if from == 0 { 0 } else { heard.all[from - 1].end };
    let end = heard.all.get(to).map_or(heard.text.len(), |token| token.start);
    let value = trim_marks(&heard.text[start..end]);
    const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’'), ('«', '»')];
    for (open, close) in QUOTES {
        let inner = value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(inner) = inner.filter(|inner| !inner.contains([open, close])) {
            return trim_marks(inner).to_owned();
        }
    }
    value.to_owned()
}

fn trim_marks(text: &str) -> &str {
    let mut text = text.trim_start_matches(|c: char| c.is_whitespace() || ",.:;!?–—".contains(c));
    while let Some(rest) = text.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace)) {
        text = rest.trim_start();
    }
    text = text.trim_end_matches(|c: char| c.is_whitespace() || ",:;–—".contains(c));
    match text.strip_suffix('.') {
        Some(rest) if !rest.ends_with('.') => rest.trim_end(),
        _ => text,
    }
}
