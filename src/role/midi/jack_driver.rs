//! Devices by JACK: a client that is kept alive, whose ports are connected to the devices that are there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::driver::{Driver, PortPlan};
use super::engine::Engine;
use crate::audio::jack::alive::{Down, Next, Stopped, Supervised, keep_alive};
use crate::audio::jack::{GraphClient, GraphState, JackError, MidiClient, MidiSettings, PortFlow, PortKind, Watch};
use crate::audio::midi::MidiRings;
use crate::telemetry::health::Part;

/// How often the graph is looked at even if JACK reports nothing …
const LOOK: Duration = Duration::from_millis(500);
/// … and while a port takes no connection yet.
const LOOK_SOON: Duration = Duration::from_millis(50);
/// What has a time is sent two periods and this much ahead: a period that is under way, and one for a thread that is late.
const MARGIN_US: u64 = 3_000;

/// JACK's client as a driver.
struct JackDriver {
    client: MidiClient,
    rings: MidiRings,
    watch: Arc<Watch>,
}

impl Driver for JackDriver {
    fn now_us(&self) -> u64 {
        self.client.now_us()
    }

    fn period_us(&self) -> u64 {
        u64::from(self.watch.buffer_frames()) * 1_000_000 / u64::from(self.watch.rate_hz().max(1))
    }

    fn lead_us(&self) -> u64 {
        2 * self.period_us() + MARGIN_US
    }

    fn send(&mut self, port: usize, at_us: Option<u64>, keep: bool, bytes: &[u8]) -> bool {
        match at_us {
            Some(at_us) => self.rings.send_at(port, at_us, keep, bytes),
            None => self.rings.send(port, bytes),
        }
    }

    fn flush(&mut self) {
        self.rings.flush();
    }

    fn receive(&mut self, take: &mut dyn FnMut(usize, u64, &[u8])) {
        self.rings.receive(take);
    }

    fn lost(&self) -> u64 {
        self.rings.counts().lost()
    }

    fn is_idle(&self) -> bool {
        self.watch.is_down() || self.rings.is_idle()
    }
}

/// What the supervisor works with.
pub struct DriverSupervisor {
    /// The client's name.
    pub client: String,
    /// The server's, if one is named.
    pub server: Option<String>,
    /// The ports and their devices.
    pub plans: Vec<PortPlan>,
    /// Who plays.
    pub engine: Engine,
    /// Fires when it is to end.
    pub stop: Arc<AtomicBool>,
}

impl DriverSupervisor {
    /// Works until it is stopped. JACK need not be there.
    pub fn run(self) {
        let stop = Arc::clone(&self.stop).into();
        let part = Part::new("midi", &self.client);
        keep_alive(&mut Midi { set: self, part }, &stop);
    }
}

/// What is kept alive.
struct Midi {
    set: DriverSupervisor,
    part: Part,
}

/// An open client.
struct Open {
    /// Until the engine has them.
    driver: Option<JackDriver>,
    watch: Arc<Watch>,
    graph: GraphClient,
    /// Connections that were refused.
    failed: BTreeSet<(String, String)>,
    /// Whether all devices are new.
    all: bool,
}

impl Supervised for Midi {
    type Client = Open;

    fn open(&mut self) -> Result<Open, JackError> {
        let DriverSupervisor { client, server, plans, engine, .. } = &self.set;
        let (inputs, outputs) = plans.iter().map(PortPlan::ends).unzip();
        let settings = MidiSettings { client_name: client.clone(), server: server.clone(), inputs, outputs };
        let (opened, rings) = MidiClient::open(&settings, engine.thread())?;
        let watch = Arc::clone(opened.watch());
        let graph = GraphClient::open(&format!("{client}-graph"), server.as_deref())?;
        let driver = Some(JackDriver { client: opened, rings, watch: Arc::clone(&watch) });
        Ok(Open { driver, watch, graph, failed: BTreeSet::new(), all: true })
    }

    fn is_down(open: &Open) -> bool {
        open.watch.is_down() || open.graph.watch().is_down()
    }

    fn changes(open: &Open) -> u64 {
        open.graph.watch().graph_changes() + open.watch.graph_changes()
    }

    fn up(&mut self, open: &mut Open) -> Result<(), Stopped> {
        if let Some(driver) = open.driver.take() {
            let is_first = self.set.engine.attach(Box::new(driver));
            self.part.up();
            tracing::info!(client = self.set.client, is_first, "MIDI is there");
        }
        Ok(())
    }

