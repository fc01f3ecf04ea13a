//! For callers that must not wait: an effect is carried out at once where that needs no bus, else queued. What goes to one
//! listener, OSC target or MIDI port goes in its order ([`outbox`](super::outbox)), commands and tools many at once, what is for
//! a beat or bar when that comes.
//!
//! ```text
//! submit ─┬─ this host can, without the bus: at once
//!         ├─ on = "beat", "bar": waits for the clock ─┐
//!         ├─ listeners, OSC, MIDI: an outbox each ────┼─▶ Rig::perform ─▶ report
//!         └─ commands, tools: beside all else ────────┘
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::clock::Quantum;
use super::outbox::{FRESH, Outboxes};
use super::perform::Rig;
use crate::action::{Destination, Effect, ListenerName, Urgency};
use crate::bus::message::fault::Fault;
use crate::bus::message::voice::Control;

/// Commands and tools at once; they may take long. Further ones are left out, and that is reported.
pub const CONCURRENT: usize = 64;
/// What waits for a beat, and for a bar. Further ones are left out, and that is reported.
pub const WAITING_FOR_TIME: usize = 256;

/// How an effect ended. What a stop has cancelled is not reported.
#[derive(Debug)]
pub enum Outcome {
    /// Done; with the text of an answer, if there is one.
    Done(Option<String>),
    /// Why it could not be done.
    Failed(Fault),
    /// Why it was not begun.
    LeftOut(String),
}

/// The report of an effect that has ended.
#[derive(Debug)]
pub struct Report<F> {
    /// Who is to hear of it.
    pub from: F,
    /// Who wanted it, for logs.
    pub by: String,
    /// Whether it was a command, whose answer is a text for the one who asked.
    pub is_command: bool,
    /// How it ended.
    pub outcome: Outcome,
}

/// Carries out effects, until it is dropped. `F` says who is to hear of each.
pub struct Effects<F> {
    inner: Arc<Inner<F>>,
    _ended: DropGuard,
}

/// An effect that waits, or is under way.
#[derive(Debug, Clone)]
struct Queued<F> {
    effect: Effect,
    on: Option<Quantum>,
    by: String,
    /// How many stops there had been when it was submitted.
    stops: u64,
    from: F,
}

struct Inner<F> {
    rig: Rig,
    report: Box<dyn Fn(Report<F>) + Send + Sync>,
    outboxes: Mutex<Outboxes<Queued<F>>>,
    /// Looked at by all that is under way: it may be its outbox that hurries.
    hurry: watch::Sender<()>,
    beats: Mutex<VecDeque<Queued<F>>>,
    bars: Mutex<VecDeque<Queued<F>>>,
    concurrent: Arc<Semaphore>,
    ended: CancellationToken,
}

impl<F: Clone + Send + Sync + 'static> Effects<F> {
    /// Carries effects out by `rig`, and says how each ended by `report`, which must not wait.
    #[must_use]
    pub fn new(rig: Rig, report: impl Fn(Report<F>) + Send + Sync + 'static) -> Self {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let inner = Inner {
            rig,
            report: Box::new(report),
            outboxes: Mutex::default(),
            hurry: watch::Sender::new(()),
            beats: Mutex::default(),
            bars: Mutex::default(),
            concurrent: Arc::new(Semaphore::new(CONCURRENT)),
            ended,
        };
        Self { inner: Arc::new(inner), _ended: guard }
    }

    /// Has an effect carried out, on the next beat or bar if it is to wait for one: at once where that needs no bus, else from a
    /// queue. `by` says who wants it. It does not wait; to be called within the runtime.
    pub fn submit(&self, effect: Effect, on: Option<Quantum>, by: String, from: F) {
        let (effect, on) = effect.timed(on);
        let here = if on.is_none() { self.inner.rig.here(&effect, &by) } else { None };
        let queued = Queued { effect, on, by, stops: self.inner.rig.stops().count(), from };
        match here {
            Some(Ok(())) => {}
            Some(Err(fault)) => self.inner.report(queued, Outcome::Failed(fault)),
            None => self.inner.put(queued),
        }
    }
}

