//! The catalogue: what models there are, read from TOML and checked.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ModelError;
use super::kind::ModelKind;
use crate::home::Home;

const SHIPPED: &str = include_str!("../../config/models.toml");
/// The file beside a model's files that says what was found right of them; no file of a model may have its name.
pub(super) const RECORD: &str = "model.toml";

const SHIPPED_NAME: &str = "config/models.toml (compiled in)";

/// What turns the downloaded files into those that an engine reads; each is a script of `deploy/convert/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Converter {
    /// CTranslate2's Whisper format to whisper.cpp's: takes `model.bin` and `vocabulary.txt` or `.json`.
    #[serde(rename = "ct2_to_ggml")]
    Ct2ToGgml,
    /// A Piper voice to sherpa-onnx: takes `voice.onnx` and `voice.json`.
    PiperToSherpa,
}

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its name: letters, digits, `.`, `_` and `-`; also its folder's name.
    pub name: String,
    /// What it is for.
    pub kind: ModelKind,
    /// What it is, in a line.
    pub description: String,
    /// SPDX identifier of its licence.
    pub licence: String,
    /// The languages it knows (BCP 47); empty means any, or none.
    pub languages: Vec<String>,
    /// Size of all its files together, in bytes.
    pub size_bytes: u64,
    /// The Python wheel it comes in, as `name==version`; absent for files from the web.
    #[serde(default)]
    pub pip: Option<String>,
    /// What is taken from where: a file of the wheel or an address → the file name it gets.
    pub take: BTreeMap<String, String>,
    /// What is done with the files taken, if they are not the model yet.
    #[serde(default)]
    pub convert: Option<Converter>,
    /// The files that make the model, each with its SHA-256 in hexadecimal.
    pub sha256: BTreeMap<String, String>,
}

impl Model {
    /// Its folder on this host, whether it is there or not.
    #[must_use]
    pub fn dir(&self, home: &Home) -> PathBuf {
        home.models().join(&self.name)
    }

    /// The file that is the model proper, the first of [`ModelKind::files`].
    #[must_use]
    pub fn file(&self, home: &Home) -> PathBuf {
        self.dir(home).join(self.kind.files()[0])
    }

    /// Where it comes from, for people.
    #[must_use]
    pub fn origin(&self) -> String {
        match &self.pip {
            Some(wheel) => format!("wheel {wheel}"),
            None => self.take.keys().cloned().collect::<Vec<_>>().join(", "),
        }
    }

    /// Whether the entry makes sense, beyond what its types say.
    fn check(&self) -> Result<(), String> {
        if !is_file_name(&self.name) {
            return Err(format!("name = \"{}\": only letters, digits, '.', '_' and '-' may be in it", self.name));
        }
        if let Some(wheel) = &self.pip
            && !is_pinned(wheel)
        {
            return Err(format!("pip = \"{wheel}\": a wheel is named as name==version"));
        }
        if self.take.is_empty() {
            return Err("take is empty: it says which files are downloaded".to_owned());
        }
        for (from, to) in &self.take {
            if self.pip.is_none() && !from.starts_with("https://") && !from.starts_with("http://") {
                return Err(format!("take: \"{from}\" is no http address, and there is no pip to name a wheel"));
            }
            if !is_file_name(to) {
                return Err(format!("take: \"{to}\" is no plain file name"));
            }
        }
        for (file, hash) in &self.sha256 {
            if self.convert.is_none() && !self.take.values().any(|taken| taken == file) {
                return Err(format!("sha256: \"{file}\" is not among the files taken"));
            }
            if !is_file_name(file) || file == RECORD {
                return Err(format!("sha256: \"{file}\" can't be a model's file"));
            }
            if hash.len() != 64 || !hash.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
                return Err(format!("sha256: \"{file}\" needs 64 hexadecimal digits in lower case"));
            }
        }
        for file in self.kind.files() {
            if !self.sha256.contains_key(*file) {
                return Err(format!("sha256 lacks \"{file}\", which a model of kind {} must have", self.kind));
            }
        }
        Ok(())
    }
}

fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 100 && !name.starts_with(['.', '-']) && name.chars().all(plain)
}

fn is_pinned(wheel: &str) -> bool {
    wheel.split_once("==").is_some_and(|(name, version)| is_file_name(name) && is_file_name(version))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    #[serde(default)]
    model: Vec<Model>,
}

/// The models that exist: those that Sidetone ships an entry for, then the host's own.
#[derive(Debug, Clone)]
pub struct Catalogue {
    models: Vec<Model>,
    own_file: PathBuf,
}

impl Catalogue {
    /// Reads the shipped catalogue and the host's own `<home>/models.toml`, if there is one.
    ///
    /// # Errors
    /// [`ModelError::Catalogue`], naming the file and the key, when the host's own can't be read, has an unknown
    /// key or a value that makes no sense, or takes a name that is in use.
    pub fn load(home: &Home) -> Result<Self, ModelError> {
        let own_file = home.path().join("models.toml");
        let mut models = parse(SHIPPED, SHIPPED_NAME)?;
        let own = match std::fs::read_to_string(&own_file) {
            Ok(text) => parse(&text, &own_file.display().to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ModelError::Io { what: "reading", path: own_file, source }),
        };
        for model in own {
            if models.iter().any(|known| known.name == model.name) {
                let reason = format!("the name '{}' is taken; choose another", model.name);
                return Err(ModelError::Catalogue { file: own_file.display().to_string(), reason });
            }
            models.push(model);
        }
        Ok(Self { models, own_file })
    }

    /// All models, the shipped ones first.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter()
    }

    /// The model called `name`.
    ///
    /// # Errors
    /// [`ModelError::Unknown`], which names those that exist.
    pub fn find(&self, name: &str) -> Result<&Model, ModelError> {
        self.models.iter().find(|model| model.name == name).ok_or_else(|| ModelError::Unknown {
            name: name.to_owned(),
            known: names(self.models.iter()),
            file: self.own_file.clone(),
        })
    }

    /// The folder of the model `name`, which must be of kind `kind` and on this host. The files in it that
    /// [`ModelKind::files`] names are then there; their content was checked when they were fetched.
    ///
    /// # Errors
    /// [`ModelError::Unknown`], [`ModelError::WrongKind`] or [`ModelError::Missing`]; each says what to do.
    pub fn require(&self, home: &Home, name: &str, kind: ModelKind) -> Result<PathBuf, ModelError> {
        let model = self.find(name)?;
        if model.kind != kind {
            let known = names(self.models.iter().filter(|model| model.kind == kind));
            return Err(ModelError::WrongKind { name: name.to_owned(), kind: model.kind, wanted: kind, known });
        }
        let dir = model.dir(home);
        match missing_file(&dir, kind) {
            Some(file) => Err(ModelError::Missing { name: name.to_owned(), file }),
            None => Ok(dir),
        }
    }
}

/// The first of the files of a model of `kind` that `dir` lacks.
pub(super) fn missing_file(dir: &Path, kind: ModelKind) -> Option<PathBuf> {
    kind.files().iter().map(|file| dir.join(file)).find(|path| !path.is_file())
}

