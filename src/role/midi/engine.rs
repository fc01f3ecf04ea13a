//! The sequencer under a lock, the driver beside it, and the thread that does what is due. A caller that wants something played
//! takes the lock, plays, and is gone: no queue, no other thread, no bus in between.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::driver::Driver;
use super::feedback::{Lights, ListenerShown};
use super::journal::NoteJournal;
use super::sequencer::{Outgoing, Output, Sequencer};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::midi::{Out, Sent};
use crate::midi::Message;
use crate::midi::clock::Quantum;
use crate::rig::Rig;
use crate::rig::effects::{Effects, Outcome};

/// Messages that came in and wait to be published; a full cable fills it in four seconds. Beyond, they are counted.
pub const PUBLISHED: usize = 4_096;
/// The longest that the thread sleeps.
const NAP: Duration = Duration::from_secs(1);

/// A message that came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// The port's number.
    pub port: usize,
    /// The message.
    pub message: Message,
    /// How long ago.
    pub age: Duration,
}

/// News for the bus.
pub enum News {
    /// A message came in.
    Received(Received),
    /// People should know.
    Notice(String),
}

/// Plays. Cloning shares it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    state: Mutex<EngineState>,
    begun: Instant,
    thread: Mutex<Option<Thread>>,
    stop: AtomicBool,
    news: mpsc::Sender<News>,
    effects: Effects<()>,
    unpublished: AtomicU64,
    /// Effects that the threads here carry out may need the runtime.
    runtime: Handle,
}

/// All that is under the lock.
pub struct EngineState {
    /// What decides.
    pub sequencer: Sequencer,
    driver: Option<Box<dyn Driver>>,
    journal: NoteJournal,
    lights: Lights,
    /// Messages that were lost with drivers before this one.
    lost: u64,
    was_up: bool,
}

impl EngineState {
    /// Messages that were lost for want of room.
    pub fn lost(&self) -> u64 {
        self.lost + self.driver.as_ref().map_or(0, |driver| driver.lost())
    }

    /// Takes in what came, decides, and sends. Gives what remains to be done without the lock.
    fn step<T>(&mut self, now_us: u64, work: impl FnOnce(&mut Sequencer, u64) -> T) -> (T, Output) {
        let Self { sequencer, driver, .. } = self;
        let mut offset = 0;
        if let Some(driver) = driver {
            let theirs = driver.now_us();
            offset = theirs.cast_signed() - now_us.cast_signed();
            (sequencer.lead_us, sequencer.period_us) = (driver.lead_us(), driver.period_us());
            driver.receive(&mut |port, at_us, bytes| {
                sequencer.input(port, (at_us.cast_signed() - offset).max(0).cast_unsigned(), bytes)
            });
        }
        let result = work(sequencer, now_us);
        sequencer.poll(now_us);
        let mut output = std::mem::take(&mut sequencer.output);
        for (fired, on) in output.lights.drain(..) {
            if let Some((port, message)) = self.lights.control(&fired, on) {
                output.sends.push(Outgoing { port, at_us: None, keep: false, message });
            }
        }
        if let Some(driver) = &mut self.driver {
            if output.flush {
                driver.flush();
            }
            // Before it is sent: what sounds is always in the file.
            for (port, channel, note, on) in output.journal.iter().filter(|(.., on)| *on) {
                self.journal.note(*port, *channel, *note, *on);
            }
            for send in output.sends.drain(..) {
                let at_us = send.at_us.map(|at| (at.cast_signed() + offset).max(0).cast_unsigned());
                if !driver.send(send.port, at_us, send.keep, send.message.bytes().as_slice()) {
                    tracing::debug!(port = send.port, "MIDI was lost: there was no room");
                }
            }
            for (port, channel, note, on) in output.journal.iter().filter(|(.., on)| !*on) {
                self.journal.note(*port, *channel, *note, *on);
            }
        }
        (result, output)
    }
}

/// Reports messages that were lost, once a second at most.
#[derive(Debug, Default)]
struct LossReport {
    reported: u64,
    next_us: u64,
}

