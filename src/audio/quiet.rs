//! Where a speaker does not pause, the place to cut at.

/// How long a quiet place is: a fifth of a second.
const PLACES_PER_S: usize = 5;
/// The steps in which it is looked for: 10 ms.
const STEPS_PER_S: usize = 100;

/// The middle of the quietest place in `window`, which has `rate_hz` samples a second; its end if it is too short to have
/// one.
#[must_use]
pub fn quietest(window: &[f32], rate_hz: u32) -> usize {
    let rate = rate_hz as usize;
    let (place, step) = ((rate / PLACES_PER_S).max(1), (rate / STEPS_PER_S).max(1));
    let loudness = |at: usize| window[at..at + place].iter().map(|sample| sample.abs()).sum::<f32>();
    let starts = (0..window.len().saturating_sub(place)).step_by(step);
    let quietest = starts.min_by(|&a, &b| loudness(a).total_cmp(&loudness(b)));
    quietest.map_or(window.len(), |at| at + place / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_goes_through_the_gap_between_words() {
        let mut speech = vec![0.5; 16_000];
        speech[9_000..12_600].fill(0.01);
        let cut = quietest(&speech, 16_000);
        assert!((9_000..12_600).contains(&cut), "{cut}");
        assert_eq!(quietest(&speech[..100], 16_000), 100);
        assert_eq!(quietest(&[], 16_000), 0);
    }
}
