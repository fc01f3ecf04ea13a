//! Why a model can't be had or used.

use std::io;
use std::path::{Path, PathBuf};

use super::kind::ModelKind;

/// Why a model can't be had or used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A catalogue can't be read or makes no sense.
    #[error("the model catalogue {file} can't be used: {reason}")]
    Catalogue {
        /// The file, or what stands for the one that is compiled in.
        file: String,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The catalogue has no model of that name.
    #[error("no model is called '{name}'; there are: {known}. Others can be added in {file}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: String,
        /// The host's own catalogue.
        file: PathBuf,
    },
    /// The model is of another kind than what it is to be used for.
    #[error("model '{name}' is of kind {kind}, but {wanted} is needed here; of that kind there are: {known}")]
    WrongKind {
        /// The model.
        name: String,
        /// What it is.
        kind: ModelKind,
        /// What was needed.
        wanted: ModelKind,
        /// Those of the kind that was needed.
        known: String,
    },
    /// The model is not on this host, or not wholly.
    #[error("model '{name}' is not on this host ({} is missing): `sidetone models fetch {name}`", .file.display())]
    Missing {
        /// The model.
        name: String,
        /// A file that it lacks.
        file: PathBuf,
    },
    /// Another process is fetching the same model.
    #[error("model '{name}' is being fetched by another process: wait for that one to end")]
    Busy {
        /// The model.
        name: String,
    },
    /// A file on this host is not what the catalogue says.
    #[error(
        "{} does not have the hash that the catalogue gives (sha256 {expected}, but it has {found}): \
         `sidetone models fetch {name}` replaces it",
        .file.display()
    )]
    Checksum {
        /// The model.
        name: String,
        /// The file.
        file: PathBuf,
        /// The hash that the catalogue gives.
        expected: String,
        /// The hash that it has.
        found: String,
    },
    /// What the source gave is not what the catalogue says. It was thrown away.
    #[error(
        "what {origin} gave for model '{name}' is not what the catalogue says and was thrown away \
         ({file} should have sha256 {expected}, but has {found}). If fetching it again ends the same way, the source has \
         changed and is not to be trusted"
    )]
    Changed {
        /// The model.
        name: String,
        /// Where it came from.
        origin: String,
        /// The file, as it would be called on this host.
        file: String,
        /// The hash that the catalogue gives.
        expected: String,
        /// The hash that it has.
        found: String,
    },
    /// The source did not answer, or broke off.
    #[error(
        "{source_name} can't be downloaded: {reason}. Check the network and run this again; what has arrived is kept where the source allows"
    )]
    Network {
        /// What was downloaded.
        source_name: String,
        /// What went wrong.
        reason: String,
    },
    /// The source answered, but has not what the catalogue says.
    #[error("{source_name} does not have what the catalogue says: {reason}. Correct the entry of model '{name}'")]
    Source {
        /// The model.
        name: String,
        /// Where it was to come from.
        source_name: String,
        /// What is missing there.
        reason: String,
    },
    /// A program that is needed for fetching can't be used.
    #[error("fetching needs the program {}: {reason}. In a checkout `make setup` provides it; elsewhere install python3 and python3-pip", .program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why it can't be used.
        reason: String,
    },
    /// What was downloaded can't be turned into the form that the engine reads.
    #[error("model '{name}' was downloaded but can't be converted: {reason}")]
    Convert {
        /// The model.
        name: String,
        /// What the converter said.
        reason: String,
    },
    /// The disk is full.
    #[error("there is no room for model '{name}' in {}: it needs up to {needed_mb} MB while it is fetched. Make room and run this again", .folder.display())]
    DiskFull {
        /// The model.
        name: String,
        /// The folder of all models.
        folder: PathBuf,
        /// What fetching takes at most, in MB.
        needed_mb: u64,
    },
    /// A file can't be read or written.
    #[error("{what} {} failed: {source}", .path.display())]
    Io {
        /// What was done with it.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl ModelError {
    /// For `map_err`: that doing `what` with `path` failed.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }

    /// Whether the cause is a full disk.
    pub(super) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}
