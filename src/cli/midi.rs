//! `sidetone midi`: ports, sending, watching what comes in, learning what a control sends, panic.

mod learn;
mod line;

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;

use super::globals::Globals;
use super::{client, print};
use crate::bus::message::Ask;
use crate::bus::message::midi::{In, Keys, Out, Panic, PanicWord, PortState, Sent, State, StateQuery};
use crate::bus::subject::{self, Capability, Target};
use crate::bus::{Bus, Call, roster};
use crate::config::Config;
use crate::fabric::{self, Fabric};
use crate::midi::{Chord, Note};
use crate::router::Need;
use line::line;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Send MIDI, see what comes in, and learn what a control sends
#[derive(Debug, clap::Args)]
pub struct MidiArgs {
    #[command(subcommand)]
    command: MidiCommand,
}

#[derive(Debug, clap::Subcommand)]
enum MidiCommand {
    Ports(PortsArgs),
    Send(SendArgs),
    Monitor(MonitorArgs),
    Learn(learn::LearnArgs),
    Panic(PanicArgs),
}

/// List the MIDI ports of all hosts, the devices on them, and what sounds
#[derive(Debug, clap::Args)]
struct PortsArgs {
    /// One host only
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Print a JSON array of all that is known
    #[arg(long)]
    json: bool,
}

/// Send: a note or chord (C4, G7), JSON, or pairs such as cc=74 value=100 port=pad channel=2
#[derive(Debug, clap::Args)]
#[command(after_help = SEND_HELP)]
struct SendArgs {
    /// What to send
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// The host to send it from [default: the one that has the port]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

const SEND_HELP: &str = "Examples:
  sidetone midi send G7 beats=8 port=pad
  sidetone midi send note=C4 velocity=80 ms=500
  sidetone midi send cc=74 value=100 channel=2
  sidetone midi send nrpn=300 value=9000
  sidetone midi send sysex='7E 7F 06 01'
  sidetone midi send '{\"chord\": \"Am\", \"on\": \"bar\", \"bars\": 1}'";

/// Show what comes in, until Ctrl-C
#[derive(Debug, clap::Args)]
struct MonitorArgs {
    /// One host only
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// One port only
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Print a line of JSON for each message
    #[arg(long)]
    json: bool,
}

/// End all notes that Sidetone started
#[derive(Debug, clap::Args)]
struct PanicArgs {
    /// Silence the devices as well, whichever program plays them
    #[arg(long)]
    all: bool,
    /// One host only
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Print a JSON object of hosts and the number of notes that ended
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// The bus can't be reached, no host has MIDI, or the message can't be sent.
pub async fn run(args: MidiArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        MidiCommand::Ports(args) => ports(args, globals).await,
        MidiCommand::Send(args) => send(args, globals).await,
        MidiCommand::Monitor(args) => monitor(args, globals).await,
        MidiCommand::Learn(args) => learn::run(args, globals).await,
        MidiCommand::Panic(args) => panic(args, globals).await,
    }
}

/// The hosts that have MIDI, or the one that is named.
async fn hosts(bus: &Bus, config: &Config, named: Option<String>) -> anyhow::Result<Vec<String>> {
    if let Some(node) = named {
        return Ok(vec![node]);
    }
    let nodes = if config.bus.hosts.is_empty() {
        roster::nodes(bus).await?
    } else {
        Fabric::start(bus, &config.node_name(), config).nodes().await
    };
    let role = Capability::Midi.token();
    let found: Vec<String> = nodes
        .into_iter()
        .filter(|node| node.offers.iter().any(|offer| offer.role == role))
        .map(|node| node.node)
        .collect();
    if found.is_empty() {
        let text = "no host on this bus has MIDI: add \"midi\" to node.roles, or start one with --roles midi";
        return Err(crate::bus::BusError::Fault(crate::bus::message::fault::Fault::not_found(text)).into());
    }
    Ok(found)
}

async fn ports(args: PortsArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, config) = client::connect(globals).await?;
    let (all, silent) = ask_all(&bus, hosts(&bus, &config, args.node).await?, StateQuery::default()).await;
    let all: Vec<State> = all.into_iter().map(|(_, state)| state).collect();
    if args.json {
        print::json(&all)?;
        return silent;
    }
    if all.is_empty() {
        return silent;
    }
    let rows = all.iter().flat_map(|state| {
        state.ports.iter().enumerate().map(move |(at, port)| {
            let host = if at == 0 { state.node.clone() } else { String::new() };
            [host, name(port), devices(&port.inputs), devices(&port.outputs), devices(&port.shared_with), keys(port)]
        })
    });
    print::table(&["host", "port", "hears", "plays", "shared with", "sounds"], rows)?;
    for state in &all {
        let clock = &state.clock;
        let source =
            if clock.source.is_empty() { "its own clock".to_owned() } else { format!("the clock of {}", clock.source) };
        let up = if state.up { String::new() } else { format!("; {} is not there at the moment", state.driver) };
        let lost = if state.lost > 0 { format!("; {} messages were lost", state.lost) } else { String::new() };
        print::lines(&[format!(
            "{}: {} BPM by {source}, bar {} beat {}{up}{lost}",
            state.node, clock.bpm, clock.bar, clock.beat
        )])?;
    }
    silent
}

