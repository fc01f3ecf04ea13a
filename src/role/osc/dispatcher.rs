//! Everything that comes passes here: what may come, when it is due, and what it sets off. Nothing here waits: what goes out by OSC
//! or MIDI on this host goes out at once, what needs the bus is queued by [`Effects`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::addresses::{FEEDBACK, ROOT, VERBS, Wish, meant};
use super::allow::Allow;
use super::handlers::Handlers;
use super::listeners::Listeners;
use super::net::{Intake, Peer};
use super::replies::Replies;
use super::schedule::Schedule;
use super::surfaces::{Scope, Surfaces, Viewer};
use super::tally::{Problem, Tally};
use super::targets::Targets;
use super::wire::{to_osc, to_wire};
use crate::action::Effect;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::osc::{In, Out, Sent};
use crate::bus::message::voice::Control;
use crate::bus::session::now;
use crate::midi::clock::Quantum;
use crate::osc::pattern::{Pattern, PatternError, is_pattern};
use crate::osc::time::{Due, IMMEDIATELY, due};
use crate::osc::{Limits, OscMessage, OscType, decode, encode};
use crate::rig::Rig;
use crate::rig::effects::Effects;
use crate::rig::loops::{Loops, Verdict, value};

/// Patterns that are kept as they were read: surfaces send the same ones again and again.
const PATTERNS: usize = 64;

/// What something came from and to, for loops.
pub type Trigger = (IpAddr, String);

/// What waits for its time.
#[derive(Debug)]
pub struct Scheduled {
    /// How many stops there had been.
    pub stops: u64,
    /// What it is.
    pub what: Timed,
}

/// What has a time.
#[derive(Debug)]
pub enum Timed {
    /// What has come in one bundle.
    Came(Vec<OscMessage>, Peer),
    /// Something that is to go out: to which target, and its address.
    Out(String, String, Vec<u8>),
}

/// Decides about all that comes.
pub struct Dispatcher {
    /// The name of this host.
    pub node: String,
    /// Who may send.
    pub allow: Allow,
    /// How far ahead a time tag may lie.
    pub ahead: Duration,
    /// What goes wrong.
    pub tally: Arc<Tally>,
    /// Answers to peers.
    pub replies: Arc<Replies>,
    /// Feedback.
    pub surfaces: Arc<Surfaces>,
    /// Own handlers.
    pub handlers: Handlers,
    /// Who is meant.
    pub listeners: Arc<Listeners>,
    /// Where to.
    pub targets: Targets,
    /// What waits.
    pub schedule: Schedule<Scheduled>,
    /// The one stop.
    pub rig: Rig,
    /// Carries out what messages set off.
    pub effects: Effects<Peer>,
    /// What no handler takes. When it is full the message is dropped, counted and reported.
    pub strays: mpsc::Sender<In>,
    /// What may trigger itself.
    pub loops: Mutex<Loops<Trigger>>,
    /// From when times count.
    pub begun: Instant,
    /// The role has ended.
    pub ended: CancellationToken,
    /// What goes on beside the role's own tasks until then.
    pub conversations: TaskTracker,
    /// Patterns that came lately.
    pub patterns: Mutex<HashMap<String, Pattern>>,
    /// Held while a packet or bundle is worked on: nothing comes in between its messages.
    pub whole: Mutex<()>,
}

impl Dispatcher {
    /// A message's time has come.
    pub fn message(&self, message: OscMessage, peer: &Peer) {
        let trigger = (peer.at.ip(), message.addr.clone());
        self.note_feedback();
        if self.loops().came(&trigger, worth(&message.args), self.begun.elapsed()) == Verdict::Leave {
            return;
        }
        if is_pattern(&message.addr) {
            return self.pattern(message, peer, &trigger);
        }
        if !self.take(&message, peer, &trigger) {
            self.stray(message, peer);
        }
    }

