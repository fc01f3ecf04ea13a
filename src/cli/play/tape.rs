//! Decides when a recording is over, and what of it is kept. Pure: time is counted in samples.

/// From this level up a sample is sound (−60 dBFS).
const SOUND: f32 = 0.001;
/// What is kept before the first sound and after the last, in ms.
const LEAD_MS: usize = 200;
const TAIL_MS: usize = 300;
/// The longest recording, in seconds.
const LONGEST_S: usize = 1_800;

/// A recording under way.
#[derive(Debug)]
pub struct Tape {
    rate_hz: usize,
    /// Silence that ends it, in samples.
    until_silent: usize,
    samples: Vec<f32>,
    /// The first sound and the end of the last.
    sound: Option<(usize, usize)>,
    /// From where on silence counts.
    counts_from: Option<usize>,
}

impl Tape {
    /// An empty one that ends after `until_silent_s` seconds of silence.
    pub fn new(rate_hz: u32, until_silent_s: f32) -> Self {
        let until_silent = (until_silent_s.max(0.0) * rate_hz as f32) as usize;
        Self { rate_hz: rate_hz as usize, until_silent, samples: Vec::new(), sound: None, counts_from: None }
    }

    /// Takes what was heard.
    pub fn push(&mut self, heard: &[f32]) {
        let loud = |sample: &f32| sample.abs() >= SOUND;
        if let (Some(first), Some(last)) = (heard.iter().position(loud), heard.iter().rposition(loud)) {
            let at = self.samples.len();
            let first = self.sound.map_or(at + first, |(first, _)| first);
            self.sound = Some((first, at + last + 1));
        }
        self.samples.extend_from_slice(heard);
    }

    /// Says that nothing is played any more: from now on silence can end the recording.
    pub fn played(&mut self) {
        self.counts_from.get_or_insert(self.samples.len());
    }

    /// Whether something has sounded.
    pub fn has_sound(&self) -> bool {
        self.sound.is_some()
    }

    /// Whether it is over: something sounded, and silence followed.
    pub fn is_over(&self) -> bool {
        let (Some((_, last)), Some(from)) = (self.sound, self.counts_from) else { return false };
        self.samples.len() - last.max(from) >= self.until_silent || self.samples.len() >= LONGEST_S * self.rate_hz
    }

    /// The recording without the silence around it, short of a little.
    pub fn kept(&self) -> &[f32] {
        let Some((first, last)) = self.sound else { return &[] };
        let (lead, tail) = (LEAD_MS * self.rate_hz / 1_000, TAIL_MS * self.rate_hz / 1_000);
        self.samples.get(first.saturating_sub(lead)..(last + tail).min(self.samples.len())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn silence_ends_it_once_all_is_played_and_something_sounded() {
        let mut tape = Tape::new(1_000, 2.0);
        tape.push(&[0.0; 5_000]);
        tape.played();
        tape.push(&[0.0; 9_000]);
        assert!(!tape.is_over() && !tape.has_sound());
        assert_eq!(tape.kept(), [0.0_f32; 0]);
        tape.push(&[0.5; 1_000]);
        tape.push(&[0.0; 1_999]);
        assert!(!tape.is_over());
        tape.push(&[0.0; 1]);
        assert!(tape.is_over());
        assert_eq!(tape.kept().len(), 200 + 1_000 + 300);
        assert_eq!(tape.kept()[199..201], [0.0, 0.5]);
    }

    #[test]
    fn sound_while_playing_does_not_end_it_at_once() {
        let mut tape = Tape::new(1_000, 2.0);
        tape.push(&[0.5; 100]);
        tape.push(&[0.0; 10_000]);
        tape.played();
        assert!(!tape.is_over());
        tape.push(&[0.0; 2_000]);
        assert!(tape.is_over());
        assert_eq!(tape.kept().len(), 100 + 300);
    }

    proptest! {
        #[test]
        fn all_sound_is_kept(blocks in prop::collection::vec((0_usize..500, any::<bool>()), 0..20)) {
            let mut tape = Tape::new(1_000, 0.5);
            for &(len, sound) in &blocks {
                tape.push(&vec![if sound { 0.5 } else { 0.0 }; len]);
            }
            let sound: usize = blocks.iter().filter(|(_, sound)| *sound).map(|(len, _)| len).sum();
            prop_assert_eq!(tape.kept().iter().filter(|sample| **sample > 0.0).count(), sound);
            prop_assert_eq!(tape.has_sound(), sound > 0);
        }
    }
}
