//! What is found when an engine is looked at without being built.

use crate::models::ModelKind;

/// Something that an engine needs, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is well.
    Ok {
        /// What was looked at.
        what: &'static str,
        /// How it is.
        detail: String,
    },
    /// The engine can't work.
    Fail {
        /// What was looked at.
        what: &'static str,
        /// How it is.
        detail: String,
        /// What to do about it; empty if `detail` says so behind a `; `.
        todo: String,
    },
    /// The model of the settings is needed as well, of this kind.
    Model(ModelKind),
}
