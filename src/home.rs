//! Where a host keeps its files: models, the embedded NATS server's store, sockets and logs.

use std::path::{Path, PathBuf};

/// The folder that holds everything Sidetone keeps on this host.
///
/// It is `--home` or `$SIDETONE_HOME` if given, else the nearest folder `.sidetone` at or above the working
/// directory (a checkout has one), else `$XDG_DATA_HOME/sidetone`, else `~/.local/share/sidetone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// Finds the home folder; `given` is the user's own choice. The folder need not exist yet.
    #[must_use]
    pub fn find(given: Option<&Path>) -> Self {
        if let Some(path) = given {
            return Self(std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
        }
        let checkout = std::env::current_dir()
            .ok()
            .and_then(|cwd| cwd.ancestors().map(|dir| dir.join(".sidetone")).find(|dir| dir.is_dir()));
        checkout.map_or_else(|| Self(data_dir().join("sidetone")), Self)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Models, a folder each, named as in the catalogue.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// Programs that set-up put here: `nats-server`, `nats`, `ollama`.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// The Python environment that set-up made (llama.cpp's server, model conversion).
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.0.join("venv/bin/python")
    }

    /// State of running parts, such as the embedded NATS server's store, one folder a part.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The program `name`: from [`Home::bin`], else from the Python environment, else left to `$PATH`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        [self.bin().join(name), self.0.join("venv/bin").join(name)]
            .into_iter()
            .find(|path| path.is_file())
            .unwrap_or_else(|| PathBuf::from(name))
    }
}

fn data_dir() -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
}
