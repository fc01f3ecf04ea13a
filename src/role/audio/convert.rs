//! Between settings, the bus, and what the audio side takes.

use crate::audio::GraphReport;
use crate::audio::graph::{Channels, ConnectRule, Connection, DisconnectRule, PortPattern, Rules};
use crate::audio::jack::{GraphPort, GraphState, Latency, PortKind};
use crate::audio::{PortFlow, graph, jacktrip};
use crate::bus::message::audio as wire;
use crate::bus::message::fault::Fault;
use crate::config::{AudioConfig, ConnectConfig, LinkConfig, LinkMode, PortType};

/// The rules of the settings.
///
/// # Errors
/// Which setting makes no sense, why, and what would do.
pub fn rules(config: &AudioConfig) -> Result<Rules, String> {
    let connect = config
        .connect
        .iter()
        .enumerate()
        .map(|(at, rule)| connect_rule(rule).map_err(|why| format!("audio.connect, the {}: {why}", nth(at))));
    let disconnect = config.disconnect.iter().enumerate().map(|(at, rule)| {
        let pattern =
            |text: &str| PortPattern::new(text).map_err(|why| format!("audio.disconnect, the {}: {why}", nth(at)));
        let kind = rule.kind.map(kind_of);
        Ok(DisconnectRule { from: pattern(&rule.from)?, to: pattern(&rule.to)?, kind, pinned: rule.pinned })
    });
    Ok(Rules { connect: connect.collect::<Result<_, _>>()?, disconnect: disconnect.collect::<Result<_, String>>()? })
}

/// One rule of the settings.
///
/// # Errors
/// Why it makes no sense.
pub fn connect_rule(rule: &ConnectConfig) -> Result<ConnectRule, String> {
    let pattern = |text: &str| PortPattern::new(text).map_err(|error| error.to_string());
    let channels = match rule.channels.as_str() {
        "" => Channels::Auto,
        text => text.parse().map_err(|error: graph::ChannelsError| error.to_string())?,
    };
    let kind = rule.kind.map(kind_of);
    Ok(ConnectRule { from: pattern(&rule.from)?, to: pattern(&rule.to)?, kind, channels, pinned: rule.pinned })
}

fn nth(at: usize) -> String {
    match at {
        0 => "1st".to_owned(),
        1 => "2nd".to_owned(),
        2 => "3rd".to_owned(),
        _ => format!("{}th", at + 1),
    }
}

const fn kind_of(kind: PortType) -> PortKind {
    match kind {
        PortType::Audio => PortKind::Audio,
        PortType::Midi => PortKind::Midi,
    }
}

/// A rule that came by the bus.
///
/// # Errors
/// Why it makes no sense.
pub fn wire_rule(rule: &wire::Rule) -> Result<ConnectRule, Fault> {
    let kind = match rule.kind.as_deref() {
        None => None,
        Some("audio") => Some(PortType::Audio),
        Some("midi") => Some(PortType::Midi),
        Some(other) => return Err(Fault::invalid(format!("type is {other:?}; it must be \"audio\" or \"midi\""))),
    };
    let wire::Rule { from, to, channels, .. } = rule.clone();
    connect_rule(&ConnectConfig { from, to, kind, channels, pinned: false }).map_err(Fault::invalid)
}

/// The same rule for the bus.
#[must_use]
pub fn to_wire_rule(rule: &ConnectConfig) -> wire::Rule {
    let kind = rule.kind.map(|kind| if kind == PortType::Audio { "audio" } else { "midi" }.to_owned());
    wire::Rule { from: rule.from.clone(), to: rule.to.clone(), kind, channels: rule.channels.clone() }
}

/// A graph as the bus tells it.
#[must_use]
pub fn graph(node: &str, report: &GraphReport) -> wire::Graph {
    wire::Graph {
        node: node.to_owned(),
        down: report.down.clone(),
        rate_hz: report.rate_hz,
        period_frames: report.buffer_frames,
        xruns: report.xruns,
        ports: report.state.ports.iter().map(port).collect(),
        connections: connections(&report.state.connections),
    }
}