    /// Connects devices as they come.
    fn look(&mut self, open: &mut Open, is_due: bool) -> Result<Option<Next>, Stopped> {
        Ok(is_due.then(|| {
            self.set.connect(open);
            let within = if open.failed.is_empty() { LOOK } else { LOOK_SOON };
            Next { within, breath: Duration::ZERO }
        }))
    }

    fn close(&mut self, open: Open) {
        // Both before anything is opened again: libjack wants all clients of a dead server closed first.
        drop(open);
        let driver = self.set.engine.detach();
        drop(driver);
    }

    fn down(&mut self, why: &Down) -> Result<(), Stopped> {
        let reason = why.to_string();
        self.part.down(&reason);
        if let Down::Unopened(error) = why {
            let hint = match error {
                JackError::NameTaken { .. } => "; set midi.client, if two hosts are to have MIDI on one JACK server",
                _ => "",
            };
            tracing::warn!(reason = format!("{reason}{hint}"), "no MIDI");
            self.set.engine.report(format!("no MIDI: {reason}{hint}"));
        }
        Ok(())
    }
}

impl DriverSupervisor {
    fn connect(&self, open: &mut Open) {
        let Open { graph, failed, all, .. } = open;
        let fresh = graph.take_fresh();
        let state = graph.state();
        for (source, sink) in self.wanted(&state) {
            let device = if source.starts_with(&format!("{}:", self.client)) { &sink } else { &source };
            let is_new = *all || fresh.as_ref().is_none_or(|fresh| fresh.contains(device));
            let pair = (source.clone(), sink.clone());
            if !is_new && !failed.contains(&pair) || state.connections.contains(&pair) {
                failed.remove(&pair);
                continue;
            }
            match graph.connect(&source, &sink) {
                Ok(()) => {
                    failed.remove(&pair);
                    tracing::info!(source, sink, "MIDI device connected");
                }
                Err(error) => {
                    tracing::debug!(source, sink, %error, "MIDI device not connected yet");
                    failed.insert(pair);
                }
            }
        }
        let there: BTreeSet<&str> = state.ports.iter().map(|port| port.name.as_str()).collect();
        failed.retain(|(source, sink)| there.contains(source.as_str()) && there.contains(sink.as_str()));
        *all = false;
        // As it was before: of a device that went and came again meanwhile it must be seen that it was away.
        self.tell(&state);
    }

    /// The connections that the plans want among the ports that are there.
    fn wanted(&self, state: &GraphState) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for plan in &self.plans {
            let (input, output) = plan.ends();
            for port in state.ports.iter().filter(|port| port.kind == PortKind::Midi && port.client() != self.client) {
                let names = || {
                    let aliases = port.aliases.iter().map(String::as_str);
                    [port.name.as_str()].into_iter().chain(aliases).chain(port.pretty_name.as_deref())
                };
                let (matcher, pair) = match port.flow {
                    PortFlow::Source => (&plan.input, (port.name.clone(), format!("{}:{input}", self.client))),
                    PortFlow::Sink => (&plan.output, (format!("{}:{output}", self.client), port.name.clone())),
                };
                if matcher.as_ref().is_some_and(|matcher| matcher.hits(names())) {
                    out.push(pair);
                }
            }
        }
        out
    }

    /// Tells the engine who is connected to what.
    fn tell(&self, state: &GraphState) {
        for (at, plan) in self.plans.iter().enumerate() {
            let (input, output) = plan.ends();
            let (input, output) = (format!("{}:{input}", self.client), format!("{}:{output}", self.client));
            let of = |pair: fn(&(String, String)) -> (&String, &String), own: &str| -> BTreeSet<String> {
                let ends = state.connections.iter().map(pair);
                ends.filter(|(mine, _)| *mine == own).map(|(_, other)| other.clone()).collect()
            };
            let inputs = of(|(source, sink)| (sink, source), &input);
            let outputs = of(|(source, sink)| (source, sink), &output);
            let shared = state.connections.iter().filter(|(source, sink)| outputs.contains(sink) && *source != output);
            let shared = shared.map(|(source, _)| source.clone()).collect();
            self.engine.connected(at, inputs, outputs, shared);
        }
    }
}
