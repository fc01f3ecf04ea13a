//! All commands of a host, and which one is meant.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::error::CommandError;
use super::file::{self, Command, CommandFile, Entry, Loaded};
use super::fit::{Fit, Stretch};
use super::pattern::Part;
use super::words::{self, Token};

/// The most words that are looked at: no command is longer, and the time that matching takes stays bounded.
pub(super) const WORDS_MAX: usize = 1000;

/// Every command of a host, checked and ready.
#[derive(Debug, Clone, Default)]
pub struct CommandSet {
    pub(super) commands: Vec<Command>,
    pub(super) entries: Vec<Entry>,
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

impl CommandSet {
    /// Reads and checks the commands of `files`, in this order.
    ///
    /// # Errors
    /// [`CommandError`] for the first thing that is wrong in any file: nothing is loaded then.
    pub fn load(files: &[CommandFile]) -> Result<Self, CommandError> {
        let mut set = Self::default();
        let mut names: HashMap<String, String> = HashMap::new();
        let mut shapes: HashMap<Vec<Part>, (usize, String)> = HashMap::new();
        for source in files {
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
}

/// The best match so far.
struct Found {
    entry: usize,
    slots: BTreeMap<String, String>,
    specificity: Specificity,
}

pub(super) fn specificity(entry: &Entry) -> Specificity {
    let (literal_words, typed_slots) = entry.variant.weight();
    Specificity { literal_words, typed_slots }
}

/// What may be the command in `text`: all of it, then less and less politeness.
pub(super) fn stretches<'a>(text: &'a str, tokens: &'a [Token]) -> Vec<Stretch<'a>> {
    if tokens.is_empty() || tokens.len() > WORDS_MAX {
        return Vec::new();
    }
    words::without_politeness(tokens).into_iter().map(|(from, to)| Stretch { text, all: tokens, from, to }).collect()
}
