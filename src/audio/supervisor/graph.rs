//! A server's graph, kept as the rules say by a client of its own.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::audio::graph::{ConnectRule, Connection, Plan, Rules, Step};
use crate::audio::jack::alive::{Down, Next, Stopped, Supervised, Supervisor};
use crate::audio::jack::{GraphClient, GraphState, JackError, Watch};
use crate::audio::patcher::Patcher;
use crate::telemetry::health::Part;

/// Orders that wait for the thread; more are refused.
const ORDERS: usize = 16;
/// How long an order may take.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// A connection that another program had changed was put right.
    Righted(Step),
    /// JACK refuses a connection; it is tried again. Reported once each.
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

/// Hears of every event, on the supervising thread. It must not wait.
pub type Notify = Box<dyn Fn(GraphEvent) + Send>;

/// The last report, which the thread replaces as a whole.
type Shared = Arc<Mutex<Arc<GraphReport>>>;

/// The thread that keeps a graph. Dropping it ends the thread, and waits for nothing; [`GraphSupervisor::close`] waits.
#[derive(Debug)]
pub struct GraphSupervisor {
    supervisor: Supervisor,
    report: Shared,
    orders: SyncSender<Order>,
}

enum Order {
    Restore { rules: Vec<ConnectRule>, is_exact: bool, answer: SyncSender<Result<Plan, String>> },
}

impl GraphSupervisor {
    /// Starts the thread, with a client `name` on `server`. JACK need not be there.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(name: &str, server: Option<&str>, rules: Rules, notify: Notify) -> std::io::Result<Self> {
        let (orders, ordered) = mpsc::sync_channel(ORDERS);
        let down = Some("JACK has not been looked for yet".to_owned());
        let report = Shared::new(Mutex::new(Arc::new(GraphReport { down, ..GraphReport::default() })));
        let graph = Graph {
            name: name.to_owned(),
            server: server.map(str::to_owned),
            rules,
            notify,
            ordered,
            report: Arc::clone(&report),
            part: Part::new("jack", "graph"),
        };
        Ok(Self { supervisor: Supervisor::start("jack-graph", |_| graph)?, report, orders })
    }

    /// What is known of the graph, as of its last change.
    #[must_use]
    pub fn report(&self) -> Arc<GraphReport> {
        Arc::clone(&self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the connections of `rules` once; with `is_exact` disconnects all others. Gives what was done, and what can't be,
    /// which includes what JACK refused. Waits up to 5 s.
    ///
    /// # Errors
    /// There is no server, or libjack hangs.
    pub fn restore(&self, rules: Vec<ConnectRule>, is_exact: bool) -> Result<Plan, String> {
        let (answer, answered) = mpsc::sync_channel(1);
        let is_taken = self.orders.try_send(Order::Restore { rules, is_exact, answer }).is_ok();
        self.supervisor.wake();
        if !is_taken {
            return Err("too many changes of the graph are waiting; try again".to_owned());
        }
        answered.recv_timeout(ORDER_TIMEOUT).unwrap_or_else(|_| {
            Err(format!("JACK did not take the connections within {} s; see the server's log", ORDER_TIMEOUT.as_secs()))
        })
    }

    /// Closes the client and ends the thread. Waits up to 5 s, so not for a thread of a runtime.
    pub fn close(&self) {
        self.supervisor.close();
    }
}

/// What is kept alive.
struct Graph {
    name: String,
    server: Option<String>,
    rules: Rules,
    notify: Notify,
    ordered: Receiver<Order>,
    report: Shared,
    part: Part,
}

/// An open client.
struct Open {
    client: GraphClient,
    patcher: Patcher,
    /// The rate and period that were logged last.
    shown: (u32, u32),
}

impl Supervised for Graph {
    type Client = Open;

    fn open(&mut self) -> Result<Open, JackError> {
        let client = GraphClient::open(&self.name, self.server.as_deref())?;
        Ok(Open { client, patcher: Patcher::new(self.rules.clone()), shown: (0, 0) })
    }

    fn is_down(open: &Open) -> bool {
        open.client.watch().is_down()
    }

    fn changes(open: &Open) -> u64 {
        open.client.watch().graph_changes()
    }

    fn up(&mut self, _: &mut Open) -> Result<(), Stopped> {
        self.part.up();
        Ok(())
    }

    fn look(&mut self, open: &mut Open, _: bool) -> Result<Option<Next>, Stopped> {
        let is_ordered = self.take_orders(open);
        let Open { client, patcher, shown } = open;
        let rate = (client.watch().rate_hz(), client.watch().buffer_frames());
        if rate != *shown {
            *shown = rate;
            tracing::info!(rate_hz = rate.0, buffer_frames = rate.1, "JACK graph up");
        }
        let looked = patcher.look(client.patchbay());
        for step in looked.righted {
            (self.notify)(GraphEvent::Righted(step));
        }
        for (connection, why) in looked.refused {
            (self.notify)(GraphEvent::Refused { connection, why });
        }
        let report = GraphReport::of(client.watch(), looked.state);
        let last = self.last();
        let is_up = last.down.is_some() || (last.rate_hz, last.buffer_frames) != (report.rate_hz, report.buffer_frames);
        let is_changed = last.state != report.state;
        if !client.watch().is_down() && *last != report {
            self.publish(report);
        }
        if is_up {
            (self.notify)(GraphEvent::Up { rate_hz: rate.0, buffer_frames: rate.1 });
        } else if is_changed || is_ordered {
            (self.notify)(GraphEvent::Changed);
        }
        Ok(Some(Next { within: looked.next, breath: looked.breath }))
    }

    fn close(&mut self, open: Open) {
        drop(open);
    }

    fn down(&mut self, why: &Down) -> Result<(), Stopped> {
        let reason = why.to_string();
        tracing::warn!(reason, "no JACK graph");
        self.part.down(&reason);
        let last = self.last();
        self.publish(GraphReport {
            has_looked: true,
            down: Some(reason.clone()),
            rate_hz: last.rate_hz,
            buffer_frames: last.buffer_frames,
            ..GraphReport::default()
        });
        (self.notify)(GraphEvent::Down { reason });
        Ok(())
    }

    fn idle(&mut self, why: Option<&str>) {
        while let Ok(Order::Restore { answer, .. }) = self.ordered.try_recv() {
            // The caller may have given up.
            let _ = answer.try_send(Err(why.unwrap_or("JACK is being looked for; try again").to_owned()));
        }
    }
}

impl Graph {
    fn take_orders(&self, open: &mut Open) -> bool {
        let mut is_ordered = false;
        while let Ok(Order::Restore { rules, is_exact, answer }) = self.ordered.try_recv() {
            is_ordered = true;
            // The caller may have given up.
            let _ = answer.try_send(Ok(open.patcher.restore(open.client.patchbay(), &rules, is_exact)));
        }
        is_ordered
    }

    fn last(&self) -> Arc<GraphReport> {
        Arc::clone(&self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, report: GraphReport) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(report);
    }
}
