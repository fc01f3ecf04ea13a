//! Notes and chords as people say them: "F sharp 3", "middle C", "a minor seven", "C over E".

use super::chord::Chord;
use super::note::{Note, pitch};

impl Chord {
    /// Reads a name as it is written, or as people say it: "C major", "a minor seven", "G seven", "F sharp diminished",
    /// "C over E".
    #[must_use]
    pub fn spoken(text: &str) -> Option<Self> {
        // "a chord" is any chord, not A major.
        if matches!(text.trim(), "a chord" | "a note") {
            return None;
        }
        let mut chord = Self::read(text.trim()).or_else(|| Self::read(&join_words(text)?))?;
        if let Some(plain) = chord.name.strip_suffix("maj") {
            chord.name = plain.to_owned();
        }
        // "a minor", "c" are heard in lower case; `a` alone is more often an article than a chord.
        if let Some(first) = chord.name.get(..1) {
            let first = first.to_uppercase();
            chord.name.replace_range(..1, &first);
        }
        Some(chord)
    }
}

impl Note {
    /// Reads words as people say them: "C sharp 4", "b flat", "middle C". Without an octave it is `octave`.
    #[must_use]
    pub fn spoken(text: &str, octave: i32) -> Option<Self> {
        if text.trim() == "a note" {
            return None;
        }
        let joined = join_words(text)?;
        let text = joined.strip_prefix("middle").map_or(joined.as_str(), |rest| rest);
        let (semitones, rest) = pitch(text)?;
        match rest {
            "" => Self::at(semitones, octave),
            digits => Self::at(semitones, digits.parse().ok()?),
        }
    }
}

/// Words that people say, and how they are written. Longer ones first.
const WORDS: &[(&[&str], &str)] = &[
    (&["half", "diminished"], "ø"),
    (&["half-diminished"], "ø"),
    (&["dominant"], ""),
    (&["chord"], ""),
    (&["note"], ""),
    (&["suspended"], "sus"),
    (&["suspended", "second"], "sus2"),
    (&["suspended", "fourth"], "sus4"),
    (&["sus"], "sus"),
    (&["sus2"], "sus2"),
    (&["sus4"], "sus4"),
    (&["major"], "maj"),
    (&["maj"], "maj"),
    (&["maj7"], "maj7"),
    (&["minor"], "m"),
    (&["min"], "m"),
    (&["diminished"], "dim"),
    (&["dim"], "dim"),
    (&["augmented"], "aug"),
    (&["aug"], "aug"),
    (&["sharp"], "#"),
    (&["flat"], "b"),
    (&["over"], "/"),
    (&["slash"], "/"),
    (&["with", "a"], ""),
    (&["add"], "add"),
    (&["added"], "add"),
    (&["middle"], "middle"),
    (&["power"], "5"),
    (&["flat", "five"], "b5"),
    (&["one"], "1"),
    (&["two"], "2"),
    (&["three"], "3"),
    (&["four"], "4"),
    (&["five"], "5"),
    (&["six"], "6"),
    (&["seven"], "7"),
    (&["seventh"], "7"),
    (&["eight"], "8"),
    (&["nine"], "9"),
    (&["ninth"], "9"),
    (&["eleven"], "11"),
    (&["eleventh"], "11"),
    (&["thirteen"], "13"),
    (&["thirteenth"], "13"),
    (&["sixth"], "6"),
    (&["fourth"], "4"),
    (&["second"], "2"),
];

/// Spoken words as one written name; `None` when a word is none of those used for notes and chords.
fn join_words(text: &str) -> Option<String> {
    if text.len() > 80 {
        return None;
    }
    let text = text.to_lowercase();
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == '-').filter(|word| !word.is_empty()).collect();
    let mut out = String::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let known = WORDS
            .iter()
            .filter(|(spoken, _)| words.get(at..at + spoken.len()) == Some(*spoken))
            .max_by_key(|(spoken, _)| spoken.len());
        if let Some((spoken, written)) = known {
            out.push_str(written);
            at += spoken.len();
            continue;
        }
        // A name that is written in full (`f#m7b5`, `c4`, `7`): letters of notes, figures and signs.
        let is_name = pitch(word).is_some() && Chord::read(word).is_some()
            || pitch(word).is_some_and(|(_, rest)| rest.parse::<i8>().is_ok());
        if !is_name && word.parse::<u8>().is_err() {
            return None;
        }
        out.push_str(word);
        at += 1;
    }
    // "c major seven" is `cmaj7`; "c major" is `cmaj`.
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notes(name: &str) -> Vec<u8> {
        Chord::parse(name).unwrap().notes(4, 0).unwrap().iter().map(|note| note.0).collect()
    }

    fn said(text: &str) -> Vec<u8> {
        let chord = Chord::spoken(text).unwrap_or_else(|| panic!("{text}"));
        chord.notes(4, 0).unwrap().iter().map(|note| note.0).collect()
    }

    #[test]
    fn chords_are_said() {
        assert_eq!(said("C major"), notes("C"));
        assert_eq!(said("a minor"), notes("Am"));
        assert_eq!(said("G seven"), notes("G7"));
        assert_eq!(said("g 7"), notes("G7"));
        assert_eq!(said("G7"), notes("G7"));
        assert_eq!(said("C major seven"), notes("Cmaj7"));
        assert_eq!(said("a minor seventh chord"), notes("Am7"));
        assert_eq!(said("F sharp minor 7 flat five"), notes("F#m7b5"));
        assert_eq!(said("f sharp half diminished"), notes("F#ø"));
        assert_eq!(said("B flat major"), notes("Bb"));
        assert_eq!(said("D suspended fourth"), notes("Dsus4"));
        assert_eq!(said("C over E"), notes("C/E"));
        assert_eq!(said("c augmented"), notes("Caug"));
        assert_eq!(said("C add nine"), notes("Cadd9"));
        assert_eq!(Chord::spoken("a minor").unwrap().name(), "Am");
        for text in [
            "some jazz",
            "the song again",
            "",
            "major",
            "seven",
            "C and G",
            "a chord",
            "Hm",
            "Cmajor7x",
            "a game",
            "bad",
        ] {
            assert_eq!(Chord::spoken(text), None, "{text}");
        }
    }

    #[test]
    fn notes_are_said() {
        assert_eq!(Note::spoken("C", 4), Some(Note(60)));
        assert_eq!(Note::spoken("middle C", 4), Some(Note(60)));
        assert_eq!(Note::spoken("b flat 3", 4), Some(Note(58)));
        assert_eq!(Note::spoken("F sharp two", 4), Some(Note(42)));
        assert_eq!(Note::spoken("a", 4), Some(Note(69)));
        assert_eq!(Note::spoken("something", 4), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,16}", octave in any::<i32>(), inversion in any::<usize>()) {
            let _ = Note::spoken(&text, 4);
            if let Some(chord) = Chord::spoken(&text) {
                let _ = chord.notes(octave, inversion);
            }
        }
    }
}
