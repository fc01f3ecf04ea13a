//! Keeps a server's graph as the rules say: a thread that JACK wakes whenever something changes, and that comes back when
//! the server has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::graph::{ConnectRule, Connection, Outcome, Plan, Policy, Rules, Step, StepKind};
use super::jack::{ConnectError, GraphClient, GraphState, JackError};
use crate::telemetry::health::Part;

/// How often to look even if JACK reports nothing: latencies and xruns are not told.
const TICK: Duration = Duration::from_secs(1);
/// Changes come in swarms, as when a client registers its ports. One is waited out until nothing came for so long …
const QUIET: Duration = Duration::from_millis(5);
/// … but no longer than this.
const SWARM_MAX: Duration = Duration::from_millis(60);
/// The first pause before another try to open a client, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How often to find another client closing before it is told.
const CLOSING_TRIES: u32 = 10;
/// Orders that wait for the thread; more are refused.
const ORDERS: usize = 16;
/// How long an order may take.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long stopping may take; closing a client has a deadline below it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What happens to the graph.
#[derive(Debug, Clone, PartialEq)]
pub enum GraphEvent {
    /// The server is there.
    Up {
        /// The server's sample rate, in Hz.
        rate_hz: u32,
        /// Frames of a period.
        buffer_frames: u32,
    },
    /// There is no server, and why.
    Down {
        /// Why, and what to do about it.
        reason: String,
    },
    /// A rule was applied.
    Did(Step),
    /// JACK refuses a connection; it is tried again. Told once each.
    Refused {
        /// What was to be connected.
        connection: Connection,
        /// Why not.
        why: String,
    },
    /// Ports or connections are others now.
    Changed,
}

/// What is known of the graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GraphReport {
    /// Whether JACK has been looked for.
    pub has_looked: bool,
    /// Why there is no graph; `None`: there is.
    pub down: Option<String>,
    /// The server's sample rate, in Hz; 0 before the first time up.
    pub rate_hz: u32,
    /// Frames of a period.
    pub buffer_frames: u32,
    /// Periods that JACK missed since it came up; up to a second old.
    pub xruns: u64,
    /// Its ports and connections.
    pub state: GraphState,
}

/// What became of an order to make the graph as it was saved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restored {
    /// What was to be done, and what can't be, which includes what JACK refused.
    pub plan: Plan,
}

/// Hears of every event, on the keeper's thread. It must not wait.
pub type Notify = Box<dyn Fn(GraphEvent) + Send>;

/// The thread that keeps a graph. Dropping it closes its client and ends the thread, within 5 s.
#[derive(Debug)]
pub struct GraphKeeper {
    shared: Arc<Shared>,
    orders: SyncSender<Order>,
    thread: Thread,
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    report: Mutex<Arc<GraphReport>>,
}

enum Order {
    Restore { rules: Vec<ConnectRule>, is_exact: bool, answer: SyncSender<Result<Restored, String>> },
}

impl GraphKeeper {
    /// Starts the thread, with a client `name` on `server`. JACK need not be there.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(name: &str, server: Option<&str>, rules: Rules, notify: Notify) -> std::io::Result<Self> {
        let (orders, ordered) = mpsc::sync_channel(ORDERS);
        let (end, ended) = mpsc::sync_channel(1);
        let down = Some("JACK has not been looked for yet".to_owned());
        let report = Mutex::new(Arc::new(GraphReport { down, ..GraphReport::default() }));
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), report });
        let keeping = Keeping {
            name: name.to_owned(),
            server: server.map(str::to_owned),
            rules,
            notify,
            ordered,
            shared: Arc::clone(&shared),
            part: Part::new("jack", "graph"),
        };
        let handle = std::thread::Builder::new().name("jack-graph".to_owned()).spawn(move || {
            keeping.run();
            // Only the drop below listens, and not for ever.
            let _ = end.try_send(());
        })?;
        Ok(Self { shared, orders, thread: handle.thread().clone(), ended: Mutex::new(ended) })
    }

    /// What is known of the graph, as of its last change.
    #[must_use]
    pub fn report(&self) -> Arc<GraphReport> {
        Arc::clone(&self.shared.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the connections of `rules` once; with `is_exact` parts all others. Waits up to 5 s.
    ///
    /// # Errors
    /// There is no server, or libjack hangs.
    pub fn restore(&self, rules: Vec<ConnectRule>, is_exact: bool) -> Result<Restored, String> {
        let (answer, answered) = mpsc::sync_channel(1);
        if !self.order(Order::Restore { rules, is_exact, answer }) {
            return Err("too many changes of the graph are waiting; try again".to_owned());
        }
        answered.recv_timeout(ORDER_TIMEOUT).unwrap_or_else(|_| {
            Err(format!("JACK did not take the connections within {} s; see the server's log", ORDER_TIMEOUT.as_secs()))
        })
    }

    fn order(&self, order: Order) -> bool {
        let is_taken = self.orders.try_send(order).is_ok();
        self.thread.unpark();
        is_taken
    }
}

impl Drop for GraphKeeper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.unpark();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(STOP_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the keeper of the JACK graph does not stop: libjack hangs");
        }
    }
}