fn names<'a>(models: impl Iterator<Item = &'a Model>) -> String {
    models.map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn parse(text: &str, file: &str) -> Result<Vec<Model>, ModelError> {
    let fail = |reason: String| ModelError::Catalogue { file: file.to_owned(), reason };
    let CatalogueFile { model: models } =
        toml::from_str(text).map_err(|error| fail(error.to_string().trim_end().to_owned()))?;
    for (index, model) in models.iter().enumerate() {
        model.check().map_err(|reason| fail(format!("model '{}': {reason}", model.name)))?;
        if models.iter().take(index).any(|other| other.name == model.name) {
            return Err(fail(format!("model '{}' is there twice", model.name)));
        }
    }
    Ok(models)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

    fn entry(extra: &str) -> String {
        format!(
            "[[model]]\nname = 'own'\nkind = 'gguf'\ndescription = ''\nlicence = 'MIT'\nlanguages = []\nsize_bytes = 1\n\
             take = {{ 'http://host/m' = 'model.gguf' }}\nsha256 = {{ 'model.gguf' = '{HASH}' }}\n{extra}\n"
        )
    }

    fn load_with(own: &str) -> (tempfile::TempDir, Home, Result<Catalogue, ModelError>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("models.toml"), own).unwrap();
        let home = Home::find(Some(dir.path()));
        let catalogue = Catalogue::load(&home);
        (dir, home, catalogue)
    }

    #[test]
    fn what_is_shipped_is_sound_and_complete() {
        let models = parse(SHIPPED, SHIPPED_NAME).unwrap();
        for kind in [ModelKind::Whisper, ModelKind::Piper, ModelKind::Gguf, ModelKind::Silero] {
            assert!(models.iter().any(|model| model.kind == kind), "no {kind} model is shipped");
        }
    }

    #[test]
    fn a_hosts_own_models_are_added() {
        let (_dir, home, catalogue) = load_with(&entry(""));
        let catalogue = catalogue.unwrap();
        assert_eq!(catalogue.find("own").unwrap().file(&home), home.models().join("own/model.gguf"));
        assert!(catalogue.find("whisper-tiny.en").is_ok());
    }

    #[test]
    fn every_mistake_is_named_with_file_and_key() {
        let cases = [
            (entry("sise = 2"), "sise"),
            ("modle = []".to_owned(), "modle"),
            (entry("").replace("'own'", "'../own'"), "name = \"../own\""),
            (entry("").replace("'own'", "'silero-vad'"), "'silero-vad' is taken"),
            (entry("").repeat(2), "'own' is there twice"),
            (entry("").replace("'gguf'", "'ggfu'"), "ggfu"),
            (entry("").replace("'gguf'", "'piper'"), "sha256 lacks \"model.onnx\""),
            (entry("").replace(HASH, "abc"), "64 hexadecimal digits"),
            (entry("").replace("http://", "ftp://"), "ftp://host/m"),
            (entry("").replace("= 'model.gguf'", "= '/etc/passwd'"), "/etc/passwd"),
            (entry("").replace("= 'model.gguf'", "= 'other'"), "\"model.gguf\" is not among"),
            (entry("pip = 'thing'"), "name==version"),
            (entry("pip = '--index-url==x'"), "name==version"),
            (entry("convert = 'magic'"), "magic"),
        ];
        for (own, expected) in cases {
            let (dir, _home, catalogue) = load_with(&own);
            let message = catalogue.unwrap_err().to_string();
            assert!(message.contains(expected), "{expected} is not in: {message}");
            assert!(message.contains(&dir.path().join("models.toml").display().to_string()), "no file in: {message}");
        }
    }

    #[test]
    fn a_model_is_required_by_name_and_kind() {
        let (_dir, home, catalogue) = load_with(&entry(""));
        let catalogue = catalogue.unwrap();
        let message = |name, kind| catalogue.require(&home, name, kind).unwrap_err().to_string();
        assert!(message("own", ModelKind::Gguf).contains("`sidetone models fetch own`"));
        assert!(message("own", ModelKind::Whisper).contains("kind gguf"));
        assert!(message("own", ModelKind::Whisper).contains("whisper-tiny.en"));
        assert!(message("won", ModelKind::Gguf).contains("own"));

        let model = catalogue.find("own").unwrap();
        std::fs::create_dir_all(model.dir(&home)).unwrap();
        std::fs::write(model.file(&home), "x").unwrap();
        assert_eq!(catalogue.require(&home, "own", ModelKind::Gguf).unwrap(), model.dir(&home));
    }
}
