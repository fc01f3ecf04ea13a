//! Finds a wake phrase at the start of a transcript. Pure text.
//!
//! A phrase matches by whole words and exactly, after normalisation (case, accents, punctuation). There is no edit
//! distance: it would accept names that merely sound alike. What a recognizer makes of a name is given as aliases.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

/// Words that people say before a name, and that may stand before a phrase.
const FILLERS: &[&str] = &["hey", "hi", "hello", "ok", "okay", "oh", "uh", "um", "hm", "well", "so", "and"];
/// How many of them may.
const FILLERS_MAX: usize = 2;

/// The phrases that a listener answers to.
#[derive(Debug, Clone)]
pub struct WakePhrases {
    /// Normalised words and the name that they stand for, the longest first.
    spellings: Vec<(Vec<String>, String)>,
}

/// A phrase that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeMatch {
    /// The name of the phrase, as it was given, also when an alias matched.
    pub phrase: String,
    /// What was said after it, in its own spelling, without punctuation before it; empty if nothing was.
    pub rest: String,
}

/// A phrase that can't be found in any transcript.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the wake phrase '{given}' of '{name}' has no letter or digit in it; write a word or a few, such as 'computer'"
)]
pub struct WakeError {
    /// The phrase's name.
    pub name: String,
    /// The spelling that is of no use.
    pub given: String,
}

impl WakePhrases {
    /// Takes each phrase's name, which is its first spelling, and its aliases.
    ///
    /// # Errors
    /// [`WakeError`] for a name or an alias without letters or digits.
    pub fn new<N, A>(phrases: impl IntoIterator<Item = (N, A)>) -> Result<Self, WakeError>
    where
        N: Into<String>,
        A: IntoIterator<Item: Into<String>>,
    {
        let mut spellings = Vec::new();
        for (name, aliases) in phrases {
            let name = name.into();
            for given in std::iter::once(name.clone()).chain(aliases.into_iter().map(Into::into)) {
                let spelling: Vec<String> = words(&given).map(|(word, _)| word).collect();
                if spelling.is_empty() {
                    return Err(WakeError { name, given });
                }
                spellings.push((spelling, name.clone()));
            }
        }
        spellings.sort_by_key(|(spelling, _)| std::cmp::Reverse(spelling.len()));
        Ok(Self { spellings })
    }

    /// Looks for a phrase at the start of `transcript`; the longest that fits wins. Tags of sounds
    /// (`[BLANK_AUDIO]`, `(music)`, `*sighs*`) and up to two words such as 'hey' or 'okay' may come before it.
    #[must_use]
    pub fn find(&self, transcript: &str) -> Option<WakeMatch> {
        let text = without_leading_tags(transcript);
        let longest = self.spellings.first().map_or(0, |(spelling, _)| spelling.len());
        let heard: Vec<(String, usize)> = words(text).take(longest + FILLERS_MAX).collect();
        let fillers = heard.iter().take(FILLERS_MAX).take_while(|(word, _)| FILLERS.contains(&word.as_str())).count();
        (0..=fillers).find_map(|skipped| {
            let heard = heard.get(skipped..)?;
            let (spelling, name) = self.spellings.iter().find(|(spelling, _)| starts_with(heard, spelling))?;
            let (_, end) = heard.get(spelling.len() - 1)?;
            let rest = text.get(*end..)?.trim_start_matches(|c: char| c.is_whitespace() || is_separator(c)).trim_end();
            Some(WakeMatch { phrase: name.clone(), rest: rest.to_owned() })
        })
    }
}

fn starts_with(heard: &[(String, usize)], spelling: &[String]) -> bool {
    heard.len() >= spelling.len() && heard.iter().zip(spelling).all(|((word, _), wanted)| word == wanted)
}

/// The normalised words of `text`, each with the byte where it ends. Words are those of Unicode's UAX #29.
fn words(text: &str) -> impl Iterator<Item = (String, usize)> {
    text.unicode_word_indices().filter_map(|(start, word)| {
        // NFKD takes letters and accents apart.
        let normal: String = word
            .nfkd()
            .filter(|c| !is_combining_mark(*c))
            .flat_map(char::to_lowercase)
            .filter(|c| c.is_alphanumeric())
            .collect();
        (!normal.is_empty()).then_some((normal, start + word.len()))
    })
}

fn without_leading_tags(transcript: &str) -> &str {
    let mut text = transcript.trim_start();
    loop {
        let close = match text.chars().next() {
            Some('[') => ']',
            Some('(') => ')',
            Some('*') => '*',
            Some('♪') => '♪',
            _ => return text,
        };
        let mut inside = text.chars();
        inside.next();
        match inside.as_str().split_once(close) {
            Some((_, rest)) => text = rest.trim_start(),
            None => return text,
        }
    }
}

