//! `transcribe --batch` and `jobs`.

use super::host::Site;

const JFK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/jfk.flac");
const COMPUTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/computer-01.wav");

fn ids(site: &Site, args: &[&str]) -> Vec<String> {
    let lines = site.run(&[&["transcribe", "--batch"], args].concat()).text();
    lines.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn recordings_are_transcribed_by_the_way_as_they_are_at_once() {
    let Some(site) = Site::with("stt") else { return };
    let site = &site;
    let made = ids(site, &[JFK, COMPUTER]);
    let [jfk, computer] = made.as_slice() else { panic!("{made:?}") };
    let whole = site.run(&["transcribe", JFK]).text();
    assert_eq!(site.run(&["jobs", "wait", jfk]).text(), whole);
    let both = site.run(&["jobs", "wait", jfk, computer]).text();
    assert!(both.starts_with(&format!("==> {JFK} <==\n{whole}==> {COMPUTER} <==\n")), "{both}");
    let job = site.run(&["jobs", "show", jfk, "--json"]).json();
    assert_eq!((job["status"].as_str(), job["attempts"].as_u64()), (Some("done"), Some(1)));
    let once = site.run(&["transcribe", "--json", JFK]).json();
    for field in ["text", "segments", "audio_ms", "model", "language"] {
        assert_eq!(job["result"][field], once[field], "{field}");
    }
    let table = site.run(&["jobs", "list"]).text();
    assert!(table.lines().any(|line| line.contains(jfk) && line.contains("done")), "{table}");
    assert!(site.run(&["jobs", "show", jfk]).text().ends_with(&whole));
}

#[test]
fn a_job_that_nobody_can_do_waits_and_is_told_until_it_is_called_off() {
    let Some(site) = Site::with("stt") else { return };
    let done = site.run(&["transcribe", "--batch", JFK, "--node", "attic"]);
    assert!(done.stderr.contains("nobody offers stt on attic at the moment: the jobs wait"), "{}", done.stderr);
    let line = done.text();
    let id = line.split(' ').next().unwrap();
    let late = site.run(&["jobs", "wait", id, "--timeout", "1"]).error(4);
    assert!(late.contains("1000 ms"), "{late}");
    site.run(&["jobs", "cancel", id]).text();
    let error = site.run(&["jobs", "wait", id]).error(1);
    assert!(error.contains("cancelled"), "{error}");
    let error = site.run(&["jobs", "retry", id]).error(1);
    assert!(error.contains("only one that has failed"), "{error}");
    let error = site.run(&["jobs", "show", "nonsense"]).error(3);
    assert!(error.contains("\"nonsense\"") && error.contains("jobs list"), "{error}");
}

#[test]
fn what_is_no_recording_makes_no_job() {
    let Some(site) = Site::with("stt") else { return };
    let text = site.file("no-recording.wav");
    std::fs::write(&text, b"this is no audio at all").unwrap();
    let error = site.run(&["transcribe", "--batch", text.to_str().unwrap()]).error(1);
    assert!(error.contains("no audio file") && error.contains("no-recording.wav"), "{error}");
}
