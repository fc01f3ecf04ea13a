//! The host itself: settings, build, home folder, models, commands.

use std::path::Path;
use std::sync::Arc;

use indicatif::DecimalBytes;
use rustix::fs::statvfs;

use super::case::{Case, Row};
use crate::models::{Catalogue, ModelKind, ModelState, state};
use crate::role::{self, agent::command_files};

/// Below this much free space a session may not be kept.
const DISK_FAIL_BYTES: u64 = 100_000_000;
/// Below this much free space models can't be fetched.
const DISK_WARN_BYTES: u64 = 2_000_000_000;

/// The configuration files, and the roles.
pub async fn settings(case: Arc<Case>) -> Vec<Row> {
    let what = "settings";
    if let Some(error) = &case.config_error {
        return vec![Row::fail(what, error, "correct it; what follows goes by the defaults")];
    }
    let files = case.files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let from = if files.is_empty() { "the defaults".to_owned() } else { files.join(", ") };
    let hints = case.config.hints.iter().map(|hint| {
        let (old, now) = hint.split_once("; ").unwrap_or((hint, ""));
        Row::warn(what, old, now)
    });
    let roles = match role::find(&case.config.node.roles) {
        Ok(rows) => {
            let roles = rows.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
            Row::ok(what, format!("{from}; host {} with roles {roles}", case.config.node_name()))
        }
        Err(why) => Row::fail(what, format!("node.roles: {why}"), "correct it"),
    };
    std::iter::once(roles).chain(hints).collect()
}

/// What is compiled in.
pub async fn features(_: Arc<Case>) -> Vec<Row> {
    let with = ["whisper", "sherpa", "fake", "rt-check"].into_iter().filter(|feature| compiled_in(feature));
    let detail = format!("sidetone {} with {}", env!("CARGO_PKG_VERSION"), with.collect::<Vec<_>>().join(", "));
    vec![Row::ok("build", detail)]
}

/// Whether a cargo feature is.
fn compiled_in(feature: &str) -> bool {
    match feature {
        "whisper" => cfg!(feature = "whisper"),
        "sherpa" => cfg!(feature = "sherpa"),
        "fake" => cfg!(feature = "fake"),
        "rt-check" => cfg!(feature = "rt-check"),
        _ => false,
    }
}

/// Whether the home folder can be written to, and has room.
pub async fn home(case: Arc<Case>) -> Vec<Row> {
    let path = case.home.path().to_owned();
    let looked = tokio::task::spawn_blocking(move || folder(&path)).await;
    vec![looked.unwrap_or_else(|error| Row::fail("home", error.to_string(), "look at the disk"))]
}

fn folder(path: &Path) -> Row {
    let what = "home";
    let shown = path.display();
    // A folder that is not there yet is made in the nearest one that is.
    let Some(there) = path.ancestors().find(|path| path.is_dir()) else {
        return Row::fail(what, format!("{shown} is in no folder"), "choose another with --home or $SIDETONE_HOME");
    };
    if let Err(error) = tempfile::tempfile_in(there) {
        let detail = format!("{} can't be written to ({error})", there.display());
        return Row::fail(what, detail, "give this user the right, or choose another with --home or $SIDETONE_HOME");
    }
    let free = match statvfs(there) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => return Row::warn(what, format!("{shown}, free space unknown ({error})"), "look at the disk"),
    };
    room(&format!("{shown}, {} free", DecimalBytes(free)), free)
}

fn room(detail: &str, free_bytes: u64) -> Row {
    if free_bytes < DISK_FAIL_BYTES {
        Row::fail("home", detail, "make room: sessions can't be kept")
    } else if free_bytes < DISK_WARN_BYTES {
        Row::warn("home", detail, "make room: models may not fit")
    } else {
        Row::ok("home", detail)
    }
}

/// The model that looks for the wake phrase, and the VAD's.
pub async fn wake_model(case: Arc<Case>) -> Vec<Row> {
    let voice = &case.config.voice;
    let mut rows = vec![model(&case, "wake model", &voice.wake_model, ModelKind::Whisper)];
    if voice.vad == "silero" {
        rows.push(model(&case, "VAD model", "silero-vad", ModelKind::Silero));
    }
    rows
}

/// A model of the catalogue.
pub fn model(case: &Case, what: &str, name: &str, kind: ModelKind) -> Row {
    let catalogue = match Catalogue::load(&case.home) {
        Ok(catalogue) => catalogue,
        Err(error) => return Row::fail(what, error.to_string(), "correct it"),
    };
    if let Err(error) = catalogue.require(&case.home, name, kind) {
        return Row::fail(what, error.to_string(), format!("`sidetone models fetch {name}`, or choose another"));
    }
    match catalogue.find(name).map(|model| state(&case.home, model)) {
        Ok(ModelState::Ready) => Row::ok(what, name),
        _ => Row::warn(what, format!("{name} is not what was fetched"), format!("`sidetone models verify {name}`")),
    }
}

/// The files of commands.
pub async fn commands(case: Arc<Case>) -> Vec<Row> {
    let sources = case.config.agent.commands.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        command_files::load(&sources).map(|set| set.commands().len()).map_err(|error| error.to_string())
    });
    vec![match loaded.await.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(count) => Row::ok("commands", format!("{count} from {}", case.config.agent.commands.join(", "))),
        Err(why) => Row::fail("commands", why, "correct it, or take the file out of agent.commands"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::case::Status;

    #[test]
    fn a_folder_is_looked_at_where_it_would_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let row = folder(&dir.path().join("not/there/yet"));
        assert_ne!(row.status, Status::Fail, "{row:?}");
        assert!(row.detail.contains("not/there/yet"));
        assert!(!dir.path().join("not").exists(), "looking changes nothing");
        assert_eq!(
            [0, 1_000_000_000, 9_000_000_000].map(|free| room("", free).status),
            [Status::Fail, Status::Warn, Status::Ok]
        );
    }
}
