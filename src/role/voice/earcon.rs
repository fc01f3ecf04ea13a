//! The signal that a turn has failed, for people who do not look at a screen. It is made here, so that it can be heard
//! when no host offers `tts`.

use std::f32::consts::{PI, TAU};

/// Two tones, falling.
const TONES_HZ: [f32; 2] = [330.0, 247.0];
/// How long each sounds, in ms.
const TONE_MS: u32 = 100;
/// How long each swells and fades, in ms.
const FADE_MS: u32 = 15;
/// −20 dBFS: to be noticed, not to startle.
const PEAK: f32 = 0.1;

/// Mono samples of the signal at `rate_hz`.
#[must_use]
pub fn failure(rate_hz: u32) -> Vec<f32> {
    let frames = (rate_hz * TONE_MS / 1_000) as usize;
    let fade = (rate_hz * FADE_MS / 1_000).max(1) as f32;
    let tone = |hz: f32| {
        (0..frames).map(move |n| {
            let edge = n.min(frames - 1 - n) as f32;
            let swell = 0.5 - 0.5 * (PI * (edge / fade).min(1.0)).cos();
            PEAK * swell * (TAU * hz * n as f32 / rate_hz as f32).sin()
        })
    };
    TONES_HZ.into_iter().flat_map(tone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_is_short_quiet_and_without_clicks() {
        for rate_hz in [8_000, 44_100, 48_000, 192_000] {
            let samples = failure(rate_hz);
            let steepest = PEAK * TAU * 330.0 / rate_hz as f32 * 1.1;
            assert_eq!(samples.len() as u32, rate_hz * TONE_MS / 1_000 * 2, "{rate_hz} Hz");
            let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
            assert!(peak <= PEAK && peak > PEAK * 0.9, "{rate_hz} Hz: peak {peak}");
            assert!(samples.windows(2).all(|pair| (pair[1] - pair[0]).abs() <= steepest), "{rate_hz} Hz clicks");
            assert!(
                samples[0].abs() < 1e-3 && samples[samples.len() - 1].abs() < 1e-3,
                "{rate_hz} Hz clicks at an end"
            );
        }
    }
}
