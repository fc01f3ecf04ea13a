//! Makes WAV headers say what is there.
//!
//! A WAV that was written to a pipe has a length of 0 or of the largest number in its header, one that was cut short
//! has a length beyond its end, and one over 4 GiB calls itself RF64. All hold good audio, and decoders refuse them for
//! their headers. [`Repaired`] is the same stream with the few bytes of the header that are wrong replaced as they are read.
//!
//! Formats: Microsoft's 'Multimedia Programming Interface and Data Specifications 1.0' (RIFF), EBU Tech 3306 (RF64).

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

/// Lengths that programs write when they do not know; ffmpeg, sox and GStreamer use one of these.
const UNKNOWN: [u32; 5] = [0, u32::MAX, 0x7FFF_FFFF, 0x8000_0000, 0x7FFF_F000];
/// What symphonia takes as 'to the end of the stream'.
const TO_THE_END: u32 = u32::MAX;

/// What the header said against what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WavLength {
    /// No WAV at all.
    NotWav,
    /// As said, or unknown to the writer and as far as the stream goes.
    Fits,
    /// Unknown to the writer, and where the stream ends is not known yet.
    Endless,
    /// The end is missing.
    Truncated,
    /// The header describes frames that no file can have.
    Impossible,
}

/// A stream with a repaired header.
pub(super) struct Repaired<R> {
    inner: R,
    position: u64,
    len: u64,
    seekable: bool,
    patches: Patches,
}

/// Where other bytes stand than in the stream.
type Patches = Vec<(u64, [u8; 4])>;

impl<R: Read + Seek> Repaired<R> {
    /// Looks through the chunks up to the samples, and goes back to the beginning. If not `seekable` the decoder is told
    /// that it can't seek.
    pub(super) fn new(mut inner: R, seekable: bool) -> io::Result<(Self, WavLength)> {
        let len = inner.seek(SeekFrom::End(0))?;
        let (patches, length) = examine(&mut inner, len)?;
        inner.seek(SeekFrom::Start(0))?;
        Ok((Self { inner, position: 0, len, seekable, patches }, length))
    }
}

/// Repairs the first bytes of a WAV whose end is not known, in place. Anything else stays as it is.
pub(super) fn repair_head(head: &mut [u8]) -> WavLength {
    let Ok((patches, length)) = examine(&mut Cursor::new(&*head), u64::MAX) else { return WavLength::NotWav };
    for (at, bytes) in patches {
        let place = usize::try_from(at).ok().and_then(|at| head.get_mut(at..)?.get_mut(..bytes.len()));
        if let Some(place) = place {
            place.copy_from_slice(&bytes);
        }
    }
    length
}

fn examine(inner: &mut (impl Read + Seek), len: u64) -> io::Result<(Patches, WavLength)> {
    let not_wav = (Vec::new(), WavLength::NotWav);
    inner.seek(SeekFrom::Start(0))?;
    let Some([id, _, form]) = words(inner)? else { return Ok(not_wav) };
    if !matches!(&id, b"RIFF" | b"RF64" | b"BW64") || &form != b"WAVE" {
        return Ok(not_wav);
    }
    // The outer length adds nothing, and a wrong one only stands in the way.
    let mut patches = vec![(0, *b"RIFF"), (4, TO_THE_END.to_le_bytes())];
    let mut block_align = 1;
    let mut start = 12;
    loop {
        inner.seek(SeekFrom::Start(start))?;
        let Some([id, size]) = words(inner)? else { return Ok((patches, WavLength::Fits)) };
        let size = u32::from_le_bytes(size);
        let body = start + 8;
        if &id == b"fmt "
            && let Some([kind, _, _, aligned]) = words(inner)?
        {
            block_align = u64::from(u16::from_le_bytes([aligned[0], aligned[1]])).max(1);
            let channels = u32::from(u16::from_le_bytes([kind[2], kind[3]]));
            let bits = u32::from(u16::from_le_bytes([aligned[2], aligned[3]]));
            // symphonia multiplies these in 16 bits.
            if channels == 0 || channels * bits > u32::from(u16::MAX) {
                return Ok((patches, WavLength::Impossible));
            }
        }
        if &id == b"data" {
            let available = len.saturating_sub(body);
            let unknown = UNKNOWN.contains(&size);
            if unknown || u64::from(size) > available {
                let whole_frames = available - available % block_align;
                let there = u32::try_from(whole_frames).unwrap_or(TO_THE_END);
                patches.push((start + 4, there.to_le_bytes()));
            }
            let length = if !unknown && u64::from(size) > available {
                WavLength::Truncated
            } else if unknown && available >= u64::from(TO_THE_END) {
                WavLength::Endless
            } else {
                WavLength::Fits
            };
            return Ok((patches, length));
        }
        // Chunks are padded to an even length.
        start = body + u64::from(size) + u64::from(size % 2);
    }
}

/// The next words of 4 bytes; `None` at the end of the stream.
fn words<const N: usize>(inner: &mut impl Read) -> io::Result<Option<[[u8; 4]; N]>> {
    let mut words = [[0; 4]; N];
    match inner.read_exact(words.as_flattened_mut()) {
        Ok(()) => Ok(Some(words)),
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(err) => Err(err),
    }
}

impl<R: Read> Read for Repaired<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let (from, to) = (self.position, self.position + read as u64);
        for &(at, bytes) in &self.patches {
            for (place, byte) in (at..).zip(bytes) {
                if (from..to).contains(&place)
                    && let Some(target) = buffer.get_mut((place - from) as usize)
                {
                    *target = byte;
                }
            }
        }
        self.position = to;
        Ok(read)
    }
}

impl<R: Seek> Seek for Repaired<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.inner.seek(to)?;
        Ok(self.position)
    }
}

impl<R: Read + Seek + Send + Sync> MediaSource for Repaired<R> {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.len)
    }
}
