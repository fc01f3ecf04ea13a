//! Cutting a text into the clauses that a Piper voice is fed with.
//!
//! espeak-ng gives phonemes without punctuation, but the voices were trained on phonemes with it: it makes the pauses and
//! the melody. So a text is cut at its punctuation, each clause is phonemized alone, and its mark is put behind it.

/// A clause longer than this many bytes is cut between words: espeak-ng reads lines of up to 1000 bytes.
pub(super) const MAX_BYTES: usize = 400;

/// Abbreviations whose full stop ends no sentence. Single letters and words with a stop inside ("e.g.") need no entry.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "rev", "gen", "sgt", "capt", "lt", "hon", "vs", "etc", "vol",
    "approx", "dept", "inc", "ltd", "bros", "ave", "blvd", "mt", "ca", "bzw", "usw", "ggf", "evtl", "nr", "bd", "hr",
    "fr", "mme", "mlle",
];

/// A piece of text up to a punctuation mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clause<'a> {
    /// The words, without the mark that ends them.
    pub(super) text: &'a str,
    /// The mark as the voices know it: one of `. , ; : ! ?`; `None` where a long clause was cut.
    pub(super) mark: Option<char>,
}

impl Clause<'_> {
    /// Whether it ends a sentence.
    pub(super) fn ends_sentence(&self) -> bool {
        matches!(self.mark, Some('.' | '!' | '?'))
    }
}

/// Cuts `text` into clauses that have something to pronounce. What ends without a mark gets a full stop.
pub(super) fn clauses(text: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = vec![];
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let Some(mark) = mark(c) else { continue };
        let end = at + c.len_utf8();
        let before = &text[start..at];
        // Within a number or a word ("3.5", "10:30", "e.g", "x—y" aside) a mark is a letter like any other.
        let after = text[end..].chars().next();
        let breaks = after.is_none_or(|next| !next.is_alphanumeric()) || matches!(c, '\n' | '—' | '…');
        if !breaks || (c == '.' && is_abbreviation(before) && has_word(&text[end..])) {
            continue;
        }
        push(&mut clauses, before, mark);
        start = end;
    }
    push(&mut clauses, &text[start..], '.');
    clauses
}

/// The voices' mark for a character of a text.
fn mark(c: char) -> Option<char> {
    Some(match c {
        '.' | '…' | '。' | '\n' => '.',
        '!' | '！' => '!',
        '?' | '？' => '?',
        ',' | '、' | '，' | '—' => ',',
        ';' => ';',
        ':' => ':',
        _ => return None,
    })
}

fn has_word(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

/// Whether the full stop behind `before` belongs to its last word.
fn is_abbreviation(before: &str) -> bool {
    let word = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '.')).next().unwrap_or_default();
    let mut letters = word.chars();
    let single = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
    let inner = word.contains('.') && word.contains(char::is_alphabetic);
    // "I" ends many a sentence, and is no initial there.
    (single && word != "I") || inner || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// Adds a clause, in several pieces if it is long. Marks in a row ("?!", "...") belong to the clause before them, of
/// which the strongest counts.
fn push<'a>(clauses: &mut Vec<Clause<'a>>, text: &'a str, mark: char) {
    if !has_word(text) {
        if let Some(last) = clauses.last_mut() {
            let strength = |mark| "?!.;:,".find(mark).unwrap_or(usize::MAX);
            if last.mark.is_some_and(|known| strength(mark) < strength(known)) && !text.contains(' ') {
                last.mark = Some(mark);
            }
        }
        return;
    }
    let mut rest = text.trim();
    while rest.len() > MAX_BYTES {
        let limit = rest.floor_char_boundary(MAX_BYTES);
        let cut = rest[..limit].rfind(char::is_whitespace).filter(|cut| *cut > 0).unwrap_or(limit);
        let (head, tail) = rest.split_at(cut);
        if has_word(head) {
            clauses.push(Clause { text: head.trim(), mark: None });
        }
        rest = tail.trim_start();
    }
    if has_word(rest) {
        clauses.push(Clause { text: rest.trim_end(), mark: Some(mark) });
    } else if let Some(last) = clauses.last_mut() {
        last.mark = Some(mark);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<(&str, char)> {
        clauses(text).into_iter().map(|clause| (clause.text, clause.mark.unwrap_or(' '))).collect()
    }

    #[test]
    fn a_text_is_cut_at_its_punctuation() {
        assert_eq!(
            cut("Hello, Mr. Smith. It costs 3.5 dollars; isn't that cheap?"),
            [("Hello", ','), ("Mr. Smith", '.'), ("It costs 3.5 dollars", ';'), ("isn't that cheap", '?')]
        );
        assert_eq!(cut("It is 10:30. Go!"), [("It is 10:30", '.'), ("Go", '!')]);
        assert_eq!(cut("so be it"), [("so be it", '.')]);
    }

    #[test]
    fn abbreviations_do_not_end_a_sentence_unless_the_text_ends() {
        assert_eq!(cut("Use e.g. this one, J. R. Smith."), [("Use e.g. this one", ','), ("J. R. Smith", '.')]);
        assert_eq!(cut("Apples, pears etc."), [("Apples", ','), ("pears etc", '.')]);
        assert_eq!(cut("So am I. You too."), [("So am I", '.'), ("You too", '.')]);
    }

    #[test]
    fn marks_in_a_row_make_one() {
        assert_eq!(cut("Really?! Well... yes"), [("Really", '?'), ("Well", '.'), ("yes", '.')]);
        assert_eq!(
            cut("He said: \"Stop.\" Then he left."),
            [("He said", ':'), ("\"Stop", '.'), ("\" Then he left", '.')]
        );
    }

    #[test]
    fn nothing_to_pronounce_gives_nothing() {
        for text in ["", "  ", "...", "?!", "\"—\"", "\n\n"] {
            assert_eq!(cut(text), [], "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_word_comes_out_once_and_in_order(text in "([a-zA-Zé0-9]{1,9}[ ,.;:!?\n—']{1,3}){0,40}|[a-z ]{0,1500}|\\PC{0,80}") {
            let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            let out: String = clauses(&text).iter().map(|clause| clause.text).collect();
            prop_assert_eq!(letters(&out), letters(&text));
        }

        #[test]
        fn a_clause_is_short_and_clean(text in "([a-z]{1,500}[ .,]?){0,8}|\\PC{0,900}") {
            let clauses = clauses(&text);
            for clause in &clauses {
                prop_assert!(clause.text.len() <= MAX_BYTES);
                prop_assert!(has_word(clause.text));
                prop_assert!(!clause.text.contains('\n'));
                prop_assert_eq!(clause.text, clause.text.trim());
            }
            prop_assert!(clauses.last().is_none_or(|last| last.mark.is_some()));
        }
    }
}
