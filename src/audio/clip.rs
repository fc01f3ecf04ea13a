//! Audio files: WAV, FLAC, Ogg Vorbis and MP3, by symphonia, as mono at their own rate.
//!
//! [`Clip`] is a short one in memory, [`ClipReader`] reads one of any length block by block. What is there of a file that
//! was cut short is used, and said to be [`Clip::truncated`].

use std::fs::File;
use std::io::{BufReader, Cursor, ErrorKind, Read as _};
use std::path::Path;

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;

use super::pcm::mix_down;
use super::wav_header::{Repaired, WavLength, repair_head};

/// The longest [`Clip`], in seconds; [`ClipReader`] has no limit.
pub const CLIP_MAX_S: u64 = 1800;
/// The note on a recording that was cut short.
pub const TRUNCATED: &str = "the file ends before its header says; what is there was transcribed";
/// Packets in a row that may be broken before a file is given up.
const BROKEN_PACKETS_MAX: u32 = 100;
/// What is read of a live stream before its format is known: its header, and no more than 64 ms of 16-bit PCM at 16 kHz.
const LIVE_HEAD_BYTES: usize = 2_048;

/// A short piece of audio, mono.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// The samples; full scale is 1.0. Files of floats may go beyond.
    pub samples: Vec<f32>,
    /// Sample rate, in Hz.
    pub rate_hz: u32,
    /// Channels of the file, which were mixed by their mean.
    pub channels: u16,
    /// Whether the file ends before its header says.
    pub truncated: bool,
}

/// Why a file can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// Nothing was given.
    #[error("there is no audio: 0 bytes were given; send a WAV, FLAC, Ogg Vorbis or MP3 file")]
    Empty,
    /// A file without a sample.
    #[error("the {format} file has a header and no sample; record it again")]
    NoSamples {
        /// The format that was found.
        format: &'static str,
    },
    /// No audio format at all.
    #[error(
        "{len} bytes that begin with {beginning} are no audio file that can be read; send WAV, FLAC, Ogg Vorbis or MP3, or say the rate and format of raw PCM"
    )]
    Unknown {
        /// Bytes given.
        len: u64,
        /// The first bytes, readable.
        beginning: String,
    },
    /// An audio format whose content is not.
    #[error(
        "the {format} file can't be decoded: {reason}; convert it to WAV or FLAC, for example by 'ffmpeg -i FILE out.wav'"
    )]
    Unsupported {
        /// The format that was found.
        format: &'static str,
        /// What there is no decoder for.
        reason: String,
    },
    /// A file that is damaged from the beginning.
    #[error("the {format} file is damaged: {reason}; record or convert it again")]
    Damaged {
        /// The format that was found.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Too long to be held in memory.
    #[error("the clip is longer than {CLIP_MAX_S} s; send it in parts, or as a stream")]
    TooLong,
    /// The file can't be opened or read.
    #[error("can't read {path}: {reason}; check the path and the permissions")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
}

impl Clip {
    /// Decodes a whole file.
    ///
    /// # Errors
    /// [`ClipError`], which says what to do; [`ClipError::TooLong`] beyond [`CLIP_MAX_S`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ClipError> {
        let mut reader = ClipReader::from_bytes(bytes.to_vec())?;
        let limit = u64::from(reader.rate_hz) * CLIP_MAX_S;
        if reader.total_frames.is_some_and(|frames| frames > limit) {
            return Err(ClipError::TooLong);
        }
        let mut samples = Vec::new();
        for block in reader.by_ref() {
            samples.extend(block?);
            if samples.len() as u64 > limit {
                return Err(ClipError::TooLong);
            }
        }
        if samples.is_empty() {
            return Err(ClipError::NoSamples { format: reader.name });
        }
        Ok(Self { samples, rate_hz: reader.rate_hz, channels: reader.channels, truncated: reader.truncated })
    }

    /// How long it is, in ms.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.samples.len() as u64 * 1000 / u64::from(self.rate_hz.max(1))
    }
}

/// Reads a file of any length, giving mono blocks of a few thousand samples at most formats' own size.
pub struct ClipReader {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    name: &'static str,
    rate_hz: u32,
    channels: u16,
    total_frames: Option<u64>,
    given_frames: u64,
    truncated: bool,
    /// It does not say where it ends, so it may end anywhere.
    endless: bool,
    ended: bool,
    interleaved: Vec<f32>,
}

