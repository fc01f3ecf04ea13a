//! Talks as text files: each file in `tests/timelines/` is read, played to a [`Talk`](sidetone::turn::Talk), and must come
//! out as it is written. No clock, no JACK, no bus: a file takes well under a millisecond.
//!
//! The format is described in `tests/timelines/README.md`; [`read`] reads it, [`play`] plays it. A binary of its own, so
//! that one who writes timelines links neither the servers nor the fakes of the integration tests.
//!
//! `BLESS=1 cargo test --test timelines` writes into each file what comes of its events. Read the difference: it is what
//! the listener does, not what it should do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why"
)]

#[path = "timelines/play.rs"]
mod play;
#[path = "timelines/read.rs"]
mod read;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many there are at least.
const TIMELINES_MIN: usize = 35;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/timelines").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

/// Plays a file; gives what is wrong with it, each with its place.
fn check(path: &Path, text: &str) -> Vec<String> {
    let at = |wrong: read::Wrong| format!("{}:{}: {}", path.display(), wrong.line, wrong.what);
    match read::timeline(text) {
        Ok(timeline) => play::play(&timeline).into_iter().map(at).collect(),
        Err(wrong) => vec![at(wrong)],
    }
}

#[test]
fn talks_go_as_they_are_written() {
    let files = files("");
    assert!(files.len() >= TIMELINES_MIN, "{} timelines", files.len());
    let mut wrong = Vec::new();
    let mut slowest = (Duration::ZERO, PathBuf::new());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        if std::env::var_os("BLESS").is_some()
            && let Ok(timeline) = read::timeline(&text)
        {
            std::fs::write(&path, play::blessed(&text, &timeline)).unwrap();
        }
        let begun = Instant::now();
        wrong.extend(check(&path, &text));
        slowest = slowest.max((begun.elapsed(), path));
    }
    eprintln!("the slowest took {:?}: {}", slowest.0, slowest.1.display());
    assert!(wrong.is_empty(), "{} wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn a_file_that_can_not_be_says_where_and_what_would_do() {
    let files = files("bad");
    assert!(files.len() >= 10, "{} bad files", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let wanted = text.lines().next().unwrap().strip_prefix("# bad: ").unwrap();
        let wrong = check(&path, &text);
        let [wrong] = &wrong[..] else { panic!("{}: one thing is wrong with it, not {wrong:#?}", path.display()) };
        let said = wrong.strip_prefix(&format!("{}:", path.display())).unwrap();
        assert!(said.contains(wanted), "{}\nsays:  {said}\nshould: {wanted}", path.display());
    }
}

#[test]
fn a_file_is_blessed_into_one_that_holds() {
    let text = "# A stop is given.\n\n0.000 audio up\n0.500 say \"Hello.\"\n      nothing\n1.000 stop\n";
    let timeline = read::timeline(text).unwrap();
    let wrong = play::play(&timeline);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    let blessed = play::blessed(text, &timeline);
    assert_eq!(play::play(&read::timeline(&blessed).unwrap()), []);
    assert!(blessed.contains("      speak \"Hello.\"\n"), "{blessed}");
}
