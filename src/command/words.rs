//! What two spellings of the same words have in common: an utterance and a pattern are cut into words by the same
//! code, so that case, punctuation, contractions and the spelling of numbers make no difference between them.

use unicode_segmentation::UnicodeSegmentation;

use super::numbers;

/// One word of an utterance: how it compares, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// Lower case, with straight apostrophes and numbers in digits.
    pub norm: String,
    /// The first byte in the text it came from.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Which whitespace-separated piece of the text it starts in.
    pub piece: usize,
    /// Whether a slot may begin with it: false inside a contraction (`is` of `what's`).
    pub opens: bool,
    /// Whether a slot may end with it: false inside a contraction (`what` of `what's`).
    pub closes: bool,
}

/// Words written together and the words they stand for. Possessives look the same as some (`the song's`), so only
/// whole words are listed.
const CONTRACTIONS: &[(&str, [&str; 2])] = &[
    ("what's", ["what", "is"]),
    ("whats", ["what", "is"]),
    ("who's", ["who", "is"]),
    ("where's", ["where", "is"]),
    ("when's", ["when", "is"]),
    ("how's", ["how", "is"]),
    ("that's", ["that", "is"]),
    ("it's", ["it", "is"]),
    ("there's", ["there", "is"]),
    ("let's", ["let", "us"]),
    ("i'm", ["i", "am"]),
    ("don't", ["do", "not"]),
    ("dont", ["do", "not"]),
    ("can't", ["can", "not"]),
    ("cannot", ["can", "not"]),
];

/// Cuts `text` into words by Unicode's rules (UAX #29), spells them alike and folds spoken numbers into digits.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut piece = 0;
    let mut last_end = 0;
    for (start, word) in text.unicode_word_indices() {
        if text[last_end..start].chars().any(char::is_whitespace) {
            piece += 1;
        }
        last_end = start + word.len();
        let norm = word.replace(['\u{2019}', '\u{02bc}'], "'").to_lowercase();
        let token = |norm: &str, opens, closes| Token {
            norm: norm.to_owned(),
            start,
            end: start + word.len(),
            piece,
            opens,
            closes,
        };
        match CONTRACTIONS.iter().find(|(short, _)| *short == norm) {
            Some((_, [first, second])) => out.extend([token(first, true, false), token(second, false, true)]),
            None => out.push(token(&norm, true, true)),
        }
    }
    fold_numbers(text, out)
}

/// Joins runs such as `one hundred and five` into one token `105`. A comma or another mark ends a run.
fn fold_numbers(text: &str, tokens: Vec<Token>) -> Vec<Token> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let Some(first) = rest.first() {
        let joined = |pair: &&[Token]| {
            text.get(pair[0].end..pair[1].start).unwrap_or_default().chars().all(|c| c.is_whitespace() || c == '-')
        };
        let run = 1 + rest.windows(2).take(numbers::WORDS_MAX - 1).take_while(joined).count();
        let ahead: Vec<&str> = rest[..run].iter().map(|token| token.norm.as_str()).collect();
        let (norm, used) = numbers::leading(&ahead).unwrap_or_else(|| (first.norm.clone(), 1));
        let end = rest[used - 1].end;
        out.push(Token { norm, end, closes: rest[used - 1].closes, ..first.clone() });
        rest = &rest[used..];
    }
    out
}

/// What people put around a command without meaning it.
const POLITE_BEFORE: &[&[&str]] = &[
    &["please"],
    &["can", "you"],
    &["could", "you"],
    &["would", "you"],
    &["will", "you"],
    &["i", "want", "you", "to"],
    &["i", "would", "like", "you", "to"],
    &["hey"],
    &["ok"],
    &["okay"],
    &["um"],
    &["uh"],
];
const POLITE_AFTER: &[&[&str]] = &[&["please"], &["thanks"], &["thank", "you"], &["for", "me"]];

/// How many polite phrases are looked through on either side.
const POLITE_MAX: usize = 4;

/// The stretches `from..to` of `tokens` that may be the command: all of it first, then with ever more politeness left
/// off.
pub(super) fn without_politeness(tokens: &[Token]) -> Vec<(usize, usize)> {
    let spoken = |token: &Token, word: &&str| token.norm == **word;
    let mut starts = vec![0];
    while starts.len() <= POLITE_MAX {
        let start = starts[starts.len() - 1];
        let rest = &tokens[start..];
        let phrase = POLITE_BEFORE.iter().find(|phrase| {
            rest.len() > phrase.len() && rest.iter().zip(**phrase).all(|(token, word)| spoken(token, word))
        });
        let Some(phrase) = phrase else { break };
        starts.push(start + phrase.len());
    }
    let mut ends = vec![tokens.len()];
    while ends.len() <= POLITE_MAX {
        let end = ends[ends.len() - 1];
        let phrase = POLITE_AFTER.iter().find(|phrase| {
            end > phrase.len()
                && tokens[end - phrase.len()..end].iter().zip(**phrase).all(|(token, word)| spoken(token, word))
        });
        let Some(phrase) = phrase else { break };
        ends.push(end - phrase.len());
    }
    let mut out = Vec::new();
    for end in ends {
        out.extend(starts.iter().filter(|start| **start < end).map(|start| (*start, end)));
    }
    out.sort_by_key(|(from, to)| std::cmp::Reverse(to - from));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norms(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|token| token.norm).collect()
    }

    #[test]
    fn spellings_of_the_same_words_are_equal() {
        assert_eq!(norms("What's the TIME?"), norms("what is the time"));
        assert_eq!(norms("what\u{2019}s"), ["what", "is"]);
        assert_eq!(norms("twenty-five, a hundred, Two hundred and six"), ["25", "100", "206"]);
        assert_eq!(norms("one two three"), ["1", "2", "3"]);
        assert_eq!(norms("twenty zero and one hundred and"), ["20", "0", "and", "100", "and"]);
        assert_eq!(norms("  ?! "), Vec::<String>::new());
    }

    #[test]
    fn every_number_up_to_a_hundred_is_understood() {
        let units = ["", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
        let tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
        for (t, ten) in tens.iter().enumerate() {
            for (u, unit) in units.iter().enumerate() {
                let expected = [((t + 2) * 10 + u).to_string()];
                assert_eq!(norms(&format!("{ten} {unit}")), expected);
                assert_eq!(norms(&format!("{ten}-{unit}")), expected);
            }
        }
        assert_eq!(norms("one hundred"), ["100"]);
    }

    #[test]
    fn politeness_is_left_off_step_by_step() {
        let all = tokens("Hey, could you please stop, please?");
        let parts: Vec<String> = without_politeness(&all)
            .into_iter()
            .map(|(from, to)| all[from..to].iter().map(|token| token.norm.as_str()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(parts.first().map(String::as_str), Some("hey could you please stop please"));
        assert!(parts.iter().any(|part| part == "stop"), "{parts:?}");
        assert_eq!(without_politeness(&tokens("please")).len(), 1, "politeness alone is kept");
    }
}
