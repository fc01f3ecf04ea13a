//! Making a graph as it was saved, once: the changes that this takes, and those that can't be made.

use std::collections::BTreeSet;

use super::{ConnectRule, Connection};
use crate::audio::jack::{GraphPort, GraphState, PortFlow};

/// What a saved graph asks of the one that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be made.
    pub make: Vec<Connection>,
    /// To be disconnected, if the graph is to be exactly so.
    pub part: Vec<Connection>,
    /// There already.
    pub there: Vec<Connection>,
    /// What can't be, as it was written, and why.
    pub missing: Vec<Missing>,
}

/// A saved connection that can't be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What gives.
    pub from: String,
    /// What takes.
    pub to: String,
    /// Why it can't be.
    pub why: String,
}

impl Plan {
    /// Compares `rules` with the graph. With `is_exact`, connections that no rule wants are broken.
    #[must_use]
    pub fn new(rules: &[ConnectRule], state: &GraphState, is_exact: bool) -> Self {
        let mut plan = Self::default();
        let mut wanted = BTreeSet::new();
        for rule in rules {
            let connections = rule.wanted(state);
            if connections.is_empty() {
                let (from, to) = (rule.from.text().to_owned(), rule.to.text().to_owned());
                plan.missing.push(Missing { from, to, why: why_not(rule, state) });
            }
            wanted.extend(connections);
        }
        for connection in &wanted {
            if state.connections.contains(connection) {
                plan.there.push(connection.clone());
            } else {
                plan.make.push(connection.clone());
            }
        }
        if is_exact {
            plan.part = state.connections.difference(&wanted).cloned().collect();
        }
        plan
    }
}

/// Why a rule wants nothing of this graph.
fn why_not(rule: &ConnectRule, state: &GraphState) -> String {
    let matching = |pattern: &super::PortPattern| -> Vec<&GraphPort> {
        state.ports.iter().filter(|port| pattern.matches(port)).collect()
    };
    let (from, to) = (matching(&rule.from), matching(&rule.to));
    for (pattern, found) in [(&rule.from, &from), (&rule.to, &to)] {
        if found.is_empty() {
            let text = pattern.text();
            let client = text.split(':').next().unwrap_or_default();
            let is_there = state.ports.iter().any(|port| port.client() == client);
            return match (pattern.is_exact(), is_there) {
                (true, true) => format!("client '{client}' has no port '{text}' now"),
                (true, false) => format!("client '{client}' is not running"),
                (false, _) => format!("no port matches '{text}'"),
            };
        }
    }
    if !from.iter().any(|port| port.flow == PortFlow::Source) {
        return format!("'{}' takes and gives nothing", rule.from.text());
    }
    if !to.iter().any(|port| port.flow == PortFlow::Sink) {
        return format!("'{}' gives and takes nothing", rule.to.text());
    }
    "their kinds, clients or channels do not fit each other".to_owned()
}