/// Asks hosts at once: what they answer, and the error that names those that do not.
async fn ask_all<A: Ask + Clone>(
    bus: &Bus,
    hosts: Vec<String>,
    ask: A,
) -> (Vec<(String, A::Reply)>, anyhow::Result<()>) {
    let asked = hosts.into_iter().map(|node| {
        let ask = ask.clone();
        async move {
            let answer = bus.ask(Target::Node(&node), &ask, &Call::within(TIMEOUT)).await;
            (node, answer)
        }
    });
    let (mut answers, mut silent, mut first) = (Vec::new(), Vec::new(), None);
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(state) => answers.push((node, state)),
            Err(error) => {
                silent.push(node);
                first.get_or_insert(error);
            }
        }
    }
    let all = first.map_or(Ok(()), |error| {
        Err(anyhow::Error::from(error).context(format!("no answer from {}", silent.join(", "))))
    });
    (answers, all)
}

fn name(port: &PortState) -> String {
    if port.name == "midi_out" { "midi_in, midi_out".to_owned() } else { port.name.clone() }
}

fn devices(names: &[String]) -> String {
    names.join(", ")
}

fn keys(port: &PortState) -> String {
    port.sounding.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(" ")
}

async fn send(args: SendArgs, globals: &Globals) -> anyhow::Result<()> {
    let out = read(&args.what)?;
    // An error in the message is found before any host is asked.
    out.plays().map_err(crate::bus::BusError::Fault)?;
    let (fabric, _) = client::fabric(globals).await?;
    let call = Call::within(TIMEOUT);
    let sent: Sent = match args.node {
        Some(node) => fabric.bus().ask(Target::Node(&node), &out, &call).await?,
        None => {
            let need = Need { model: out.port.clone(), ..fabric::need(Capability::Midi) };
            fabric.ask(&need, &out, &call).await?
        }
    };
    if args.json {
        return print::json(&sent);
    }
    let what = if sent.notes.is_empty() { format!("{} messages", sent.messages) } else { sent.notes.join(" ") };
    let when = sent.in_ms.map(|ms| format!(" in {ms} ms")).unwrap_or_default();
    print::lines(&[format!("{what}{when}")])
}

/// What the words of the command line say is to be sent.
fn read(words: &[String]) -> anyhow::Result<Out> {
    let whole = words.join(" ");
    if whole.trim_start().starts_with('{') {
        return serde_json::from_str(&whole).map_err(|e| anyhow::anyhow!("that is no MIDI message: {e}"));
    }
    let mut table = serde_json::Map::new();
    let mut bare = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => {
                // Numbers, lists and true as in JSON; all else is text.
                let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
                table.insert(key.to_owned(), value);
            }
            None => bare.push(word.as_str()),
        }
    }
    let mut out: Out =
        serde_json::from_value(table.into()).map_err(|e| anyhow::anyhow!("that is no MIDI message: {e}"))?;
    let bare = bare.join(" ");
    match bare.as_str() {
        "" => {}
        "panic" => out.panic = Some(Panic::Ours(true)),
        "start" | "stop" | "continue" => out.transport = Some(serde_json::from_value(bare.as_str().into())?),
        // G7 is a chord; the note is note=G7.
        note if Chord::spoken(note).is_none() && note.parse::<Note>().is_ok() => out.note = Some(Keys::one(note)),
        chord => out.chord = Some(chord.to_owned()),
    }
    Ok(out)
}

async fn monitor(args: MonitorArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, _) = client::connect(globals).await?;
    let filter = subject::pattern::filter(subject::pattern::MIDI_IN, args.node.as_deref());
    let mut all = bus.subscribe::<In>(&filter).await?;
    print::note("shows what comes in; Ctrl-C ends");
    while let Some((_, came)) = all.next().await {
        let came = came.map_err(crate::bus::BusError::Fault)?;
        if args.port.as_ref().is_some_and(|port| *port != came.port) {
            continue;
        }
        let line = if args.json { serde_json::to_string(&came)? } else { line(&came) };
        if !print::follow(&line)? {
            break;
        }
    }
    Ok(())
}

async fn panic(args: PanicArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, config) = client::connect(globals).await?;
    let word = if args.all { PanicWord::All } else { PanicWord::Ours };
    let out = Out { panic: Some(Panic::Word(word)), ..Out::default() };
    let (all, silent) = ask_all(&bus, hosts(&bus, &config, args.node).await?, out).await;
    let ended: serde_json::Map<String, serde_json::Value> =
        all.into_iter().map(|(node, sent)| (node, sent.released.unwrap_or_default().into())).collect();
    if args.json {
        print::json(&ended)?;
    } else {
        let lines: Vec<String> = ended.iter().map(|(node, count)| format!("{node}: {count} notes ended")).collect();
        print::lines(&lines)?;
    }
    silent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::midi::Number;

    fn out(line: &str) -> Out {
        read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn words_say_what_is_sent() {
        let chord = Out { chord: Some("G7".to_owned()), beats: Some(Number::new(8.0)), ..Out::default() };
        assert_eq!(out("G7 beats=8"), chord);
        assert_eq!(out("C4 port=pad"), Out { note: Some(Keys::one("C4")), port: "pad".to_owned(), ..Out::default() });
        assert_eq!(out("a minor").chord.as_deref(), Some("a minor"));
        assert_eq!(out("note=[60,\"E4\"]").note, Some(Keys(vec!["60".to_owned(), "E4".to_owned()])));
        assert_eq!(out(r#"{"cc": 1, "value": 2}"#).cc, Some(Number::new(1.0)));
        assert!(out("start").transport.is_some() && out("hold=true C").hold);
        assert!(read(&["nots=3".to_owned()]).unwrap_err().to_string().contains("unknown field `nots`"));
    }
}
