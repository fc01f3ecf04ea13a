use proptest::prelude::*;

use super::*;

/// Takes every frame with a sample beyond 0.1 for speech.
struct Loud;

impl Vad for Loud {
    fn name(&self) -> &'static str {
        "loud"
    }

    fn frame_len(&self) -> usize {
        256
    }

    fn speech(&mut self, frame: &[f32]) -> f32 {
        if frame.iter().any(|sample| sample.abs() > 0.1) { 1.0 } else { 0.0 }
    }

    fn reset(&mut self) {}
}

/// Stretches of (seconds, speech or not). Each sample of speech is a number of its own.
fn recording(stretches: &[(f32, bool)]) -> Vec<f32> {
    let mut audio = Vec::new();
    for &(seconds, speech) in stretches {
        for _ in 0..(seconds * VAD_RATE_HZ as f32) as usize {
            audio.push(if speech { 0.2 + (audio.len() % 1_000) as f32 / 2_000.0 } else { 0.0 });
        }
    }
    audio
}

fn cut(audio: &[f32], block: usize) -> Vec<Piece> {
    let mut cutter = Cutter::new(Box::new(Loud)).unwrap();
    let mut pieces: Vec<Piece> = audio.chunks(block).flat_map(|block| cutter.push(block)).collect();
    assert_eq!(cutter.position(), audio.len() as u64);
    pieces.extend(cutter.finish());
    pieces
}

fn lengths_ms(pieces: &[Piece]) -> Vec<u64> {
    pieces.iter().map(|piece| piece.end_ms() - piece.start_ms()).collect()
}

#[test]
fn what_fits_into_one_piece_goes_whole() {
    for stretches in [&[(1.0, false)][..], &[(0.02, true)], &[(5.0, false), (16.0, true), (3.0, false), (4.0, true)]] {
        let audio = recording(stretches);
        assert_eq!(cut(&audio, 4_096), [Piece { start_sample: 0, samples: audio }]);
    }
    assert_eq!(cut(&[], 1), []);
}

#[test]
fn silence_is_left_out() {
    assert_eq!(cut(&recording(&[(60.0, false)]), 1_000), []);
    let pieces = cut(&recording(&[(30.0, false), (3.0, true), (30.0, false), (3.0, true), (30.0, false)]), 1_000);
    // Each with its pre-roll of 400 ms and 250 ms of the silence after it, in frames of 16 ms.
    assert_eq!(pieces.len(), 2);
    assert!(lengths_ms(&pieces).iter().all(|ms| (3_600..=3_700).contains(ms)), "{:?}", lengths_ms(&pieces));
}

#[test]
fn neighbours_are_merged_and_cut_at_pauses() {
    // Sentences of 4 s with pauses of half a second: four of them are enough.
    let pieces = cut(&recording(&[(4.0, true), (0.5, false)].repeat(20)), 3_000);
    assert_eq!(pieces.len(), 5);
    assert!(lengths_ms(&pieces).iter().all(|ms| (15_000..=19_000).contains(ms)), "{:?}", lengths_ms(&pieces));
}

#[test]
fn two_hours_are_never_held() {
    // Sentences and pauses of many lengths; then somebody who does not pause, and nobody at all.
    let mut talk = Vec::new();
    for n in 0..60_u16 {
        talk.extend([(f32::from(n % 17) * 0.7 + 0.3, true), (f32::from(n % 5) * 0.6 + 0.1, false)]);
    }
    talk.extend([(120.0, true), (120.0, false)]);
    let (block, rounds) = (recording(&talk), 2 * 3_600 * VAD_RATE_HZ as usize / recording(&talk).len() + 1);
    let mut pieces = Pieces::new(VAD_RATE_HZ, Box::new(Loud)).unwrap();
    let (mut held, mut found) = (0, 0);
    for _ in 0..rounds {
        for samples_in in block.chunks(8_192) {
            let settled = pieces.push(samples_in);
            let given: usize = settled.iter().map(|piece| piece.samples.len()).sum();
            held = held.max(pieces.cutter.audio.len() + given + pieces.block.capacity());
            found += settled.len();
        }
    }
    assert!(pieces.position_ms() >= 2 * 3_600_000 && found > 200, "{found} pieces");
    assert!(held < 60 * VAD_RATE_HZ as usize, "{} s are held", held / VAD_RATE_HZ as usize);
}

#[test]
fn where_nobody_pauses_the_quietest_place_is_taken() {
    let mut audio = recording(&[(70.0, true)]);
    // Too short for a pause.
    let fifth = VAD_RATE_HZ as usize / 5;
    let quiet = 25 * VAD_RATE_HZ as usize..25 * VAD_RATE_HZ as usize + fifth;
    audio[quiet.clone()].iter_mut().for_each(|sample| *sample = 0.11);
    let pieces = cut(&audio, 777);
    assert_eq!(pieces[1].start_sample as usize, quiet.start + fifth / 2);
    assert_eq!(pieces.iter().flat_map(|piece| piece.samples.clone()).collect::<Vec<_>>(), audio);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_speech_is_lost_and_nothing_is_heard_twice(
        stretches in prop::collection::vec((0.1_f32..12.0, any::<bool>()), 1..14),
        block in 1_usize..20_000,
    ) {
        let audio = recording(&stretches);
        let pieces = cut(&audio, block);
        let mut heard = vec![false; audio.len()];
        let mut end = 0;
        for piece in &pieces {
            prop_assert!(piece.samples.len() as u64 <= samples(PIECE_MAX_S));
            prop_assert!(piece.start_sample >= end, "pieces overlap");
            end = piece.start_sample + piece.samples.len() as u64;
            let range = piece.start_sample as usize..end as usize;
            prop_assert_eq!(&audio[range.clone()], &piece.samples[..]);
            heard[range].fill(true);
        }
        // Less than `start_ms` of speech after a cut may start no segment of its own.
        let (mut run, mut longest) = (0_usize, 0);
        for (sample, heard) in audio.iter().zip(&heard) {
            run = if *sample > 0.1 && !heard { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        let start = (SEGMENTS.start_ms * VAD_RATE_HZ / 1_000) as usize;
        prop_assert!(longest < start + 256, "{} samples of speech are lost", longest);
    }

    #[test]
    fn how_it_is_read_does_not_matter(
        stretches in prop::collection::vec((0.1_f32..12.0, any::<bool>()), 1..10),
        block in 1_usize..20_000,
    ) {
        let audio = recording(&stretches);
        prop_assert!(cut(&audio, block) == cut(&audio, 4_096));
    }
}
