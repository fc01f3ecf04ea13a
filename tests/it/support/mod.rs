//! What the tests share.

#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod booth;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod host;
pub mod jack;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod midi;
pub mod nats;
pub mod network;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod osc;
#[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
pub mod studio;

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sidetone::home::Home;

/// The folder of the model `name`, if set-up has fetched it. Otherwise the test is skipped, or fails where all is required.
pub fn model(name: &str, file: &str) -> Option<PathBuf> {
    let path = Home::find(None).models().join(name);
    need(path.join(file).is_file(), &format!("the model {name} ({})", path.display())).then_some(path)
}

/// Whether `there`; says what is missing, and fails if `SIDETONE_REQUIRE_ALL` is set.
pub fn need(there: bool, what: &str) -> bool {
    if !there {
        assert!(std::env::var_os("SIDETONE_REQUIRE_ALL").is_none(), "missing: {what}; run `make setup`");
        // Past the harness, which keeps what a test that passes prints to itself.
        let _ = writeln!(std::io::stderr(), "skipped, missing: {what}; run `make setup`");
    }
    there
}

/// The voice of the tests.
pub const VOICE: &str = "en_US-joe-medium";

/// Gives the folder `home` this checkout's programs and models. The voice there says a text the same way each time, so that
/// no test depends on how it comes out.
pub fn furnish(home: &Path) {
    let from = Home::find(None);
    for part in ["bin", "venv", "lib"] {
        let part = from.path().join(part);
        if part.exists() {
            symlink(part.canonicalize().unwrap(), home.join(part.file_name().unwrap())).unwrap();
        }
    }
    let models = home.join("models");
    std::fs::create_dir(&models).unwrap();
    for model in std::fs::read_dir(from.models()).into_iter().flatten().map(Result::unwrap) {
        let to = models.join(model.file_name());
        if model.file_name() == VOICE {
            steady_voice(&model.path(), &to);
        } else {
            symlink(model.path().canonicalize().unwrap(), to).unwrap();
        }
    }
}

/// Makes the folder `to` of a Piper voice that is that of `from`, but for the noise that makes it vary.
pub fn steady_voice(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let here = to.join(file.file_name());
        if file.file_name() == "voice.json" {
            let text = std::fs::read_to_string(file.path()).unwrap();
            std::fs::write(here, without_noise(&text)).unwrap();
        } else {
            symlink(file.path().canonicalize().unwrap(), here).unwrap();
        }
    }
}

/// A voice's description with its noise set to 0, as long as it was: a model's state is told by the sizes of its files.
fn without_noise(text: &str) -> String {
    let noise = regex::Regex::new(r#"("noise_(?:scale|w)": *)([0-9.]+)"#).unwrap();
    let zeros = |found: &regex::Captures<'_>| found[1].to_owned() + &found[2].replace(|c: char| c != '.', "0");
    let steady = noise.replace_all(text, zeros).into_owned();
    assert!(steady != text && steady.len() == text.len(), "{text}");
    steady
}
