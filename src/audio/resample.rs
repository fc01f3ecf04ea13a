//! From one sample rate to another, mono, by rubato's windowed sinc.
//!
//! The filter spans 5 ms of input, at low rates up to 8 ms, which passes up to about 0.85 of the lower Nyquist frequency
//! and delays by half of that; input is taken in blocks of [`BLOCK_MS`]. So a stream is at most 5 ms late at any rate
//! from 8 kHz up.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction};

/// The lowest rate, in Hz.
pub const RATE_MIN_HZ: u32 = 4_000;
/// The highest rate, in Hz.
pub const RATE_MAX_HZ: u32 = 384_000;
/// Input taken at a time, in ms.
pub const BLOCK_MS: u32 = 1;
/// Length of the filter in samples of input, unless that is less than 5 or more than 8 ms.
const FILTER: u32 = 128;
/// The most positions between two samples that the filter is tabulated for.
const TABLE_MAX: u32 = 1024;

/// Rates that can't be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResampleError {
    /// A rate out of range.
    #[error(
        "can't resample from {from_hz} Hz to {to_hz} Hz: rates must be {RATE_MIN_HZ} to {RATE_MAX_HZ} Hz; check the header or the setting that they come from"
    )]
    Rate {
        /// The rate of the input.
        from_hz: u32,
        /// The rate of the output.
        to_hz: u32,
    },
    /// The library refused the parameters.
    #[error("can't resample from {from_hz} Hz to {to_hz} Hz: {reason}; please report this")]
    Library {
        /// The rate of the input.
        from_hz: u32,
        /// The rate of the output.
        to_hz: u32,
        /// What it said.
        reason: String,
    },
}

/// Converts a stream. What comes out depends on the stream only, not on how it was cut into pushes.
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    /// `None` when the rates are equal.
    inner: Option<Inner>,
    /// Frames taken since the beginning of the stream.
    taken: u64,
    /// Frames given since the beginning of the stream.
    given: u64,
}

struct Inner {
    sinc: Async<f32>,
    /// Frames of output before the first sample.
    delay: usize,
    /// Frames of a block.
    block: usize,
    /// Input that does not fill a block yet.
    pending: Vec<f32>,
    /// Room for what a block becomes.
    made: Vec<f32>,
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resampler").field("from_hz", &self.from_hz).field("to_hz", &self.to_hz).finish_non_exhaustive()
    }
}

impl Resampler {
    /// A converter from `from_hz` to `to_hz`, each [`RATE_MIN_HZ`] to [`RATE_MAX_HZ`]. Equal rates pass unchanged.
    ///
    /// # Errors
    /// [`ResampleError::Rate`] for a rate out of range.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, ResampleError> {
        let range = RATE_MIN_HZ..=RATE_MAX_HZ;
        if !range.contains(&from_hz) || !range.contains(&to_hz) {
            return Err(ResampleError::Rate { from_hz, to_hz });
        }
        let inner = if from_hz == to_hz { None } else { Some(Inner::new(from_hz, to_hz)?) };
        Ok(Self { from_hz, to_hz, inner, taken: 0, given: 0 })
    }

    /// Takes `input` and appends what it makes to `out`. The first [`Resampler::delay_frames`] frames of a stream come
    /// before its first sample.
    pub fn push(&mut self, input: &[f32], out: &mut Vec<f32>) {
        let before = out.len();
        match &mut self.inner {
            Some(inner) => inner.push(input, out),
            None => out.extend_from_slice(input),
        }
        self.taken += input.len() as u64;
        self.given += (out.len() - before) as u64;
    }

    /// Appends the end of the stream to `out`, so that all in all it got the length of the input, converted and rounded,
    /// and the delay. Then a new stream begins.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        if let Some(inner) = &mut self.inner {
            let total = converted(self.taken, self.from_hz, self.to_hz) + inner.delay as u64;
            let mut made = Vec::new();
            while self.given + (made.len() as u64) < total {
                let short = inner.block - inner.pending.len();
                inner.push(&vec![0.0; short], &mut made);
            }
            made.truncate(usize::try_from(total.saturating_sub(self.given)).unwrap_or(usize::MAX));
            out.append(&mut made);
            inner.sinc.reset();
            inner.pending.clear();
        }
        (self.taken, self.given) = (0, 0);
    }

    /// How many frames of output come before the stream's first sample.
    #[must_use]
    pub fn delay_frames(&self) -> usize {
        self.inner.as_ref().map_or(0, |inner| inner.delay)
    }

    /// The rates, as (from, to), in Hz.
    #[must_use]
    pub fn rates_hz(&self) -> (u32, u32) {
        (self.from_hz, self.to_hz)
    }
}

