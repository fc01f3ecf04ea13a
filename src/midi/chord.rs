//! Names of chords: `C`, `Cm`, `G7`, `F#m7b5`, `Dsus4`, `Cadd9`, `Am/E`, and as people say them: "C major", "G seven".

use std::fmt;

use super::note::{Note, pitch};

/// Where a chord's root lies if nothing else is said: the octave of middle C.
pub const OCTAVE: i32 = 4;

/// A chord: a root, what lies above it, and a bass if it is another note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chord {
    /// The root, in semitones above C: 0 to 11.
    root: i32,
    /// What lies above the root, in semitones, ascending; begins with 0.
    intervals: Vec<i32>,
    /// The bass, in semitones above C, if it is another.
    bass: Option<i32>,
    /// As it is written.
    pub(super) name: String,
}

/// Why a text is no chord.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChordError {
    /// It is no name of one.
    #[error("`{0}` is no chord; write one as C, Am, G7, Cmaj7, F#m7b5, Dsus4, Cadd9, Bdim or C/E")]
    Name(String),
    /// Its notes are not all there.
    #[error("{0} in octave {1} goes beyond the notes of MIDI (C-1 to G9); choose an octave nearer to 4")]
    Range(String, i32),
}

/// Qualities, the longest spelling first where one begins with another. What follows (`b5`, `add9`) is read after it.
const QUALITIES: &[(&[&str], &[i32])] = &[
    (&["mmaj7", "mM7", "minmaj7", "m(maj7)"], &[0, 3, 7, 11]),
    (&["maj13"], &[0, 4, 7, 11, 14, 21]),
    (&["maj9", "M9"], &[0, 4, 7, 11, 14]),
    (&["maj7", "M7", "Δ7", "Δ", "ma7"], &[0, 4, 7, 11]),
    (&["maj6"], &[0, 4, 7, 9]),
    (&["dim7", "°7", "o7"], &[0, 3, 6, 9]),
    (&["dim", "°", "o"], &[0, 3, 6]),
    (&["ø7", "ø", "halfdim7", "halfdim"], &[0, 3, 6, 10]),
    (&["aug7", "+7"], &[0, 4, 8, 10]),
    (&["aug", "+"], &[0, 4, 8]),
    (&["maj", "M", "major"], &[0, 4, 7]),
    (&["min13", "m13"], &[0, 3, 7, 10, 14, 21]),
    (&["min11", "m11"], &[0, 3, 7, 10, 14, 17]),
    (&["min9", "m9"], &[0, 3, 7, 10, 14]),
    (&["min7", "m7", "-7"], &[0, 3, 7, 10]),
    (&["min6", "m6"], &[0, 3, 7, 9]),
    (&["min", "m", "-"], &[0, 3, 7]),
    (&["7sus4", "7sus"], &[0, 5, 7, 10]),
    (&["9sus4", "9sus"], &[0, 5, 7, 10, 14]),
    (&["sus2"], &[0, 2, 7]),
    (&["sus4", "sus"], &[0, 5, 7]),
    (&["69", "6/9"], &[0, 4, 7, 9, 14]),
    (&["13"], &[0, 4, 7, 10, 14, 21]),
    (&["11"], &[0, 4, 7, 10, 14, 17]),
    (&["9"], &[0, 4, 7, 10, 14]),
    (&["7"], &[0, 4, 7, 10]),
    (&["6"], &[0, 4, 7, 9]),
    (&["5"], &[0, 7]),
];

/// What may follow a quality, again and again: what it takes away, and what it adds.
const CHANGES: &[(&str, Option<i32>, i32)] = &[
    ("b5", Some(7), 6),
    ("#5", Some(7), 8),
    ("b9", Some(14), 13),
    ("#9", Some(14), 15),
    ("#11", Some(17), 18),
    ("b13", Some(21), 20),
    ("add9", None, 14),
    ("add11", None, 17),
    ("add13", None, 21),
    ("add2", None, 2),
    ("add4", None, 5),
    ("add6", None, 9),
];

impl Chord {
    /// Reads a written name.
    ///
    /// # Errors
    /// [`ChordError::Name`].
    pub fn parse(text: &str) -> Result<Self, ChordError> {
        Self::read(text.trim()).ok_or_else(|| ChordError::Name(text.trim().chars().take(24).collect()))
    }

