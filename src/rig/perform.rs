//! Carries effects out: on this host at once where it can, else by the bus.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::clock::Clock;
use super::stop::Stops;
use crate::action::{Effect, ListenerName};
use crate::bus::message::agent::{Run, RunEvent};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::voice::Control;
use crate::bus::message::{midi, osc};
use crate::bus::subject::Capability;
use crate::bus::{Bus, Call};
use crate::fabric::{self, Fabric};
use crate::router::Need;

/// How long a listener, a tool or another host may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command may take, the chat model's answer included.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// Sends at once and without waiting, or says why it can't.
pub type Sender<M> = Arc<dyn Fn(M) -> Result<(), Fault> + Send + Sync>;

/// What can be set off from this host. Cloning shares it.
#[derive(Clone)]
pub struct Rig(Arc<Inner>);

struct Inner {
    fabric: Fabric,
    /// The listeners of this host.
    listeners: Vec<String>,
    osc: Socket<osc::Out>,
    midi: Socket<midi::Out>,
    stops: Stops,
    clock: Clock,
}

/// Where a role of this host plugs in its sender.
type Socket<M> = Arc<RwLock<Option<Sender<M>>>>;

/// A role is plugged in for as long as this lives.
#[must_use = "dropping it unplugs"]
pub struct Plugged<M>(Socket<M>);

impl<M> Drop for Plugged<M> {
    fn drop(&mut self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Rig {
    /// That of this host, with its `listeners`.
    #[must_use]
    pub fn new(fabric: &Fabric, listeners: Vec<String>, stops: Stops, clock: Clock) -> Self {
        let (osc, midi) = (Socket::default(), Socket::default());
        Self(Arc::new(Inner { fabric: fabric.clone(), listeners, osc, midi, stops, clock }))
    }

    /// What stops everything.
    #[must_use]
    pub fn stops(&self) -> &Stops {
        &self.0.stops
    }

    /// Beats and bars.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Sends OSC by `sender` from now on.
    pub fn plug_osc(&self, sender: Sender<osc::Out>) -> Plugged<osc::Out> {
        plug(&self.0.osc, sender)
    }

    /// Sends MIDI by `sender` from now on.
    pub fn plug_midi(&self, sender: Sender<midi::Out>) -> Plugged<midi::Out> {
        plug(&self.0.midi, sender)
    }

    /// Does on this host at once what needs no bus. `None` for what does, or what this host lacks the target or port for: another
    /// may have it. This is the one place that decides so.
    pub fn here(&self, effect: &Effect, by: &str) -> Option<Result<(), Fault>> {
        let done = match effect {
            Effect::Osc(out) => plugged(&self.0.osc).map(|send| send(out.clone())),
            Effect::Midi(out) => plugged(&self.0.midi).map(|send| send(out.clone())),
            Effect::Stop => {
                self.0.stops.fire(by);
                Some(Ok(()))
            }
            _ => None,
        };
        done.filter(|done| !matches!(done, Err(fault) if fault.code == FaultCode::NotFound))
    }

    /// Carries an effect out: on this host at once if it can, else by the bus. Gives the text of an answer if there is one.
    /// `by` says who wants it, for logs.
    ///
    /// # Errors
    /// What was asked says why not, or no host can.
    pub async fn perform(&self, effect: Effect, by: &str) -> Result<Option<String>, Fault> {
        if let Some(done) = self.here(&effect, by) {
            return done.map(|()| None);
        }
        match effect {
            Effect::Osc(out) => {
                let need = Need { model: out.target.clone(), ..fabric::need(Capability::Osc) };
                self.ask(&need, &out).await.map(|_| None)
            }
            Effect::Midi(out) => {
                // Its notes end when this host is gone.
                let by = out.by.clone().or_else(|| Some(self.bus().node().to_owned()));
                let out = midi::Out { by, ..out };
                let need = Need { model: out.port.clone(), ..fabric::need(Capability::Midi) };
                self.ask(&need, &out).await.map(|_| None)
            }
            Effect::Command { text } => self.command(text).await.map(Some),
            Effect::Listener { listener, control } => self.control(&listener, &control).await.map(|()| None),
            Effect::Tool { name, input } => {
                let call = Call::within(CALL_TIMEOUT);
                self.bus().ask_tool(&name, &input, &call).await.map(Some).map_err(|e| e.to_fault())
            }
            Effect::Stop => Ok(None),
        }
    }

    /// The hosts and listeners that are meant by a name on this host.
    ///
    /// # Errors
    /// As [`ListenerName::resolve`].
    pub fn listeners(&self, name: &ListenerName, control: &Control) -> Result<Vec<(String, String)>, Fault> {
        name.resolve(self.bus().node(), &self.0.listeners, control)
    }

    fn bus(&self) -> &Bus {
        self.0.fabric.bus()
    }

    async fn ask<A: crate::bus::message::Ask>(&self, need: &Need, request: &A) -> Result<A::Reply, Fault> {
        self.0.fabric.ask(need, request, &Call::within(CALL_TIMEOUT)).await.map_err(|e| e.to_fault())
    }

    /// Has a text run as if it were typed, and gives the answer.
    async fn command(&self, text: String) -> Result<String, Fault> {
        let run = Run { text, session: None, turn: None, stream: true, heard: None, said: String::new() };
        let call = Call::within(COMMAND_TIMEOUT);
        let mut stream =
            self.0.fabric.open(&fabric::need(Capability::Agent), run, &call).await.map_err(|e| e.to_fault())?;
        while let Some(event) = stream.next().await {
            if let RunEvent::Done(done) = event.map_err(|e| e.to_fault())? {
                return Ok(done.text);
            }
        }
        Err(Fault::failed("the answer had no end"))
    }

    /// Controls a listener; without a name the first of this host, or all of them by what silences: none waits for another.
    async fn control(&self, name: &ListenerName, control: &Control) -> Result<(), Fault> {
        let call = Call::within(CALL_TIMEOUT);
        let found = self.listeners(name, control)?;
        let all = found.iter().map(|(node, listener)| self.bus().control(node, listener, control, &call));
        let answers = futures::future::join_all(all).await;
        answers.into_iter().find_map(Result::err).map_or(Ok(()), |error| Err(error.to_fault()))
    }
}

fn plug<M>(socket: &Socket<M>, sender: Sender<M>) -> Plugged<M> {
    *socket.write().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    Plugged(Arc::clone(socket))
}

fn plugged<M>(socket: &Socket<M>) -> Option<Sender<M>> {
    socket.read().unwrap_or_else(PoisonError::into_inner).clone()
}