fn port(port: &GraphPort) -> wire::Port {
    let range = |latency: Latency| [latency.min_frames, latency.max_frames];
    wire::Port {
        name: port.name.clone(),
        kind: match port.kind {
            PortKind::Audio => "audio",
            PortKind::Midi => "midi",
            PortKind::Other => "other",
        }
        .to_owned(),
        gives: port.flow == PortFlow::Source,
        aliases: port.aliases.clone(),
        pretty_name: port.pretty_name.clone(),
        physical: port.is_physical,
        capture_frames: range(port.capture),
        playback_frames: range(port.playback),
    }
}

/// Connections as the bus tells them.
pub fn connections<'a>(list: impl IntoIterator<Item = &'a Connection>) -> Vec<wire::Connection> {
    list.into_iter().map(|(from, to)| wire::Connection { from: from.clone(), to: to.clone() }).collect()
}

/// What became of a plan, as the bus tells it.
#[must_use]
pub fn applied(node: &str, plan: &graph::Plan) -> wire::Applied {
    let missing = |missing: &graph::Missing| wire::Missing {
        from: missing.from.clone(),
        to: missing.to.clone(),
        why: missing.why.clone(),
    };
    wire::Applied {
        node: node.to_owned(),
        made: connections(&plan.make),
        parted: connections(&plan.part),
        there: connections(&plan.there),
        missing: plan.missing.iter().map(missing).collect(),
    }
}

/// Whether a client of this name has ports.
#[must_use]
pub fn has_client(state: &GraphState, name: &str) -> bool {
    state.ports.iter().any(|port| port.client() == name)
}

/// A link of an order, with the usual values where it names none.
///
/// # Errors
/// What makes no sense, and what would do.
pub fn link_config(spec: &wire::LinkSpec) -> Result<LinkConfig, Fault> {
    let mode = MODES.iter().find(|(_, name)| *name == spec.mode).map(|(mode, _)| *mode).ok_or_else(|| {
        let names = MODES.map(|(_, name)| name).join(", ");
        Fault::invalid(format!("there is no mode {:?}; there are {names}", spec.mode))
    })?;
    let usual = LinkConfig::new(&spec.name, mode, &spec.peer);
    let or = |given: u16, usual: u16| if given == 0 { usual } else { given };
    Ok(LinkConfig {
        port: or(spec.port, usual.port),
        bind_port: spec.bind_port,
        channels: or(spec.channels, usual.channels),
        queue: or(spec.queue, usual.queue),
        redundancy: or(spec.redundancy, usual.redundancy),
        bits: or(spec.bits, usual.bits),
        ..usual
    })
}

const MODES: [(LinkMode, &str); 4] = [
    (LinkMode::P2pServer, "p2p-server"),
    (LinkMode::P2pClient, "p2p-client"),
    (LinkMode::HubServer, "hub-server"),
    (LinkMode::HubClient, "hub-client"),
];

/// A link as the bus tells it.
#[must_use]
pub fn link_spec(link: &LinkConfig) -> wire::LinkSpec {
    let mode = MODES.iter().find(|(mode, _)| *mode == link.mode).map_or("", |(_, name)| name);
    wire::LinkSpec {
        name: link.name.clone(),
        mode: mode.to_owned(),
        peer: link.peer.clone(),
        port: link.port,
        bind_port: link.bind_port,
        channels: link.channels,
        queue: link.queue,
        redundancy: link.redundancy,
        bits: link.bits,
    }
}

/// How JackTrip is run for a link; `peer` is the address that is called, `node` this host.
#[must_use]
pub fn invocation(link: &LinkConfig, peer: &str, node: &str) -> jacktrip::Invocation {
    let end = match link.mode {
        LinkMode::P2pServer => jacktrip::End::P2pServer,
        LinkMode::P2pClient => jacktrip::End::P2pClient,
        LinkMode::HubServer => jacktrip::End::HubServer,
        LinkMode::HubClient => jacktrip::End::HubClient,
    };
    jacktrip::Invocation {
        name: link.name.clone(),
        end,
        peer: peer.to_owned(),
        port: link.port,
        bind_port: link.bind_port,
        channels: link.channels,
        queue: link.queue,
        redundancy: link.redundancy,
        bits: link.bits,
        remote_name: node.replace(':', "-"),
        hub_base_port: link.hub_base_port,
    }
}
