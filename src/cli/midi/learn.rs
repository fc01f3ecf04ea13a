//! `sidetone midi learn`: touch a control, and get the table for it.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::line::line;
use crate::action::Action;
use crate::bus::message::midi::In;
use crate::bus::subject;
use crate::cli::globals::Globals;
use crate::cli::{client, print};
use crate::config::{MidiOn, TransportWord};
use crate::midi::trigger::{Span, When};

/// How long after the last message a touch is over.
const QUIET: Duration = Duration::from_millis(700);
/// How many messages of one touch are looked at.
const TOUCH_MAX: usize = 1_000;

/// Touch a control: shows what comes, and prints the [[midi.on]] table for it
#[derive(Debug, clap::Args)]
pub(super) struct LearnArgs {
    /// What the control is to do: a name (push_to_talk, stop, mute) or a table as in the settings
    #[arg(long = "do", value_name = "ACTION", default_value = "push_to_talk")]
    action: String,
    /// One host only
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Append the table to this file instead of printing it
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// How long to wait for a touch, in s
    #[arg(long, value_name = "S", default_value_t = 60)]
    wait_s: u64,
    /// Print the table as JSON
    #[arg(long, conflicts_with = "write")]
    json: bool,
}

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// A file of settings with one table.
#[derive(serde::Serialize)]
struct Settings<'a> {
    midi: On<'a>,
}

#[derive(serde::Serialize)]
struct On<'a> {
    on: [&'a MidiOn; 1],
}

/// Runs it.
///
/// # Errors
/// The action is none, no control is touched, or the file can't be written.
pub(super) async fn run(args: LearnArgs, globals: &Globals) -> anyhow::Result<()> {
    let action = action(&args.action)?;
    let (bus, _) = client::connect(globals).await?;
    let filter = subject::pattern::filter(subject::pattern::MIDI_IN, args.node.as_deref());
    let mut all = bus.subscribe::<In>(&filter).await?;
    print::note("touch the control as you will use it");
    let mut touch: Vec<In> = Vec::new();
    // Only a touch moves it: a clock that ticks all the time does not.
    let mut until = Instant::now() + Duration::from_secs(args.wait_s).min(WAIT_MAX);
    while touch.len() < TOUCH_MAX {
        let Ok(Some((_, came))) = timeout_at(until, all.next()).await else { break };
        let came = came.map_err(crate::bus::BusError::Fault)?;
        if matches!(came.kind.as_str(), "realtime" | "sysex") {
            continue;
        }
        print::note(&line(&came));
        touch.push(came);
        until = Instant::now() + QUIET;
    }
    if touch.is_empty() {
        anyhow::bail!(
            "nothing came within {} s; `sidetone midi ports` shows which devices are connected, and midi.publish which kinds are published",
            args.wait_s
        );
    }
    let on = table(&touch, action).context("what came is none that a table could name")?;
    if args.json {
        return print::json(&on);
    }
    let text = toml::to_string(&Settings { midi: On { on: [&on] } })?;
    let Some(file) = args.write else { return print::text(&text) };
    let open = std::fs::OpenOptions::new().create(true).append(true).open(&file);
    let written = open.and_then(|mut file| writeln!(file, "\n{}", text.trim_end()));
    written.with_context(|| format!("can't write {}", file.display()))?;
    print::lines(&[format!("{} has it now; it is used from the host's next start on", file.display())])
}

