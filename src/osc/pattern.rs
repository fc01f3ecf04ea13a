//! Address patterns as the OSC 1.0 specification has them.
//!
//! `?` is any one character and `*` any number of them, also none, neither across a `/`; `[a-z]` is one of those characters and
//! `[!a-z]` one of the others; `{on,off}` is one of those texts. A pattern fits an address part by part. (rosc's matcher lets
//! `[ab]` take several characters and `*` no fewer than one, and does not come back when the first of `{a,ab}` leads nowhere.)
//!
//! A pattern becomes a regular expression, which takes time linear in the address whatever the pattern is.

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

/// What a compiled pattern may need, in bytes. One of 255 characters needs a fraction of it.
const SIZE_MAX: usize = 1 << 20;

/// A pattern that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address pattern {pattern:?} {why}")]
pub struct PatternError {
    /// What was given.
    pub pattern: String,
    /// What is wrong, and what would do.
    pub why: String,
}

/// Whether `address` has anything that only a pattern has.
#[must_use]
pub fn is_pattern(address: &str) -> bool {
    address.contains(['?', '*', '[', ']', '{', '}'])
}

/// An address pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    /// `None` if it is an address, which fits itself alone.
    regex: Option<Regex>,
}

impl Pattern {
    /// Reads a pattern; an address is one, too.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let wrong = |why: &str| PatternError { pattern: text.to_owned(), why: why.to_owned() };
        if !text.starts_with('/') {
            return Err(wrong("does not begin with /"));
        }
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(wrong("has characters beyond printable ASCII"));
        }
        if !is_pattern(text) {
            return Ok(Self { text: text.to_owned(), regex: None });
        }
        let regex = translate(text).map_err(wrong)?;
        let regex = RegexBuilder::new(&regex).unicode(false).size_limit(SIZE_MAX).build();
        let regex = regex.map_err(|_| wrong("is too large: shorten it"))?;
        Ok(Self { text: text.to_owned(), regex: Some(regex) })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it fits more than one address.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.regex.is_some()
    }

    /// Whether it fits `address`.
    #[must_use]
    pub fn matches(&self, address: &str) -> bool {
        self.regex.as_ref().map_or(self.text == address, |regex| regex.is_match(address))
    }

    /// How many wildcards it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.regex.as_ref().map_or(0, |regex| regex.captures_len() - 1)
    }

    /// What each of its wildcards stands for in `address`, in their order; `None` if it does not fit.
    #[must_use]
    pub fn wildcards<'a>(&self, address: &'a str) -> Option<Vec<&'a str>> {
        match &self.regex {
            None => (self.text == address).then(Vec::new),
            Some(regex) => {
                let found = regex.captures(address)?;
                Some(found.iter().skip(1).map(|group| group.map_or("", |group| group.as_str())).collect())
            }
        }
    }
}

/// Any character of a part.
const ANY: &str = "[ -.0-~]";