    /// Does what an address stands for; `false` if that is nothing.
    fn take(&self, message: &OscMessage, peer: &Peer, trigger: &Trigger) -> bool {
        if let Some(meant) = meant(&message.addr) {
            match meant.verb.wish(&message.args) {
                Ok(wish) => self.wish(wish, meant.listener, &message.args, peer, trigger),
                Err(why) => self.replies.error(peer, &format!("{}: {why}", message.addr)),
            }
            return true;
        }
        let mut taken = false;
        for handler in self.handlers.iter() {
            // One that waits for a press takes the release as well, and does nothing.
            taken |= handler.address.matches(&message.addr);
            match handler.take(message) {
                None => {}
                Some(Ok(effect)) => {
                    if handler.may_return() {
                        self.loops().sent(trigger, self.begun.elapsed());
                    }
                    self.carry_out(effect, handler.on, peer);
                }
                Some(Err(why)) => self.replies.error(peer, &why),
            }
        }
        if !taken && message.addr.starts_with(ROOT) && !self.is_shown(&message.addr) {
            let there = VERBS.iter().map(|verb| verb.name).collect::<Vec<_>>().join(", ");
            self.replies.error(peer, &format!("nothing is done at {}; under {ROOT} there are {there}", message.addr));
        }
        taken
    }

    /// Whether it is feedback, as another host sends it: to answer that by an error could go on for ever.
    fn is_shown(&self, address: &str) -> bool {
        let name = address.rsplit('/').next().unwrap_or_default();
        name == "pong" || FEEDBACK.iter().any(|address| address.name == name)
    }

    /// A pattern stands for every address that it fits.
    fn pattern(&self, message: OscMessage, peer: &Peer, trigger: &Trigger) {
        let pattern = match self.read(&message.addr) {
            Ok(pattern) => pattern,
            Err(error) => return self.replies.unreadable(peer, &error.to_string()),
        };
        let mut taken = false;
        for address in self.addresses().into_iter().filter(|address| pattern.matches(address)) {
            taken |= self.take(&OscMessage { addr: address, args: message.args.clone() }, peer, trigger);
        }
        if !taken {
            self.stray(message, peer);
        }
    }

    fn read(&self, pattern: &str) -> Result<Pattern, PatternError> {
        let mut patterns = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = patterns.get(pattern) {
            return Ok(known.clone());
        }
        let new = Pattern::new(pattern)?;
        if patterns.len() == PATTERNS {
            patterns.clear();
        }
        patterns.insert(pattern.to_owned(), new.clone());
        Ok(new)
    }

