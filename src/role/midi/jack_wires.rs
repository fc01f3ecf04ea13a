//! Devices by JACK: keeps the client, and connects its ports to the devices that are there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::wires::{PortPlan, Wires};
use crate::audio::jack::{GraphClient, GraphState, JackError, MidiClient, MidiSettings, PortFlow, PortKind, Watch};
use crate::audio::midi::MidiRings;
use crate::telemetry::health::Part;

/// How long to wait for JACK before trying again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How often the graph is looked at even if nothing was told: a port may not take connections at first.
const LOOK: Duration = Duration::from_millis(500);
/// What has a time is sent two periods and this much ahead: a period that is under way, and one for a thread that is late.
const MARGIN_US: u64 = 3_000;

/// JACK's client as wires.
struct JackWires {
    client: MidiClient,
    rings: MidiRings,
    watch: Arc<Watch>,
}

impl Wires for JackWires {
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

/// What the keeper works with.
pub struct Keeper {
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

impl Keeper {
    /// Works until it is stopped. JACK need not be there.
    pub fn run(self) {
        let part = Part::new("midi", &self.client);
        let (mut wait, mut told) = (FIRST_WAIT, None);
        while !self.stopping() {
            match self.open() {
                Ok((wires, graph)) => {
                    (wait, told) = (FIRST_WAIT, None);
                    let watch = Arc::clone(&wires.watch);
                    let is_first = self.engine.attach(Box::new(wires));
                    part.up();
                    tracing::info!(client = self.client, is_first, "MIDI is there");
                    self.watch(&graph, &watch);
                    // Both before anything is opened anew: libjack wants all clients of a dead server closed first.
                    drop(graph);
                    let wires = self.engine.detach();
                    drop(wires);
                    if !self.stopping() {
                        part.down("the JACK server has gone");
                    }
                }
                // Another part of this process still has a client of a server that died.
                Err(JackError::Closing) => std::thread::park_timeout(FIRST_WAIT),
                Err(error) => {
                    let reason = error.to_string();
                    if told.as_ref() != Some(&reason) {
                        let hint = match &error {
                            JackError::NameTaken { .. } => {
                                "; set midi.client, if two hosts are to have MIDI on one JACK server"
                            }
                            _ => "",
                        };
                        tracing::warn!(reason = format!("{reason}{hint}"), "no MIDI");
                        part.down(&reason);
                        self.engine.report(format!("no MIDI: {reason}{hint}"));
                        told = Some(reason);
                    }
                    std::thread::park_timeout(wait);
                    wait = (wait * 2).min(LAST_WAIT);
                }
            }
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn open(&self) -> Result<(JackWires, GraphClient), JackError> {
        let (inputs, outputs) = self.plans.iter().map(PortPlan::ends).unzip();
        let settings = MidiSettings { client_name: self.client.clone(), server: self.server.clone(), inputs, outputs };
        let (client, rings) = MidiClient::open(&settings, self.engine.thread())?;
        let watch = Arc::clone(client.watch());
        let graph = GraphClient::open(&format!("{}-graph", self.client), self.server.as_deref())?;
        Ok((JackWires { client, rings, watch }, graph))
    }

    /// Connects devices as they come, until the server goes or all is to stop.
    fn watch(&self, graph: &GraphClient, watch: &Watch) {
        let mut seen = None;
        let mut failed: BTreeSet<(String, String)> = BTreeSet::new();
        let mut all = true;
        let mut looked = Instant::now();
        while !self.stopping() && !watch.is_down() && !graph.watch().is_down() {
            let changes = (graph.watch().graph_changes(), watch.graph_changes());
            if seen != Some(changes) || !failed.is_empty() || looked.elapsed() >= LOOK {
                (seen, looked) = (Some(changes), Instant::now());
                let fresh = graph.take_fresh();
                let state = graph.state();
                for (source, sink) in self.wanted(&state) {
                    let device = if source.starts_with(&format!("{}:", self.client)) { &sink } else { &source };
                    let is_new = all || fresh.as_ref().is_none_or(|fresh| fresh.contains(device));
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
                all = false;
                // As it was before: of a device that went and came again meanwhile it must be seen that it was away.
                self.tell(&state);
            }
            std::thread::park_timeout(if failed.is_empty() { LOOK } else { FIRST_WAIT });
        }
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
