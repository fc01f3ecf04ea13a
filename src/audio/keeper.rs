//! Keeps a server's graph as the rules say: a thread that JACK wakes whenever something changes, and that comes back when
//! the server has gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::graph::{ConnectRule, Connection, Plan, Rules, Step};
use super::jack::{GraphClient, GraphState, JackError, Watch};
use super::patcher::Patcher;
use crate::telemetry::health::Part;

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
    /// What somebody had changed was put right.
    Righted(Step),
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

impl GraphReport {
    /// Of a graph that a client sees.
    #[must_use]
    pub fn of(watch: &Watch, state: GraphState) -> Self {
        Self {
            has_looked: true,
            down: None,
            rate_hz: watch.rate_hz(),
            buffer_frames: watch.buffer_frames(),
            xruns: watch.xruns(),
            state,
        }
    }
}

/// Hears of every event, on the keeper's thread. It must not wait.
pub type Notify = Box<dyn Fn(GraphEvent) + Send>;

/// The thread that keeps a graph. Dropping it ends the thread, and waits for nothing; [`GraphKeeper::close`] waits.
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
    Restore { rules: Vec<ConnectRule>, is_exact: bool, answer: SyncSender<Result<Plan, String>> },
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
            // Only `close` listens, and not for ever.
            let _ = end.try_send(());
        })?;
        Ok(Self { shared, orders, thread: handle.thread().clone(), ended: Mutex::new(ended) })
    }

    /// What is known of the graph, as of its last change.
    #[must_use]
    pub fn report(&self) -> Arc<GraphReport> {
        Arc::clone(&self.shared.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the connections of `rules` once; with `is_exact` parts all others. Gives what was done, and what can't be,
    /// which includes what JACK refused. Waits up to 5 s.
    ///
    /// # Errors
    /// There is no server, or libjack hangs.
    pub fn restore(&self, rules: Vec<ConnectRule>, is_exact: bool) -> Result<Plan, String> {
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

impl GraphKeeper {
    /// Closes the client and ends the thread. Waits up to 5 s, so not for a thread of a runtime.
    pub fn close(&self) {
        self.stop();
        // Whoever came second, or after the end, finds that the thread has gone.
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(STOP_TIMEOUT);
        if ended == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the keeper of the JACK graph does not stop: libjack hangs");
        }
    }

    fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Drop for GraphKeeper {
    fn drop(&mut self) {
        self.stop();
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
        let (mut patcher, watch, mut shown) = (Patcher::new(self.rules.clone()), client.watch(), (0, 0));
        while !watch.is_down() && !self.stopping() {
            let is_ordered = self.take_orders(client, &mut patcher);
            let changes = watch.graph_changes();
            let rate = (watch.rate_hz(), watch.buffer_frames());
            if rate != shown {
                shown = rate;
                tracing::info!(rate_hz = rate.0, buffer_frames = rate.1, "JACK graph up");
            }
            let (difference, next, breath) = self.look(client, &mut patcher);
            if difference.is_up {
                (self.notify)(GraphEvent::Up { rate_hz: rate.0, buffer_frames: rate.1 });
            } else if difference.is_changed || is_ordered {
                (self.notify)(GraphEvent::Changed);
            }
            let next_look = Instant::now() + next;
            std::thread::sleep(breath);
            if watch.graph_changes() == changes {
                std::thread::park_timeout(next_look.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Looks at the graph, does what is to be done, and says what is there, when to look again, and how soon at the earliest.
    fn look(&self, client: &GraphClient, patcher: &mut Patcher) -> (Difference, Duration, Duration) {
        let looked = patcher.look(client.patchbay());
        for step in looked.righted {
            (self.notify)(GraphEvent::Righted(step));
        }
        for (connection, why) in looked.refused {
            (self.notify)(GraphEvent::Refused { connection, why });
        }
        let watch = client.watch();
        let report = GraphReport::of(watch, looked.state);
        let last = self.last();
        let is_up = last.down.is_some() || (last.rate_hz, last.buffer_frames) != (report.rate_hz, report.buffer_frames);
        let is_changed = last.state != report.state;
        if !watch.is_down() && *last != report {
            self.publish(report);
        }
        (Difference { is_up, is_changed }, looked.next, looked.breath)
    }

    fn take_orders(&mut self, client: &GraphClient, patcher: &mut Patcher) -> bool {
        let mut is_ordered = false;
        while let Ok(order) = self.ordered.try_recv() {
            is_ordered = true;
            match order {
                Order::Restore { rules, is_exact, answer } => {
                    // Whoever asked may have given up.
                    let _ = answer.try_send(Ok(patcher.restore(client.patchbay(), &rules, is_exact)));
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