/// The action that a text names: a name, or a table as in the settings.
fn action(text: &str) -> anyhow::Result<Action> {
    #[derive(serde::Deserialize)]
    struct Do {
        r#do: Action,
    }
    let value = if text.trim_start().starts_with('{') { text.to_owned() } else { format!("{text:?}") };
    let read: Do =
        toml::from_str(&format!("do = {value}")).map_err(|e| anyhow::anyhow!("--do {text}: {}", e.message()))?;
    Ok(read.r#do)
}

/// The table of the control that was touched most.
fn table(touch: &[In], action: Action) -> Option<MidiOn> {
    let key = |came: &In| {
        (
            came.kind.clone(),
            came.channel,
            came.note,
            came.controller,
            came.program,
            came.name.clone().filter(|_| came.note.is_none()),
        )
    };
    let first = touch.iter().max_by_key(|came| touch.iter().filter(|other| key(other) == key(came)).count())?;
    let mine: Vec<&In> = touch.iter().filter(|came| key(came) == key(first)).collect();
    let mut values: Vec<i32> = mine.iter().filter_map(|came| came.value).collect();
    values.sort_unstable();
    values.dedup();
    let holds = action.can_be_held();
    let one = |number: u8| Some(Span { from: u16::from(number), to: u16::from(number) });
    let mut on = MidiOn {
        note: None,
        cc: None,
        cc14: None,
        program: None,
        bend: None,
        pressure: None,
        key_pressure: None,
        nrpn: None,
        rpn: None,
        transport: None,
        song: None,
        any: false,
        port: first.port.clone(),
        channel: first.channel,
        value: None,
        when: None,
        long_ms: 500,
        double_ms: 300,
        on: None,
        r#do: action,
        feedback: None,
    };
    match first.kind.as_str() {
        "note" => {
            on.note = one(first.note?);
            on.when = Some(if holds { When::Held } else { When::Press });
        }
        "cc" => {
            on.cc = one(first.controller?);
            // A fader or an encoder goes through many values, a switch through two.
            let is_switch = values.len() <= 2;
            on.when = Some(match (is_switch, holds) {
                (false, _) => When::Change,
                (true, true) => When::Held,
                (true, false) => When::Press,
            });
        }
        "program" => on.program = one(first.program?),
        "bend" => on.bend = Some(Span::ANY),
        "pressure" => on.pressure = Some(Span::ANY),
        "key_pressure" => on.key_pressure = one(first.note?),
        "transport" => match first.name.as_deref()? {
            "start" => on.transport = Some(TransportWord::Start),
            "continue" => on.transport = Some(TransportWord::Continue),
            "stop" => on.transport = Some(TransportWord::Stop),
            "song" => on.song = one(u8::try_from(first.value?).ok()?),
            _ => return None,
        },
        _ => return None,
    }
    Some(on)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(kind: &str, number: u8, value: i32) -> In {
        let mut came = In { port: "pad".to_owned(), kind: kind.to_owned(), channel: Some(2), ..In::default() };
        match kind {
            "note" => came.note = Some(number),
            _ => (came.controller, came.value) = (Some(number), Some(value)),
        }
        came
    }

    fn learned(touch: &[In], action: &str) -> String {
        let on = table(touch, super::action(action).unwrap()).unwrap();
        toml::to_string(&Settings { midi: On { on: [&on] } }).unwrap()
    }

    #[test]
    fn what_was_touched_becomes_a_table() {
        let pedal = [came("cc", 64, 127), came("cc", 64, 0)];
        assert_eq!(
            learned(&pedal, "push_to_talk").lines().collect::<Vec<_>>()[..5],
            ["[[midi.on]]", "cc = 64", "port = \"pad\"", "channel = 2", "when = \"held\""]
        );
        let fader: Vec<_> = (0..20).map(|value| came("cc", 7, value)).chain([came("note", 60, 0)]).collect();
        let text = learned(&fader, "{ osc = { target = \"lights\", address = \"/x\", args = [\"{value}\"] } }");
        assert!(text.contains("cc = 7\n") && text.contains("when = \"change\""), "{text}");
        // It can be read again.
        #[derive(serde::Deserialize)]
        struct File {
            midi: crate::config::MidiConfig,
        }
        assert_eq!(toml::from_str::<File>(&text).unwrap().midi.on.len(), 1);
        assert!(learned(&[came("note", 60, 0)], "stop").contains("when = \"press\""));
        assert!(action("dance").unwrap_err().to_string().contains("unknown variant `dance`"));
    }
}
