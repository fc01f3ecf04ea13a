//! Output for people: lines and tables on standard output, notes on standard error.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Prints lines. A reader that has gone (`… | head`) is no error.
///
/// # Errors
/// Standard output can't be written to.
pub fn lines<L: AsRef<str>>(lines: &[L]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = lines.iter().try_for_each(|line| writeln!(out, "{}", line.as_ref())).and_then(|()| out.flush());
    quiet(written)
}

/// Prints one more line of a view that goes on. `false` when the reader has gone, which ends the view.
///
/// # Errors
/// As [`lines`].
pub fn follow(line: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}

/// Prints text as it comes, without a line break.
///
/// # Errors
/// As [`lines`].
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    quiet(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints bytes, such as a WAV for a pipe.
///
/// # Errors
/// As [`lines`].
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    quiet(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Says something on standard error that does not belong to the output.
pub fn note(text: &str) {
    // If standard error is closed, no reader is left.
    let _ = writeln!(io::stderr().lock(), "sidetone: {text}");
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// As [`lines`].
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    lines(&[serde_json::to_string(value)?])
}

/// Prints a table.
///
/// # Errors
/// As [`lines`].
pub fn table<const N: usize>(header: &[&str; N], rows: impl IntoIterator<Item = [String; N]>) -> anyhow::Result<()> {
    text(&rendered(header, rows))
}

/// A table as text.
#[must_use]
pub fn rendered<const N: usize>(header: &[&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt() + "\n"
}

fn quiet(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
