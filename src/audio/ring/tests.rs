use proptest::prelude::*;

use super::*;

const PERIOD: usize = 64;

/// One period without input.
fn play(rt: &mut RtSide) -> Vec<f32> {
    let mut output = vec![9.0; PERIOD];
    rt.process(&[0.0; PERIOD], &mut output);
    output
}

#[test]
fn what_is_captured_is_read_and_what_is_written_is_played() {
    let (mut rt, mut capture, mut playback) = voice_rings(1000, 1000, 48_000);
    assert_eq!(playback.write(&[0.5; 100]), 100);
    let mut output = [9.0; PERIOD];
    rt.process(&[0.25; PERIOD], &mut output);
    assert_eq!(output, [0.5; PERIOD]);
    let mut heard = vec![1.0];
    assert_eq!(capture.read_into(&mut heard), PERIOD);
    assert_eq!(heard[..3], [1.0, 0.25, 0.25]);
    assert_eq!((playback.played_frames(), playback.queued_frames(), playback.is_drained()), (64, 36, false));
    let output = play(&mut rt);
    assert_eq!((output[35], output[36], output[63]), (0.5, 0.0, 0.0));
    assert!(playback.is_drained());
}

#[test]
fn a_full_ring_drops_input_and_pushes_back_output() {
    let (mut rt, mut capture, mut playback) = voice_rings(100, 100, 48_000);
    assert_eq!(playback.write(&[0.5; 300]), 100);
    assert_eq!(playback.write(&[0.5; 300]), 0);
    play(&mut rt);
    play(&mut rt);
    assert_eq!(capture.dropped_frames(), 28);
    assert_eq!(capture.read_into(&mut Vec::new()), 100);
    assert_eq!(playback.written_frames(), 100);
}

#[test]
fn samples_that_are_no_numbers_stop_here() {
    let (mut rt, mut capture, mut playback) = voice_rings(100, 100, 48_000);
    playback.write(&[f32::NAN, f32::INFINITY, 0.5]);
    let mut output = [9.0; 3];
    rt.process(&[f32::NAN, f32::NEG_INFINITY, 0.25], &mut output);
    assert_eq!(output, [0.0, 0.0, 0.5]);
    let mut heard = Vec::new();
    capture.read_into(&mut heard);
    assert_eq!(heard, [0.0, 0.0, 0.25]);
}

#[test]
fn a_flush_fades_discards_and_spares_what_comes_after() {
    let (mut rt, _capture, mut playback) = voice_rings(10_000, 10_000, 8_000);
    playback.write(&[1.0; 5000]);
    play(&mut rt);
    playback.flush();
    playback.write(&[0.25; 200]);
    let output = play(&mut rt);
    // 5 ms at 8 kHz are 40 frames.
    assert!(output[..40].is_sorted_by(|a, b| a > b), "{output:?}");
    assert!(output[0] > 0.9 && output[39] == 0.0);
    assert_eq!(output[40..], [0.0; 24]);
    assert_eq!(playback.queued_frames(), 200);
    assert_eq!(play(&mut rt), [0.25; PERIOD]);
    assert_eq!(playback.control().flushed_frames(), 5000 - 64 - 40);
}

#[test]
fn a_flush_in_silence_lets_nothing_out() {
    let (mut rt, _capture, mut playback) = voice_rings(1000, 1000, 48_000);
    playback.write(&[1.0; 500]);
    playback.flush();
    playback.flush();
    assert_eq!(play(&mut rt), [0.0; PERIOD]);
    assert!(playback.is_drained());
    assert_eq!(playback.played_frames(), 0);
}

#[test]
fn only_a_gap_while_more_is_to_come_is_an_underrun() {
    let (mut rt, _capture, mut playback) = voice_rings(1000, 1000, 48_000);
    let control = playback.control();
    play(&mut rt);
    assert_eq!(control.underruns(), 0);
    playback.write(&[0.5; 100]);
    play(&mut rt);
    play(&mut rt);
    play(&mut rt);
    assert_eq!(control.underruns(), 1);
    // A queue that ends at the end of a period is noticed in the next.
    playback.write(&[0.5; PERIOD]);
    play(&mut rt);
    play(&mut rt);
    assert_eq!(control.underruns(), 2);
    playback.write(&[0.5; 100]);
    playback.end();
    play(&mut rt);
    play(&mut rt);
    assert_eq!(control.underruns(), 2);
    playback.write(&[0.5; 500]);
    play(&mut rt);
    control.flush();
    play(&mut rt);
    play(&mut rt);
    assert_eq!(control.underruns(), 2);
}

