//! What a full stop after a word says about the end of the sentence.
//!
//! The lists follow the idea of Punkt (Kiss and Strunk, 2006): some abbreviations never end a sentence, some don't
//! before a number, and for the rest the next word decides, as sentences begin with few words very often.

/// What must follow a full stop and a space for the sentence to end there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The sentence never ends here.
    Never,
    /// Anything but a lower-case letter or a mark that goes on.
    NotLower,
    /// The same, but no digit either.
    NotDigit,
    /// A word that often begins sentences.
    Starter,
}

/// Titles and connectives: something always follows.
const NEVER: &[&str] = &[
    "mr", "mrs", "ms", "messrs", "mx", "dr", "prof", "gen", "col", "capt", "cmdr", "lt", "sgt", "rev", "hon", "gov",
    "sen", "rep", "pres", "mme", "mlle", "e.g", "eg", "i.e", "ie", "vs", "cf", "viz", "approx", "z.b", "d.h", "bzw",
    "ca", "hr",
];

/// Words that are abbreviations only before a number.
const BEFORE_NUMBER: &[&str] = &[
    "no", "nos", "nr", "fig", "figs", "vol", "p", "pp", "ch", "sec", "art", "eq", "op", "ver", "v", "ref", "jan",
    "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
];

/// Abbreviations that may end a sentence, and as often stand before a name.
const MAY_END: &[&str] = &[
    "inc", "ltd", "co", "corp", "llc", "bros", "jr", "sr", "st", "mt", "ave", "blvd", "rd", "al", "ph.d", "dept", "est",
];

/// Words that begin sentences, and rarely follow an abbreviation within one.
const STARTERS: &[&str] = &[
    "the", "a", "an", "i", "it", "he", "she", "we", "you", "they", "this", "that", "these", "those", "there", "here",
    "what", "when", "where", "why", "how", "who", "which", "if", "in", "on", "at", "for", "from", "but", "and", "or",
    "so", "then", "also", "however", "after", "before", "as", "by", "my", "your", "his", "her", "our", "their", "its",
    "let", "yes", "no", "not", "now", "once", "while", "since", "with", "to", "some", "all", "many", "most", "both",
    "each", "do", "does", "did", "is", "are", "was", "were", "can", "could", "would", "please", "although", "because",
    "today", "one", "another",
];

/// Judges the full stop at the end of `before`, the text since the last cut without that stop. `line_start` says
/// whether `before` begins where a line does.
pub(super) fn after_full_stop(before: &str, line_start: bool) -> After {
    let line_begin = before.rfind('\n').map_or(0, |at| at + 1);
    if line_begin > 0 || line_start {
        const MARKS: &str = "*_#>-+•(";
        let line = before[line_begin..].trim_start_matches(|c: char| c.is_whitespace() || MARKS.contains(c));
        let label = line.rsplit(|c: char| c.is_whitespace() || MARKS.contains(c)).next().unwrap_or_default();
        // A model may count twice: `1. **1. Use a microphone**`.
        let counts = line.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || c == '.' || MARKS.contains(c));
        let number = counts && (1..=3).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_digit());
        let letter = line.len() == 1 && line.bytes().all(|byte| byte.is_ascii_lowercase());
        if number || letter {
            return After::Never;
        }
    }
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let word = word.rsplit(['/', '\u{2014}', '\u{2013}']).next().unwrap_or_default();
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower = word.to_lowercase();
    let has = |list: &[&str]| list.contains(&lower.as_str());
    let letters = word.split('.');
    let acronym = letters.clone().count() > 1 && letters.clone().all(|part| part.chars().count() == 1);
    let initial = word != "I" && word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    if has(NEVER) {
        After::Never
    } else if has(BEFORE_NUMBER) {
        After::NotDigit
    } else if acronym || initial || has(MAY_END) {
        After::Starter
    } else {
        After::NotLower
    }
}

/// Whether `word` often begins a sentence.
pub(super) fn is_starter(word: &str) -> bool {
    let lower = word.replace('\u{2019}', "'").to_lowercase();
    STARTERS.contains(&lower.split('\'').next().unwrap_or_default())
}
