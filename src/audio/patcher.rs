//! Connects and disconnects ports as rules say: looks at the graph, makes the changes, and tells the policy how that went.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::graph::{ConnectRule, Connection, Missing, News, Outcome, Plan, Policy, Rules, Step, StepKind};
use super::jack::{ConnectError, GraphState, Patchbay};

/// How often to look even if JACK reports nothing: it does not report latencies.
const TICK: Duration = Duration::from_secs(1);
/// How soon to look again at the earliest.
const SOON: Duration = Duration::from_millis(1);
/// See [`Looked::breath`].
const BREATH_MAX: Duration = Duration::from_millis(5);

/// Keeps rules on one server, as long as one client lives.
#[derive(Debug)]
pub struct Patcher {
    policy: Policy,
    begun: Instant,
    /// How many ports had gone at the last look.
    departures: u64,
    /// The connections whose refusal was reported.
    refused: BTreeSet<Connection>,
}

/// What was seen and done.
#[derive(Debug)]
pub struct Looked {
    /// The graph before anything was done.
    pub state: GraphState,
    /// Changes of other programs that were put right.
    pub righted: Vec<Step>,
    /// What JACK refuses, and why; it is tried again. Reported once each.
    pub refused: Vec<(Connection, String)>,
    /// How long until the next look, if JACK reports nothing before.
    pub next: Duration,
    /// How long to leave the machine to others first, whatever JACK reports: changes come in swarms, each reported by itself.
    /// As long as the look took, 5 ms at most.
    pub breath: Duration,
}

impl Patcher {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { policy: Policy::new(rules), begun: Instant::now(), departures: 0, refused: BTreeSet::new() }
    }

    /// Looks at the graph, and makes the changes that the rules want.
    pub fn look(&mut self, bay: Patchbay<'_>) -> Looked {
        let begun = Instant::now();
        // Before the view: a port that comes in between is reported with the next one.
        let fresh = bay.take_fresh();
        let departures = bay.watch().departures();
        let went = std::mem::replace(&mut self.departures, departures) != departures;
        let state = bay.state();
        let fresh = fresh.unwrap_or_else(|| state.ports.iter().map(|port| port.name.clone()).collect());
        let steps = self.policy.decide(&state, &News { fresh, went }, self.begun.elapsed());
        // One right after the other: of calls in a row few take long, as if JACK copied its graph once a period.
        let done: Vec<_> = steps.iter().map(|step| take(bay, step)).collect();
        let (righted, refused, breath) = (Vec::new(), Vec::new(), BREATH_MAX);
        let mut looked = Looked { state, righted, refused, next: TICK, breath };
        tell(&steps, &done);
        let now = self.begun.elapsed();
        for (step, done) in steps.into_iter().zip(done) {
            let outcome = if done.is_ok() { Outcome::Done } else { Outcome::Refused };
            self.policy.done(&step, outcome, now);
            let connection = (step.source.clone(), step.sink.clone());
            match done {
                Ok(()) => {
                    self.refused.remove(&connection);
                    looked.righted.extend(step.again.then_some(step));
                }
                Err(error) if self.policy.has_insisted(&connection) && self.refused.insert(connection.clone()) => {
                    looked.refused.push((connection, error.to_string()));
                }
                Err(_) => {}
            }
        }
        let next = self.policy.next_look();
        looked.next = next.map_or(TICK, |at| at.saturating_sub(self.begun.elapsed()).clamp(SOON, TICK));
        looked.breath = begun.elapsed().min(BREATH_MAX).min(looked.next);
        looked
    }

    /// Makes the connections of `rules` once; with `is_exact` disconnects all others. No rule of its own undoes that at once.
    pub fn restore(&mut self, bay: Patchbay<'_>, rules: &[ConnectRule], is_exact: bool) -> Plan {
        let plan = restore(bay, rules, is_exact);
        for connection in plan.make.iter().chain(&plan.part) {
            self.policy.respect(connection);
        }
        plan
    }
}

/// Makes the connections of `rules` once; with `is_exact` disconnects all others. What JACK refuses is among what is missing.
#[must_use]
pub fn restore(bay: Patchbay<'_>, rules: &[ConnectRule], is_exact: bool) -> Plan {
    let mut plan = Plan::new(rules, &bay.state(), is_exact);
    let mut refused = Vec::new();
    let mut keep = |connection: &Connection, done: Result<(), ConnectError>| {
        let Err(error) = done else { return true };
        let (from, to) = connection.clone();
        refused.push(Missing { from, to, why: error.to_string() });
        false
    };
    plan.make.retain(|connection| keep(connection, bay.connect(&connection.0, &connection.1)));
    plan.part.retain(|connection| keep(connection, bay.disconnect(&connection.0, &connection.1)));
    plan.missing.extend(refused);
    plan
}

fn take(bay: Patchbay<'_>, step: &Step) -> Result<(), ConnectError> {
    match step.kind {
        StepKind::Connect => bay.connect(&step.source, &step.sink),
        StepKind::Part => bay.disconnect(&step.source, &step.sink),
    }
}

/// A line for all that was done at once.
fn tell(steps: &[Step], done: &[Result<(), ConnectError>]) {
    let (mut connected, mut parted, mut first) = (0, 0, None);
    for (step, done) in steps.iter().zip(done) {
        let (source, sink) = (&step.source, &step.sink);
        match done {
            Ok(()) => {
                tracing::debug!(source, sink, again = step.again, "JACK graph: {:?}", step.kind);
                let count = if step.kind == StepKind::Connect { &mut connected } else { &mut parted };
                *count += 1;
                first.get_or_insert((source, sink));
            }
            Err(error) => tracing::debug!(source, sink, %error, "JACK graph"),
        }
    }
    if let Some((source, sink)) = first {
        tracing::info!(connected, parted, source, sink, "JACK graph patched; the first of it is named");
    }
}