/// The regular expression of a pattern, with a group a wildcard.
fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut regex = String::from("^");
    let mut rest = pattern;
    while let Some(char) = rest.chars().next() {
        rest = rest.get(1..).unwrap_or_default();
        match char {
            '?' => {
                let _ = write!(regex, "({ANY})");
            }
            '*' => {
                // Several in a row are one.
                rest = rest.trim_start_matches('*');
                let _ = write!(regex, "({ANY}*)");
            }
            '[' => {
                let (inside, tail) = rest.split_once(']').ok_or("has a [ without its ]")?;
                regex.push_str(&class(inside)?);
                rest = tail;
            }
            '{' => {
                let (inside, tail) = rest.split_once('}').ok_or("has a { without its }")?;
                if inside.contains(['/', '[', ']', '{', '?', '*']) {
                    return Err("has more than names in its {}: give plain names with commas between them");
                }
                let names: Vec<String> = inside.split(',').map(regex::escape).collect();
                let _ = write!(regex, "({})", names.join("|"));
                rest = tail;
            }
            ']' => return Err("has a ] without its ["),
            '}' => return Err("has a } without its {"),
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    Ok(regex)
}

/// A group for one of the characters in `[…]`.
fn class(inside: &str) -> Result<String, &'static str> {
    let (negated, inside) = inside.strip_prefix('!').map_or((false, inside), |rest| (true, rest));
    if inside.is_empty() {
        return Err("has empty [] in it: give characters between them");
    }
    let bytes = inside.as_bytes();
    let mut taken = [false; 128];
    let mut at = 0;
    while let Some(&first) = bytes.get(at) {
        // A minus at the end is a minus.
        let last = match (bytes.get(at + 1), bytes.get(at + 2)) {
            (Some(b'-'), Some(&last)) => {
                at += 2;
                last
            }
            _ => first,
        };
        at += 1;
        for byte in first.min(last)..=first.max(last) {
            if let Some(taken) = taken.get_mut(usize::from(byte)) {
                *taken = true;
            }
        }
    }
    let fits = |byte: u8| byte != b'/' && taken.get(usize::from(byte)).is_some_and(|taken| *taken != negated);
    let mut group = String::from("([");
    for byte in (b' '..=b'~').filter(|byte| fits(*byte)) {
        let _ = write!(group, "\\x{byte:02x}");
    }
    if group.len() == 2 {
        return Err("has [] in it that fit no character");
    }
    group.push_str("])");
    Ok(group)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, address: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(address)
    }

    #[test]
    fn as_the_specification_says() {
        for (pattern, address) in [
            ("/a/b", "/a/b"),
            ("/?/b", "/a/b"),
            ("/*", "/anything"),
            ("/a*", "/a"),
            ("/a*", "/abc"),
            ("/*c/d", "/abc/d"),
            ("/*", "/"),
            ("/a*b*c", "/axbxbxc"),
            ("/[ab]", "/a"),
            ("/[a-c]x", "/bx"),
            ("/[!a-c]", "/d"),
            ("/[ab-]", "/-"),
            ("/[a!]", "/!"),
            ("/[c-a]", "/b"),
            ("/{on,off}", "/off"),
            ("/{a,ab}c", "/abc"),
            ("/x{,1,2}", "/x"),
            ("/{cue,go}/*/[0-9]", "/go/main/7"),
            ("/a.b", "/a.b"),
            ("/**/b", "/a/b"),
            ("/[^a]", "/^"),
            ("/[\\d]", "/\\"),
        ] {
            assert!(fits(pattern, address), "{pattern} {address}");
        }
        for (pattern, address) in [
            ("/a/b", "/a/c"),
            ("/?", "/"),
            ("/?", "/ab"),
            ("/*", "/a/b"),
            ("/?a", "//a"),
            ("/a?b", "/a/b"),
            ("/[!a]", "/"),
            ("/[!a]b", "//b"),
            ("/[ab]", "/ab"),
            ("/[!a-c]", "/b"),
            ("/{on,off}", "/o"),
            ("/{on,off}", "/onoff"),
            ("/a.b", "/axb"),
            ("/a", "/A"),
            ("/a", "/a/"),
        ] {
            assert!(!fits(pattern, address), "{pattern} {address}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for pattern in ["a", "", "/[a", "/a]", "/{a", "/a}", "/[]", "/[!]", "/{a/b}", "/{a*}", "/ä"] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(error.to_string().contains(pattern), "{error}");
        }
    }

    #[test]
    fn wildcards_are_named_by_their_place() {
        let pattern = Pattern::new("/cue/*/{go,stop}/[0-9]?").unwrap();
        assert_eq!(pattern.wildcards("/cue/intro/go/42"), Some(vec!["intro", "go", "4", "2"]));
        assert_eq!(pattern.wildcards("/cue/intro/go/4"), None);
        assert_eq!(Pattern::new("/a").unwrap().wildcards("/a"), Some(vec![]));
    }

    /// One step of a pattern, and the texts that it fits.
    #[derive(Debug, Clone)]
    enum Step {
        Char(char),
        One,
        Any,
        Class(bool, Vec<(char, char)>),
        Names(Vec<String>),
    }

    /// The specification, word by word, as slow as it comes.
    fn slow(steps: &[Step], text: &str) -> bool {
        let Some((step, rest)) = steps.split_first() else { return text.is_empty() };
        let tail = |count: usize| text.get(count..).unwrap_or_default();
        let first = text.chars().next();
        match step {
            Step::Char(char) => first == Some(*char) && slow(rest, tail(1)),
            Step::One => first.is_some_and(|char| char != '/') && slow(rest, tail(1)),
            Step::Any => slow(rest, text) || (first.is_some_and(|char| char != '/') && slow(steps, tail(1))),
            Step::Class(negated, ranges) => {
                let within = |char| ranges.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(&char));
                first.is_some_and(|char| char != '/' && within(char) != *negated) && slow(rest, tail(1))
            }
            Step::Names(names) => {
                names.iter().any(|name| text.strip_prefix(name.as_str()).is_some_and(|t| slow(rest, t)))
            }
        }
    }

    fn write(steps: &[Step]) -> String {
        let step = |step: &Step| match step {
            Step::Char(char) => char.to_string(),
            Step::One => "?".to_owned(),
            Step::Any => "*".to_owned(),
            Step::Class(negated, ranges) => {
                let ranges: String = ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect();
                format!("[{}{ranges}]", if *negated { "!" } else { "" })
            }
            Step::Names(names) => format!("{{{}}}", names.join(",")),
        };
        steps.iter().map(step).collect()
    }

    fn step() -> impl Strategy<Value = Step> {
        let char = || prop::char::range('a', 'd');
        prop_oneof![
            4 => char().prop_map(Step::Char),
            1 => Just(Step::Char('/')),
            1 => Just(Step::One),
            1 => Just(Step::Any),
            1 => (any::<bool>(), prop::collection::vec((char(), char()), 1..3)).prop_map(|(n, r)| Step::Class(n, r)),
            1 => prop::collection::vec("[a-d]{0,3}", 1..4).prop_map(Step::Names),
        ]
    }

    proptest! {
        #[test]
        fn matching_is_what_the_specification_says(
            steps in prop::collection::vec(step(), 0..8), address in "[a-d/]{0,10}", whole in "[ -~]{0,12}",
        ) {
            let steps: Vec<Step> = std::iter::once(Step::Char('/')).chain(steps).collect();
            let pattern = Pattern::new(&write(&steps)).unwrap();
            for address in [format!("/{address}"), format!("/{whole}")] {
                prop_assert_eq!(pattern.matches(&address), slow(&steps, &address), "{} {}", pattern.as_str(), address);
                prop_assert_eq!(pattern.wildcards(&address).is_some(), pattern.matches(&address));
            }
        }

        #[test]
        fn anything_is_read_or_refused(text in "/[ -~]{0,60}", address in "/[ -~]{0,60}") {
            if let Ok(pattern) = Pattern::new(&text) {
                let _ = pattern.matches(&address);
            }
        }
    }
}