impl LossReport {
    /// `lost` is how many there were in all.
    fn news(&mut self, lost: u64, now_us: u64) -> Option<String> {
        if lost <= self.reported || now_us < self.next_us {
            return None;
        }
        let more = lost - std::mem::replace(&mut self.reported, lost);
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
        sequencer: Sequencer,
        journal: NoteJournal,
        lights: Lights,
        rig: Rig,
        begun: Instant,
        news: mpsc::Sender<News>,
    ) -> std::io::Result<Self> {
        let failures = news.clone();
        let effects = Effects::new(rig, move |ended| {
            let why = match ended.outcome {
                Outcome::Done(_) => return,
                Outcome::Failed(fault) if fault.code == FaultCode::Cancelled => return,
                Outcome::Failed(fault) => fault.message,
                Outcome::LeftOut(why) => why,
            };
            report(&failures, format!("{}: {why}", ended.by));
        });
        let engine = Self(Arc::new(Inner {
            state: Mutex::new(EngineState { sequencer, driver: None, journal, lights, lost: 0, was_up: false }),
            begun,
            thread: Mutex::new(None),
            stop: AtomicBool::new(false),
            news,
            effects,
            unpublished: AtomicU64::new(0),
            runtime: Handle::current(),
        }));
        let run = engine.clone();
        let handle = std::thread::Builder::new().name("midi".to_owned()).spawn(move || run.run())?;
        *engine.0.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.thread().clone());
        Ok(engine)
    }

    fn run(&self) {
        let mut losses = LossReport::default();
        while !self.0.stop.load(Ordering::Acquire) {
            let lost = self.look(|state, now_us| losses.news(state.lost(), now_us));
            lost.into_iter().for_each(|news| self.report(news));
            let next = self.with(|sequencer, now_us| sequencer.next_us(now_us).map(|next| next.saturating_sub(now_us)));
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

    fn lock(&self) -> MutexGuard<'_, EngineState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the sequencer, and all that is due; what comes of it is carried out after the lock is free.
    pub fn with<T>(&self, work: impl FnOnce(&mut Sequencer, u64) -> T) -> T {
        let (result, output) = {
            let mut state = self.lock();
            let now_us = self.now_us();
            state.step(now_us, work)
        };
        self.carry_out(output);
        result
    }

    /// Looks at everything.
    pub fn look<T>(&self, look: impl FnOnce(&EngineState, u64) -> T) -> T {
        let state = self.lock();
        look(&state, self.now_us())
    }

    fn carry_out(&self, output: Output) {
        let _within = self.0.runtime.enter();
        for triggered in output.effects {
            self.0.effects.submit(triggered.effect, triggered.on, triggered.by, ());
        }
        if !output.published.is_empty() {
            let now_us = self.now_us();
            for (port, message, at_us) in output.published {
                let age = Duration::from_micros(now_us.saturating_sub(at_us));
                if self.0.news.try_send(News::Received(Received { port, message, age })).is_err() {
                    self.0.unpublished.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        for notice in output.notices {
            self.report(notice);
        }
    }

    /// Tells people something; beyond what can wait, only the log has it.
    pub fn report(&self, text: String) {
        report(&self.0.news, text);
    }

    /// How many messages that came in could not be published, since the bus was too slow.
    #[must_use]
    pub fn unpublished(&self) -> u64 {
        self.0.unpublished.load(Ordering::Relaxed)
    }

    /// Plays what is asked for, at once.
    ///
    /// # Errors
    /// As [`Sequencer::play`].
    pub fn play(&self, out: &Out) -> Result<Sent, Fault> {
        let sent = self.with(|sequencer, now_us| sequencer.play(out, now_us));
        // What has a length or a time is for the thread.
        self.wake();
        sent
    }

    /// How long it is until the next beat or bar.
    #[must_use]
    pub fn until(&self, quantum: Quantum) -> Duration {
        self.look(|state, now_us| {
            Duration::from_micros(state.sequencer.clock(now_us).0.next_us(quantum, now_us).saturating_sub(now_us))
        })
    }

    /// A listener does something else now.
    pub fn listener(&self, name: &str, now: ListenerShown) {
        let mut state = self.lock();
        let lights = state.lights.listener(name, now);
        let sends: Vec<_> = lights.into_iter().collect();
        if let Some(driver) = &mut state.driver {
            for (port, message) in sends {
                driver.send(port, None, false, message.bytes().as_slice());
            }
        }
    }

    /// The driver is there. Gives whether it is the first time.
    pub fn attach(&self, driver: Box<dyn Driver>) -> bool {
        let is_first = {
            let mut state = self.lock();
            state.driver = Some(driver);
            !std::mem::replace(&mut state.was_up, true)
        };
        self.with(|sequencer, now_us| sequencer.set_up(true, now_us));
        self.wake();
        is_first
    }

    /// The driver is gone, or has to go.
    #[must_use]
    pub fn detach(&self) -> Option<Box<dyn Driver>> {
        self.with(|sequencer, now_us| sequencer.set_up(false, now_us));
        let mut state = self.lock();
        let driver = state.driver.take();
        state.lost += driver.as_ref().map_or(0, |driver| driver.lost());
        driver
    }

    /// The connections of a port are these now; a device that has come is shown what it has to show.
    pub fn connected(
        &self,
        port: usize,
        inputs: BTreeSet<String>,
        outputs: BTreeSet<String>,
        shared: BTreeSet<String>,
    ) {
        let came = self.with(|sequencer, now_us| {
            let before = sequencer.ports.get(port).map(|port| port.outputs.clone()).unwrap_or_default();
            let came = outputs.difference(&before).next().is_some();
            sequencer.connected(port, inputs, outputs, shared, now_us);
            came
        });
        if came {
            let mut state = self.lock();
            let lights = state.lights.all(port);
            if let Some(driver) = &mut state.driver {
                for message in lights {
                    driver.send(port, None, false, message.bytes().as_slice());
                }
            }
        }
    }

    /// Ends all notes and waits until the ends are on their way, a fifth of a second at most.
    pub fn silence(&self) {
        self.with(|sequencer, now_us| sequencer.panic(None, false, now_us));
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until
            && !self.look(|state, _| state.driver.as_ref().is_none_or(|driver| driver.is_idle()))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn report(news: &mpsc::Sender<News>, text: String) {
    if let Err(error) = news.try_send(News::Notice(text)) {
        let (mpsc::error::TrySendError::Full(text) | mpsc::error::TrySendError::Closed(text)) = error;
        if let News::Notice(text) = text {
            tracing::warn!("{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_reported_once_a_second() {
        let mut losses = LossReport::default();
        assert_eq!(losses.news(0, 0), None);
        assert!(losses.news(3, 5).unwrap().starts_with("3 MIDI messages were lost"));
        assert_eq!((losses.news(3, 2_000_000), losses.news(9, 500_000)), (None, None));
        assert!(losses.news(10, 1_000_005).unwrap().starts_with("7 MIDI messages"));
    }
}
