//! What to do about a graph now, so that the rules hold and no other program is fought.
//!
//! A connection that a rule wants is made when its ports are there, and made again when a port has gone and come again. A
//! connection that another program breaks stays away until then, unless the rule is pinned. A connection that a rule forbids is broken if it was made
//! within [`Policy::SETTLE`] after its ports came, as programs do that connect themselves; later it was made on purpose, and it
//! stays unless the rule is pinned. What the policy has made and no rule wants any more, because channels came or went, it
//! breaks itself.
//!
//! Nothing is asked of a client before it is active, since JACK would refuse, nor while its ports are still coming, since
//! channels are paired by how many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Connection, Rules};
use crate::audio::jack::{GraphPort, GraphState, client_of};

/// How long a step that JACK has taken may take to be seen: a view may be a period old.
const PENDING: Duration = Duration::from_millis(300);
/// How often a pinned rule puts one connection right within [`INSISTS_WITHIN`]: another program may insist as well.
const INSISTS: usize = 5;
/// See [`INSISTS`].
const INSISTS_WITHIN: Duration = Duration::from_secs(10);
/// The ports of a client come one after the other. It has all when none has come for so long …
const QUIET: Duration = Duration::from_millis(5);
/// … but it is not waited for longer than this.
const SWARM_MAX: Duration = Duration::from_millis(60);
/// JACK tells of a port within this after it can be seen.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// A step that JACK refused is tried again after this, doubling …
const RETRY_MIN: Duration = Duration::from_millis(10);
/// … up to this.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub kind: StepKind,
    /// The port that gives.
    pub source: String,
    /// The port that takes.
    pub sink: String,
    /// Whether it puts right a change of another program.
    pub again: bool,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// Connects two ports.
    Connect,
    /// Disconnects them.
    Part,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// JACK took it.
    Done,
    /// JACK did not; its client may not be active yet.
    Refused,
}

/// What JACK has reported of ports since the last look.
#[derive(Debug, Clone, Default)]
pub struct News {
    /// Those that have come, by name: also if one of the same name was there before.
    pub fresh: BTreeSet<String>,
    /// Whether any has gone. Only then can a port that comes be another of the same name.
    pub went: bool,
}

/// What is known of a connection that a rule wants or forbids.
#[derive(Debug, Clone, Default)]
struct Memory {
    /// The policy has asked for it and JACK took it.
    asked: Option<(StepKind, Duration)>,
    /// The policy has made it, and it was seen.
    ours: bool,
    /// It was seen at the last look.
    there: bool,
    /// When it was first seen since its ports came.
    seen: Option<Duration>,
    /// Another program decided about it: as it is, it stays.
    theirs: bool,
    /// When a pinned rule put it right, latest last.
    righted: Vec<Duration>,
    /// When to try again what JACK refused, and how long to wait after that.
    retry: Option<(Duration, Duration)>,
}

/// When a port came.
#[derive(Debug, Clone, Copy)]
struct Birth {
    at: Duration,
    /// Whether JACK has reported it. A view can show a port before that.
    is_told: bool,
    /// Whether ports have gone since, so that this may have been among them. If JACK tells of it again then, it is another
    /// port; else it is late with the news.
    may_have_gone: bool,
}

/// The ports of a client that came last.
#[derive(Debug, Clone, Copy)]
struct Swarm {
    began: Duration,
    latest: Duration,
    /// JACK has reported one of its ports: it is active.
    is_active: bool,
}

impl Swarm {
    /// When the client's ports may be connected.
    fn ready_at(&self) -> Duration {
        (self.latest + QUIET).min(self.began + SWARM_MAX)
    }
}

/// Decides; see the module.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Rules,
    births: BTreeMap<String, Birth>,
    /// Clients that came, or got ports, since the first look.
    swarms: BTreeMap<String, Swarm>,
    /// When what waits for a client can be done.
    ready_at: Option<Duration>,
    has_looked: bool,
    memory: BTreeMap<Connection, Memory>,
}

impl Policy {
    /// How long after its ports came a connection counts as a program's own.
    pub const SETTLE: Duration = Duration::from_secs(2);

    /// A policy that has seen nothing yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Takes up a connection that was made or broken on purpose, so that no rule undoes it at once.
    pub fn respect(&mut self, connection: &Connection) {
        let memory = self.memory.entry(connection.clone()).or_default();
        memory.theirs = true;
        memory.asked = None;
        memory.retry = None;
    }

