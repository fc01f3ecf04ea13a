//! Raw samples as bytes, and the bare WAV that everybody reads.

use std::io::Cursor;

/// How a raw sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PcmFormat {
    /// Signed 16-bit, little-endian.
    S16Le,
    /// 32-bit float, little-endian, full scale at 1.0.
    F32Le,
}

impl PcmFormat {
    /// Bytes of one sample.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::S16Le => 2,
            Self::F32Le => 4,
        }
    }
}

/// Raw samples that make no sense as described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PcmError {
    /// No channels.
    #[error("raw PCM with 0 channels: say how many there are, 1 for mono")]
    NoChannels,
    /// The bytes end within a frame.
    #[error(
        "raw PCM of {len} bytes is no whole number of frames of {frame} bytes ({channels} channels of {format:?}); check the format and the channel count"
    )]
    Uneven {
        /// Bytes given.
        len: usize,
        /// Bytes of a frame.
        frame: usize,
        /// Channels as described.
        channels: u16,
        /// Format as described.
        format: PcmFormat,
    },
}

/// Reads interleaved frames of `channels` samples and mixes each down to mono by the mean. Samples that are not numbers
/// become 0.
///
/// # Errors
/// [`PcmError`] when `bytes` is no whole number of frames.
pub fn pcm_to_mono(bytes: &[u8], format: PcmFormat, channels: u16) -> Result<Vec<f32>, PcmError> {
    let frame = format.bytes() * usize::from(channels);
    if frame == 0 {
        return Err(PcmError::NoChannels);
    }
    if !bytes.len().is_multiple_of(frame) {
        return Err(PcmError::Uneven { len: bytes.len(), frame, channels, format });
    }
    let samples: Vec<f32> = match format {
        PcmFormat::S16Le => {
            bytes.as_chunks::<2>().0.iter().map(|&sample| f32::from(i16::from_le_bytes(sample)) / 32_768.0).collect()
        }
        PcmFormat::F32Le => bytes.as_chunks::<4>().0.iter().map(|&sample| f32::from_le_bytes(sample)).collect(),
    };
    let mut mono = Vec::new();
    mix_down(&samples, usize::from(channels), &mut mono);
    Ok(mono)
}

/// Writes mono samples as bytes. 16-bit samples are clipped at full scale; what is no number becomes 0.
#[must_use]
pub fn mono_to_pcm(samples: &[f32], format: PcmFormat) -> Vec<u8> {
    match format {
        PcmFormat::S16Le => samples.iter().flat_map(|&sample| to_i16(sample).to_le_bytes()).collect(),
        PcmFormat::F32Le => samples.iter().flat_map(|&sample| finite(sample).to_le_bytes()).collect(),
    }
}

/// A WAV file of mono 16-bit PCM.
///
/// # Errors
/// When the samples do not fit a WAV file, which ends at 4 GiB.
pub fn wav_bytes(samples: &[f32], rate_hz: u32) -> Result<Vec<u8>, hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::with_capacity(samples.len() * 2 + 44));
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for &sample in samples {
        writer.write_sample(to_i16(sample))?;
    }
    writer.finalize()?;
    Ok(bytes.into_inner())
}

/// Appends the mean of each frame of `channels` samples to `mono`. Samples that are not numbers count as 0.
pub(super) fn mix_down(interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) {
    let share = 1.0 / channels.max(1) as f32;
    mono.extend(
        interleaved
            .chunks_exact(channels.max(1))
            .map(|frame| frame.iter().map(|&sample| finite(sample)).sum::<f32>() * share),
    );
}

fn finite(sample: f32) -> f32 {
    if sample.is_finite() { sample } else { 0.0 }
}

/// 32768 reads back what was read from 16 bits, bit for bit; a float at full scale is clipped by one step. `as` takes what
/// is no number as 0.
fn to_i16(sample: f32) -> i16 {
    (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stereo_is_mixed_and_full_scale_fits() {
        let bytes: Vec<u8> = [16_384_i16, -16_384, 32_767, 32_767, -32_768, -32_768]
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        assert_eq!(pcm_to_mono(&bytes, PcmFormat::S16Le, 2).unwrap(), [0.0, 32_767.0 / 32_768.0, -1.0]);
        assert_eq!(mono_to_pcm(&[2.0, -2.0, f32::NAN], PcmFormat::S16Le), [0xFF, 0x7F, 0x00, 0x80, 0, 0]);
    }

    #[test]
    fn what_is_no_number_becomes_silence() {
        let bytes = mono_to_pcm(&[f32::NAN, f32::INFINITY, 0.5], PcmFormat::F32Le);
        assert_eq!(pcm_to_mono(&bytes, PcmFormat::F32Le, 1).unwrap(), [0.0, 0.0, 0.5]);
        let broken: Vec<u8> = [f32::NAN, 0.5].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        assert_eq!(pcm_to_mono(&broken, PcmFormat::F32Le, 2).unwrap(), [0.25]);
    }

    #[test]
    fn half_a_frame_is_refused() {
        let error = pcm_to_mono(&[0; 6], PcmFormat::S16Le, 2).unwrap_err();
        assert_eq!(error, PcmError::Uneven { len: 6, frame: 4, channels: 2, format: PcmFormat::S16Le });
        assert_eq!(pcm_to_mono(&[0; 6], PcmFormat::S16Le, 0), Err(PcmError::NoChannels));
        assert_eq!(pcm_to_mono(&[], PcmFormat::F32Le, 1).unwrap(), Vec::<f32>::new());
    }

    proptest! {
        #[test]
        fn bytes_come_back_as_they_were(samples in prop::collection::vec(any::<i16>(), 0..200)) {
            let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            let mono = pcm_to_mono(&bytes, PcmFormat::S16Le, 1).unwrap();
            prop_assert_eq!(mono_to_pcm(&mono, PcmFormat::S16Le), bytes);
            let floats = mono_to_pcm(&mono, PcmFormat::F32Le);
            prop_assert_eq!(pcm_to_mono(&floats, PcmFormat::F32Le, 1).unwrap(), mono);
        }
    }
}
