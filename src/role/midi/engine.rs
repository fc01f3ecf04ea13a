//! The core under a lock, the driver beside it, and the thread that does what is due. Whoever wants something played takes the
//! lock, plays, and is gone: no queue, no other thread, no bus in between.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::core::{Core, Effects, Todo};
use super::feedback::{Lights, ListenerShown};
use super::keep::Keep;
use super::wires::Wires;
use crate::bus::message::fault::Fault;
use crate::bus::message::fault::FaultCode;
use crate::bus::message::midi::{Out, Sent};
use crate::midi::Message;
use crate::midi::clock::Quantum;
use crate::rig::Rig;

/// Something to do, and how many stops there had been: one that comes meanwhile calls it off.
pub type Due = (Todo, u64);

/// Messages that came in and wait to be told on the bus; a full cable fills it in four seconds. Beyond, they are counted.
pub const TOLD: usize = 4_096;
/// Deeds that wait to be begun. Beyond, they are not done, and that is told.
pub const TODOS: usize = 256;
/// The longest that the thread sleeps.
const NAP: Duration = Duration::from_secs(1);

/// A message that came in.
#[derive(Debug, Clone)]
pub struct Came {
    /// The port's number.
    pub port: usize,
    /// The message.
    pub message: Message,
    /// How long ago.
    pub age: Duration,
}

/// What is told to others.
pub enum News {
    /// A message came in.
    Came(Came),
    /// People should know.
    Notice(String),
}

/// Plays. Cloning shares it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    begun: Instant,
    thread: Mutex<Option<Thread>>,
    stop: AtomicBool,
    news: mpsc::Sender<News>,
    todos: mpsc::Sender<Due>,
    rig: Rig,
    untold: AtomicU64,
    /// What others do on the threads here may need the runtime.
    runtime: Handle,
}

/// What is under the lock.
pub struct State {
    /// What decides.
    pub core: Core,
    wires: Option<Box<dyn Wires>>,
    keep: Keep,
    lights: Lights,
    /// Messages that were lost with drivers before this one.
    lost: u64,
    was_up: bool,
}

impl State {
    /// Messages that were lost for want of room.
    pub fn lost(&self) -> u64 {
        self.lost + self.wires.as_ref().map_or(0, |wires| wires.lost())
    }

    /// Takes in what came, decides, and sends. Gives what is to be done without the lock.
    fn step<T>(&mut self, now_us: u64, work: impl FnOnce(&mut Core, u64) -> T) -> (T, Effects) {
        let Self { core, wires, .. } = self;
        let mut offset = 0;
        if let Some(wires) = wires {
            let theirs = wires.now_us();
            offset = theirs.cast_signed() - now_us.cast_signed();
            (core.lead_us, core.period_us) = (wires.lead_us(), wires.period_us());
            wires.receive(&mut |port, at_us, bytes| {
                core.input(port, (at_us.cast_signed() - offset).max(0).cast_unsigned(), bytes)
            });
        }
        let result = work(core, now_us);
        core.poll(now_us);
        let mut effects = std::mem::take(&mut core.effects);
        for (fired, on) in effects.shown.drain(..) {
            if let Some((port, message)) = self.lights.control(&fired, on) {
                effects.sends.push(super::core::Send { port, at_us: None, keep: false, message });
            }
        }
        if let Some(wires) = &mut self.wires {
            if effects.flush {
                wires.flush();
            }
            // Before it is sent: what sounds is always in the file.
            for (port, channel, note, on) in effects.kept.iter().filter(|(.., on)| *on) {
                self.keep.note(*port, *channel, *note, *on);
            }
            for send in effects.sends.drain(..) {
                let at_us = send.at_us.map(|at| (at.cast_signed() + offset).max(0).cast_unsigned());
                if !wires.send(send.port, at_us, send.keep, send.message.bytes().as_slice()) {
                    tracing::debug!(port = send.port, "MIDI was lost: there was no room");
                }
            }
            for (port, channel, note, on) in effects.kept.iter().filter(|(.., on)| !*on) {
                self.keep.note(*port, *channel, *note, *on);
            }
        }
        (result, effects)
    }
}

