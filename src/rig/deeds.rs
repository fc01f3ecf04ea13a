//! What a role has to do by the bus, without ever waiting for it: what goes to one listener, OSC target or MIDI port in its
//! order ([`lanes`](super::lanes)), commands and tools many at once, what is for a beat or bar when that comes.
//!
//! ```text
//! put ─┬─ on = "beat", "bar": waits for the clock ─▶ put
//!      ├─ the one stop: at once
//!      ├─ listeners, OSC, MIDI: a lane each ─┬─▶ rig ─▶ tell
//!      └─ commands, tools: by themselves ────┘
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Rig;
use super::clock::Quantum;
use super::lanes::{FRESH, Kind, Lane, Lanes};
use crate::action::{Deed, ListenerName};
use crate::bus::message::fault::Fault;
use crate::bus::message::midi;
use crate::bus::message::voice::Control;

/// Commands and tools at once; they may take long. Further ones are left out, and that is told.
pub const MANY: usize = 64;
/// What waits for a beat, and for a bar. Further ones are left out, and that is told.
pub const WAITING_FOR_TIME: usize = 256;

/// Something to do.
#[derive(Debug, Clone)]
pub struct Task<F> {
    /// What.
    pub deed: Deed,
    /// What it waits for.
    pub on: Option<Quantum>,
    /// Who wants it, for logs.
    pub by: String,
    /// How many stops there had been.
    pub stops: u64,
    /// Whom to tell how it ended.
    pub from: F,
}

/// How it ended. What a stop has called off is not told.
#[derive(Debug)]
pub enum End {
    /// Done; with the text of an answer, if there is one.
    Done(Option<String>),
    /// Why it could not be done.
    Failed(Fault),
    /// Why it was not begun.
    LeftOut(String),
}

/// What is told of a task that has ended.
#[derive(Debug)]
pub struct Told<F> {
    /// Whom to tell.
    pub from: F,
    /// Who wanted it, for logs.
    pub by: String,
    /// Whether it was a command, whose answer is a text for whoever asked.
    pub is_command: bool,
    /// How it ended.
    pub end: End,
}

/// Does what is put in, until it is dropped.
pub struct Deeds<F> {
    inner: Arc<Inner<F>>,
    _ended: DropGuard,
}

struct Inner<F> {
    rig: Rig,
    tell: Box<dyn Fn(Told<F>) + Send + Sync>,
    lanes: Mutex<Lanes<Task<F>>>,
    /// Looked at by all that is under way: it may be its lane that hurries.
    hurry: watch::Sender<()>,
    beats: Mutex<VecDeque<Task<F>>>,
    bars: Mutex<VecDeque<Task<F>>>,
    many: Arc<Semaphore>,
    ended: CancellationToken,
}

impl<F: Clone + Send + Sync + 'static> Deeds<F> {
    /// Does things by `rig`, and tells how they ended by `tell`, which must not wait.
    #[must_use]
    pub fn new(rig: Rig, tell: impl Fn(Told<F>) + Send + Sync + 'static) -> Self {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let inner = Inner {
            rig,
            tell: Box::new(tell),
            lanes: Mutex::default(),
            hurry: watch::Sender::new(()),
            beats: Mutex::default(),
            bars: Mutex::default(),
            many: Arc::new(Semaphore::new(MANY)),
            ended,
        };
        Self { inner: Arc::new(inner), _ended: guard }
    }

    /// Has something done. It does not wait; to be called within the runtime.
    pub fn put(&self, task: Task<F>) {
        self.inner.put(task);
    }
}

