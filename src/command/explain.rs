//! The dry run: what becomes of every command for a text, and why.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::file::Entry;
use super::fit::Fit;
use super::pattern::{Part, SlotKind};
use super::set::{CommandSet, Specificity, WORDS_MAX, specificity, stretches};
use super::words::{self, Token};

/// What became of a command in a dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The command's name.
    pub command: String,
    /// Of its patterns and aliases, the one that came closest.
    pub pattern: String,
    /// Whether it matches.
    pub matched: bool,
    /// Whether it is the one that is run.
    pub chosen: bool,
    /// What its slots took, if it matches.
    pub slots: BTreeMap<String, String>,
    /// How closely it matches; zero if it doesn't.
    pub specificity: Specificity,
    /// Why, in a sentence without a full stop.
    pub reason: String,
}

impl CommandSet {
    /// What became of every command for `text`: the chosen one first, then those that match too, then the rest, the
    /// closest first.
    #[must_use]
    pub fn explain(&self, text: &str) -> Vec<Candidate> {
        let tokens = words::tokens(text);
        let chosen = self.matches(text);
        let mut out: Vec<(usize, Candidate)> = Vec::with_capacity(self.commands.len());
        for (index, command) in self.commands.iter().enumerate() {
            let chosen_here = chosen.as_ref().filter(|found| found.command.name == command.name);
            let mut candidate = Candidate {
                command: command.name.clone(),
                pattern: String::new(),
                matched: false,
                chosen: chosen_here.is_some(),
                slots: BTreeMap::new(),
                specificity: Specificity::default(),
                reason: String::new(),
            };
            if let Some(found) = chosen_here {
                candidate.pattern.clone_from(&found.pattern);
                candidate.matched = true;
                candidate.slots.clone_from(&found.slots);
                candidate.specificity = found.specificity;
                candidate.reason = format!("matches with {}", describe(found.specificity));
                out.push((usize::MAX, candidate));
                continue;
            }
            let closest = self.closest(text, &tokens, index);
            let reached = match closest {
                Some((entry, Fit::Whole(slots))) => {
                    candidate.pattern.clone_from(&entry.pattern);
                    candidate.matched = true;
                    candidate.slots = slots;
                    candidate.specificity = specificity(entry);
                    candidate.reason = chosen.as_ref().map_or_else(String::new, |winner| {
                        let against = if winner.specificity > candidate.specificity {
                            format!("is more specific: {}", describe(winner.specificity))
                        } else {
                            "leaves off less politeness or comes earlier in the files".to_owned()
                        };
                        let own = describe(candidate.specificity);
                        format!("matches too, with {own}, but `{}` {against}", winner.command.name)
                    });
                    usize::MAX - 1
                }
                Some((entry, Fit::Part { part, word })) => {
                    candidate.pattern.clone_from(&entry.pattern);
                    candidate.reason = miss(text, &tokens, &entry.variant.parts, part, word);
                    part
                }
                None => {
                    candidate.reason = if tokens.is_empty() {
                        "there are no words to match".to_owned()
                    } else {
                        format!("there are more than {WORDS_MAX} words, which no command is")
                    };
                    0
                }
            };
            out.push((reached, candidate));
        }
        out.sort_by_key(|(reached, _)| Reverse(*reached));
        out.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// The way to say the command that gets furthest: a whole match, else most parts matched, of the fewest.
    fn closest(&self, text: &str, tokens: &[Token], command: usize) -> Option<(&Entry, Fit)> {
        let mut best: Option<(&Entry, Fit, Rank)> = None;
        for heard in stretches(text, tokens) {
            for entry in self.entries.iter().filter(|entry| entry.command == command) {
                let fit = entry.variant.fit(heard);
                let rank = match &fit {
                    Fit::Whole(_) => (true, specificity(entry), 0, Reverse(0)),
                    Fit::Part { part, .. } => {
                        (false, Specificity::default(), *part, Reverse(entry.variant.parts.len()))
                    }
                };
                if best.as_ref().is_none_or(|(_, _, other)| rank > *other) {
                    best = Some((entry, fit, rank));
                }
            }
        }
        best.map(|(entry, fit, _)| (entry, fit))
    }
}

/// How close a fit is: whole or not, how specific, how many parts matched, of how few.
type Rank = (bool, Specificity, usize, Reverse<usize>);

fn describe(specificity: Specificity) -> String {
    let Specificity { literal_words, typed_slots } = specificity;
    let words = if literal_words == 1 { "word" } else { "words" };
    match typed_slots {
        0 => format!("{literal_words} literal {words}"),
        1 => format!("{literal_words} literal {words} and 1 typed slot"),
        _ => format!("{literal_words} literal {words} and {typed_slots} typed slots"),
    }
}

/// Why a variant that got to `part` and `word` went no further.
fn miss(text: &str, tokens: &[Token], parts: &[Part], part: usize, word: usize) -> String {
    let rest = tokens.get(word).map(|token| text[token.start..].trim());
    let expected = parts.get(part).map(|part| match part {
        Part::Word(word) => format!("`{word}`"),
        Part::Slot(name, kind) => match kind {
            SlotKind::Text => format!("words for <{name}>"),
            SlotKind::Word => format!("one word for <{name}>"),
            SlotKind::Number => format!("a number for <{name}>"),
            SlotKind::Chord => format!("a chord for <{name}>"),
            SlotKind::Note => format!("a note for <{name}>"),
        },
    });
    match (expected, rest) {
        (None, Some(rest)) => format!("`{rest}` is left over"),
        (Some(expected), Some(_)) => format!("expected {expected}, heard `{}`", tokens[word].norm),
        (Some(expected), None) => format!("expected {expected}, but that was all"),
        (None, None) => "a slot would have to end inside of a word".to_owned(),
    }
}
