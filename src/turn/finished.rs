//! Whether a speaker who pauses has come to the end of a sentence, by the words alone. Pure.
//!
//! Voice systems wait longer where a transcript looks unfinished, and not at all where it looks whole: the same idea as
//! end-of-turn detection by a model, without one. It errs on the side of 'finished', which costs no time.

use unicode_segmentation::UnicodeSegmentation;

/// Marks that a recognizer writes where a sentence goes on.
const OPEN_MARKS: [char; 7] = [',', ';', ':', '-', '–', '—', '…'];
/// English words that a request does not end with. Prepositions that also stand alone ("turn it on", "what is it
/// for") are left out.
const OPEN_WORDS: &[&str] = &[
    "a", "an", "the", "and", "or", "but", "nor", "because", "if", "whether", "than", "of", "from", "into", "about",
    "with", "without", "between", "during", "until", "my", "your", "our", "their", "its", "every", "um", "uh",
];

/// Whether `text` looks like all that its speaker wanted to say. `language` is that of the text, such as `en`; where it is
/// another than English, marks alone tell.
#[must_use]
pub fn is_finished(text: &str, language: &str) -> bool {
    let text = text.trim_end();
    if text.ends_with(OPEN_MARKS) || text.ends_with("...") {
        return false;
    }
    // A question is whole, whatever it ends with: "what is it about?"
    if text.ends_with('?') || !(language.is_empty() || language == "en" || language.starts_with("en-")) {
        return true;
    }
    let last = text.unicode_words().next_back().map(str::to_lowercase);
    !last.is_some_and(|last| OPEN_WORDS.contains(&last.as_str()))
}

/// What was said before a pause and after it, as one: the mark that stood for the pause goes.
#[must_use]
pub fn joined(earlier: &str, more: &str) -> String {
    let (earlier, more) = (earlier.trim(), more.trim());
    if earlier.is_empty() || more.is_empty() {
        return [earlier, more].concat();
    }
    let earlier = earlier.trim_end_matches(|c| c == '.' || OPEN_MARKS.contains(&c));
    format!("{earlier} {more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_sentence_is_finished() {
        for text in ["What time is it?", "Turn it on.", "Stop", "What is that about?", "Play C major!", "", "Log in."] {
            assert!(is_finished(text, "en"), "{text:?}");
        }
    }

    #[test]
    fn what_goes_on_is_not() {
        for text in
            ["Tell me about", "Tell me about the.", "Turn on the lights,", "I want", "Play a C…", "Well, and..."]
        {
            assert_eq!(is_finished(text, "en"), text == "I want", "{text:?}");
        }
    }

    #[test]
    fn a_pause_leaves_no_mark() {
        for (earlier, more, whole) in [
            ("Tell me about the,", "weather in Hamburg.", "Tell me about the weather in Hamburg."),
            ("Turn on the...", "light", "Turn on the light"),
            ("", "light", "light"),
            ("Well and", " ", "Well and"),
        ] {
            assert_eq!(joined(earlier, more), whole);
        }
    }

    #[test]
    fn words_of_one_language_mean_nothing_in_another() {
        assert!(is_finished("Wie geht es an", "de"));
        assert!(!is_finished("Sag mir,", "de"));
        assert!(!is_finished("play the", ""));
    }
}