    /// Every address at which something is done, but for those that handlers have patterns for.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let listeners = self.listeners.names();
        let roots = std::iter::once(ROOT.to_owned()).chain(listeners.iter().map(|name| format!("{ROOT}{name}/")));
        let built = roots.flat_map(|root| VERBS.iter().map(move |verb| format!("{root}{}", verb.name)));
        let mut all: Vec<String> = built.collect();
        for handler in self.handlers.iter().filter(|handler| !handler.address.is_wild()) {
            let address = handler.address.as_str().to_owned();
            // Two handlers of one address are both asked when it is looked up.
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    fn wish(&self, wish: Wish, listener: &str, args: &[OscType], peer: &Peer, trigger: &Trigger) {
        match wish {
            Wish::Nothing => {}
            Wish::Command(text) => self.carry_out(Effect::Command { text }, None, peer),
            Wish::Control(control) => self.control(listener, &control, None, peer),
            Wish::Stop if listener.is_empty() => self.carry_out(Effect::Stop, None, peer),
            Wish::Stop => self.control(listener, &Control::Stop, None, peer),
            Wish::Ping => {
                self.loops().sent(trigger, self.begun.elapsed());
                let addr = if listener.is_empty() { format!("{ROOT}pong") } else { format!("{ROOT}{listener}/pong") };
                self.replies.send(peer, &OscMessage { addr, args: args.to_vec() });
            }
            Wish::Subscribe(port) => {
                let viewer = Viewer::Peer(port.map_or_else(|| peer.clone(), |port| peer.at_port(port)));
                let scope = if listener.is_empty() { Scope::All } else { Scope::below(format!("{ROOT}{listener}/")) };
                if let Err(why) = self.surfaces.subscribe(viewer, scope) {
                    self.replies.error(peer, &why);
                }
            }
            Wish::Unsubscribe(port) => {
                let prefix = (!listener.is_empty()).then(|| format!("{ROOT}{listener}/"));
                let viewer = port.map_or_else(|| peer.clone(), |port| peer.at_port(port));
                self.surfaces.unsubscribe(&viewer, prefix.as_deref());
            }
            Wish::Sync => self.surfaces.sync(peer),
        }
    }

    fn control(&self, listener: &str, control: &Control, on: Option<Quantum>, peer: &Peer) {
        match self.listeners.meant(listener, control) {
            Ok(found) => {
                for listener in found {
                    self.carry_out(Effect::Listener { listener, control: control.clone() }, on, peer);
                }
            }
            Err(why) => self.replies.error(peer, &why),
        }
    }

    /// Has an effect carried out, on the next beat or bar if it is to wait for one.
    fn carry_out(&self, effect: Effect, on: Option<Quantum>, peer: &Peer) {
        // On a host without listeners those of another are meant.
        if let Effect::Listener { listener, control } = &effect
            && listener.is_any()
        {
            return self.control("", control, on, peer);
        }
        let is_stop_now = effect == Effect::Stop && on.is_none();
        self.effects.submit(effect, on, by(peer), peer.clone());
        if is_stop_now {
            // So that there is room for what comes after it.
            self.stop();
        }
    }

    /// What no handler takes goes on the bus.
    fn stray(&self, message: OscMessage, peer: &Peer) {
        let OscMessage { addr, args } = message;
        let args = args.into_iter().map(to_wire).collect();
        let stray = In { node: self.node.clone(), from: peer.at.to_string(), address: addr, args, at: now() };
        if let Err(error) = self.strays.try_send(stray) {
            let stray = error.into_inner();
            self.tally.count(Problem::Flood, || format!("{} from {}", stray.address, stray.from));
        }
    }

    /// Sends to a target, or has it wait.
    ///
    /// # Errors
    /// Why it can't be sent.
    pub fn out(&self, out: Out) -> Result<Sent, Fault> {
        let target = self.targets.get(&out.target)?;
        let args = out.args.into_iter().map(to_osc).collect();
        let packet =
            encode(&OscMessage { addr: out.address.clone(), args }).map_err(|e| Fault::invalid(e.to_string()))?;
        let wait = out.at.as_deref().map(|at| self.wait(at)).transpose()?.unwrap_or_default();
        if !wait.is_zero() {
            let to = target.address().map(|at| at.to_string()).unwrap_or_default();
            let what = Timed::Out(out.target, out.address, packet);
            let waiting = Scheduled { stops: self.rig.stops().count(), what };
            if !self.schedule.put(Instant::now() + wait, 1, waiting) {
                return Err(Fault::new(FaultCode::Busy, "too many OSC messages wait for their time: try again"));
            }
            return Ok(Sent {
                node: self.node.clone(),
                to,
                in_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            });
        }
        let to = target.send(&packet)?;
        self.loops().sent(&(to.ip().to_canonical(), out.address), self.begun.elapsed());
        Ok(Sent { node: self.node.clone(), to: to.to_string(), in_ms: 0 })
    }

    fn wait(&self, at: &str) -> Result<Duration, Fault> {
        let moment: jiff::Timestamp = at.parse().map_err(|_| {
            Fault::invalid(format!("at is {at:?}: give a time in RFC 3339, such as \"2026-11-24T20:15:00Z\""))
        })?;
        let wait = Duration::try_from(moment.duration_since(jiff::Timestamp::now())).unwrap_or_default();
        if wait > self.ahead {
            let (wait, max) = (wait.as_secs(), self.ahead.as_secs());
            return Err(Fault::invalid(format!("at is in {wait} s, and at most {max} s are waited (osc.ahead_ms)")));
        }
        Ok(wait)
    }

    /// The time of something has come that waited.
    pub fn due(&self, waiting: Scheduled) {
        if waiting.stops < self.rig.stops().count() {
            return;
        }
        match waiting.what {
            Timed::Came(bundle, peer) => {
                let _whole = self.whole();
                for message in bundle {
                    self.message(message, &peer);
                }
            }
            Timed::Out(target, address, packet) => {
                let sent = self.targets.get(&target).and_then(|target| target.send(&packet));
                match sent {
                    Ok(to) => self.loops().sent(&(to.ip().to_canonical(), address), self.begun.elapsed()),
                    Err(fault) => self.tally.count(Problem::Unsent, || fault.message),
                }
            }
        }
    }

    /// A stop has come: what waited before it is dropped.
    pub fn stop(&self) {
        let stops = self.rig.stops().count();
        let dropped = self.schedule.keep(|waiting| waiting.stops >= stops);
        if dropped > 0 {
            tracing::debug!(dropped, "pending OSC was dropped");
        }
    }

    fn whole(&self) -> MutexGuard<'_, ()> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What feedback has sent may come back.
    fn note_feedback(&self) {
        let sent = self.surfaces.take_sent();
        if !sent.is_empty() {
            let mut loops = self.loops();
            for sent in sent {
                // What was sent a while ago is not what this came of.
                let at = sent.at.saturating_duration_since(self.begun);
                loops.sent(&(sent.to.ip().to_canonical(), sent.address), at);
            }
        }
    }

    /// What may trigger itself.
    pub fn loops(&self) -> MutexGuard<'_, Loops<Trigger>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intake for Dispatcher {
    fn admits(&self, from: IpAddr) -> bool {
        let takes = self.allow.takes(from);
        if !takes {
            self.tally
                .count(Problem::Stranger, || format!("{}; add it to osc.allow if it may send", from.to_canonical()));
        }
        takes
    }

    fn packet(&self, packet: &[u8], peer: &Peer) {
        let messages = match decode(packet, &Limits::default()) {
            Ok(messages) => messages,
            Err(error) => return self.replies.unreadable(peer, &error.to_string()),
        };
        let (clock, now) = (SystemTime::now(), Instant::now());
        self.surfaces.heard(peer, now);
        let _whole = self.whole();
        // Messages that are due together, and were set off between the same stops.
        let mut later: Vec<(Duration, u64, Vec<OscMessage>)> = Vec::new();
        for timed in messages {
            let due = if timed.at == IMMEDIATELY { Due::Now } else { due(timed.at, clock, self.ahead) };
            match due {
                Due::Now | Due::Late(_) => self.message(timed.message, peer),
                Due::In(wait) => {
                    let stops = self.rig.stops().count();
                    let together = later.iter_mut().find(|(same, since, _)| (*same, *since) == (wait, stops));
                    match together {
                        Some((.., bundle)) => bundle.push(timed.message),
                        None => later.push((wait, stops, vec![timed.message])),
                    }
                }
                Due::TooFar(wait) => {
                    let text = format!(
                        "{} is for in {} s, and at most {} s are waited",
                        timed.message.addr,
                        wait.as_secs(),
                        self.ahead.as_secs()
                    );
                    self.tally.count(Problem::TooFar, || format!("{text} (from {})", peer.at));
                    self.replies.error(peer, &text);
                }
            }
        }
        let stopped = self.rig.stops().count();
        for (wait, stops, bundle) in later.into_iter().filter(|(_, stops, _)| *stops >= stopped) {
            let (count, first) = (bundle.len(), bundle.first().map(|first| first.addr.clone()).unwrap_or_default());
            let waiting = Scheduled { stops, what: Timed::Came(bundle, peer.clone()) };
            if !self.schedule.put(now + wait, count, waiting) {
                self.tally.count(Problem::Waiting, || format!("{first} from {}", peer.at));
                let why = format!(
                    "{first}: too many messages wait for their time, so the {count} of its bundle are left out"
                );
                self.replies.error(peer, &why);
            }
        }
    }

    fn unreadable(&self, peer: &Peer, why: &str) {
        self.replies.unreadable(peer, why);
    }

    fn crowded(&self, why: String) {
        self.tally.count(Problem::Flood, || why);
    }
}

/// Who wants something, for logs.
#[must_use]
pub fn by(peer: &Peer) -> String {
    format!("OSC from {}", peer.at)
}

/// A value for arguments, to compare them with others.
fn worth(args: &[OscType]) -> u64 {
    value(&format!("{args:?}"))
}