impl std::fmt::Debug for ClipReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClipReader")
            .field("format", &self.name)
            .field("rate_hz", &self.rate_hz)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl ClipReader {
    /// Opens a file. Only its header is read.
    ///
    /// # Errors
    /// [`ClipError`], which says what to do.
    pub fn open(path: &Path) -> Result<Self, ClipError> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(|err| ClipError::Io { path: shown.clone(), reason: err.to_string() })?;
        Self::from_source(BufReader::new(file), &shown)
    }

    /// Reads a file that is in memory.
    ///
    /// # Errors
    /// [`ClipError`], which says what to do.
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self, ClipError> {
        Self::from_source(Cursor::new(bytes), "the bytes given")
    }

    /// Reads what is still being written, such as a recorder's output: what has come can be read at once.
    ///
    /// # Errors
    /// [`ClipError`], which says what to do.
    pub fn live<R>(mut source: R) -> Result<Self, ClipError>
    where
        R: std::io::Read + Send + Sync + 'static,
    {
        let mut head = Vec::with_capacity(LIVE_HEAD_BYTES);
        let read = source.by_ref().take(LIVE_HEAD_BYTES as u64).read_to_end(&mut head);
        read.map_err(|err| ClipError::Io { path: "the stream".to_owned(), reason: err.to_string() })?;
        if head.is_empty() {
            return Err(ClipError::Empty);
        }
        let name = format_name(&head);
        let beginning = head.get(..12).unwrap_or(&head).to_vec();
        let length = repair_head(&mut head);
        let whole = Cursor::new(head).chain(source);
        let stream = MediaSourceStream::new(Box::new(ReadOnlySource::new(whole)), Default::default());
        Self::from_stream(stream, name, &beginning, 0, length)
    }

    fn from_source<R>(mut source: R, shown: &str) -> Result<Self, ClipError>
    where
        R: std::io::Read + std::io::Seek + Send + Sync + 'static,
    {
        let io = |err: std::io::Error| ClipError::Io { path: shown.to_owned(), reason: err.to_string() };
        let beginning = beginning(&mut source).map_err(io)?;
        let name = format_name(&beginning);
        // symphonia looks for the end of an Ogg file first and refuses one whose end is missing, unless it can't look.
        let (source, length) = Repaired::new(source, name != Some("Ogg")).map_err(io)?;
        let len = source.byte_len().unwrap_or_default();
        if len == 0 {
            return Err(ClipError::Empty);
        }
        let stream = MediaSourceStream::new(Box::new(source), Default::default());
        Self::from_stream(stream, name, &beginning, len, length)
    }

    fn from_stream(
        stream: MediaSourceStream<'static>,
        name: Option<&'static str>,
        beginning: &[u8],
        len: u64,
        length: WavLength,
    ) -> Result<Self, ClipError> {
        if length == WavLength::Impossible {
            return Err(ClipError::Damaged {
                format: "WAV",
                reason: "its header describes no possible frame".to_owned(),
            });
        }
        let probe = || {
            let (hint, options, metadata) = (Hint::new(), FormatOptions::default(), MetadataOptions::default());
            symphonia::default::get_probe().probe(&hint, stream, options, metadata)
        };
        let format = guarded(name.unwrap_or("audio"), probe)?.map_err(|err| match (name, err) {
            (None, _) => ClipError::Unknown { len, beginning: readable(beginning) },
            (Some(format), SymphoniaError::Unsupported(reason)) if reason.contains("probe") => {
                ClipError::Damaged { format, reason: "nothing in it can be made out".to_owned() }
            }
            (Some(name), err) => refused(name, err),
        })?;
        // MP3 has no magic number of its own.
        let name = name.unwrap_or_else(|| long_name(format.format_info().short_name));
        let damaged = |reason: &str| ClipError::Damaged { format: name, reason: reason.to_owned() };
        let track = format.default_track(TrackType::Audio).ok_or(ClipError::NoSamples { format: name })?;
        let parameters = track
            .codec_params
            .as_ref()
            .and_then(|parameters| parameters.audio())
            .ok_or_else(|| damaged("its header does not describe the audio"))?;
        let rate_hz = parameters.sample_rate.filter(|&rate| rate > 0).ok_or_else(|| damaged("its rate is 0 Hz"))?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|err| refused(name, err))?;
        let channels = parameters.channels.as_ref().map_or(1, |channels| channels.count());
        Ok(Self {
            track: track.id,
            rate_hz,
            channels: u16::try_from(channels).unwrap_or(u16::MAX),
            total_frames: track.num_frames.filter(|_| length != WavLength::Endless),
            endless: length == WavLength::Endless,
            truncated: length == WavLength::Truncated,
            given_frames: 0,
            ended: false,
            interleaved: Vec::new(),
            name,
            decoder,
            format,
        })
    }

    /// Sample rate, in Hz.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Channels of the file, which are mixed by their mean.
    #[must_use]
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// How long it is, in ms, if the file tells.
    #[must_use]
    pub fn duration_ms(&self) -> Option<u64> {
        self.total_frames.map(|frames| frames.saturating_mul(1000) / u64::from(self.rate_hz))
    }

    /// The same, if it is no guess, as MP3 files often make one.
    #[must_use]
    pub fn exact_ms(&self) -> Option<u64> {
        self.duration_ms().filter(|_| self.is_exact())
    }

    fn is_exact(&self) -> bool {
        matches!(self.name, "WAV" | "FLAC")
    }

    /// Whether the file ends before its header says; known for certain when it has been read to its end.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    fn end(&mut self) {
        self.ended = true;
        self.truncated |= self.is_exact() && self.total_frames.is_some_and(|total| self.given_frames < total);
    }

    /// The next block that is not empty; `None` at the end.
    fn read(&mut self) -> Result<Option<Vec<f32>>, ClipError> {
        let mut broken = 0;
        while !self.ended {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(SymphoniaError::IoError(err)) if err.kind() == ErrorKind::UnexpectedEof => {
                    self.truncated |= !self.endless;
                    break;
                }
                // Another stream begins, as in chained Ogg files: one clip is one stream.
                Err(SymphoniaError::ResetRequired) => break,
                Err(err) if self.given_frames > 0 => {
                    tracing::debug!(%err, format = self.name, "the rest of the file is unreadable");
                    self.truncated = true;
                    break;
                }
                Err(err) => return Err(refused(self.name, err)),
            };
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(audio) => {
                    let channels = audio.spec().channels().count();
                    audio.copy_to_vec_interleaved(&mut self.interleaved);
                    let mut mono = Vec::with_capacity(audio.frames());
                    mix_down(&self.interleaved, channels, &mut mono);
                    self.given_frames += mono.len() as u64;
                    if !mono.is_empty() {
                        return Ok(Some(mono));
                    }
                }
                // One bad packet is a click, not the end.
                Err(SymphoniaError::DecodeError(_) | SymphoniaError::IoError(_)) if broken < BROKEN_PACKETS_MAX => {
                    broken += 1;
                }
                Err(_) if self.given_frames > 0 => {
                    self.truncated = true;
                    break;
                }
                Err(err) => return Err(refused(self.name, err)),
            }
        }
        self.end();
        Ok(None)
    }
}