fn is_separator(c: char) -> bool {
    matches!(
        c,
        ',' | '.'
            | '!'
            | '?'
            | ':'
            | ';'
            | '-'
            | '–'
            | '—'
            | '…'
            | '"'
            | '”'
            | '’'
            | '\''
            | '、'
            | '。'
            | '，'
            | '！'
            | '？'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn phrases() -> WakePhrases {
        WakePhrases::new([
            ("Computer", vec![]),
            ("Jarvis", vec!["jervis", "Javis"]),
            ("smart mirror", vec![]),
            ("Smart", vec![]),
            ("Hélène", vec![]),
        ])
        .unwrap()
    }

    fn found(transcript: &str) -> Option<(String, String)> {
        phrases().find(transcript).map(|found| (found.phrase, found.rest))
    }

    #[test]
    fn what_matches_and_what_remains() {
        for (transcript, phrase, rest) in [
            ("computer", "Computer", ""),
            ("Computer.", "Computer", ""),
            (" Computer, what time is it?", "Computer", "what time is it?"),
            ("COMPUTER! Say “Hello, World”.", "Computer", "Say “Hello, World”."),
            ("Computer... -- stop", "Computer", "stop"),
            ("Computer what's the time", "Computer", "what's the time"),
            ("Computer, $5 in euros?", "Computer", "$5 in euros?"),
            ("Hey, computer, lights on", "Computer", "lights on"),
            ("Okay. Computer? Go", "Computer", "Go"),
            ("O.K. hey computer go", "Computer", "go"),
            ("[BLANK_AUDIO] Computer, go", "Computer", "go"),
            (" (soft music) [ Silence ] *sighs* ♪ la la ♪ Computer go", "Computer", "go"),
            ("Javis, say hello", "Jarvis", "say hello"),
            ("Smart mirror on the wall", "smart mirror", "on the wall"),
            ("Smart-mirror, on", "smart mirror", "on"),
            ("Smart, mirror the screen", "smart mirror", "the screen"),
            ("smart idea", "Smart", "idea"),
            ("Helene, bonjour", "Hélène", "bonjour"),
            ("He\u{301}le\u{300}ne: ça va", "Hélène", "ça va"),
        ] {
            assert_eq!(found(transcript), Some((phrase.to_owned(), rest.to_owned())), "{transcript:?}");
        }
    }

    #[test]
    fn what_does_not_match() {
        for transcript in [
            "",
            "   ",
            "...",
            "computers are slow",
            "computer's fan",
            "supercomputer",
            "compute her taxes",
            "my computer is slow",
            "hey hi okay computer",
            "hey",
            "(computer)",
            "Mirror, smart",
            "commuter, hello",
        ] {
            assert_eq!(found(transcript), None, "{transcript:?}");
        }
    }

    #[test]
    fn a_filler_can_be_part_of_a_phrase() {
        let phrases = WakePhrases::new([("hey you", Vec::<String>::new())]).unwrap();
        assert_eq!(phrases.find("Hey you, go").unwrap().rest, "go");
        assert_eq!(phrases.find("okay hey you go").unwrap().rest, "go");
        assert_eq!(phrases.find("you go"), None);
    }

    #[test]
    fn a_phrase_without_letters_is_refused() {
        for (name, alias) in [("", "x"), ("computer", " ?! ")] {
            let error = WakePhrases::new([(name, vec![alias])]).unwrap_err();
            assert!(error.to_string().contains("has no letter or digit"), "{error}");
        }
        assert_eq!(WakePhrases::new(Vec::<(String, Vec<String>)>::new()).unwrap().find("computer"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_the_rest_is_its_end(text in "\\PC{0,60}", lead in "[ ,.!?\\[\\](*)]{0,6}") {
            for transcript in [text.clone(), format!("{lead}computer {text}"), format!("computer{lead}{text}")] {
                if let Some(found) = phrases().find(&transcript) {
                    prop_assert!(transcript.trim_end().ends_with(&found.rest));
                    prop_assert!(!found.rest.starts_with([' ', ',', '.', '!', '?']));
                }
            }
        }

        #[test]
        fn a_phrase_is_found_however_it_is_written(
            upper in prop::collection::vec(any::<bool>(), 8),
            after in "[,.!?:;]{0,3} ",
            rest in "[a-z]{1,8}( [a-z]{1,8}){0,3}",
        ) {
            let name: String = "computer"
                .chars()
                .zip(upper)
                .map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c })
                .collect();
            let found = phrases().find(&format!("{name}{after}{rest}")).unwrap();
            prop_assert_eq!(found, WakeMatch { phrase: "Computer".to_owned(), rest });
        }
    }
}
