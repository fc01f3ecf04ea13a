//! What `sidetone transcribe` takes.

use std::path::{Path, PathBuf};

use crate::audio::ClipError;
use crate::bus::subject::Capability;
use crate::fabric;
use crate::router::Need;

/// Transcribe recordings of any length (WAV, FLAC, Ogg Vorbis, MP3) by a running host
#[derive(Debug, clap::Args)]
pub struct TranscribeArgs {
    /// The recordings; - for standard input
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Print one JSON object a file, with the time of each segment, instead of the text as it comes
    #[arg(long)]
    pub(super) json: bool,
    /// The language that is spoken, such as en [default: the host's setting]
    #[arg(long, value_name = "TAG")]
    pub(super) language: Option<String>,
    /// The model [default: the host's setting]
    #[arg(long, value_name = "NAME")]
    pub(super) model: Option<String>,
    /// The host that is to do it [default: anyone who can]
    #[arg(long, value_name = "NAME")]
    pub(super) node: Option<String>,
    /// Print what is said while it is said: for what is being recorded, as in `arecord -q -f S16_LE -r 16000 | sidetone
    /// transcribe --live -`. Ctrl-C ends it
    #[arg(long)]
    pub(super) live: bool,
    /// Put the recordings into the queue of work that may wait, and print their jobs' ids: hosts do it when they have
    /// nothing better to do. `sidetone jobs` shows which wait, run and are done, and prints the text
    #[arg(long, conflicts_with = "live")]
    pub(super) batch: bool,
    /// With --live: the input is raw 16-bit mono PCM of this rate, without a header
    #[arg(long, value_name = "HZ", requires = "live")]
    pub(super) raw: Option<u32>,
}

impl TranscribeArgs {
    /// What a host must offer.
    pub(super) fn need(&self) -> Need {
        Need {
            model: self.model.clone().unwrap_or_default(),
            language: self.language.clone().unwrap_or_default(),
            ..fabric::need(Capability::Stt)
        }
    }
}

/// The error with the file's name, unless it has it.
pub(super) fn named(error: anyhow::Error, file: &Path) -> anyhow::Error {
    let has_it = matches!(error.downcast_ref::<ClipError>(), Some(ClipError::Io { .. }));
    if has_it { error } else { error.context(file.display().to_string()) }
}
