//! A session as a file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::open::{close, open};
use crate::bus::Bus;
use crate::bus::message::session::{SessionEvent, What};
use crate::cli::print;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The session's id, as `sidetone session list` shows it
    id: String,
    /// How it is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// The file, which is replaced [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How a session is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Every event as it is kept, one JSON object a line
    #[default]
    Jsonl,
    /// What was said, in Markdown
    Md,
}

/// Writes it. A file appears when it is whole.
pub(super) async fn run(bus: &Bus, args: &ExportArgs) -> anyhow::Result<()> {
    let (mut reader, first) = open(bus, &args.id).await?;
    let mut page = Page { format: args.format, zone: TimeZone::system(), turn: None };
    let Some(path) = args.out.as_deref().filter(|path| path.as_os_str() != "-") else {
        let mut next = Some(first);
        while let Some(event) = next {
            let text = page.text(&event)?;
            if !text.is_empty() && !print::follow(text.strip_suffix('\n').unwrap_or(&text))? {
                break;
            }
            next = reader.next().await?;
        }
        close(reader).await;
        return Ok(());
    };
    let failed = || format!("can't write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".session-").tempfile_in(folder).with_context(failed)?;
    let (mut next, mut events) = (Some(first), 0);
    let mut out = io::BufWriter::new(&mut file);
    while let Some(event) = next {
        out.write_all(page.text(&event)?.as_bytes()).with_context(failed)?;
        events += 1;
        next = reader.next().await?;
    }
    out.flush().with_context(failed)?;
    drop(out);
    close(reader).await;
    file.persist(path).map_err(|e| e.error).with_context(failed)?;
    print::lines(&[format!("{} ({events} events)", path.display())])
}

struct Page {
    format: Format,
    zone: TimeZone,
    /// The turn that the last paragraph belongs to; `None` before the first.
    turn: Option<Option<String>>,
}

impl Page {
    /// What an event adds, line breaks included; empty for an event that is not written.
    fn text(&mut self, event: &SessionEvent) -> anyhow::Result<String> {
        match self.format {
            Format::Jsonl => Ok(serde_json::to_string(event)? + "\n"),
            Format::Md => Ok(self.markdown(event)),
        }
    }

    fn markdown(&mut self, event: &SessionEvent) -> String {
        let said = match &event.what {
            What::Utterance { text, listener, .. } => {
                let place = listener.as_ref().map(|listener| format!(" ({})", plain(listener))).unwrap_or_default();
                format!("**Person**{place}: {}", plain(text))
            }
            What::Reply { text, model } => {
                let model = model.as_ref().map(|model| format!(" ({})", plain(model))).unwrap_or_default();
                format!("**Sidetone**{model}: {}", plain(text))
            }
            What::Command { name, .. } => format!("*command {}*", plain(name)),
            What::Error { message, stage, .. } => format!("*error in {}: {}*", plain(stage), plain(message)),
            What::State { .. } | What::Times(_) => return String::new(),
        };
        let mut out = String::new();
        if self.turn.is_none() {
            out += &format!("# Session {}\n\n", plain(&event.session));
        }
        if self.turn.as_ref() != Some(&event.turn) {
            let at = event.at.parse::<Timestamp>().map(|at| at.to_zoned_datetime(self.zone.clone()));
            let at = at.map_or_else(|_| plain(&event.at), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
            out += &format!("## {at}\n\n");
            self.turn = Some(event.turn.clone());
        }
        out + &said + "\n\n"
    }
}

/// A text of which Markdown makes nothing else.
fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Message as _;

    #[test]
    fn a_session_reads_as_a_conversation() {
        let mut page = Page { format: Format::Md, zone: TimeZone::UTC, turn: None };
        let event = |what| SessionEvent { what, ..SessionEvent::example() };
        let other = SessionEvent {
            turn: Some("another".to_owned()),
            ..event(What::Reply { text: "It is\n*10:27*.".to_owned(), model: Some("smol".to_owned()) })
        };
        let text: String = [
            SessionEvent::example(),
            event(What::Times(Default::default())),
            event(What::Command { name: "time".to_owned(), slots: Default::default(), prompt: None }),
            other,
        ]
        .iter()
        .map(|event| page.text(event).unwrap())
        .collect();
        assert_eq!(
            text,
            "# Session main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE\n\n## 2026-11-24 10:27:04\n\n\
             **Person** (main): What time is it?\n\n*command time*\n\n\
             ## 2026-11-24 10:27:04\n\n**Sidetone** (smol): It is \\*10:27\\*.\n\n"
        );
    }
}
