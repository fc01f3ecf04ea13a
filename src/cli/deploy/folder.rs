//! A folder that this command writes: known from other folders by its README, secrets for their owner alone.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::cli::contract::drift;
use crate::secret::Secret;

/// A file that is for its owner alone, or a certificate that goes with one.
#[derive(Debug)]
pub(super) struct Made {
    /// Its path in the folder.
    pub file: String,
    /// Its text.
    pub text: Secret,
    /// Whether only the owner may read it.
    pub private: bool,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens a folder that is not there yet, is empty, or has a `readme` that begins with `mark`.
    pub(super) fn open(path: &Path, readme: &str, mark: &str) -> anyhow::Result<Self> {
        let ours = std::fs::read_to_string(path.join(readme)).is_ok_and(|text| text.starts_with(mark));
        let free = match std::fs::read_dir(path) {
            // A list of hosts may lie there already.
            Ok(entries) => {
                entries.filter_map(Result::ok).all(|entry| entry.path().extension() == Some("toml".as_ref()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
        };
        if !ours && !free {
            bail!(
                "{} holds other files, which stay as they are: name a new or empty folder with --out, or one that this command has written",
                path.display()
            );
        }
        Ok(Self(path.to_owned()))
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Writes what differs; gives what there is to say.
    pub(super) fn write(&self, texts: &BTreeMap<String, String>, made: &[Made]) -> anyhow::Result<Vec<String>> {
        let mut notes = Vec::new();
        for (file, text) in texts {
            let path = self.path(file);
            if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            notes.push(format!("{}: written", path.display()));
            self.put(file, text, 0o644)?;
        }
        for Made { file, text, private } in made {
            let (mode, who) = if *private { (0o600, ", for its owner alone") } else { (0o644, "") };
            self.put(file, text.expose(), mode)?;
            notes.push(format!("{}: made{who}", self.path(file).display()));
        }
        if notes.is_empty() {
            notes.push(format!("{}: all as it should be", self.0.display()));
        }
        Ok(notes)
    }

    fn put(&self, file: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.path(file);
        let parent = path.parent().unwrap_or(&self.0);
        // In the folders of machines are keys.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(if parent == self.0 { 0o755 } else { 0o700 })
            .create(parent)
            .and_then(|()| {
                let mut new =
                    tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(parent)?;
                new.write_all(text.as_bytes())?;
                new.as_file().set_permissions(Permissions::from_mode(mode))?;
                new.as_file().sync_all()?;
                new.persist(&path).map_err(|error| error.error)?;
                Ok(())
            })
            .with_context(|| format!("can't write {}", path.display()))
    }
}

/// Says that the folder is as it should be, or fails with how it differs.
pub(super) fn drift_error(
    folder: &Folder,
    texts: &BTreeMap<String, String>,
    todo: &str,
) -> anyhow::Result<Vec<String>> {
    let drift = drift(&folder.0, texts).with_context(|| format!("can't read {}", folder.0.display()))?;
    // All other files are keys and certificates.
    let drift: Vec<_> = drift.iter().filter(|drift| texts.contains_key(drift.file())).collect();
    if drift.is_empty() {
        return Ok(vec![format!("{}: {} files, all as they should be", folder.0.display(), texts.len())]);
    }
    let list: String = drift.iter().map(|drift| format!("\n  {drift}")).collect();
    bail!("{} is not what it should be; {todo}:{list}", folder.0.display())
}
