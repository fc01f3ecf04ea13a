//! The models on this host: the record beside a model's files, its state, and checking them again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::catalogue::{Model, RECORD, missing_file};
use super::error::ModelError;
use crate::home::Home;

/// How much of a file is hashed at a time.
const HASH_BLOCK_BYTES: usize = 1 << 20;

/// What was found to be right when a model was fetched or last verified.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    name: String,
    origin: String,
    files: BTreeMap<String, RecordedFile>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct RecordedFile {
    sha256: String,
    size_bytes: u64,
}

/// The state of a model on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// It is here, and was found to be what the catalogue says.
    Ready,
    /// Its files are here, but they have changed since, are of another version, or were put there by hand.
    Unverified,
    /// It is not here, or not wholly.
    Missing,
}

/// The state of `model` on this host, by its record and the sizes of its files; nothing is hashed.
#[must_use]
pub fn state(home: &Home, model: &Model) -> ModelState {
    let dir = model.dir(home);
    if missing_file(&dir, model.kind).is_some() {
        return ModelState::Missing;
    }
    let recorded = fs::read_to_string(dir.join(RECORD)).ok().and_then(|text| toml::from_str::<Record>(&text).ok());
    match recorded {
        Some(recorded) if current(&dir, model).is_ok_and(|now| now == recorded) => ModelState::Ready,
        _ => ModelState::Unverified,
    }
}

/// Hashes the files of `model` on this host and, if all is well, records that. Blocks for about a second per GB.
///
/// # Errors
/// [`ModelError::Missing`], [`ModelError::Checksum`], or [`ModelError::Io`] when a file can't be read.
pub fn verify(home: &Home, model: &Model) -> Result<(), ModelError> {
    let dir = model.dir(home);
    check_files(&dir, model)?;
    write_record(&dir, model)
}

/// Compares the hash of each file of `model` in `dir` with the catalogue's.
pub(super) fn check_files(dir: &Path, model: &Model) -> Result<(), ModelError> {
    for (file, expected) in &model.sha256 {
        let path = dir.join(file);
        let found = match hash(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ModelError::Missing { name: model.name.clone(), file: path });
            }
            Err(error) => return Err(ModelError::io("reading", &path)(error)),
        };
        if found != *expected {
            return Err(ModelError::Checksum {
                name: model.name.clone(),
                file: path,
                expected: expected.clone(),
                found,
            });
        }
    }
    Ok(())
}

/// Writes the record of `model`, whose files in `dir` were just checked.
pub(super) fn write_record(dir: &Path, model: &Model) -> Result<(), ModelError> {
    let path = dir.join(RECORD);
    let text = current(dir, model)
        .and_then(|record| toml::to_string(&record).map_err(io::Error::other))
        .map_err(ModelError::io("recording", &path))?;
    fs::write(&path, text).map_err(ModelError::io("writing", &path))
}

/// The record as it would be if the files in `dir` had the catalogue's hashes.
fn current(dir: &Path, model: &Model) -> io::Result<Record> {
    let files = model.sha256.iter().map(|(file, sha256)| {
        let size_bytes = fs::metadata(dir.join(file))?.len();
        Ok((file.clone(), RecordedFile { sha256: sha256.clone(), size_bytes }))
    });
    Ok(Record { name: model.name.clone(), origin: model.origin(), files: files.collect::<io::Result<_>>()? })
}

/// The SHA-256 of a file, in lower-case hexadecimal.
fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; HASH_BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::models::ModelKind;

    /// A model of one file with this content, from `url`.
    pub(in crate::models) fn model(url: &str, content: &[u8]) -> Model {
        let sha256: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        Model {
            name: "tiny".to_owned(),
            kind: ModelKind::Gguf,
            description: String::new(),
            licence: "MIT".to_owned(),
            languages: Vec::new(),
            size_bytes: content.len() as u64,
            pip: None,
            take: BTreeMap::from([(url.to_owned(), "model.gguf".to_owned())]),
            convert: None,
            sha256: BTreeMap::from([("model.gguf".to_owned(), sha256)]),
        }
    }

    #[test]
    fn the_state_follows_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path()));
        let mut model = model("http://host/", b"weights");
        assert_eq!(state(&home, &model), ModelState::Missing);
        assert!(matches!(verify(&home, &model), Err(ModelError::Missing { .. })));

        fs::create_dir_all(model.dir(&home)).unwrap();
        fs::write(model.file(&home), "weights").unwrap();
        assert_eq!(state(&home, &model), ModelState::Unverified);
        verify(&home, &model).unwrap();
        assert_eq!(state(&home, &model), ModelState::Ready);

        fs::write(model.file(&home), "weight").unwrap();
        assert_eq!(state(&home, &model), ModelState::Unverified);
        let error = verify(&home, &model).unwrap_err();
        assert!(error.to_string().contains("`sidetone models fetch tiny`"), "{error}");

        fs::write(model.file(&home), "weights").unwrap();
        model.sha256.insert("model.gguf".to_owned(), "0".repeat(64));
        assert_eq!(state(&home, &model), ModelState::Unverified, "the catalogue has moved on");
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-4, the example 'abc'.
        assert_eq!(hash(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
