//! Text that must not be shown: providers' keys, passwords.

use std::fmt;

use serde::Deserialize;

/// A secret. It can be read from a configuration and handed to whoever needs it by [`Secret::expose`], but it does not
/// print and cannot be written to the bus or a file: there is no `Serialize`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever calls this sees to it that it ends in no log and no message.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_but_never_shown() {
        #[derive(Debug, Deserialize)]
        struct Config {
            key: Secret,
        }
        let config: Config = toml::from_str("key = \"sk-123\"").unwrap();
        assert_eq!(config.key.expose(), "sk-123");
        assert_eq!(format!("{config:?} {}", config.key), "Config { key: Secret(…) } …");
    }
}
