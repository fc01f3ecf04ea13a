//! Where the sound of a request comes from, and no more of it than is taken.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::audio::{ClipError, ClipReader, Resampler};
use crate::bus::message::Pcm;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::engine::RECOGNIZER_RATE_HZ;
use crate::sound::from_wire;

/// A recording.
pub(super) enum Source {
    File(Bytes),
    Pcm(Pcm),
}

/// Blocks of a recording.
pub(super) struct Blocks(BlocksOf);

/// Where they come from.
enum BlocksOf {
    File(Box<ClipReader>),
    Pcm(Option<Vec<f32>>),
}

/// A recording that is transcribed as a whole.
#[derive(Debug)]
pub(super) struct Whole {
    /// Mono, at [`RECOGNIZER_RATE_HZ`].
    pub(super) samples: Vec<f32>,
    pub(super) audio_ms: u64,
    /// Whether its end is missing.
    pub(super) truncated: bool,
}

impl Blocks {
    pub(super) fn next(&mut self) -> Option<Result<Vec<f32>, Fault>> {
        match &mut self.0 {
            BlocksOf::File(reader) => Some(reader.next()?.map_err(unreadable)),
            BlocksOf::Pcm(samples) => samples.take().map(Ok),
        }
    }

    /// Whether the end is missing; known when it has been read to its end.
    pub(super) fn truncated(&self) -> bool {
        matches!(&self.0, BlocksOf::File(reader) if reader.truncated())
    }

    /// How long it says that it is, in ms, if it can know.
    fn told_ms(&self) -> Option<u64> {
        match &self.0 {
            BlocksOf::File(reader) => reader.exact_ms(),
            BlocksOf::Pcm(_) => None,
        }
    }
}

impl Source {
    /// Its rate, and its samples block by block.
    pub(super) fn open(self) -> Result<(u32, Blocks), Fault> {
        Ok(match self {
            Self::File(bytes) => {
                let reader = ClipReader::from_bytes(bytes).map_err(unreadable)?;
                (reader.rate_hz(), Blocks(BlocksOf::File(Box::new(reader))))
            }
            Self::Pcm(pcm) => (pcm.rate_hz, Blocks(BlocksOf::Pcm(Some(from_wire(&pcm)?)))),
        })
    }

    /// All of it, if it is no longer than `max_ms`; of a longer one no more is decoded, and it is held at the recognizer's
    /// rate alone, whatever its own is.
    pub(super) fn clip(self, max_ms: u64, cancel: &CancellationToken) -> Result<Whole, Fault> {
        let (rate_hz, mut blocks) = self.open()?;
        let ms = |frames: u64| frames.saturating_mul(1_000) / u64::from(rate_hz);
        if let Some(told) = blocks.told_ms().filter(|told| *told > max_ms) {
            return Err(too_long(&format!("{} s", told / 1_000), max_ms));
        }
        let mut resampler = Resampler::new(rate_hz, RECOGNIZER_RATE_HZ).map_err(|e| Fault::invalid(e.to_string()))?;
        let (mut samples, mut frames) = (Vec::new(), 0);
        while let Some(block) = blocks.next() {
            if cancel.is_cancelled() {
                return Err(Fault::cancelled());
            }
            let block = block?;
            frames += block.len() as u64;
            if ms(frames) > max_ms {
                return Err(too_long(&format!("more than {} s", max_ms / 1_000), max_ms));
            }
            resampler.push(&block, &mut samples);
        }
        if frames == 0 {
            return Err(Fault::invalid("the recording has no sample; record it again"));
        }
        let delay = resampler.delay_frames();
        resampler.finish(&mut samples);
        samples.drain(..delay.min(samples.len()));
        Ok(Whole { samples, audio_ms: ms(frames), truncated: blocks.truncated() })
    }
}

fn unreadable(error: ClipError) -> Fault {
    Fault::invalid(error.to_string())
}

fn too_long(long: &str, max_ms: u64) -> Fault {
    let max = max_ms / 1_000;
    let text = format!(
        "the clip is {long} long, and {max} s are taken: `sidetone transcribe FILE` cuts a long one at its pauses"
    );
    Fault::new(FaultCode::TooLarge, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{resample, wav_bytes};

    fn file(bytes: Vec<u8>) -> Source {
        Source::File(bytes.into())
    }

    /// A WAV file of 8-bit silence, at the lowest rate that is taken.
    fn silence(seconds: u32) -> Source {
        let mut bytes = wav_bytes(&[], 4_000).unwrap();
        let len = seconds * 4_000;
        // One byte a frame: alignment and bits, then how many bytes there are.
        bytes[32..36].copy_from_slice(&[1, 0, 8, 0]);
        bytes[40..44].copy_from_slice(&len.to_le_bytes());
        bytes.resize(44 + len as usize, 0x80);
        file(bytes)
    }

    #[test]
    fn what_is_too_long_is_told_as_such_however_long_it_is() {
        let cancel = CancellationToken::new();
        for (seconds, long) in [(601, "601 s"), (1_801, "1801 s"), (7_200, "7200 s")] {
            let fault = silence(seconds).clip(600_000, &cancel).unwrap_err();
            assert_eq!(fault.code, FaultCode::TooLarge);
            assert_eq!(
                fault.message,
                format!(
                    "the clip is {long} long, and 600 s are taken: `sidetone transcribe FILE` cuts a long one at its pauses"
                )
            );
        }
        let whole = silence(20).clip(20_000, &cancel).unwrap();
        assert_eq!((whole.audio_ms, whole.samples.len(), whole.truncated), (20_000, 20 * 16_000, false));
    }

    #[test]
    fn one_that_does_not_say_how_long_it_is_is_read_no_further_than_is_taken() {
        let mp3 = include_bytes!("../../../tests/fixtures/audio/jfk-1s.mp3").to_vec();
        let fault = file(mp3.clone()).clip(300, &CancellationToken::new()).unwrap_err();
        assert_eq!(fault.code, FaultCode::TooLarge);
        assert!(fault.message.contains("`sidetone transcribe FILE`"), "{fault}");
        assert!(file(mp3).clip(3_000, &CancellationToken::new()).is_ok());
        let pcm = crate::sound::to_wire(&[0.0; 16_000], 16_000);
        assert_eq!(
            Source::Pcm(pcm.clone()).clip(999, &CancellationToken::new()).unwrap_err().code,
            FaultCode::TooLarge
        );
        assert_eq!(Source::Pcm(pcm).clip(1_000, &CancellationToken::new()).unwrap().samples.len(), 16_000);
    }

    #[test]
    fn it_is_what_converting_the_whole_clip_gives() {
        let sound: Vec<f32> = (0..44_100_u16).map(|n| (f32::from(n) * 0.05).sin() * 0.5).collect();
        let bytes = wav_bytes(&sound, 44_100).unwrap();
        let at_once =
            resample(&crate::audio::Clip::decode(&bytes).unwrap().samples, 44_100, RECOGNIZER_RATE_HZ).unwrap();
        assert_eq!(file(bytes).clip(1_000, &CancellationToken::new()).unwrap().samples, at_once);
    }

    #[test]
    fn reading_ends_when_it_is_cancelled() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(silence(60).clip(600_000, &cancel).unwrap_err().code, FaultCode::Cancelled);
    }
}
