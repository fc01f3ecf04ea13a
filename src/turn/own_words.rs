//! What the assistant said itself: a microphone hears the loudspeaker.

/// The words that were spoken last, and until when they were heard.
#[derive(Debug, Clone, Default)]
pub struct OwnWords {
    /// In lower case.
    words: String,
    until_ms: u64,
}

impl OwnWords {
    /// Words that are heard until `until_ms`. Where nothing was said, the words before stay.
    pub fn note(&mut self, words: &str, until_ms: u64) {
        if !words.is_empty() {
            *self = Self { words: words.to_lowercase(), until_ms };
        }
    }

    /// Whether speech that began at `began_ms` may have been `phrase` in these words.
    pub fn may_be(&self, phrase: &str, began_ms: u64) -> bool {
        began_ms < self.until_ms && contains(&self.words, phrase)
    }
}

/// Whether `phrase` stands in `words`, in whatever case.
pub fn contains(words: &str, phrase: &str) -> bool {
    words.to_lowercase().contains(&phrase.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_words_count_until_they_were_heard() {
        let mut own = OwnWords::default();
        assert!(!own.may_be("Computer", 0));
        own.note("I am a COMPUTER.", 1_000);
        own.note("", 5_000);
        assert!(own.may_be("Computer", 999));
        assert!(!own.may_be("Computer", 1_000));
        assert!(!own.may_be("Helena", 0));
    }
}
