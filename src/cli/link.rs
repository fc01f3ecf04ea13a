//! `sidetone link`: audio between two hosts, set up on both.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures::future::{join_all, try_join};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::globals::Globals;
use super::{client, print};
use crate::bus::message::audio::{Link, LinkOrder, LinkSpec, LinkState};
use crate::bus::message::fault::FaultCode;
use crate::bus::message::node::{AudioOffer, NodeInfo};
use crate::bus::subject::Target;
use crate::bus::{Bus, BusError, Call};
use crate::fabric::Fabric;
use crate::role::audio::other_rate;

/// How long a host may take to take an order.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a link may take to come up before the other side is tried as the one that waits.
const UP_TIMEOUT: Duration = Duration::from_secs(6);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Link two hosts by JackTrip, or part them; both need role audio
#[derive(Debug, clap::Args)]
pub struct LinkArgs {
    /// One host
    one: String,
    /// The other
    other: String,
    /// Channels each way
    #[arg(long, value_name = "N", default_value_t = 2)]
    channels: u16,
    /// Packets that are buffered against jitter
    #[arg(long, value_name = "N", default_value_t = 4)]
    queue: u16,
    /// How often each packet is sent, against loss
    #[arg(long, value_name = "N", default_value_t = 1)]
    redundancy: u16,
    /// Where the side that waits listens [default: a free port from 4464]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Take the link away on both
    #[arg(long)]
    remove: bool,
    /// Print both ends as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it; ends when audio flows. Stopped before (Ctrl-C, SIGTERM, SIGHUP), it takes back on both hosts what it has set up,
/// within 10 s.
///
/// # Errors
/// There is no such host, their rates differ, the link does not come up either way, or it was stopped.
pub async fn run(args: LinkArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.one == args.other {
        bail!("'{}' is one host; a link needs two", args.one);
    }
    let (fabric, _) = client::fabric(globals).await?;
    let bus = fabric.bus().clone();
    if args.remove {
        return remove(&bus, &args).await;
    }
    let (one, other) = (find(&fabric, &args.one).await?, find(&fabric, &args.other).await?);
    for (node, offer) in [&one, &other] {
        if !offer.jacktrip {
            bail!("JackTrip is not installed on {}: {}", node.node, crate::audio::jacktrip::INSTALL_HINT);
        }
        if offer.rate_hz == 0 {
            bail!("{} has no JACK server now; start one, then link again", node.node);
        }
    }
    if one.1.rate_hz != other.1.rate_hz {
        bail!("{} and {} can't be linked: {}", args.one, args.other, two_rates(&args, &one.1, &other.1));
    }
    let before = [before(&bus, &args.one, &args.other).await?, before(&bus, &args.other, &args.one).await?];
    let (mut signals, stop) = (Signals::new()?, CancellationToken::new());
    let work = set_up(&bus, &args, &before, &stop);
    tokio::pin!(work);
    let ends = tokio::select! {
        ends = &mut work => ends?,
        () = signals.next() => {
            stop.cancel();
            tokio::select! {
                ends = &mut work => ends?,
                () = signals.next() => bail!("stopped twice: {}", may_be_left(&args)),
            }
        }
    };
    if args.json {
        return print::json(&ends);
    }
    print::lines(&ends.iter().map(line).collect::<Vec<_>>())
}

/// What asks a program to end.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let hear = |kind: SignalKind| signal(kind).context("can't hear Ctrl-C");
        Ok(Self([hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?, hear(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Sets a link up one way or the other. Both hosts have it then, or both are as they were.
async fn set_up(
    bus: &Bus,
    args: &LinkArgs,
    before: &[Before; 2],
    stop: &CancellationToken,
) -> anyhow::Result<[Link; 2]> {
    let mut why = String::new();
    // Who waits must be reached by the other; it may be behind a firewall, and the other not.
    for (waits, calls) in [(&args.one, &args.other), (&args.other, &args.one)] {
        if stop.is_cancelled() {
            return Err(stopped(args));
        }
        let failed = match try_link(bus, args, waits, calls, stop).await {
            Ok(Ok(ends)) => return Ok(ends),
            Ok(Err(reason)) => {
                why = reason;
                None
            }
            Err(error) => Some(error),
        };
        // Half a link is none.
        let left = take_back(bus, before).await;
        match (failed, left) {
            (None, Ok(())) => {}
            (Some(error), Ok(())) => return Err(error),
            (failed, Err(left)) => {
                let failed = failed.unwrap_or_else(|| anyhow!("the link does not come up: {why}"));
                return Err(failed.context(format!("{left}; {}", may_be_left(args))));
            }
        }
    }
    bail!(
        "{} and {} do not reach each other: {why}; see that UDP passes between them, from port 4464 on",
        args.one,
        args.other
    )
}

fn stopped(args: &LinkArgs) -> anyhow::Error {
    anyhow!("stopped before audio flowed: {} and {} are as they were", args.one, args.other)
}

fn may_be_left(args: &LinkArgs) -> String {
    let (one, other) = (&args.one, &args.other);
    format!(
        "one host may have the link and the other not: `sidetone link {one} {other} --remove` takes away what is left"
    )
}

fn two_rates(args: &LinkArgs, one: &AudioOffer, other: &AudioOffer) -> String {
    other_rate(&args.other, other.rate_hz, one.rate_hz).replace("this host", &args.one)
}

/// Sets both ends up, and waits until audio flows; else says why it does not. No order is left in the middle when all is to
/// stop: what a host makes of it must be known.
async fn try_link(
    bus: &Bus,
    args: &LinkArgs,
    waits: &str,
    calls: &str,
    stop: &CancellationToken,
) -> anyhow::Result<Result<[Link; 2], String>> {
    let spec = |peer: &str, mode: &str, port: u16| LinkSpec {
        name: client_name(peer),
        mode: mode.to_owned(),
        peer: peer.to_owned(),
        port,
        channels: args.channels,
        queue: args.queue,
        redundancy: args.redundancy,
        ..LinkSpec::default()
    };
    let waiting = set(bus, waits, spec(calls, "p2p-server", args.port)).await?;
    if stop.is_cancelled() {
        return Err(stopped(args));
    }
    let calling = set(bus, calls, spec(waits, "p2p-client", waiting.spec.port)).await?;
    let until = Instant::now() + UP_TIMEOUT;
    loop {
        let (one, other) = try_join(look(bus, waits, &waiting.spec.name), look(bus, calls, &calling.spec.name)).await?;
        let ends = [one, other];
        if ends.iter().all(|end| end.state == LinkState::Up) {
            return Ok(Ok(ends));
        }
        if let Some(refused) = ends.iter().find(|end| end.state == LinkState::Refused) {
            bail!("{} refuses the link: {}", refused.node, refused.why);
        }
        if Instant::now() > until {
            let worst = ends.iter().find(|end| end.state != LinkState::Up);
            return Ok(Err(worst.map(|end| format!("{}: {}", end.node, end.why)).unwrap_or_default()));
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return Err(stopped(args)),
        }
    }
}

async fn remove(bus: &Bus, args: &LinkArgs) -> anyhow::Result<()> {
    // Both at once, and to the end: each takes 5 s at most.
    let _signals = Signals::new()?;
    let ends = [(&args.one, &args.other), (&args.other, &args.one)];
    let orders = ends.map(|(host, peer)| order(bus, host, LinkOrder::Remove { name: client_name(peer) }));
    let (mut removed, mut failed) = (Vec::new(), None);
    for ((host, _), done) in ends.into_iter().zip(join_all(orders).await) {
        match done {
            Ok(_) => removed.push(host.as_str()),
            Err(error) => failed = Some(error),
        }
    }
    match (removed.as_slice(), failed) {
        ([_, _], _) | (_, None) => print::lines(&[format!("{} and {} are no longer linked", args.one, args.other)]),
        ([], Some(error)) => Err(error),
        // The other end may be down, or gone for good.
        (removed, Some(error)) => {
            print::lines(&[format!("the link was taken away on {}", removed.join(" and "))])?;
            Err(error.context("but not on both"))
        }
    }
}

/// What a host had under the name of the link before.
struct Before {
    host: String,
    name: String,
    link: Option<Link>,
}

async fn before(bus: &Bus, host: &str, peer: &str) -> anyhow::Result<Before> {
    let name = client_name(peer);
    let link = order(bus, host, LinkOrder::List).await?.into_iter().find(|link| link.spec.name == name);
    Ok(Before { host: host.to_owned(), name, link })
}

/// Makes both hosts as they were before, at once; else says where that was not possible, and why.
async fn take_back(bus: &Bus, before: &[Before; 2]) -> Result<(), String> {
    let orders = before.iter().map(|Before { host, name, link }| async move {
        let back = match link {
            // Of the host's settings, which no order changes.
            Some(link) if link.configured => return None,
            Some(link) => LinkOrder::Set { link: link.spec.clone() },
            None => LinkOrder::Remove { name: name.clone() },
        };
        let error = order(bus, host, back).await.err()?;
        match error.downcast_ref::<BusError>() {
            // It never had it.
            Some(BusError::Fault(fault)) if link.is_none() && fault.code == FaultCode::NotFound => None,
            _ => Some(format!("{host} could not be made as it was: {error:#}")),
        }
    });
    let left: Vec<String> = join_all(orders).await.into_iter().flatten().collect();
    if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
}

async fn set(bus: &Bus, host: &str, link: LinkSpec) -> anyhow::Result<Link> {
    let links = order(bus, host, LinkOrder::Set { link }).await?;
    links.into_iter().next().with_context(|| format!("{host} took the link and tells nothing of it"))
}

async fn look(bus: &Bus, host: &str, name: &str) -> anyhow::Result<Link> {
    let links = order(bus, host, LinkOrder::List).await?;
    links.into_iter().find(|link| link.spec.name == name).with_context(|| format!("{host} has lost the link {name}"))
}

async fn order(bus: &Bus, host: &str, order: LinkOrder) -> anyhow::Result<Vec<Link>> {
    let answer = bus.ask(Target::Node(host), &order, &Call::within(ASK_TIMEOUT)).await;
    let links = answer.map_err(|error| match error {
        BusError::Nobody { .. } => anyhow::Error::from(error)
            .context(format!("host '{host}' was asked; it needs role audio, and `sidetone nodes` lists who has it")),
        _ => anyhow::Error::from(error).context(format!("host '{host}' was asked")),
    })?;
    Ok(links.links)
}

/// The host, and what it says of its audio.
async fn find(fabric: &Fabric, name: &str) -> anyhow::Result<(NodeInfo, AudioOffer)> {
    let nodes = fabric.nodes().await;
    let audio = |info: &NodeInfo| info.offers.iter().find_map(|offer| offer.audio.clone());
    let found = nodes.iter().find(|info| info.node == name);
    if let Some((info, offer)) = found.and_then(|info| Some((info.clone(), audio(info)?))) {
        return Ok((info, offer));
    }
    let able: Vec<&str> = nodes.iter().filter(|info| audio(info).is_some()).map(|info| info.node.as_str()).collect();
    let able =
        if able.is_empty() { "no host has".to_owned() } else { format!("those with it are {}", able.join(", ")) };
    let text = match found {
        Some(_) => format!("'{name}' has not role audio; {able}"),
        None => format!("there is no host '{name}' with role audio; {able}"),
    };
    Err(BusError::Nobody { subject: format!("audio on {name}") }).context(text)
}

/// The JACK client that stands for a host on another.
fn client_name(host: &str) -> String {
    let name: String = host.chars().map(|c| if ":*?[/ ".contains(c) || c.is_control() { '-' } else { c }).collect();
    name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 40).map(|(_, c)| c).collect()
}

fn line(end: &Link) -> String {
    let LinkSpec { name, channels, peer, .. } = &end.spec;
    format!(
        "{}: what {peer} sends comes out of {name}:receive_1 … {channels}, what goes into {name}:send_1 … {channels} is heard there",
        end.node
    )
}
