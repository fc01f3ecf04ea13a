//! Files of commands: reading them, and everything that can be wrong with a single command.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::action::CommandAction;
use super::error::CommandError;
use super::pattern::{self, Variant};

/// A file of commands: its text, and the name that errors give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFile {
    /// The name.
    pub name: String,
    /// TOML.
    pub text: String,
}

/// The commands that every host has: config/commands, compiled in.
#[must_use]
pub fn builtin() -> Vec<CommandFile> {
    [
        ("builtin stop.toml", include_str!("../../config/commands/stop.toml")),
        ("builtin clock.toml", include_str!("../../config/commands/clock.toml")),
        ("builtin say.toml", include_str!("../../config/commands/say.toml")),
        ("builtin midi.toml", include_str!("../../config/commands/midi.toml")),
        ("builtin ask.toml", include_str!("../../config/commands/ask.toml")),
    ]
    .into_iter()
    .map(|(name, text)| CommandFile { name: name.to_owned(), text: text.to_owned() })
    .collect()
}

/// What kind of wish a command is; the planner and the log use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Do something.
    Action,
    /// Tell something.
    Query,
    /// Steer Sidetone itself.
    Control,
    /// Talk.
    Chat,
}

/// A command, as a `[[command]]` table has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Its name, in all sources only once: a-z, 0-9, `_` and `-`.
    pub name: String,
    /// What it does, in a sentence, for people.
    pub description: String,
    /// What kind of wish it is.
    pub intent: Intent,
    /// Whole phrases that mean the command, without slots.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What a person says, in the language of patterns (config/commands/say.toml explains it).
    #[serde(default)]
    pub patterns: Vec<String>,
    /// What it does.
    pub action: CommandAction,
}

/// A way to say a command, ready to be matched.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Which command, as an index.
    pub command: usize,
    /// The pattern or alias as it was written.
    pub pattern: String,
    pub variant: Variant,
}

/// A command with its place and its variants.
#[derive(Debug)]
pub(super) struct Loaded {
    pub command: Command,
    pub place: Origin,
    /// Key, pattern or alias as written, variant.
    pub variants: Vec<(String, String, Variant)>,
}

/// Where a command was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub file: String,
    pub line: usize,
    pub command: String,
}

impl Origin {
    pub(super) fn error(&self, key: impl Into<String>, problem: impl Into<String>) -> CommandError {
        let Self { file, line, command } = self.clone();
        CommandError::Command { file, line, command, key: key.into(), problem: problem.into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    command: Vec<Spanned<toml::Value>>,
}

/// Reads every command of a file.
pub(super) fn load(file: &CommandFile) -> Result<Vec<Loaded>, CommandError> {
    let CommandFile { name, text } = file;
    let tables: Tables = toml::from_str(text)
        .map_err(|error| CommandError::File { file: name.clone(), problem: error.to_string().trim_end().to_owned() })?;
    let commands = tables.command.into_iter().map(|value| {
        let line = text.get(..value.span().start).map_or(1, |before| before.matches('\n').count() + 1);
        check(name, line, value.into_inner())
    });
    commands.collect()
}

fn check(file: &str, line: usize, value: toml::Value) -> Result<Loaded, CommandError> {
    let name = value.get("name").and_then(toml::Value::as_str).unwrap_or("?").to_owned();
    let place = Origin { file: file.to_owned(), line, command: name };
    let action = value.get("action").cloned();
    // The action alone first, as an error in a tagged table does not say which table it was in.
    if let Some(action) = action {
        action.try_into::<CommandAction>().map_err(|error| place.error("action", one_line(&error)))?;
    }
    let command: Command =
        value.try_into().map_err(|error: toml::de::Error| place.error("its keys", one_line(&error)))?;
    let named = !command.name.is_empty()
        && command.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
    if !named {
        return Err(place.error("name", "is no name; use a-z, 0-9, `_` and `-`"));
    }
    if command.patterns.is_empty() && command.aliases.is_empty() {
        return Err(
            place.error("patterns", "there are none, and no aliases; write at least one that a person would say")
        );
    }
    let mut variants = Vec::new();
    for (index, text) in command.patterns.iter().enumerate() {
        let key = format!("patterns[{}]", index + 1);
        for variant in parse(&place, &key, text)? {
            variants.push((key.clone(), text.clone(), variant));
        }
    }
    for (index, text) in command.aliases.iter().enumerate() {
        let key = format!("aliases[{}]", index + 1);
        if text.contains(['<', '>', '[', ']', '(', ')', '|']) {
            return Err(place
                .error(key, format!("`{text}` is a pattern; an alias is a plain phrase, so move it to `patterns`")));
        }
        for variant in parse(&place, &key, text)? {
            variants.push((key.clone(), text.clone(), variant));
        }
    }
    check_action(&place, &command.action, &variants)?;
    Ok(Loaded { command, place, variants })
}

/// What serde says, with the key it is about where it knows one.
fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parse(place: &Origin, key: &str, text: &str) -> Result<Vec<Variant>, CommandError> {
    pattern::parse(text)
        .map_err(|error| place.error(key, format!("`{text}`, character {}: {}", error.at, error.problem)))
}

/// Every way to say the command must fill every slot that its action uses.
fn check_action(
    place: &Origin,
    action: &CommandAction,
    variants: &[(String, String, Variant)],
) -> Result<(), CommandError> {
    action.check().map_err(|error| place.error("action", error.to_string()))?;
    let (used, own) = (action.slots(), action.own());
    if used.is_empty() {
        return Ok(());
    }
    for (from, text, variant) in variants {
        let slots: BTreeSet<&str> = variant.slots().collect();
        if let Some(clash) = slots.iter().find(|slot| own.contains(slot)) {
            let problem =
                format!("`{text}`: the action `{}` fills in {{{clash}}} itself; rename the slot", action.name());
            return Err(place.error(from, problem));
        }
        let names = used.iter().flat_map(|(key, names)| names.iter().map(move |name| (key, *name)));
        if let Some((key, missing)) = names.into_iter().find(|(_, name)| !slots.contains(name) && !own.contains(name)) {
            let known: Vec<String> = own.iter().chain(&slots).map(|name| format!("{{{name}}}")).collect();
            let instead = if known.is_empty() { String::new() } else { format!("use {}, or ", known.join(", ")) };
            let problem = format!(
                "uses {{{missing}}}, but `{text}` ({from}) has no such slot; {instead}put <{missing}> into every way to say \
                 it, outside of [brackets]"
            );
            return Err(place.error(format!("action.{key}"), problem));
        }
    }
    Ok(())
}
