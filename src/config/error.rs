//! What is wrong with a configuration.

use std::path::PathBuf;

/// A mistake in the settings: where, what, and what would do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("can't read the configuration {path}: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// A file or `--set` has a mistake; the text names the line and what is known there.
    #[error("in {place}: {why}")]
    Wrong {
        /// The file, or the `--set`.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The settings contradict each other.
    #[error("{key} is {given}: {why}")]
    Value {
        /// The setting.
        key: String,
        /// Its value.
        given: String,
        /// What would do.
        why: String,
    },
}
