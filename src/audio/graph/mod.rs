//! The connections that a JACK server should have: rules, and what they mean for the ports that are there. Pure: takes a view of
//! the graph and the time, gives steps.
//!
//! | module | what |
//! | --- | --- |
//! | [`pattern`] | which ports a rule means |
//! | [`channels`] | which channel goes to which |
//! | [`policy`] | what to do now, and what to leave to people |
//! | [`restore`] | a graph made as it was, once |

pub mod channels;
pub mod pattern;
pub mod policy;
pub mod restore;

pub use channels::{Channels, ChannelsError};
pub use pattern::{PortPattern, PortPatternError};
pub use policy::{News, Outcome, Policy, Step, StepKind};
pub use restore::{Missing, Plan};

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::jack::{GraphPort, GraphState, PortFlow, PortKind};

/// A connection, as (source, sink).
pub type Connection = (String, String);

/// Ports that are to be connected.
#[derive(Debug, Clone)]
pub struct ConnectRule {
    /// What gives.
    pub from: PortPattern,
    /// What takes.
    pub to: PortPattern,
    /// Only ports of this kind; `None`: of any, each to its own.
    pub kind: Option<PortKind>,
    /// Which channel goes to which.
    pub channels: Channels,
    /// Whether it is made again when another program disconnects it.
    pub pinned: bool,
}

/// Ports that are not to be connected.
#[derive(Debug, Clone)]
pub struct DisconnectRule {
    /// What gives.
    pub from: PortPattern,
    /// What takes.
    pub to: PortPattern,
    /// Only ports of this kind.
    pub kind: Option<PortKind>,
    /// Whether a connection that is made later is disconnected as well.
    pub pinned: bool,
}

/// Everything that is wanted of a graph.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The connections to make.
    pub connect: Vec<ConnectRule>,
    /// The connections to break; those that a rule of `connect` wants are left alone.
    pub disconnect: Vec<DisconnectRule>,
}

impl ConnectRule {
    /// The connections that it wants among `state`'s ports.
    ///
    /// Ports are counted by client, in the order of their names with numbers by their value. The ports of one client are
    /// connected with each other only if both are named exactly.
    #[must_use]
    pub fn wanted(&self, state: &GraphState) -> Vec<Connection> {
        let mut wanted = Vec::new();
        let sources = self.groups(state, PortFlow::Source, &self.from);
        if sources.is_empty() {
            return wanted;
        }
        let sinks = self.groups(state, PortFlow::Sink, &self.to);
        for ((source_kind, source_client), sources) in &sources {
            for ((sink_kind, sink_client), sinks) in &sinks {
                let is_loop = source_client == sink_client && !(self.from.is_exact() && self.to.is_exact());
                if source_kind != sink_kind || is_loop {
                    continue;
                }
                for (source, sink) in self.channels.pairs(sources.len(), sinks.len()) {
                    if let (Some(source), Some(sink)) = (sources.get(source), sinks.get(sink)) {
                        wanted.push((source.name.clone(), sink.name.clone()));
                    }
                }
            }
        }
        wanted
    }

    /// The ports that `pattern` means, by kind and client.
    fn groups<'a>(
        &self,
        state: &'a GraphState,
        flow: PortFlow,
        pattern: &PortPattern,
    ) -> BTreeMap<(PortKind, &'a str), Vec<&'a GraphPort>> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for port in &state.ports {
            let fits = port.flow == flow && self.kind.is_none_or(|kind| kind == port.kind);
            if fits && pattern.matches(port) {
                groups.entry((port.kind, port.client())).or_default().push(port);
            }
        }
        for ports in groups.values_mut() {
            ports.sort_by(|a, b| natural(&a.name, &b.name));
        }
        groups
    }
}

impl DisconnectRule {
    /// Whether it is against a connection between these ports.
    #[must_use]
    pub fn forbids(&self, source: &GraphPort, sink: &GraphPort) -> bool {
        self.kind.is_none_or(|kind| kind == source.kind) && self.from.matches(source) && self.to.matches(sink)
    }
}

/// Names in the order in which people count: `out_2` before `out_10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (digits_a, digits_b) = (digits(a), digits(b));
        if !digits_a.is_empty() && !digits_b.is_empty() {
            let (value_a, value_b) = (digits_a.trim_start_matches('0'), digits_b.trim_start_matches('0'));
            let order = value_a.len().cmp(&value_b.len()).then_with(|| value_a.cmp(value_b));
            // Of `1` and `01` the shorter comes first, so that the order is total.
            let order = order.then_with(|| digits_a.len().cmp(&digits_b.len()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (a.get(digits_a.len()..).unwrap_or_default(), b.get(digits_b.len()..).unwrap_or_default());
            continue;
        }
        let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
        match (rest_a.next(), rest_b.next()) {
            (None, None) => return Ordering::Equal,
            (one, other) if one != other => return one.cmp(&other),
            _ => (a, b) = (rest_a.as_str(), rest_b.as_str()),
        }
    }
}

fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