impl Iterator for ClipReader {
    type Item = Result<Vec<f32>, ClipError>;

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.name;
        let read = guarded(name, || self.read()).and_then(|read| read);
        self.ended |= read.is_err();
        read.transpose()
    }
}

/// Decoders have been seen to overflow and to index out of bounds on files made to that end. A file must not take the
/// program with it.
fn guarded<T>(format: &'static str, work: impl FnOnce() -> T) -> Result<T, ClipError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .map_err(|_| ClipError::Damaged { format, reason: "its decoder gave up on it".to_owned() })
}

/// The first bytes, and back to the beginning.
fn beginning(source: &mut (impl std::io::Read + std::io::Seek)) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 12];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    bytes.truncate(filled);
    source.rewind()?;
    Ok(bytes)
}

fn format_name(beginning: &[u8]) -> Option<&'static str> {
    match beginning {
        [b'R', b'I', b'F', b'F', ..] | [b'R', b'F', b'6', b'4', ..] | [b'B', b'W', b'6', b'4', ..] => Some("WAV"),
        [b'f', b'L', b'a', b'C', ..] => Some("FLAC"),
        [b'O', b'g', b'g', b'S', ..] => Some("Ogg"),
        [b'I', b'D', b'3', ..] => Some("MP3"),
        _ => None,
    }
}

fn long_name(short_name: &str) -> &'static str {
    match short_name {
        "wave" => "WAV",
        "flac" => "FLAC",
        "ogg" => "Ogg",
        _ => "MP3",
    }
}

fn readable(beginning: &[u8]) -> String {
    format!("\"{}\"", beginning.escape_ascii())
}

fn refused(format: &'static str, err: SymphoniaError) -> ClipError {
    match err {
        SymphoniaError::Unsupported(reason) => ClipError::Unsupported { format, reason: reason.to_owned() },
        SymphoniaError::IoError(err) if err.kind() == ErrorKind::UnexpectedEof => {
            ClipError::Damaged { format, reason: "it ends within its header".to_owned() }
        }
        err => ClipError::Damaged { format, reason: err.to_string() },
    }
}

#[cfg(test)]
mod tests;
