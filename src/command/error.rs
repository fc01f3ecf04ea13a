//! Why commands can't be loaded.

use std::path::PathBuf;

/// Why a [`super::CommandSet`] can't be loaded. Nothing is loaded then: a host with half its commands would surprise.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file or folder can't be read.
    #[error("commands: can't read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no TOML, or holds something else than `[[command]]`.
    #[error(
        "commands: {file}: {problem}\na file of commands holds [[command]] tables; see config/commands for examples"
    )]
    File {
        /// The file.
        file: String,
        /// The problem, with its place.
        problem: String,
    },
    /// A command can't be used.
    #[error("commands: {file}:{line}: command `{command}`, {key}: {problem}")]
    Command {
        /// The file.
        file: String,
        /// The line that the command begins on, from 1.
        line: usize,
        /// The command's name, or `?` where it has none.
        command: String,
        /// The key that is wrong, such as `patterns[2]` (from 1) or `action.text`.
        key: String,
        /// The problem, and what would do.
        problem: String,
    },
}