    /// What is to be done. `now` is the time since any fixed moment.
    pub fn decide(&mut self, state: &GraphState, news: &News, now: Duration) -> Vec<Step> {
        self.note_ports(state, news, now);
        let wanted = self.wanted(state);
        self.note_connections(state, &wanted, now);
        self.ready_at = None;
        let mut steps = Vec::new();
        for (connection, pinned) in &wanted {
            self.want(connection, *pinned, now, &mut steps);
        }
        self.part(state, &wanted, now, &mut steps);
        self.memory.retain(|connection, memory| {
            memory.there || memory.asked.is_some() || memory.theirs || wanted.contains_key(connection)
        });
        steps
    }

    /// How a step went.
    pub fn done(&mut self, step: &Step, outcome: Outcome, now: Duration) {
        let memory = self.memory.entry((step.source.clone(), step.sink.clone())).or_default();
        match outcome {
            Outcome::Done => {
                memory.asked = Some((step.kind, now));
                memory.retry = None;
                if step.again {
                    memory.righted.push(now);
                }
            }
            Outcome::Refused => {
                let wait = memory.retry.map_or(RETRY_MIN, |(_, wait)| wait);
                memory.retry = Some((now + wait, (wait * 2).min(RETRY_MAX)));
            }
        }
    }

    /// When to decide again if nothing else happens: something is to be tried again, or must show by then.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        let of = |memory: &Memory| {
            let shows = memory.asked.map(|(_, at)| at + PENDING);
            let held = (memory.righted.len() >= INSISTS).then(|| memory.righted.first().map(|at| *at + INSISTS_WITHIN));
            [memory.retry.map(|(at, _)| at), shows, held.flatten()].into_iter().flatten().min()
        };
        self.memory.values().filter_map(of).chain(self.ready_at).min()
    }

    /// Whether JACK has refused this connection for about a second, which is longer than a client takes to become active.
    #[must_use]
    pub fn has_insisted(&self, connection: &Connection) -> bool {
        let retry = self.memory.get(connection).and_then(|memory| memory.retry);
        retry.is_some_and(|(_, wait)| wait >= RETRY_MAX)
    }

    /// Connections that JACK has refused, and that are tried again.
    pub fn refused(&self) -> impl Iterator<Item = &Connection> {
        self.memory.iter().filter(|(_, memory)| memory.retry.is_some()).map(|(connection, _)| connection)
    }

    /// Forgets ports that went, and all that was decided about them.
    fn note_ports(&mut self, state: &GraphState, news: &News, now: Duration) {
        let fresh = &news.fresh;
        let there: BTreeSet<&str> = state.ports.iter().map(|port| port.name.as_str()).collect();
        self.births.retain(|name, birth| {
            if now > birth.at + TOLD_WITHIN {
                birth.is_told = true;
            }
            birth.may_have_gone |= news.went;
            let is_other = fresh.contains(name) && std::mem::replace(&mut birth.is_told, true) && birth.may_have_gone;
            there.contains(name.as_str()) && !is_other
        });
        let births = &self.births;
        self.memory.retain(|(source, sink), _| births.contains_key(source) && births.contains_key(sink));
        let clients: BTreeSet<&str> = state.ports.iter().map(GraphPort::client).collect();
        self.swarms.retain(|client, _| clients.contains(client.as_str()));
        for port in &state.ports {
            let is_told = !self.has_looked || fresh.contains(&port.name);
            // It may be another already, of which JACK tells next.
            let may_have_gone = self.has_looked && news.went;
            let birth = self.births.entry(port.name.clone()).or_insert(Birth { at: now, is_told, may_have_gone });
            if !self.has_looked || birth.at != now && !is_told {
                continue;
            }
            let new = Swarm { began: now, latest: now, is_active: false };
            let swarm = self.swarms.entry(port.client().to_owned()).or_insert(new);
            swarm.is_active |= is_told;
            if birth.at == now {
                if now >= swarm.latest + QUIET {
                    swarm.began = now;
                }
                swarm.latest = now;
            }
        }
        self.has_looked = true;
    }

    /// Whether a client may be asked for connections now; else notes when it may, if only time is missing.
    fn is_ready(&mut self, port: &str, now: Duration) -> bool {
        let Some(swarm) = self.swarms.get(client_of(port)) else { return true };
        if swarm.is_active && now >= swarm.ready_at() {
            return true;
        }
        if swarm.is_active {
            let at = swarm.ready_at();
            self.ready_at = Some(self.ready_at.map_or(at, |before| before.min(at)));
        }
        // Not every server tells.
        !swarm.is_active && now > swarm.latest + TOLD_WITHIN
    }

    /// Whether both ends of a connection are ready.
    fn are_ready(&mut self, (source, sink): &Connection, now: Duration) -> bool {
        let (source, sink) = (self.is_ready(source, now), self.is_ready(sink, now));
        source && sink
    }

    /// What the rules want, and whether it is pinned.
    fn wanted(&self, state: &GraphState) -> BTreeMap<Connection, bool> {
        let mut wanted = BTreeMap::new();
        for rule in &self.rules.connect {
            for connection in rule.wanted(state) {
                *wanted.entry(connection).or_insert(false) |= rule.pinned;
            }
        }
        wanted
    }

    /// Compares what is there with what was there before.
    fn note_connections(&mut self, state: &GraphState, wanted: &BTreeMap<Connection, bool>, now: Duration) {
        for connection in &state.connections {
            let memory = self.memory.entry(connection.clone()).or_default();
            memory.seen.get_or_insert(now);
            if !memory.there {
                memory.there = true;
                match memory.asked {
                    Some((StepKind::Connect, _)) => {
                        memory.ours = true;
                        memory.theirs = false;
                        memory.asked = None;
                    }
                    Some((StepKind::Part, _)) | None => {}
                }
            }
            // It is there in spite of what JACK took: a rule that still forbids it asks again.
            memory.asked = memory.asked.filter(|(_, at)| now < *at + PENDING);
            memory.righted.retain(|at| now < *at + INSISTS_WITHIN);
            memory.retry = memory.retry.filter(|_| !wanted.contains_key(connection));
        }
        for (connection, memory) in &mut self.memory {
            if state.connections.contains(connection) {
                continue;
            }
            let was_there = std::mem::take(&mut memory.there);
            // A connection that is away need not be broken, whatever JACK said to that.
            memory.retry = memory.retry.filter(|_| wanted.contains_key(connection));
            match memory.asked {
                Some((StepKind::Part, _)) => {
                    // Broken as asked. A connection that was not ours comes again only if another program insists.
                    memory.asked = None;
                    memory.theirs = !std::mem::take(&mut memory.ours);
                }
                // Asked for and not seen yet: a view may be a period old.
                Some((StepKind::Connect, at)) if now < at + PENDING => {}
                Some((StepKind::Connect, _)) => {
                    memory.asked = None;
                    memory.theirs = true;
                }
                None if was_there => {
                    memory.theirs = true;
                    memory.ours = false;
                }
                None => {}
            }
            memory.righted.retain(|at| now < *at + INSISTS_WITHIN);
        }
    }

    fn want(&mut self, connection: &Connection, pinned: bool, now: Duration, steps: &mut Vec<Step>) {
        let memory = self.memory.entry(connection.clone()).or_default();
        let pending = memory.asked.is_some();
        let holds_back = memory.retry.is_some_and(|(at, _)| now < at) || memory.righted.len() >= INSISTS;
        if memory.there || pending || holds_back || (memory.theirs && !pinned) {
            return;
        }
        let again = memory.theirs;
        if self.are_ready(connection, now) {
            let (source, sink) = connection.clone();
            steps.push(Step { kind: StepKind::Connect, source, sink, again });
        } else if let Some(memory) = self.memory.get_mut(connection) {
            // When they are ready, or are reported, is when to try again.
            memory.retry = None;
        }
    }

    /// Breaks connections that are forbidden, and those that were made for channels that are others now.
    fn part(&mut self, state: &GraphState, wanted: &BTreeMap<Connection, bool>, now: Duration, steps: &mut Vec<Step>) {
        let ports: BTreeMap<&str, &GraphPort> = state.ports.iter().map(|port| (port.name.as_str(), port)).collect();
        for connection in state.connections.iter().filter(|connection| !wanted.contains_key(*connection)) {
            let (source, sink) = connection;
            let (Some(from), Some(to)) = (ports.get(source.as_str()), ports.get(sink.as_str())) else { continue };
            // The connection that is to replace it may have to wait.
            let is_ours = self.memory.get(connection).is_some_and(|memory| memory.ours && !memory.theirs);
            let is_left_over = is_ours && self.are_ready(connection, now);
            let Some(memory) = self.memory.get_mut(connection) else { continue };
            let forbids = self.rules.disconnect.iter().filter(|rule| rule.forbids(from, to));
            let (mut is_forbidden, mut pinned) = (false, false);
            for rule in forbids {
                (is_forbidden, pinned) = (true, pinned | rule.pinned);
            }
            let born = |name: &String| self.births.get(name).map(|birth| birth.at).unwrap_or_default();
            let by_program = memory.seen.is_some_and(|seen| seen <= born(source).max(born(sink)) + Self::SETTLE);
            let part = is_left_over || pinned || (is_forbidden && by_program && !memory.theirs);
            if !part {
                memory.retry = None;
            }
            let pending = memory.asked.is_some_and(|(_, at)| now < at + PENDING);
            let holds_back = memory.retry.is_some_and(|(at, _)| now < at) || memory.righted.len() >= INSISTS;
            if part && !pending && !holds_back {
                let again = pinned && (memory.theirs || !by_program);
                steps.push(Step { kind: StepKind::Part, source: source.clone(), sink: sink.clone(), again });
            }
        }
    }
}