impl<F: Clone + Send + Sync + 'static> Inner<F> {
    fn put(self: &Arc<Self>, queued: Queued<F>) {
        // A stop has come since.
        if queued.stops < self.rig.stops().count() && queued.effect.urgency() != Urgency::Lasting {
            return;
        }
        if let Some(quantum) = queued.on {
            return self.wait(quantum, queued);
        }
        match &queued.effect {
            Effect::Stop => self.rig.stops().fire(&queued.by),
            Effect::Listener { listener, control } => match self.rig.listeners(listener, control) {
                Ok(found) => {
                    for (node, listener) in found {
                        let listener = ListenerName(format!("{node}/{listener}"));
                        let effect = Effect::Listener { listener, control: control.clone() };
                        self.begin(Queued { effect, ..queued.clone() });
                    }
                }
                Err(fault) => self.report(queued, Outcome::Failed(fault)),
            },
            _ => self.begin(queued),
        }
    }

    fn report(&self, queued: Queued<F>, outcome: Outcome) {
        let is_command = matches!(queued.effect, Effect::Command { .. });
        (self.report)(Report { from: queued.from, by: queued.by, is_command, outcome });
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            ended.run_until_cancelled(work).await;
        });
    }

    fn outboxes(&self) -> MutexGuard<'_, Outboxes<Queued<F>>> {
        self.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In the order of its destination, or beside all else.
    fn begin(self: &Arc<Self>, queued: Queued<F>) {
        match queued.effect.destination() {
            Some(to) => self.line_up(to, queued),
            None => self.begin_beside(queued),
        }
    }

    /// Into its outbox; a task that empties it is begun if there is none.
    fn line_up(self: &Arc<Self>, to: Destination, queued: Queued<F>) {
        let is_stop = matches!(queued.effect, Effect::Listener { control: Control::Stop, .. });
        let (urgency, stops, now) = (queued.effect.urgency(), queued.stops, Instant::now());
        let put = if is_stop {
            self.outboxes().outrank(&to, queued, stops, now)
        } else {
            self.outboxes().put(&to, queued, urgency, stops, now)
        };
        match put {
            Ok(put) => {
                if let Some(other) = put.instead {
                    let why = format!("left out for something that must not be: {to} does not keep up");
                    self.report(other, Outcome::LeftOut(why));
                }
                if put.begins {
                    self.spawn(Arc::clone(self).empty(to));
                } else if is_stop {
                    self.hurry.send_replace(());
                }
            }
            Err(full) => self.report(full.what, Outcome::LeftOut(full.why)),
        }
    }

    /// Empties an outbox.
    async fn empty(self: Arc<Self>, to: Destination) {
        loop {
            let next = self.outboxes().next(&to, self.rig.stops().count(), Instant::now());
            for late in next.late {
                let fresh = FRESH.as_millis();
                let why = format!(
                    "{to} has not answered what was before this for {fresh} ms: it is too late now, and left out"
                );
                self.report(late, Outcome::LeftOut(why));
            }
            let Some((queued, urgency)) = next.next else { return };
            let mut hurry = self.hurry.subscribe();
            let hurries = async {
                while !self.outboxes().hurries(&to) {
                    if hurry.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            if urgency == Urgency::Lasting {
                let mut performing = Box::pin(Arc::clone(&self).perform(queued));
                let is_done = tokio::select! {
                    biased;
                    () = &mut performing => true,
                    () = hurries => false,
                };
                if !is_done {
                    self.spawn(performing);
                }
            } else {
                tokio::select! {
                    biased;
                    () = hurries => {}
                    () = Arc::clone(&self).unless_stopped(queued) => {}
                }
            }
        }
    }

    /// Beside all else, if there is room.
    fn begin_beside(self: &Arc<Self>, queued: Queued<F>) {
        let Ok(permit) = Arc::clone(&self.concurrent).try_acquire_owned() else {
            let why = format!("{CONCURRENT} commands and tools are at work already: this one is left out");
            return self.report(queued, Outcome::LeftOut(why));
        };
        let own = Arc::clone(self);
        self.spawn(async move {
            let _permit = permit;
            own.unless_stopped(queued).await;
        });
    }

    /// Carries it out, unless a stop came since it was submitted, or comes meanwhile.
    async fn unless_stopped(self: Arc<Self>, queued: Queued<F>) {
        let mut stop = self.rig.stops().subscribe();
        if queued.stops < self.rig.stops().count() {
            return;
        }
        tokio::select! {
            biased;
            () = stop.next() => {}
            () = Arc::clone(&self).perform(queued) => {}
        }
    }

    async fn perform(self: Arc<Self>, queued: Queued<F>) {
        let outcome = match self.rig.perform(queued.effect.clone(), &queued.by).await {
            Ok(text) => Outcome::Done(text),
            Err(fault) => Outcome::Failed(fault),
        };
        self.report(queued, outcome);
    }

    fn waiting(&self, quantum: Quantum) -> MutexGuard<'_, VecDeque<Queued<F>>> {
        let waiting = match quantum {
            Quantum::Beat => &self.beats,
            Quantum::Bar => &self.bars,
        };
        waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the next beat or bar. What waits for the same one is then put in in its order.
    fn wait(self: &Arc<Self>, quantum: Quantum, queued: Queued<F>) {
        let mut waiting = self.waiting(quantum);
        if waiting.len() >= WAITING_FOR_TIME {
            drop(waiting);
            let why = format!("{WAITING_FOR_TIME} actions wait for the next beat or bar already: this one is left out");
            return self.report(queued, Outcome::LeftOut(why));
        }
        waiting.push_back(queued);
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
                    waiting.retain(|queued| queued.stops >= stops || queued.effect.urgency() == Urgency::Lasting);
                    if waiting.is_empty() {
                        return;
                    }
                }
                () = &mut time => break,
            }
        }
        let due = std::mem::take(&mut *self.waiting(quantum));
        for queued in due {
            self.put(Queued { on: None, ..queued });
        }
    }
}