/// What is told of messages that were lost, once a second at most.
#[derive(Debug, Default)]
struct Losses {
    told: u64,
    next_us: u64,
}

impl Losses {
    /// `lost` is how many there were in all.
    fn news(&mut self, lost: u64, now_us: u64) -> Option<String> {
        if lost <= self.told || now_us < self.next_us {
            return None;
        }
        let more = lost - std::mem::replace(&mut self.told, lost);
        self.next_us = now_us + u64::try_from(NAP.as_micros()).unwrap_or(u64::MAX);
        Some(format!(
            "{more} MIDI messages were lost, since more came at once than there is room for; notes may hang: \
             `sidetone midi panic` ends them"
        ))
    }
}

impl Engine {
    /// With its thread, which works until [`Engine::stop`]. To be called within the runtime.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(
        core: Core,
        keep: Keep,
        lights: Lights,
        rig: Rig,
        begun: Instant,
        (news, todos): (mpsc::Sender<News>, mpsc::Sender<Due>),
    ) -> std::io::Result<Self> {
        let state = Mutex::new(State { core, wires: None, keep, lights, lost: 0, was_up: false });
        let thread = Mutex::new(None);
        let (stop, untold, runtime) = (AtomicBool::new(false), AtomicU64::new(0), Handle::current());
        let engine = Self(Arc::new(Inner { state, begun, thread, stop, news, todos, rig, untold, runtime }));
        let run = engine.clone();
        let handle = std::thread::Builder::new().name("midi".to_owned()).spawn(move || run.run())?;
        *engine.0.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.thread().clone());
        Ok(engine)
    }

    fn run(&self) {
        let mut losses = Losses::default();
        while !self.0.stop.load(Ordering::Acquire) {
            let lost = self.look(|state, now_us| losses.news(state.lost(), now_us));
            lost.into_iter().for_each(|news| self.report(news));
            let next = self.with(|core, now_us| core.next_us(now_us).map(|next| next.saturating_sub(now_us)));
            let nap = next.map_or(NAP, Duration::from_micros).min(NAP);
            if !nap.is_zero() {
                std::thread::park_timeout(nap);
            }
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// The thread, to be woken when something came in.
    #[must_use]
    pub fn thread(&self) -> Thread {
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
        thread.unwrap_or_else(std::thread::current)
    }

    fn wake(&self) {
        if let Some(thread) = &*self.0.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.unpark();
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the core, and all that is due; what comes of it is done after the lock is free.
    pub fn with<T>(&self, work: impl FnOnce(&mut Core, u64) -> T) -> T {
        let (result, effects) = {
            let mut state = self.lock();
            let now_us = self.now_us();
            state.step(now_us, work)
        };
        self.carry_out(effects);
        result
    }

    /// Looks at everything.
    pub fn look<T>(&self, look: impl FnOnce(&State, u64) -> T) -> T {
        let state = self.lock();
        look(&state, self.now_us())
    }

    fn carry_out(&self, effects: Effects) {
        let _within = self.0.runtime.enter();
        for todo in effects.deeds {
            // OSC of this host and the one stop go at once; all else by the bus.
            if todo.on.is_none()
                && let Some(done) = self.0.rig.quick(&todo.deed, &todo.by)
            {
                match done {
                    Ok(()) => continue,
                    // What this host does not have another may.
                    Err(fault) if fault.code == FaultCode::NotFound => {}
                    Err(fault) => {
                        self.report(format!("{}: {}", todo.by, fault.message));
                        continue;
                    }
                }
            }
            let stops = self.0.rig.stops().count();
            if let Err(error) = self.0.todos.try_send((todo, stops)) {
                let (todo, _) = match error {
                    mpsc::error::TrySendError::Full(todo) | mpsc::error::TrySendError::Closed(todo) => todo,
                };
                self.report(format!("{}: {TODOS} deeds wait already; this one is not done", todo.by));
            }
        }
        if !effects.told.is_empty() {
            let now_us = self.now_us();
            for (port, message, at_us) in effects.told {
                let age = Duration::from_micros(now_us.saturating_sub(at_us));
                if self.0.news.try_send(News::Came(Came { port, message, age })).is_err() {
                    self.0.untold.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        for notice in effects.notices {
            self.report(notice);
        }
    }

    /// Tells people something; beyond what can wait, only the log has it.
    pub fn report(&self, text: String) {
        if let Err(error) = self.0.news.try_send(News::Notice(text)) {
            let (mpsc::error::TrySendError::Full(text) | mpsc::error::TrySendError::Closed(text)) = error;
            if let News::Notice(text) = text {
                tracing::warn!("{text}");
            }
        }
    }

    /// How many messages that came in could not be told, since the bus was too slow.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.0.untold.load(Ordering::Relaxed)
    }

    /// Plays what somebody asks for, at once.
    ///
    /// # Errors
    /// As [`Core::play`].
    pub fn play(&self, out: &Out) -> Result<Sent, Fault> {
        let sent = self.with(|core, now_us| core.play(out, now_us));
        // What has a length or a time is for the thread.
        self.wake();
        sent
    }

    /// How long it is until the next beat or bar.
    #[must_use]
    pub fn until(&self, quantum: Quantum) -> Duration {
        self.look(|state, now_us| {
            Duration::from_micros(state.core.clock(now_us).0.next_us(quantum, now_us).saturating_sub(now_us))
        })
    }

    /// A listener does something else now.
    pub fn listener(&self, name: &str, now: ListenerShown) {
        let mut state = self.lock();
        let lights = state.lights.listener(name, now);
        let sends: Vec<_> = lights.into_iter().collect();
        if let Some(wires) = &mut state.wires {
            for (port, message) in sends {
                wires.send(port, None, false, message.bytes().as_slice());
            }
        }
    }

    /// The driver is there. Gives whether it is the first time.
    pub fn attach(&self, wires: Box<dyn Wires>) -> bool {
        let is_first = {
            let mut state = self.lock();
            state.wires = Some(wires);
            !std::mem::replace(&mut state.was_up, true)
        };
        self.with(|core, now_us| core.set_up(true, now_us));
        self.wake();
        is_first
    }

    /// The driver is gone, or has to go.
    #[must_use]
    pub fn detach(&self) -> Option<Box<dyn Wires>> {
        self.with(|core, now_us| core.set_up(false, now_us));
        let mut state = self.lock();
        let wires = state.wires.take();
        state.lost += wires.as_ref().map_or(0, |wires| wires.lost());
        wires
    }

    /// The connections of a port are these now; a device that has come is shown what it has to show.
    pub fn connected(
        &self,
        port: usize,
        inputs: BTreeSet<String>,
        outputs: BTreeSet<String>,
        shared: BTreeSet<String>,
    ) {
        let came = self.with(|core, now_us| {
            let before = core.ports.get(port).map(|port| port.outputs.clone()).unwrap_or_default();
            let came = outputs.difference(&before).next().is_some();
            core.connected(port, inputs, outputs, shared, now_us);
            came
        });
        if came {
            let mut state = self.lock();
            let lights = state.lights.all(port);
            if let Some(wires) = &mut state.wires {
                for message in lights {
                    wires.send(port, None, false, message.bytes().as_slice());
                }
            }
        }
    }

    /// Ends all notes and waits until the ends are on their way, a fifth of a second at most.
    pub fn silence(&self) {
        self.with(|core, now_us| core.panic(None, false, now_us));
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until && !self.look(|state, _| state.wires.as_ref().is_none_or(|wires| wires.is_idle()))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_once_a_second() {
        let mut losses = Losses::default();
        assert_eq!(losses.news(0, 0), None);
        assert!(losses.news(3, 5).unwrap().starts_with("3 MIDI messages were lost"));
        assert_eq!((losses.news(3, 2_000_000), losses.news(9, 500_000)), (None, None));
        assert!(losses.news(10, 1_000_005).unwrap().starts_with("7 MIDI messages"));
    }
}
