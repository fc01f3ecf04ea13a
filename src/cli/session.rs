//! `sidetone session`: what was said and done, read back from JetStream.

mod export;
mod open;

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::globals::Globals;
use super::{client, print, say, watch};
use crate::bus::Bus;
use crate::bus::message::session::What;
use crate::bus::session::list;
use crate::config::Config;
use export::ExportArgs;
use open::{close, open};

/// Events of a session that is replayed: it is read before it begins.
const REPLAY_MAX: usize = 100_000;
/// Read back what was said and done
#[derive(Debug, Args)]
pub struct SessionArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sessions that went on last, the latest first
    List(ListArgs),
    /// Show a session, an event a line
    Show(ShowArgs),
    /// Show a session again at its own pace
    Replay(ReplayArgs),
    /// Write a session into a file, for programs or to read
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The session's id, as `sidetone session list` shows it
    id: String,
    /// Show the changes of a listener's state as well
    #[arg(long)]
    states: bool,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The session's id, as `sidetone session list` shows it
    id: String,
    /// How much faster than it was
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
    /// The longest pause, in seconds; what was longer is cut short [default: as it was]
    #[arg(long, value_name = "SECONDS")]
    max_pause: Option<f64>,
    /// Speak the answers on a listener
    #[arg(long)]
    speak: bool,
    /// The host to speak on [default: the name of this one]
    #[arg(long, value_name = "NAME", requires = "speak")]
    node: Option<String>,
    /// The listener to speak on [default: the first of the settings]
    #[arg(long, value_name = "NAME", requires = "speak")]
    listener: Option<String>,
}

/// Runs it.
///
/// # Errors
/// The bus can't be reached, there is no such session, or the output can't be written.
pub async fn run(args: SessionArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, config) = client::connect(globals).await?;
    match args.command {
        Command::List(args) => show_list(&bus, &args).await,
        Command::Show(args) => show(&bus, &args).await,
        Command::Replay(args) => replay(&bus, &config, args).await,
        Command::Export(args) => export::run(&bus, &args).await,
    }
}

async fn show_list(bus: &Bus, args: &ListArgs) -> anyhow::Result<()> {
    let sessions = list(bus, usize::from(args.limit)).await?;
    if args.json {
        return print::lines(&sessions.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?);
    }
    if sessions.is_empty() {
        return print::lines(&["there is no session yet: ask something, by voice or with `sidetone ask`"]);
    }
    let rows = sessions.into_iter().map(|session| {
        let hosts: Vec<String> = session.hosts.into_iter().collect();
        [
            session.session,
            local(&session.first),
            local(&session.last),
            session.utterances.to_string(),
            hosts.join(", "),
            shortened(&session.text),
        ]
    });
    print::table(&["session", "first", "last", "turns", "hosts", "last said"], rows)
}

/// The time in the reader's zone, to the second.
fn local(at: &str) -> String {
    let time = at.parse::<Timestamp>().map(|at| at.to_zoned_datetime(jiff::tz::TimeZone::system()));
    time.map_or_else(|_| at.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// The beginning of a text, on one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "\u{fffd}");
    console::truncate_str(&line, 40, "…").into_owned()
}

async fn show(bus: &Bus, args: &ShowArgs) -> anyhow::Result<()> {
    let (mut reader, first) = open(bus, &args.id).await?;
    let mut next = Some(first);
    while let Some(event) = next {
        let is_shown = args.states || !matches!(event.what, What::State { .. });
        if is_shown && !print::follow(&watch::session_line(event))? {
            break;
        }
        next = reader.next().await?;
    }
    close(reader).await;
    Ok(())
}

async fn replay(bus: &Bus, config: &Config, args: ReplayArgs) -> anyhow::Result<()> {
    if !(args.speed.is_finite() && args.speed > 0.0) {
        bail!("--speed is {}; it must be above 0, such as 2 for twice as fast", args.speed);
    }
    if args.max_pause.is_some_and(|pause| !(0.0..=1e9).contains(&pause)) {
        bail!("--max-pause must be a number of seconds from 0");
    }
    let node = args.node.unwrap_or_else(|| config.node_name());
    let listener = args.speak.then(|| client::listener(args.listener, config, "")).transpose()?;
    let (mut reader, first) = open(bus, &args.id).await?;
    let mut events = vec![first];
    while let Some(event) = reader.next().await? {
        if events.len() == REPLAY_MAX {
            bail!(
                "session {:?} has more than {REPLAY_MAX} events: write it into a file with `sidetone session export`",
                args.id
            );
        }
        events.push(event);
    }
    close(reader).await;
    let mut before = None;
    for event in events {
        let at = event.at.parse::<Timestamp>().ok();
        tokio::time::sleep(pause(before, at, args.speed, args.max_pause)).await;
        // Clocks of hosts differ: what seems earlier than the one before comes at once, and time goes on from the later.
        before = before.max(at);
        let answer = match (&event.what, &listener) {
            (What::Reply { text, .. }, Some(listener)) => Some((listener, text.clone())),
            _ => None,
        };
        if !print::follow(&watch::session_line(event))? {
            return Ok(());
        }
        if let Some((listener, text)) = answer.filter(|(_, text)| !text.trim().is_empty()) {
            say::aloud(bus, &node, listener, text).await?;
        }
    }
    Ok(())
}

/// How long to wait between an event at `before` and one `at`.
fn pause(before: Option<Timestamp>, at: Option<Timestamp>, speed: f64, max_pause_s: Option<f64>) -> Duration {
    let (Some(before), Some(at)) = (before, at) else { return Duration::ZERO };
    let seconds = at.duration_since(before).as_secs_f64().max(0.0) / speed;
    Duration::try_from_secs_f64(seconds.min(max_pause_s.unwrap_or(f64::MAX))).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_events() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        let (one, two) = (at("2026-11-24T10:00:00Z"), at("2026-11-24T10:00:04Z"));
        assert_eq!(pause(one, two, 1.0, None), Duration::from_secs(4));
        assert_eq!(pause(one, two, 2.0, None), Duration::from_secs(2));
        assert_eq!(pause(one, two, 1.0, Some(0.5)), Duration::from_millis(500));
        assert_eq!(pause(two, one, 1.0, None), Duration::ZERO);
        assert_eq!(pause(None, one, 1.0, None), Duration::ZERO);
        assert_eq!(pause(one, None, 1.0, None), Duration::ZERO);
    }
}
