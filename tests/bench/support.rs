//! What the benches share: rows and their table, medians, progress, a home of their own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::{Cell, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use sidetone::home::Home;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Few rounds and short stretches: to see whether everything works.
    pub quick: bool,
}

impl Scope {
    /// `full`, or `quick` in a quick run.
    pub fn of<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// One line of the result.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The bench.
    pub section: &'static str,
    /// What was measured.
    pub measure: String,
    /// How it came out.
    pub value: String,
    /// What it is compared with.
    pub baseline: String,
    /// The ratio or the difference of the two.
    pub compared: String,
    /// What is to be reached.
    pub target: String,
    /// Whether it is reached; absent where nothing is to be.
    pub met: Option<bool>,
}

impl Row {
    /// A figure that stands for itself.
    pub fn note(section: &'static str, measure: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            section,
            measure: measure.into(),
            value: value.into(),
            baseline: String::new(),
            compared: String::new(),
            target: String::new(),
            met: None,
        }
    }

    /// A time that may be at most `most` times its baseline.
    pub fn ratio(section: &'static str, measure: impl Into<String>, ms: f64, baseline_ms: f64, most: f64) -> Self {
        let ratio = ms / baseline_ms;
        Self {
            baseline: format!("{baseline_ms:.1} ms"),
            compared: format!("{ratio:.3} ×"),
            target: format!("≤ {most} ×"),
            met: Some(ratio <= most),
            ..Self::note(section, measure, format!("{ms:.1} ms"))
        }
    }

    /// A time that may be at most `most_ms` more than its baseline.
    pub fn excess(section: &'static str, measure: impl Into<String>, ms: f64, baseline_ms: f64, most_ms: f64) -> Self {
        let excess = ms - baseline_ms;
        Self {
            baseline: format!("{baseline_ms:.1} ms"),
            compared: format!("{excess:+.1} ms"),
            target: format!("≤ +{most_ms} ms"),
            met: Some(excess <= most_ms),
            ..Self::note(section, measure, format!("{ms:.1} ms"))
        }
    }

    /// A figure in `unit` that must stay below `limit`.
    pub fn below(section: &'static str, measure: impl Into<String>, value: f64, limit: f64, unit: &str) -> Self {
        Self {
            target: format!("< {limit} {unit}"),
            met: Some(value < limit),
            ..Self::note(section, measure, format!("{value:.2} {unit}"))
        }
    }

    /// The same with a baseline to be seen beside it.
    pub fn beside(self, baseline: impl Into<String>) -> Self {
        Self { baseline: baseline.into(), ..self }
    }
}

/// The rows as a table for people.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["", "measure", "value", "baseline", "compared", "target", "met"]);
    let mut section = "";
    for row in rows {
        let first = if row.section == section { "" } else { row.section };
        section = row.section;
        let met = row.met.map_or("", |met| if met { "yes" } else { "NO" });
        let texts = [first, &row.measure, &row.value, &row.baseline, &row.compared, &row.target, met];
        table.add_row(texts.map(Cell::new));
    }
    let missed = rows.iter().filter(|row| row.met == Some(false)).count();
    let mut text = table.to_string();
    let _ = write!(text, "\n{} of {} targets met", targets(rows) - missed, targets(rows));
    text
}

fn targets(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.met.is_some()).count()
}

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// A duration in ms.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A bar on standard error, of `steps` steps.
pub fn progress(what: &str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg:42} {bar:30} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// Lets `duration` pass, showing it.
pub fn pass(what: &str, duration: Duration) {
    let bar = progress(what, duration.as_secs());
    for _ in 0..duration.as_secs() {
        std::thread::sleep(Duration::from_secs(1));
        bar.inc(1);
    }
    bar.finish_and_clear();
}

/// A home folder with the models and programs of the real one, and a state of its own.
pub struct BenchHome {
    _folder: tempfile::TempDir,
    /// The home.
    pub home: Home,
}

impl BenchHome {
    /// Makes one.
    pub fn new() -> anyhow::Result<Self> {
        let real = Home::find(None);
        let folder = tempfile::tempdir().context("no temporary folder")?;
        for (target, name) in [(real.models(), "models"), (real.bin(), "bin"), (real.path().join("venv"), "venv")] {
            link(&target, &folder.path().join(name))?;
        }
        let home = Home::find(Some(folder.path()));
        Ok(Self { _folder: folder, home })
    }
}

fn link(target: &Path, name: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(target.is_dir(), "there is no {}: run `make build` first", target.display());
    std::os::unix::fs::symlink(target, name).with_context(|| format!("can't link {}", target.display()))
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?.local_addr()?.port())
}

/// The bytes of a recording among the tests' fixtures.
pub fn fixture(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name);
    std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))
}