impl Inner {
    fn new(from_hz: u32, to_hz: u32) -> Result<Self, ResampleError> {
        let block = (from_hz * BLOCK_MS / 1000) as usize;
        let ms = |ms: u32| from_hz * ms / 1000;
        // The library would round up to a multiple of 8 itself; the delay is computed from the length.
        let filter = (ms(5).max(FILTER.min(ms(8))) as usize).next_multiple_of(8);
        let mut parameters = SincInterpolationParameters::new(filter, WindowFunction::BlackmanHarris2);
        // Output falls on few positions between samples of input when the rates have a large common divisor, as all usual
        // ones do: a table of just these needs no interpolation.
        let positions = to_hz / gcd(from_hz, to_hz);
        if positions <= TABLE_MAX {
            let times = (64 / positions).max(1);
            parameters = parameters
                .oversampling_factor((positions * times) as usize)
                .interpolation(SincInterpolationType::Nearest);
        }
        let ratio = f64::from(to_hz) / f64::from(from_hz);
        let sinc = Async::new_sinc(ratio, 1.0, &parameters, block, 1, FixedAsync::Input)
            .map_err(|err| ResampleError::Library { from_hz, to_hz, reason: err.to_string() })?;
        let made = vec![0.0; sinc.output_frames_max()];
        // rubato's own `output_delay` is rounded down and leaves out that its first frame is one step of output and one of
        // its table in. This is what sines show.
        let step = ratio / parameters.oversampling_factor as f64;
        let delay = (filter as f64 * ratio / 2.0 - 1.0 - step).round() as usize;
        Ok(Self { delay, block, pending: Vec::with_capacity(block), made, sinc })
    }

    fn push(&mut self, input: &[f32], out: &mut Vec<f32>) {
        let mut rest = input;
        while self.pending.len() + rest.len() >= self.block {
            let (head, tail) = rest.split_at(self.block - self.pending.len());
            self.pending.extend_from_slice(head);
            rest = tail;
            let made = self.convert_pending();
            out.extend(self.made.iter().take(made));
            self.pending.clear();
        }
        self.pending.extend_from_slice(rest);
    }

    /// Converts the full block into the beginning of `made`, and returns how many frames that is.
    fn convert_pending(&mut self) -> usize {
        let room = self.made.len();
        let input = SequentialSlice::new(&self.pending, 1, self.block);
        let output = SequentialSlice::new_mut(&mut self.made, 1, room);
        // The sizes are those that the library asked for, so neither fails; if one did, silence keeps the time.
        match (input, output) {
            (Ok(input), Ok(mut output)) => match self.sinc.process_into_buffer(&input, &mut output, None) {
                Ok((_, made)) => made,
                Err(err) => {
                    tracing::error!(%err, "resampler");
                    self.silence()
                }
            },
            _ => self.silence(),
        }
    }

