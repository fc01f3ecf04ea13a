//! Commands: what a person can say without a model having to guess what was meant.
//!
//! A command is a table in a TOML file: what is said (patterns with slots) and what it does ([`Action`]).
//! Files are read and checked once by [`CommandSet::load`]; [`CommandSet::matches`] and [`Action::render`] are pure.
//! config/commands has the commands of every host, and config/commands/say.toml explains how to write more.
//!
//! A new kind of action is a variant of [`Action`] and what the role does for it.

mod action;
mod error;
mod file;
mod pattern;
mod words;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

pub use action::{Action, Facts, RenderError, Rendered};
pub use error::CommandError;
pub use file::{Command, CommandSource, Intent};

use file::{Entry, Loaded};
use pattern::{Fit, Heard, Part};
use words::Token;

/// The most words that are looked at: no command is longer, and the time that matching takes stays bounded.
const WORDS_MAX: usize = 1000;

/// Every command of a host, checked and ready.
#[derive(Debug, Clone, Default)]
pub struct CommandSet {
    commands: Vec<Command>,
    entries: Vec<Entry>,
}

/// How closely a pattern describes what was heard; the greater one wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Specificity {
    /// How many words the pattern has outside of slots.
    pub literal_words: usize,
    /// How many of its slots take a number or a single word.
    pub typed_slots: usize,
}

/// A command that was heard.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandMatch<'a> {
    /// The command.
    pub command: &'a Command,
    /// What the slots took, as the speaker spelled it; numbers are in digits.
    pub slots: BTreeMap<String, String>,
    /// The pattern or alias that matched, as it is written in the file.
    pub pattern: String,
    /// How closely it matched.
    pub specificity: Specificity,
}

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
    /// Reads and checks the commands of `sources`, in this order.
    ///
    /// # Errors
    /// [`CommandError`] for the first thing that is wrong in any file: nothing is loaded then.
    pub fn load(sources: &[CommandSource]) -> Result<Self, CommandError> {
        let mut set = Self::default();
        let mut names: HashMap<String, String> = HashMap::new();
        let mut shapes: HashMap<Vec<Part>, (usize, String)> = HashMap::new();
        for source in sources {
            for loaded in file::load(source)? {
                let place = format!("{}:{}", loaded.place.file, loaded.place.line);
                if let Some(other) = names.insert(loaded.command.name.clone(), place) {
                    let problem = format!(
                        "{other} has a command of this name; choose another name, or leave out one of the two files"
                    );
                    return Err(loaded.place.error("name", problem));
                }
                set.add(loaded, &mut shapes)?;
            }
        }
        Ok(set)
    }

    fn add(&mut self, loaded: Loaded, shapes: &mut HashMap<Vec<Part>, (usize, String)>) -> Result<(), CommandError> {
        let index = self.commands.len();
        for (key, pattern, variant) in loaded.variants {
            if let Some((other, same)) = shapes.get(&variant.shape()) {
                // A second way to the same command does no harm as long as it fills the same slots.
                let twin = self.entries.iter().any(|entry| entry.command == index && entry.variant == variant);
                if *other == index && twin {
                    continue;
                }
                let name = self.commands.get(*other).map_or(loaded.command.name.as_str(), |command| &command.name);
                let problem = format!(
                    "`{pattern}` hears the same words as `{same}` of command `{name}`; change one so that a word tells them apart"
                );
                return Err(loaded.place.error(key, problem));
            }
            shapes.insert(variant.shape(), (index, pattern.clone()));
            self.entries.push(Entry { command: index, pattern, variant });
        }
        self.commands.push(loaded.command);
        Ok(())
    }

    /// Every command, in the order of the files.
    #[must_use]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The command that `text` means, if any. All of `text` must match, apart from polite words around it. The most
    /// specific match wins; of equals the one that leaves off the least politeness, then the first in the files.
    #[must_use]
    pub fn matches(&self, text: &str) -> Option<CommandMatch<'_>> {
        let tokens = words::tokens(text);
        let mut best: Option<Found> = None;
        for heard in stretches(text, &tokens) {
            for (index, entry) in self.entries.iter().enumerate() {
                let specificity = specificity(entry);
                if best.as_ref().is_some_and(|best| best.specificity >= specificity) {
                    continue;
                }
                if let Fit::Whole(slots) = entry.variant.fit(heard) {
                    best = Some(Found { entry: index, slots, specificity });
                }
            }
        }
        let Found { entry, slots, specificity } = best?;
        let entry = self.entries.get(entry)?;
        let command = self.commands.get(entry.command)?;
        Some(CommandMatch { command, slots, pattern: entry.pattern.clone(), specificity })
    }

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

/// The best match so far.
struct Found {
    entry: usize,
    slots: BTreeMap<String, String>,
    specificity: Specificity,
}

fn specificity(entry: &Entry) -> Specificity {
    let (literal_words, typed_slots) = entry.variant.weight();
    Specificity { literal_words, typed_slots }
}

/// What may be the command in `text`: all of it, then less and less politeness.
fn stretches<'a>(text: &'a str, tokens: &'a [Token]) -> Vec<Heard<'a>> {
    if tokens.is_empty() || tokens.len() > WORDS_MAX {
        return Vec::new();
    }
    words::without_politeness(tokens).into_iter().map(|(from, to)| Heard { text, all: tokens, from, to }).collect()
}

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
            pattern::SlotKind::Text => format!("words for <{name}>"),
            pattern::SlotKind::Word => format!("one word for <{name}>"),
            pattern::SlotKind::Number => format!("a number for <{name}>"),
            pattern::SlotKind::Chord => format!("a chord for <{name}>"),
            pattern::SlotKind::Note => format!("a note for <{name}>"),
        },
    });
    match (expected, rest) {
        (None, Some(rest)) => format!("`{rest}` is left over"),
        (Some(expected), Some(_)) => format!("expected {expected}, heard `{}`", tokens[word].norm),
        (Some(expected), None) => format!("expected {expected}, but that was all"),
        (None, None) => "a slot would have to end inside of a word".to_owned(),
    }
}

#[cfg(test)]
mod tests;
