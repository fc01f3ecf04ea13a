//! `sidetone osc`: sends OSC, and shows what comes by OSC.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;

use super::globals::Globals;
use super::{client, print};
use crate::bus::message::osc::{Arg, In, Out};
use crate::bus::subject::{Capability, pattern};
use crate::bus::{BusError, Call};
use crate::fabric;
use crate::osc::{OscMessage, encode};
use crate::role::osc::wire::to_osc;
use crate::router::Need;

/// How long a host may take to send.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Send OSC, or show what comes by OSC
#[derive(Debug, clap::Args)]
pub struct OscArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Send(SendArgs),
    Monitor(MonitorArgs),
}

/// Send a message to a target of a host, or straight to HOST:PORT
#[derive(Debug, clap::Args)]
struct SendArgs {
    /// A target of some host ([osc.targets]), or HOST:PORT to send from here by UDP
    #[arg(value_name = "TARGET")]
    target: String,
    /// The address, such as /mixer/1/level
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// Arguments: 3, 0.5, true, null, [1,2], {"int64":3} are what they are in JSON, all else is text
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    args: Vec<String>,
    /// When, such as 2026-11-24T20:15:00Z; the host waits so long [default: at once]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// Show what comes to hosts by OSC and is not taken by a handler, until interrupted
#[derive(Debug, clap::Args)]
struct MonitorArgs {
    /// Only what comes to this host
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// It can't be sent, or the bus can't be reached.
pub async fn run(args: OscArgs, globals: &Globals) -> anyhow::Result<()> {
    match args.command {
        Command::Send(args) => send(args, globals).await,
        Command::Monitor(args) => monitor(args, globals).await,
    }
}

async fn send(args: SendArgs, globals: &Globals) -> anyhow::Result<()> {
    let values: Vec<Arg> = args.args.iter().map(|text| argument(text)).collect();
    if args.target.contains(':') {
        anyhow::ensure!(
            args.at.is_none(),
            "--at is for targets of hosts: {} is sent to from here, at once",
            args.target
        );
        let message = OscMessage { addr: args.address, args: values.into_iter().map(to_osc).collect() };
        let to = straight(&args.target, &message)?;
        return print::lines(&[format!("sent to {to}")]);
    }
    let (fabric, _) = client::fabric(globals).await?;
    let need = Need { model: args.target.clone(), ..fabric::need(Capability::Osc) };
    let out = Out { target: args.target, address: args.address, args: values, at: args.at };
    let sent = fabric.ask(&need, &out, &Call::within(TIMEOUT)).await?;
    let wait = if sent.in_ms == 0 { String::new() } else { format!(" in {} ms", sent.in_ms) };
    print::lines(&[format!("sent to {} by {}{wait}", sent.to, sent.node)])
}

/// Sends from here.
fn straight(target: &str, message: &OscMessage) -> anyhow::Result<SocketAddr> {
    let packet = encode(message)?;
    let found: Vec<SocketAddr> = std::net::ToSocketAddrs::to_socket_addrs(target)
        .with_context(|| format!("{target:?} is neither a target's name nor HOST:PORT"))?
        .collect();
    // What hears OSC listens by IPv4, with few exceptions; a datagram to the other address would be lost without a word.
    let to = found.iter().find(|at| at.is_ipv4()).or(found.first()).copied();
    let to = to.with_context(|| format!("{target} has no address"))?;
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_broadcast(true)?;
    socket.send_to(&packet, to).with_context(|| format!("OSC can't be sent to {to}"))?;
    Ok(to)
}

/// An argument as it was typed.
fn argument(text: &str) -> Arg {
    serde_json::from_str(text).unwrap_or_else(|_| Arg::Text(text.to_owned()))
}

async fn monitor(args: MonitorArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, _) = client::connect(globals).await?;
    let all = pattern::filter(pattern::OSC_IN, None);
    let mut messages = bus.subscribe::<In>(&all).await?;
    let lost = bus.lost();
    tokio::pin!(lost);
    loop {
        let next = tokio::select! {
            next = messages.next() => next,
            () = &mut lost => None,
        };
        let Some((subject, message)) = next else {
            return Err(BusError::Disconnected { what: all }.into());
        };
        let line = match message {
            Ok(message) if args.node.as_ref().is_some_and(|node| *node != message.node) => continue,
            Ok(message) if args.json => serde_json::to_string(&message)?,
            Ok(message) => line(&message)?,
            Err(fault) => format!("{subject}: {fault}"),
        };
        if !print::follow(&line)? {
            return Ok(());
        }
    }
}

/// A message in one line: when, to which host, from whom, what.
fn line(message: &In) -> anyhow::Result<String> {
    let time = message.at.get(11..23).unwrap_or(&message.at);
    let args = message.args.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?.join(" ");
    let In { node, from, address, .. } = message;
    Ok(format!("{time}  {node}  {from}  {address} {args}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Message as _;

    #[test]
    fn arguments_are_what_they_look_like() {
        let given = ["3", "0.5", "red", "true", "-2", "{\"int64\":3}", "\"3\"", "[1]", "{", "", "1.0"];
        let args: Vec<Arg> = given.iter().map(|text| argument(text)).collect();
        let text = |text: &str| Arg::Text(text.to_owned());
        let array = Arg::Array(vec![Arg::Int(1)]);
        let wanted = [
            Arg::Int(3),
            Arg::Float(0.5),
            text("red"),
            Arg::Bool(true),
            Arg::Int(-2),
            Arg::Int64(3),
            text("3"),
            array,
            text("{"),
            text(""),
            Arg::Float(1.0),
        ];
        assert_eq!(args, wanted);
    }

    #[test]
    fn a_message_is_a_line() {
        assert_eq!(line(&In::example()).unwrap(), "10:27:03.120  studio  192.168.1.30:54321  /desk/fader/3 0.75");
    }
}
