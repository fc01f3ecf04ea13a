//! What a check looks at, and what it finds.

use serde::Serialize;

use crate::cli::globals::Globals;
use crate::config::Config;
use crate::home::Home;

/// What is looked at.
pub(super) struct Case {
    pub(super) config: Config,
    /// Why the settings can't be read; `config` then holds the defaults.
    pub(super) config_error: Option<String>,
    /// The configuration files that were read.
    pub(super) files: Vec<std::path::PathBuf>,
    pub(super) home: Home,
}

impl Case {
    pub(super) fn of(globals: &Globals) -> Self {
        let home = globals.home();
        let files = crate::config::files(&globals.config, home.path());
        let (config, config_error) = match globals.config() {
            Ok(config) => (config, None),
            Err(error) => (Config::default(), Some(error.to_string())),
        };
        Self { config, config_error, files, home }
    }

    pub(super) fn has_role(&self, role: &str) -> bool {
        role.is_empty() || self.config.node.roles.iter().any(|name| name == role)
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// All is well.
    Ok,
    /// It works, though not as well as it could, or not yet.
    Warn,
    /// A role can't work.
    Fail,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) status: Status,
    pub(super) what: String,
    pub(super) detail: String,
    /// What to do about it; empty if nothing.
    pub(super) todo: String,
}

impl Row {
    pub(super) fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status: Status::Ok, what: what.into(), detail: detail.into(), todo: String::new() }
    }

    pub(super) fn warn(what: impl Into<String>, detail: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { status: Status::Warn, what: what.into(), detail: detail.into(), todo: todo.into() }
    }

    pub(super) fn fail(what: impl Into<String>, detail: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(what, detail, todo) }
    }

    /// A failure whose text says what to do already.
    pub(super) fn error(what: impl Into<String>, error: &dyn std::fmt::Display) -> Self {
        let text = error.to_string();
        let (detail, todo) = text.split_once("; ").unwrap_or((&text, ""));
        Self::fail(what, detail, todo)
    }
}
