//! `sidetone contract`: writes `subjects/`, or says where it differs from the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::print;
use crate::bus::contract::{self, README};

/// Write the contract of the bus: a table, AsyncAPI, JSON Schemas and examples.
#[derive(Debug, Args)]
pub struct ContractArgs {
    /// The folder; it is new, empty, or holds an earlier contract
    #[arg(default_value = "subjects", value_name = "FOLDER")]
    folder: PathBuf,
    /// Write nothing; fail if the folder differs from what this program speaks
    #[arg(long)]
    check: bool,
}

/// Writes or checks the folder that `args` name.
///
/// # Errors
/// The folder differs (with `--check`), is not ours, or can't be read or written.
pub fn run(args: &ContractArgs) -> anyhow::Result<()> {
    print::lines(&apply(args)?)
}

/// Writes or checks; gives what there is to say.
fn apply(args: &ContractArgs) -> anyhow::Result<Vec<String>> {
    let folder = &args.folder;
    let files = contract::render()?;
    let drift = drift(folder, &files).with_context(|| format!("can't read {}", folder.display()))?;
    if drift.is_empty() {
        return Ok(vec![format!("{}: {} files, all as they should be", folder.display(), files.len())]);
    }
    if args.check {
        let list: String = drift.iter().map(|drift| format!("\n  {drift}")).collect();
        bail!("{} is not what this program speaks; `make contract` mends it:{list}", folder.display());
    }
    if !is_ours(folder)? {
        bail!(
            "{} holds other files than a contract: name a new or empty folder, or one that has a {README} of a contract",
            folder.display()
        );
    }
    for drift in &drift {
        let path = folder.join(drift.file());
        match drift {
            Drift::Missing(file) | Drift::Differs(file) => {
                let parent = path.parent().unwrap_or(folder);
                let text = files.get(file).map_or("", String::as_str);
                std::fs::create_dir_all(parent)
                    .and_then(|()| std::fs::write(&path, text))
                    .with_context(|| format!("can't write {}", path.display()))?;
            }
            Drift::Stale(_) => {
                std::fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
            }
        }
    }
    Ok(drift.iter().map(|drift| format!("{}/{drift}", folder.display())).collect())
}

/// How one file differs from what it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// It is not there.
    Missing(String),
    /// It says something else.
    Differs(String),
    /// It should not be there.
    Stale(String),
}

impl Drift {
    /// The file, from the folder.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::Missing(file) | Self::Differs(file) | Self::Stale(file) => file,
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, what) = match self {
            Self::Missing(file) => (file, "new"),
            Self::Differs(file) => (file, "changed"),
            Self::Stale(file) => (file, "no longer part of it"),
        };
        write!(f, "{file}: {what}")
    }
}

/// How `folder` differs from `files`; a folder that is not there lacks all of them.
///
/// # Errors
/// A file that is there can't be read.
pub fn drift(folder: &Path, files: &BTreeMap<String, String>) -> std::io::Result<BTreeSet<Drift>> {
    let mut drift = BTreeSet::new();
    for (file, text) in files {
        match std::fs::read(folder.join(file)) {
            Ok(there) if there == text.as_bytes() => {}
            Ok(_) => drop(drift.insert(Drift::Differs(file.clone()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                drift.insert(Drift::Missing(file.clone()));
            }
            Err(error) => return Err(error),
        }
    }
    let folders: BTreeSet<_> = files.keys().filter_map(|file| Some(file.split_once('/')?.0)).collect();
    for inner in folders.into_iter().filter(|inner| folder.join(inner).is_dir()) {
        for entry in std::fs::read_dir(folder.join(inner))? {
            let file = format!("{inner}/{}", entry?.file_name().to_string_lossy());
            if !files.contains_key(&file) {
                drift.insert(Drift::Stale(file));
            }
        }
    }
    Ok(drift)
}

/// Whether `folder` may be written to and cleared of what is stale.
fn is_ours(folder: &Path) -> anyhow::Result<bool> {
    if let Ok(text) = std::fs::read_to_string(folder.join(README)) {
        return Ok(text.starts_with("<!-- Written by `make contract`"));
    }
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("can't read {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path, check: bool) -> ContractArgs {
        ContractArgs { folder: folder.to_owned(), check }
    }

    #[test]
    fn what_is_written_is_as_it_should_be_until_somebody_changes_it() {
        let folder = tempfile::tempdir().unwrap();
        let subjects = folder.path().join("subjects");
        let error = apply(&args(&subjects, true)).unwrap_err().to_string();
        assert!(error.contains("make contract") && error.contains("README.md: new"), "{error}");
        apply(&args(&subjects, false)).unwrap();
        apply(&args(&subjects, true)).unwrap();

        std::fs::write(subjects.join("examples/fault.json"), "{}").unwrap();
        std::fs::write(subjects.join("schemas/gone.json"), "{}").unwrap();
        let error = apply(&args(&subjects, true)).unwrap_err().to_string();
        assert!(error.contains("examples/fault.json: changed"), "{error}");
        assert!(error.contains("schemas/gone.json: no longer part of it"), "{error}");
        apply(&args(&subjects, false)).unwrap();
        apply(&args(&subjects, true)).unwrap();
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(README), "# My own").unwrap();
        let error = apply(&args(folder.path(), false)).unwrap_err().to_string();
        assert!(error.contains("other files"), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join(README)).unwrap(), "# My own");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