    fn silence(&mut self) -> usize {
        self.made.fill(0.0);
        self.sinc.output_frames_next().min(self.made.len())
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `frames` at `from_hz`, in frames at `to_hz`, rounded.
fn converted(frames: u64, from_hz: u32, to_hz: u32) -> u64 {
    let (from, to) = (u128::from(from_hz), u128::from(to_hz));
    u64::try_from((u128::from(frames) * to * 2 + from) / (from * 2)).unwrap_or(u64::MAX)
}

/// Converts a whole clip: the result is as long as the clip, rounded to frames, and not delayed.
///
/// # Errors
/// [`ResampleError::Rate`] for a rate out of range.
pub fn resample(samples: &[f32], from_hz: u32, to_hz: u32) -> Result<Vec<f32>, ResampleError> {
    let mut resampler = Resampler::new(from_hz, to_hz)?;
    let delay = resampler.delay_frames();
    let mut out = Vec::with_capacity(converted(samples.len() as u64, from_hz, to_hz) as usize + delay);
    resampler.push(samples, &mut out);
    resampler.finish(&mut out);
    out.drain(..delay.min(out.len()));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATES_HZ: &[u32] = &[8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000];

    fn sine(rate_hz: u32, hz: f64, frames: usize) -> Vec<f32> {
        (0..frames).map(|n| (0.5 * (std::f64::consts::TAU * hz * n as f64 / f64::from(rate_hz)).sin()) as f32).collect()
    }

    #[test]
    fn a_sine_keeps_frequency_level_and_time() {
        for &from in RATES_HZ {
            for &to in RATES_HZ {
                // Half of the lower Nyquist frequency, and a low tone.
                for hz in [200.0, f64::from(from.min(to)) / 4.0] {
                    let out = resample(&sine(from, hz, from as usize / 4), from, to).unwrap();
                    let wanted = sine(to, hz, out.len());
                    // The clip's edges are steps, which ring.
                    let edge = to as usize / 100;
                    let middle = edge..out.len() - edge;
                    let off = out[middle.clone()]
                        .iter()
                        .zip(&wanted[middle])
                        .fold(0.0_f32, |off, (a, b)| off.max((a - b).abs()));
                    // Half a frame of delay can't be told by a whole number of frames.
                    let half_frame = (std::f64::consts::PI * hz / f64::from(to)) as f32 * 0.5;
                    assert!(off < 0.002 + half_frame, "{from} to {to}, {hz} Hz: off by {off}");
                    let level =
                        |samples: &[f32]| (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt();
                    let ratio = level(&out[edge..out.len() - edge]) / level(&wanted[edge..out.len() - edge]);
                    assert!((0.99..1.01).contains(&ratio), "{from} to {to}, {hz} Hz: level times {ratio}");
                }
            }
        }
    }

    #[test]
    fn what_the_lower_rate_can_not_hold_is_removed() {
        for (from, to, hz) in [(48_000, 16_000, 12_000.0), (44_100, 16_000, 10_000.0), (96_000, 16_000, 30_000.0)] {
            let out = resample(&sine(from, hz, from as usize / 4), from, to).unwrap();
            let loudest = out[to as usize / 100..out.len() - to as usize / 100]
                .iter()
                .fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
            assert!(loudest < 0.001, "{hz} Hz at {from} Hz leaves {loudest} at {to} Hz");
        }
    }

    #[test]
    fn a_stream_is_not_late() {
        for &from in RATES_HZ {
            for &to in RATES_HZ {
                let resampler = Resampler::new(from, to).unwrap();
                let late_ms = resampler.delay_frames() as f32 * 1000.0 / to as f32 + BLOCK_MS as f32;
                assert!(late_ms <= 5.2, "{from} to {to}: {late_ms} ms");
            }
        }
    }

    #[test]
    fn equal_rates_pass_unchanged() {
        let samples = sine(48_000, 440.0, 1000);
        assert_eq!(resample(&samples, 48_000, 48_000).unwrap(), samples);
        assert_eq!(Resampler::new(48_000, 48_000).unwrap().delay_frames(), 0);
    }

    #[test]
    fn rates_out_of_range_are_refused() {
        for (from_hz, to_hz) in [(0, 16_000), (16_000, 0), (3_999, 16_000), (16_000, 400_000)] {
            assert_eq!(resample(&[0.0; 10], from_hz, to_hz), Err(ResampleError::Rate { from_hz, to_hz }));
        }
    }

    fn rates() -> impl Strategy<Value = u32> {
        prop_oneof![prop::sample::select(RATES_HZ), 8_000_u32..192_000]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn how_a_stream_is_cut_does_not_matter(
            samples in prop::collection::vec(-1.0_f32..1.0, 0..3000),
            cuts in prop::collection::vec(1_usize..700, 1..20),
            from in rates(),
            to in rates(),
        ) {
            let mut whole = Vec::new();
            let mut resampler = Resampler::new(from, to).unwrap();
            resampler.push(&samples, &mut whole);
            resampler.finish(&mut whole);

            // The same resampler again: after `finish` it begins anew.
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (samples.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                resampler.push(head, &mut pieces);
                rest = tail;
            }
            resampler.finish(&mut pieces);
            prop_assert!(whole == pieces);
        }

        #[test]
        fn a_clip_keeps_its_length(len in 0_usize..5000, from in rates(), to in rates()) {
            let out = resample(&vec![0.25; len], from, to).unwrap();
            let wanted = (len as f64 * f64::from(to) / f64::from(from)).round() as usize;
            prop_assert_eq!(out.len(), wanted);
        }
    }
}
