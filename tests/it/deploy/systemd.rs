//! The units of systemd, read by systemd itself.

use std::process::Command;

use super::site::sidetone;
use crate::support::need;

/// What may be exposed at most, of 10; without hardening it is 9.6.
const EXPOSED_MAX: f32 = 2.5;

fn analyze(arguments: &[&str]) -> Option<std::process::Output> {
    let output = Command::new("systemd-analyze").args(arguments).env("SYSTEMD_LOG_LEVEL", "info").output();
    need(output.is_ok(), "the program systemd-analyze (Debian: systemd)").then(|| output.unwrap())
}

#[test]
fn the_units_are_sound_and_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = sidetone(folder.path(), &["deploy", "systemd", "--out", "units"]);
    assert_eq!(code, 0, "{text}");
    let units = folder.path().join("units");
    // The programs are not there, and systemd would say so.
    for unit in ["sidetone.service", "nats-server.service"] {
        let path = units.join(unit);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("/usr/local/bin/", "/bin/true /")).unwrap();
        let path = path.to_str().unwrap();
        let Some(verified) = analyze(&["verify", "--man=no", "--recursive-errors=no", path]) else { return };
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let ours: Vec<_> = said.lines().filter(|line| line.contains(unit)).collect();
        assert!(verified.status.success() && ours.is_empty(), "{unit}: {said}");
        let threshold = format!("--threshold={}", (EXPOSED_MAX * 10.0) as u32);
        let security = analyze(&["security", "--offline=true", "--no-pager", &threshold, path]).unwrap();
        let said = String::from_utf8_lossy(&security.stdout).into_owned();
        let overall =
            said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{security:?}"));
        eprintln!("{overall}");
        assert!(security.status.success(), "{said}");
    }
}