impl<F: Clone + Send + Sync + 'static> Inner<F> {
    fn put(self: &Arc<Self>, task: Task<F>) {
        // A stop has come since.
        if task.stops < self.rig.stops().count() && Kind::of(&task.deed) != Kind::Lasting {
            return;
        }
        let task = match (task.on, task) {
            // Whoever plays MIDI waits, to the frame.
            (on, Task { deed: Deed::Midi(out), by, stops, from, .. }) => {
                let deed = Deed::Midi(midi::Out { on: out.on.or(on), ..out });
                Task { deed, on: None, by, stops, from }
            }
            (Some(quantum), task) => return self.wait(quantum, task),
            (None, task) => task,
        };
        match &task.deed {
            Deed::Stop => self.rig.stops().fire(&task.by),
            Deed::Listener { listener, control } => match self.rig.listeners(listener, control) {
                Ok(found) => {
                    for (node, listener) in found {
                        let listener = ListenerName(format!("{node}/{listener}"));
                        let deed = Deed::Listener { listener, control: control.clone() };
                        self.line_up(Task { deed, ..task.clone() });
                    }
                }
                Err(fault) => self.tell(task, End::Failed(fault)),
            },
            Deed::Osc(_) | Deed::Midi(_) => self.line_up(task),
            Deed::Command { .. } | Deed::Tool { .. } => self.begin(task),
        }
    }

    fn tell(&self, task: Task<F>, end: End) {
        let is_command = matches!(task.deed, Deed::Command { .. });
        (self.tell)(Told { from: task.from, by: task.by, is_command, end });
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            ended.run_until_cancelled(work).await;
        });
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<Task<F>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Into its lane, which is begun if nobody works on it.
    fn line_up(self: &Arc<Self>, task: Task<F>) {
        let Some(lane) = Lane::of(&task.deed) else { return self.begin(task) };
        let is_stop = matches!(task.deed, Deed::Listener { control: Control::Stop, .. });
        let (kind, stops, now) = (Kind::of(&task.deed), task.stops, Instant::now());
        let put = if is_stop {
            self.lanes().outrank(&lane, task, stops, now)
        } else {
            self.lanes().put(&lane, task, kind, stops, now)
        };
        match put {
            Ok(put) => {
                if let Some(other) = put.instead {
                    self.tell(
                        other,
                        End::LeftOut(format!("left out for something that must not be: {lane} does not keep up")),
                    );
                }
                if put.begins {
                    self.spawn(Arc::clone(self).work(lane));
                } else if is_stop {
                    self.hurry.send_replace(());
                }
            }
            Err(full) => self.tell(full.what, End::LeftOut(full.why)),
        }
    }

    /// Works on a lane until it is at its end.
    async fn work(self: Arc<Self>, lane: Lane) {
        loop {
            let turn = self.lanes().next(&lane, self.rig.stops().count(), Instant::now());
            for task in turn.late {
                let fresh = FRESH.as_millis();
                let why = format!(
                    "{lane} has not answered what was before this for {fresh} ms: it is too late now, and left out"
                );
                self.tell(task, End::LeftOut(why));
            }
            let Some((task, kind)) = turn.next else { return };
            let mut hurry = self.hurry.subscribe();
            let hurries = async {
                while !self.lanes().hurries(&lane) {
                    if hurry.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            if kind == Kind::Lasting {
                let mut doing = Box::pin(Arc::clone(&self).carry_out(task));
                let is_done = tokio::select! {
                    biased;
                    () = &mut doing => true,
                    () = hurries => false,
                };
                if !is_done {
                    self.spawn(doing);
                }
            } else {
                tokio::select! {
                    biased;
                    () = hurries => {}
                    () = Arc::clone(&self).unless_stopped(task) => {}
                }
            }
        }
    }

    /// By itself, if there is room.
    fn begin(self: &Arc<Self>, task: Task<F>) {
        let Ok(place) = Arc::clone(&self.many).try_acquire_owned() else {
            return self.tell(
                task,
                End::LeftOut(format!("{MANY} commands and tools are at work already: this one is left out")),
            );
        };
        let own = Arc::clone(self);
        self.spawn(async move {
            let _place = place;
            own.unless_stopped(task).await;
        });
    }

    /// Does it, unless a stop came since it was set off, or comes meanwhile.
    async fn unless_stopped(self: Arc<Self>, task: Task<F>) {
        let mut stop = self.rig.stops().subscribe();
        if task.stops < self.rig.stops().count() {
            return;
        }
        tokio::select! {
            biased;
            () = stop.next() => {}
            () = Arc::clone(&self).carry_out(task) => {}
        }
    }

    async fn carry_out(self: Arc<Self>, task: Task<F>) {
        let end = match self.rig.act(task.deed.clone(), &task.by).await {
            Ok(text) => End::Done(text),
            Err(fault) => End::Failed(fault),
        };
        self.tell(task, end);
    }

    fn waiting(&self, quantum: Quantum) -> MutexGuard<'_, VecDeque<Task<F>>> {
        let waiting = match quantum {
            Quantum::Beat => &self.beats,
            Quantum::Bar => &self.bars,
        };
        waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the next beat or bar. What waits for the same one is then put in in its order.
    fn wait(self: &Arc<Self>, quantum: Quantum, task: Task<F>) {
        let mut waiting = self.waiting(quantum);
        if waiting.len() >= WAITING_FOR_TIME {
            drop(waiting);
            let why = format!("{WAITING_FOR_TIME} actions wait for the next beat or bar already: this one is left out");
            return self.tell(task, End::LeftOut(why));
        }
        waiting.push_back(task);
        if waiting.len() == 1 {
            self.spawn(Arc::clone(self).on_time(quantum));
        }
    }

    async fn on_time(self: Arc<Self>, quantum: Quantum) {
        let mut stop = self.rig.stops().subscribe();
        let mut time = Box::pin(self.rig.clock().wait(quantum));
        loop {
            tokio::select! {
                biased;
                () = stop.next() => {
                    let stops = self.rig.stops().count();
                    let mut waiting = self.waiting(quantum);
                    waiting.retain(|task| task.stops >= stops || Kind::of(&task.deed) == Kind::Lasting);
                    if waiting.is_empty() {
                        return;
                    }
                }
                () = &mut time => break,
            }
        }
        let due = std::mem::take(&mut *self.waiting(quantum));
        for task in due {
            self.put(Task { on: None, ..task });
        }
    }
}
