//! Which ports are meant.

use glob::Pattern;
use regex::Regex;

use crate::audio::jack::GraphPort;

/// A regular expression may take so much memory; port names are short.
const REGEX_BYTES: usize = 1 << 20;

/// A port by its name, a glob of names, or a regular expression.
#[derive(Debug, Clone)]
pub struct PortPattern {
    text: String,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    /// No wildcard in it.
    Exact,
    Glob(Pattern),
    Regex(Regex),
}

/// A pattern that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the port pattern '{pattern}' can't be read: {reason}; write a port's name with * and ? as wildcards, such as \
     'system:capture_*', a client's name for all of its ports, or /a regular expression/"
)]
pub struct PortPatternError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl PortPattern {
    /// Reads a pattern: `client:port` with `*`, `?` and `[…]` as wildcards, `client` for all ports of one, or `/regex/` for
    /// the whole name. Upper and lower case are told apart.
    ///
    /// # Errors
    /// [`PortPatternError`].
    pub fn new(text: &str) -> Result<Self, PortPatternError> {
        let refused = |reason: String| PortPatternError { pattern: text.to_owned(), reason };
        if text.trim().is_empty() {
            return Err(refused("it is empty".to_owned()));
        }
        let how = if let Some(inner) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            if inner.is_empty() {
                return Err(refused("there is nothing between the slashes".to_owned()));
            }
            let regex = regex::RegexBuilder::new(&format!("^(?:{inner})$")).size_limit(REGEX_BYTES).build();
            How::Regex(regex.map_err(|err| refused(one_line(&err.to_string())))?)
        } else {
            let whole = if text.contains(':') { text.to_owned() } else { format!("{text}:*") };
            let glob = Pattern::new(&whole).map_err(|err| refused(err.to_string()));
            match glob {
                _ if text.contains(':') && !text.contains(['*', '?', '[']) => How::Exact,
                Ok(glob) => How::Glob(glob),
                Err(error) => return Err(error),
            }
        };
        Ok(Self { text: text.to_owned(), how })
    }

    /// The pattern that means this port alone, whatever is in its name.
    #[must_use]
    pub fn exactly(port: &str) -> Self {
        Self { text: port.to_owned(), how: How::Exact }
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it can mean one port only.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self.how, How::Exact)
    }

    /// Whether it means this port: by its name, an alias, or the name that people should see.
    #[must_use]
    pub fn matches(&self, port: &GraphPort) -> bool {
        std::iter::once(&port.name).chain(&port.aliases).chain(&port.pretty_name).any(|name| self.matches_name(name))
    }

    /// Whether it means this name. A port whose very name looks like a glob is meant by it as well.
    #[must_use]
    pub fn matches_name(&self, name: &str) -> bool {
        match &self.how {
            How::Exact => self.text == name,
            How::Glob(glob) => self.text == name || glob.matches(name),
            How::Regex(regex) => regex.is_match(name),
        }
    }
}

/// The last line of a message that shows the place by a drawing.
fn one_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_globs_clients_and_regular_expressions() {
        for (pattern, name, matches) in [
            ("system:capture_1", "system:capture_1", true),
            ("system:capture_1", "system:capture_10", false),
            ("system:capture_*", "system:capture_10", true),
            ("system:capture_?", "system:capture_10", false),
            ("system:*_[12]", "system:playback_2", true),
            ("System:*", "system:playback_2", false),
            ("system", "system:playback_2", true),
            ("system", "system2:playback_2", false),
            ("sys*", "system2:playback_2", true),
            ("a2j:USB [24] (capture): out", "a2j:USB [24] (capture): out", true),
            ("/system:(capture|playback)_[0-9]+/", "system:capture_12", true),
            ("/capture_1/", "system:capture_1", false),
            ("/.*capture_1/", "system:capture_1", true),
            ("/(?i)SYSTEM:.*/", "system:capture_1", true),
            ("/a|b/", "ab", false),
        ] {
            assert_eq!(PortPattern::new(pattern).unwrap().matches_name(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_without_sense_says_so() {
        for pattern in ["", "  ", "a:[", "a***b:", "/(/", "//", "/[/", "/(?:a{1000}){1000}{1000}/"] {
            let error = PortPattern::new(pattern).unwrap_err();
            assert_eq!(error.pattern, pattern);
            assert!(error.to_string().contains("system:capture_*"), "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}", name in "\\PC{0,30}") {
            if let Ok(pattern) = PortPattern::new(&text) {
                let _ = pattern.matches_name(&name);
            }
            prop_assert!(PortPattern::exactly(&name).matches_name(&name));
        }
    }
}
