//! Names of notes: C4 is 60, middle C.

use std::fmt;
use std::str::FromStr;

/// A key, 0 to 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Note(pub u8);

/// Why a text is no note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is no name of one.
    #[error("`{0}` is no note; write one as C4, F#3, Bb-1, or as a number from 0 to 127")]
    Name(String),
    /// There is none so low or so high.
    #[error("there is no note {0} in MIDI: they go from C-1 (0) to G9 (127)")]
    Range(String),
}

/// Pitch classes by letter, from C.
const LETTERS: [(char, i32); 7] = [('c', 0), ('d', 2), ('e', 4), ('f', 5), ('g', 7), ('a', 9), ('b', 11)];

/// The semitones above C of the name that `text` begins with, and what is left: `Bb3` gives 10 and `3`.
///
/// B flat of the octave 3 is in the octave 3, C flat of octave 4 is B3: so the result may be -2 to 13.
pub(super) fn pitch(text: &str) -> Option<(i32, &str)> {
    let mut chars = text.chars();
    let letter = chars.next()?.to_ascii_lowercase();
    let &(_, mut semitones) = LETTERS.iter().find(|(name, _)| *name == letter)?;
    let mut rest = chars.as_str();
    for _ in 0..2 {
        let (step, width) = match rest.chars().next() {
            Some('#' | '♯') => (1, rest.chars().next().map_or(0, char::len_utf8)),
            Some('b' | '♭') => (-1, rest.chars().next().map_or(0, char::len_utf8)),
            _ => break,
        };
        semitones += step;
        rest = rest.get(width..)?;
    }
    Some((semitones, rest))
}

impl Note {
    /// Its name, with sharps: `C#4`.
    #[must_use]
    pub fn name(self) -> String {
        self.to_string()
    }

    /// The note of `semitones` above C in `octave`, if there is one.
    #[must_use]
    pub fn at(semitones: i32, octave: i32) -> Option<Self> {
        u8::try_from((octave + 1) * 12 + semitones).ok().filter(|note| *note < 128).map(Self)
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let trimmed = text.trim();
        let range = || NoteError::Range(trimmed.to_owned());
        if let Ok(number) = trimmed.parse::<i64>() {
            return u8::try_from(number).ok().filter(|note| *note < 128).map(Self).ok_or_else(range);
        }
        let name = || NoteError::Name(trimmed.chars().take(20).collect());
        let (semitones, octave) = pitch(trimmed).ok_or_else(name)?;
        let octave: i32 = octave.parse().map_err(|_| name())?;
        if !(-100..=100).contains(&octave) {
            return Err(range());
        }
        Self::at(semitones, octave).ok_or_else(range)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 12] = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];
        let name = NAMES.get(usize::from(self.0 % 12)).copied().unwrap_or_default();
        write!(f, "{name}{}", i32::from(self.0 / 12) - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_notes() {
        for (name, note) in
            [("C4", 60), ("c-1", 0), ("G9", 127), ("Bb3", 58), ("A#3", 58), ("Cb4", 59), ("B#3", 60), ("f♯2", 42)]
        {
            assert_eq!(name.parse(), Ok(Note(note)), "{name}");
        }
        assert_eq!(" 64 ".parse(), Ok(Note(64)));
        for name in ["H4", "C", "", "C4x", "#4", "Cbbb4", "C 4"] {
            assert!(matches!(name.parse::<Note>(), Err(NoteError::Name(_))), "{name}");
        }
        for name in ["G#9", "Cb-1", "128", "-1", "C99999", "C-200"] {
            assert!(name.parse::<Note>().is_err(), "{name}");
        }
        assert_eq!(
            "128".parse::<Note>().unwrap_err().to_string(),
            "there is no note 128 in MIDI: they go from C-1 (0) to G9 (127)"
        );
    }

    proptest! {
        #[test]
        fn a_name_is_read_back(note in 0..128u8) {
            prop_assert_eq!(Note(note).name().parse(), Ok(Note(note)));
        }

        #[test]
        fn nothing_panics(text in ".{0,12}") {
            let _ = text.parse::<Note>();
        }
    }
}
