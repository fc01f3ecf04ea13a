//! Making text of what Whisper wrote: it describes sounds, and it loops.

/// More words than this in a clip are too many to have been said: `base + rate × seconds`. Then the model loops.
const WORDS_BASE: usize = 4;
const WORDS_PER_S: usize = 6;
/// So many letters at least are said again in a loop; fewer may be a laugh.
const LOOP_LETTERS: usize = 9;
/// What begins the description of a sound.
const NOISE_MARKS: [char; 5] = ['[', '(', '{', '*', '♪'];

/// The text without what describes sounds, such as `[BLANK_AUDIO]`, `(wind blowing)`, `*sighs*` and `♪`; empty when
/// no letter or digit is left. Spaces are made single.
pub(super) fn without_noises(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(NOISE_MARKS) {
        kept.push_str(&rest[..at]);
        let open = rest[at..].chars().next().unwrap_or('[');
        let inside = &rest[at + open.len_utf8()..];
        let close = match open {
            '[' => ']',
            '(' => ')',
            '{' => '}',
            other => other,
        };
        // Left open, the mark is all that goes: the words behind it may have been spoken.
        rest = inside.find(close).map_or(inside, |end| &inside[end + close.len_utf8()..]);
        kept.push(' ');
    }
    kept.push_str(rest);
    if !kept.contains(char::is_alphanumeric) {
        return String::new();
    }
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where a text begins to say what it has just said, over and over to its end: four times at least.
pub(super) fn loop_at_end(text: &str) -> Option<usize> {
    let letters: Vec<(usize, char)> = text.char_indices().collect();
    (1..=letters.len().div_ceil(4)).find_map(|unit| {
        let same = |at: &usize| letters[*at].1 == letters[*at - unit].1;
        let again = (unit..letters.len()).rev().take_while(same).count();
        let is_loop = again >= LOOP_LETTERS && again + 1 >= 3 * unit;
        is_loop.then(|| letters[letters.len() - again].0)
    })
}

/// The text with each phrase that repeats itself said once, if there are more words than can be said in `ms`; and with no
/// word that repeats itself within.
pub(super) fn without_loops(text: &str, ms: u64) -> String {
    let once = |word: &str| loop_at_end(word).map_or_else(|| word.to_owned(), |at| word[..at].to_owned());
    let text = text.split(' ').map(once).collect::<Vec<_>>().join(" ");
    let words: Vec<&str> = text.split(' ').collect();
    let seconds = usize::try_from(ms.div_ceil(1000)).unwrap_or(usize::MAX);
    if words.len() <= WORDS_PER_S.saturating_mul(seconds).saturating_add(WORDS_BASE) {
        return text;
    }
    let mut kept: Vec<&str> = vec![];
    for word in words {
        kept.push(word);
        let repeats = |length: usize| {
            let end = kept.len();
            end >= 2 * length && kept[end - length..] == kept[end - 2 * length..end - length]
        };
        if let Some(length) = (1..=kept.len() / 2).find(|length| repeats(*length)) {
            kept.truncate(kept.len() - length);
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sounds_are_not_speech() {
        for noise in ["[BLANK_AUDIO]", " (wind blowing)", "*sighs*", "♪ la la ♪", "...", " [ Silence ] ", "♪"] {
            assert_eq!(without_noises(noise), "", "{noise}");
        }
        assert_eq!(without_noises(" Hello [laughs] there.  You "), "Hello there. You");
        assert_eq!(without_noises("It is (almost"), "It is almost");
        assert_eq!(without_noises("5 * 3"), "5 3");
    }

    #[test]
    fn a_loop_is_said_once() {
        assert_eq!(without_loops("No. ".repeat(20).trim_end(), 500), "No.");
        assert_eq!(without_loops("I am here, ".repeat(9).trim_end(), 2000), "I am here,");
        assert_eq!(without_loops("no no no no", 1000), "no no no no");
        assert_eq!(without_loops("It is 3.8.8.8.8.8.8.8.8.8.", 1700), "It is 3.8");
    }

    #[test]
    fn a_loop_is_seen_where_it_ends_a_text() {
        for looped in ["It is 3.8.8.8.8.8.8", "I am here, I am here, I am here, I am here,", "No. No. No. No. No. No."]
        {
            assert!(loop_at_end(looped).is_some(), "{looped}");
        }
        for plain in ["It is 3:18 PM.", "no no no no", "", "What do you want to do? What do you want to do?", "Mmmm"] {
            assert_eq!(loop_at_end(plain), None, "{plain}");
        }
    }

    proptest! {
        #[test]
        fn what_can_be_said_is_kept(words in proptest::collection::vec("[ab]{1,2}", 0..16)) {
            let text = words.join(" ");
            prop_assert_eq!(without_loops(&text, 2000), text);
        }

        #[test]
        fn plain_words_are_kept(words in proptest::collection::vec("[a-zA-Z0-9,.'?é-]{1,8}", 0..12)) {
            let text = words.join(" ");
            let expected = if text.contains(char::is_alphanumeric) { text.clone() } else { String::new() };
            prop_assert_eq!(without_noises(&text), expected);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            let once = without_noises(&text);
            prop_assert!(!once.contains(NOISE_MARKS), "{}", once);
            prop_assert_eq!(without_noises(&once), once);
        }
    }
}