#[test]
fn what_is_played_stands_beside_what_is_captured_at_the_same_frame() {
    let (mut rt, mut capture, mut playback) = voice_rings(1000, 1000, 8_000);
    let ramp: Vec<f32> = (1..=100_u8).map(f32::from).collect();
    let mut outputs = Vec::new();
    for number in 0..4_u8 {
        match number {
            1 => drop(playback.write(&ramp)),
            3 => playback.flush(),
            _ => {}
        }
        let mut output = [9.0; PERIOD];
        rt.process(&[f32::from(number); PERIOD], &mut output);
        outputs.extend(output);
    }
    let mut heard = Vec::new();
    assert_eq!(capture.read_frames(&mut heard), 4 * PERIOD);
    for (at, (frame, output)) in heard.iter().zip(&outputs).enumerate() {
        assert_eq!((frame.mic, frame.reference), ((at / PERIOD) as f32, *output), "frame {at}");
    }
    let references: Vec<f32> = heard.iter().map(|frame| frame.reference).collect();
    // Nothing played in the first period; the ramp begins with the second, and its end is padded with silence.
    assert_eq!(references[..PERIOD], [0.0; PERIOD]);
    assert_eq!(references[PERIOD..PERIOD + 100], ramp);
    assert_eq!(references[PERIOD + 100..], [0.0; 3 * PERIOD - 100]);
}

#[test]
fn a_fade_is_in_the_reference_as_it_was_heard() {
    let (mut rt, mut capture, mut playback) = voice_rings(1000, 1000, 8_000);
    playback.write(&[1.0; 500]);
    play(&mut rt);
    playback.flush();
    let faded = play(&mut rt);
    assert!(faded[0] < 1.0 && faded[0] > 0.9);
    let mut heard = Vec::new();
    capture.read_frames(&mut heard);
    let references: Vec<f32> = heard.iter().map(|frame| frame.reference).collect();
    assert_eq!(references, [vec![1.0; PERIOD], faded].concat());
}

#[test]
fn each_side_sees_that_the_other_is_gone() {
    let (rt, capture, playback) = voice_rings(10, 10, 48_000);
    assert!(!capture.is_closed() && !playback.is_closed());
    drop(rt);
    assert!(capture.is_closed() && playback.is_closed());
}

proptest! {
    #[test]
    fn microphone_and_reference_stay_together_whatever_is_late_full_or_flushed(
        steps in prop::collection::vec((0_usize..300, any::<bool>(), 1_usize..200, any::<bool>()), 1..60)
    ) {
        let (mut rt, mut capture, mut playback) = voice_rings(256, 256, 48_000);
        let (mut given, mut heard, mut next) = (Vec::new(), Vec::new(), 0_u32);
        for (written, is_flushed, frames, is_read) in steps {
            playback.write(&vec![0.5; written]);
            if is_flushed {
                playback.flush();
            }
            // Each frame is its own number, and finds the same number in `given`.
            let input: Vec<f32> = (0..frames as u32).map(|n| (next + n) as f32).collect();
            let mut output = vec![9.0; frames];
            rt.process(&input, &mut output);
            given.extend(output);
            next += frames as u32;
            if is_read {
                capture.read_frames(&mut heard);
            }
        }
        capture.read_frames(&mut heard);
        prop_assert_eq!(heard.len() as u64 + capture.dropped_frames(), u64::from(next));
        for frame in &heard {
            prop_assert_eq!(frame.reference, given[frame.mic as usize]);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Flush,
    Period(usize),
}

proptest! {
    #[test]
    fn whatever_is_done_frames_come_in_order_and_none_after_its_flush(
        steps in prop::collection::vec(
            prop_oneof![(1_usize..400).prop_map(Step::Write), Just(Step::Flush), (1_usize..300).prop_map(Step::Period)],
            1..100,
        )
    ) {
        let (mut rt, _capture, mut playback) = voice_rings(16, 512, 48_000);
        // Each frame is its own number, from 1; what a flush has doomed, and the last that came out.
        let (mut next, mut doomed, mut last, mut fading) = (1.0_f32, 0.0_f32, 0.0_f32, false);
        for step in steps {
            match step {
                Step::Write(frames) => {
                    let samples: Vec<f32> = (0..frames).map(|n| next + n as f32).collect();
                    next += playback.write(&samples) as f32;
                }
                Step::Flush => {
                    playback.flush();
                    fading |= last < next - 1.0;
                    doomed = next - 1.0;
                }
                Step::Period(frames) => {
                    let before = (playback.played_frames(), playback.queued_frames());
                    let mut output = vec![9.0; frames];
                    rt.process(&[], &mut output);
                    let played = (playback.played_frames() - before.0) as usize;
                    prop_assert!(output[played..].iter().all(|&sample| sample == 0.0));
                    if fading {
                        prop_assert!(played <= 240, "a fade of {} frames", played);
                        last = doomed;
                    } else {
                        prop_assert_eq!(played, frames.min(before.1 as usize));
                        for &sample in &output[..played] {
                            prop_assert!(sample == last + 1.0 && sample > doomed, "{} after {}", sample, last);
                            last = sample;
                        }
                    }
                    fading = false;
                }
            }
            let control = playback.control();
            let all = control.played_frames() + control.flushed_frames() + control.queued_frames();
            prop_assert_eq!(all, playback.written_frames());
        }
        playback.flush();
        play(&mut rt);
        prop_assert!(playback.is_drained());
    }
}