    /// A written name, if it is one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (root, rest) = pitch(text)?;
        // `C6/9` is no chord over a bass.
        let (quality, bass) = match rest.rsplit_once('/') {
            Some((quality, bass)) if bass != "9" => {
                let (bass, left) = pitch(bass)?;
                if !left.is_empty() {
                    return None;
                }
                (quality, Some(bass.rem_euclid(12)))
            }
            _ => (rest, None),
        };
        let intervals = quality_of(quality)?;
        let root = root.rem_euclid(12);
        Some(Self { root, intervals, bass: bass.filter(|bass| *bass != root), name: text.to_owned() })
    }

    /// The notes, from low to high: the root in `octave`, a bass of its own below it. `inversion` notes go up an octave.
    ///
    /// # Errors
    /// [`ChordError::Range`].
    pub fn notes(&self, octave: i32, inversion: usize) -> Result<Vec<Note>, ChordError> {
        let mut pitches: Vec<i32> = self.intervals.iter().map(|interval| self.root + interval).collect();
        for _ in 0..inversion.min(pitches.len() * 4) {
            let lowest = pitches.remove(0);
            let mut raised = lowest + 12;
            while pitches.contains(&raised) {
                raised += 12;
            }
            pitches.push(raised);
            pitches.sort_unstable();
        }
        if let Some(bass) = self.bass {
            // A chord tone in the bass (C/E) is not doubled above it.
            pitches.retain(|pitch| pitch.rem_euclid(12) != bass);
            let lowest = pitches.first().copied().unwrap_or(self.root);
            pitches.insert(0, lowest - (lowest - bass).rem_euclid(12));
        }
        let note = |pitch: &i32| Note::at(*pitch, octave);
        let range = || ChordError::Range(self.name.clone(), octave);
        if !(-2..=10).contains(&octave) {
            return Err(range());
        }
        pitches.iter().map(note).collect::<Option<Vec<_>>>().ok_or_else(range)
    }

    /// As it is written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn quality_of(text: &str) -> Option<Vec<i32>> {
    if let Some(found) = whole_quality(text) {
        return Some(found);
    }
    let spellings = QUALITIES.iter().flat_map(|(names, intervals)| names.iter().map(move |name| (*name, *intervals)));
    let plain = std::iter::once(("", &[0, 4, 7][..]));
    // Any spelling may be the right one: `add9` follows nothing, `m7b5` follows `m7`; so each is tried.
    spellings.chain(plain).find_map(|(name, intervals)| {
        let mut rest = text.strip_prefix(name)?;
        let mut intervals = intervals.to_vec();
        while !rest.is_empty() {
            let bare = rest.strip_prefix(['(', ',']).unwrap_or(rest);
            let (change, takes, adds) = CHANGES.iter().find(|(change, ..)| bare.starts_with(change))?;
            rest = bare.get(change.len()..)?;
            rest = rest.strip_prefix(')').unwrap_or(rest);
            if let Some(takes) = takes {
                intervals.retain(|interval| interval != takes);
            }
            if !intervals.contains(adds) {
                intervals.push(*adds);
            }
        }
        intervals.sort_unstable();
        Some(intervals)
    })
}

fn whole_quality(text: &str) -> Option<Vec<i32>> {
    if text.is_empty() {
        return Some(vec![0, 4, 7]);
    }
    QUALITIES.iter().find(|(names, _)| names.contains(&text)).map(|(_, intervals)| intervals.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notes(name: &str) -> Vec<u8> {
        Chord::parse(name).unwrap().notes(4, 0).unwrap().iter().map(|note| note.0).collect()
    }

    #[test]
    fn names_are_chords() {
        assert_eq!(notes("C"), [60, 64, 67]);
        assert_eq!(notes("Cm"), [60, 63, 67]);
        assert_eq!(notes("G7"), [67, 71, 74, 77]);
        assert_eq!(notes("Cmaj7"), [60, 64, 67, 71]);
        assert_eq!(notes("CM7"), notes("CΔ"));
        assert_eq!(notes("F#m7b5"), [66, 69, 72, 76]);
        assert_eq!(notes("F#m7b5"), notes("F#ø"));
        assert_eq!(notes("Dsus4"), [62, 67, 69]);
        assert_eq!(notes("Dsus2"), [62, 64, 69]);
        assert_eq!(notes("Bbdim"), [70, 73, 76]);
        assert_eq!(notes("Caug"), [60, 64, 68]);
        assert_eq!(notes("Cadd9"), [60, 64, 67, 74]);
        assert_eq!(notes("Cmadd9"), [60, 63, 67, 74]);
        assert_eq!(notes("C7#9"), [60, 64, 67, 70, 75]);
        assert_eq!(notes("C7(b9)"), [60, 64, 67, 70, 73]);
        assert_eq!(notes("C6/9"), [60, 64, 67, 69, 74]);
        assert_eq!(notes("C5"), [60, 67]);
        assert_eq!(notes("Cmmaj7"), [60, 63, 67, 71]);
    }

    #[test]
    fn a_bass_lies_below_and_is_not_doubled() {
        assert_eq!(notes("C/E"), [52, 60, 67]);
        assert_eq!(notes("C/D"), [50, 60, 64, 67]);
        assert_eq!(notes("Am/G"), [67, 69, 72, 76]);
        assert_eq!(notes("C/C"), notes("C"));
    }

    #[test]
    fn inversions_go_up() {
        let inverted = |n| Chord::parse("C").unwrap().notes(4, n).unwrap().iter().map(|n| n.0).collect::<Vec<_>>();
        assert_eq!(inverted(1), [64, 67, 72]);
        assert_eq!(inverted(2), [67, 72, 76]);
        assert_eq!(inverted(3), [72, 76, 79]);
    }

    #[test]
    fn what_is_too_high_is_told() {
        let error = Chord::parse("G13").unwrap().notes(9, 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "G13 in octave 9 goes beyond the notes of MIDI (C-1 to G9); choose an octave nearer to 4"
        );
        assert!(Chord::parse("C").unwrap().notes(i32::MAX, usize::MAX).is_err());
        assert!(Chord::parse("Xyz").unwrap_err().to_string().starts_with("`Xyz` is no chord; write one as C, Am"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,16}", octave in any::<i32>(), inversion in any::<usize>()) {
            if let Ok(chord) = Chord::parse(&text) {
                let _ = chord.notes(octave, inversion);
            }
        }

        /// Notes ascend, none twice, and all lie within a chord's reach of its octave.
        #[test]
        fn notes_ascend(letter in 0..7usize, quality in 0..QUALITIES.len(), octave in 1..6i32, inversion in 0..4usize, bass in any::<Option<prop::sample::Index>>()) {
            let letters = ["C", "D", "E", "F", "G", "A", "B"];
            let bass = bass.map(|bass| format!("/{}", letters[bass.index(7)])).unwrap_or_default();
            let name = format!("{}{}{bass}", letters[letter], QUALITIES[quality].0[0]);
            let notes = Chord::parse(&name).unwrap().notes(octave, inversion).unwrap();
            prop_assert!(notes.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {notes:?}");
        }
    }
}
