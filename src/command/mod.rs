//! Commands: what a person can say without a model having to guess what was meant. Pure: knows neither bus nor clock, and reads
//! no file itself.
//!
//! A command is a table in a TOML file: what a person says (patterns with slots) and what it does ([`CommandAction`]).
//! Files are checked once by [`CommandSet::load`]; [`CommandSet::matches`] and [`CommandAction::render`] give values.
//! config/commands has the commands of every host, and config/commands/say.toml explains how to write more.
//!
//! | file | what |
//! | --- | --- |
//! | `words`, `numbers` | what two spellings of the same words have in common |
//! | `pattern`, `fit` | the language of patterns; whether words are one, and what its slots take |
//! | `action` | what a command does |
//! | `file`, `error` | a file of commands, and what can be wrong with it |
//! | `set`, `explain` | all of them: which one is meant; the dry run, with reasons |

mod action;
mod error;
mod explain;
mod file;
mod fit;
mod numbers;
mod pattern;
mod set;
mod words;

pub use action::{Answer, CommandAction, CommandEffect, Facts, RenderError};
pub use error::CommandError;
pub use explain::Candidate;
pub use file::{Command, CommandFile, Intent, builtin};
pub use set::{CommandMatch, CommandSet, Specificity};

#[cfg(test)]
mod tests;