struct Keeping {
    name: String,
    server: Option<String>,
    rules: Rules,
    notify: Notify,
    ordered: Receiver<Order>,
    shared: Arc<Shared>,
    part: Part,
}

/// The keeper's work on one client.
struct Look<'a> {
    client: &'a GraphClient,
    policy: Policy,
    begun: Instant,
    /// The names that people should see, of the ports that have one asked for.
    names: BTreeMap<String, Option<String>>,
    /// The connections that were told to be refused.
    refused: BTreeSet<Connection>,
}

impl Keeping {
    fn run(mut self) {
        let (mut wait, mut closing) = (WAIT_MIN, 0);
        let mut told = None;
        while !self.stopping() {
            match GraphClient::open(&self.name, self.server.as_deref()) {
                Ok(client) => {
                    (wait, closing, told) = (WAIT_MIN, 0, None);
                    self.part.up();
                    self.watch(&client);
                    drop(client);
                    if !self.stopping() {
                        let reason = "the JACK server has gone, or threw the client out; start it again, the graph comes back by itself";
                        self.went_down(reason, &mut told);
                    }
                }
                // Mostly a matter of moments.
                Err(JackError::Closing) if closing < CLOSING_TRIES => closing += 1,
                Err(error) => self.went_down(&error.to_string(), &mut told),
            }
            while let Ok(order) = self.ordered.try_recv() {
                match order {
                    Order::Restore { answer, .. } => {
                        let why = told.clone().unwrap_or_else(|| "JACK is being looked for; try again".to_owned());
                        // Whoever asked may have given up.
                        let _ = answer.try_send(Err(why));
                    }
                }
            }
            if !self.stopping() {
                std::thread::park_timeout(wait);
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    fn went_down(&self, reason: &str, told: &mut Option<String>) {
        if told.as_deref() == Some(reason) {
            return;
        }
        tracing::warn!(reason, "no JACK graph");
        self.part.down(reason);
        let last = self.last();
        let (rate_hz, buffer_frames) = (last.rate_hz, last.buffer_frames);
        let report = GraphReport {
            has_looked: true,
            down: Some(reason.to_owned()),
            rate_hz,
            buffer_frames,
            ..GraphReport::default()
        };
        self.publish(report);
        (self.notify)(GraphEvent::Down { reason: reason.to_owned() });
        *told = Some(reason.to_owned());
    }

    /// Stays with a client until its server goes.
    fn watch(&mut self, client: &GraphClient) {
        let policy = Policy::new(self.rules.clone());
        let mut look = Look { client, policy, begun: Instant::now(), names: BTreeMap::new(), refused: BTreeSet::new() };
        let watch = client.watch();
        let (mut seen_changes, mut shown) = (0, (0, 0));
        while !watch.is_down() && !self.stopping() {
            let is_ordered = self.take_orders(&mut look);
            let changes = watch.graph_changes();
            if changes != seen_changes && seen_changes != 0 {
                wait_out(client);
            }
            seen_changes = watch.graph_changes();
            let rate = (watch.rate_hz(), watch.buffer_frames());
            if rate != shown {
                shown = rate;
                tracing::info!(rate_hz = rate.0, buffer_frames = rate.1, "JACK graph up");
            }
            let is_other = self.look(&mut look);
            if rate != (self.last().rate_hz, self.last().buffer_frames) || is_other.is_up {
                (self.notify)(GraphEvent::Up { rate_hz: rate.0, buffer_frames: rate.1 });
            } else if is_other.is_changed || is_ordered {
                (self.notify)(GraphEvent::Changed);
            }
            let next =
                look.policy.next_look().map_or(TICK, |at| at.saturating_sub(look.begun.elapsed()).clamp(QUIET, TICK));
            if watch.graph_changes() == seen_changes {
                std::thread::park_timeout(next);
            }
        }
    }

    /// Looks at the graph, does what is to be done, and says what is there.
    fn look(&self, look: &mut Look<'_>) -> Difference {
        let client = look.client;
        // Before the view: a port that comes in between is told with the next one.
        let fresh = client.take_fresh();
        let mut state = client.state();
        look.name(&mut state);
        let fresh = fresh.unwrap_or_else(|| state.ports.iter().map(|port| port.name.clone()).collect());
        for step in look.policy.decide(&state, &fresh, look.begun.elapsed()) {
            let done = look.take(&step);
            let outcome = if done.is_ok() { Outcome::Done } else { Outcome::Refused };
            look.policy.done(&step, outcome, look.begun.elapsed());
            let connection = (step.source.clone(), step.sink.clone());
            match done {
                Ok(()) => {
                    look.refused.remove(&connection);
                    tracing::info!(
                        source = step.source,
                        sink = step.sink,
                        again = step.again,
                        "JACK graph: {:?}",
                        step.kind
                    );
                    (self.notify)(GraphEvent::Did(step));
                }
                // A port is seen before its client is active, and takes no connection yet.
                Err(error) => {
                    tracing::debug!(%error, "JACK graph");
                    if look.policy.has_insisted(&connection) && look.refused.insert(connection.clone()) {
                        (self.notify)(GraphEvent::Refused { connection, why: error.to_string() });
                    }
                }
            }
        }
        let watch = client.watch();
        let report = GraphReport {
            has_looked: true,
            down: None,
            rate_hz: watch.rate_hz(),
            buffer_frames: watch.buffer_frames(),
            xruns: watch.xruns(),
            state,
        };
        let last = self.last();
        let is_up = last.down.is_some() || (last.rate_hz, last.buffer_frames) != (report.rate_hz, report.buffer_frames);
        let is_changed = last.state != report.state;
        if !watch.is_down() && *last != report {
            self.publish(report);
        }
        Difference { is_up, is_changed }
    }

    fn take_orders(&mut self, look: &mut Look<'_>) -> bool {
        let mut is_ordered = false;
        while let Ok(order) = self.ordered.try_recv() {
            is_ordered = true;
            match order {
                Order::Restore { rules, is_exact, answer } => {
                    // Whoever asked may have given up.
                    let _ = answer.try_send(Ok(look.restore(&rules, is_exact)));
                }
            }
        }
        is_ordered
    }

    fn last(&self) -> Arc<GraphReport> {
        Arc::clone(&self.shared.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, report: GraphReport) {
        *self.shared.report.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(report);
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }
}

struct Difference {
    is_up: bool,
    is_changed: bool,
}

impl Look<'_> {
    fn take(&self, step: &Step) -> Result<(), ConnectError> {
        match step.kind {
            StepKind::Connect => self.client.connect(&step.source, &step.sink),
            StepKind::Part => self.client.disconnect(&step.source, &step.sink),
        }
    }

    /// Adds the names that people should see.
    fn name(&mut self, state: &mut GraphState) {
        if self.client.take_renamed() {
            self.names.clear();
        }
        let there: BTreeSet<&String> = state.ports.iter().map(|port| &port.name).collect();
        self.names.retain(|name, _| there.contains(name));
        let unknown: Vec<String> = there.into_iter().filter(|name| !self.names.contains_key(*name)).cloned().collect();
        let found = self.client.pretty_names(&unknown);
        self.names.extend(unknown.into_iter().zip(found));
        for port in &mut state.ports {
            port.pretty_name = self.names.get(&port.name).cloned().flatten();
        }
    }

    fn restore(&mut self, rules: &[ConnectRule], is_exact: bool) -> Restored {
        let mut state = self.client.state();
        self.name(&mut state);
        let plan = restore(self.client, &state, rules, is_exact);
        for connection in plan.make.iter().chain(&plan.part) {
            self.policy.respect(connection);
        }
        Restored { plan }
    }
}

/// Makes the connections of `rules` once, on `state`, which is `client`'s; with `is_exact` parts all others. What JACK
/// refuses is among what is missing.
#[must_use]
pub fn restore(client: &GraphClient, state: &GraphState, rules: &[ConnectRule], is_exact: bool) -> Plan {
    let mut plan = Plan::new(rules, state, is_exact);
    let mut refused = Vec::new();
    let mut keep = |connection: &Connection, done: Result<(), ConnectError>| {
        let Err(error) = done else { return true };
        let (from, to) = connection.clone();
        refused.push(super::graph::Missing { from, to, why: error.to_string() });
        false
    };
    plan.make.retain(|connection| keep(connection, client.connect(&connection.0, &connection.1)));
    plan.part.retain(|connection| keep(connection, client.disconnect(&connection.0, &connection.1)));
    plan.missing.extend(refused);
    plan
}

/// Waits until the swarm of changes is over.
fn wait_out(client: &GraphClient) {
    let until = Instant::now() + SWARM_MAX;
    let mut changes = client.watch().graph_changes();
    while Instant::now() < until && !client.watch().is_down() {
        std::thread::sleep(QUIET);
        let now = client.watch().graph_changes();
        if now == changes {
            return;
        }
        changes = now;
    }
}
