//! Where everything that comes passes: what may come, when it is due, and what is done. Nothing here waits: what needs the bus
//! goes into queues, what goes out by OSC or MIDI on this host goes out at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::addresses::{ROOT, VERBS, Wish, meant};
use super::allow::Allow;
use super::handlers::Handlers;
use super::listeners::Listeners;
use super::net::Peer;
use super::schedule::Schedule;
use super::surfaces::{Scope, Surfaces, Viewer};
use super::tally::{Answers, Kind, Tally};
use super::targets::Targets;
use super::wire::{to_osc, to_wire};
use crate::action::Deed;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::midi;
use crate::bus::message::osc::{In, Out, Sent};
use crate::bus::message::voice::Control;
use crate::bus::session::now;
use crate::midi::clock::Quantum;
use crate::osc::pattern::{Pattern, PatternError, is_pattern};
use crate::osc::time::{Due, IMMEDIATELY, due};
use crate::osc::{Limits, OscMessage, OscType, decode, encode};
use crate::rig::Rig;
use crate::rig::deeds::Task;
use crate::rig::loops::{Loops, Verdict, value};

/// Patterns that are kept as they were read: surfaces send the same ones again and again.
const PATTERNS: usize = 64;

/// What something came from and to, for loops.
pub type Trigger = (IpAddr, String);

/// What waits for its time.
#[derive(Debug)]
pub struct Waiting {
    /// How many stops there had been.
    pub stops: u64,
    /// What it is.
    pub what: Later,
}

/// What has a time.
#[derive(Debug)]
pub enum Later {
    /// What has come in one bundle.
    Came(Vec<OscMessage>, Peer),
    /// Something that is to go out: to which target, and its address.
    Out(String, String, Vec<u8>),
}

/// All that comes, and what is done.
pub struct Desk {
    /// The name of this host.
    pub node: String,
    /// Who may send.
    pub allow: Allow,
    /// How far ahead a time tag may lie.
    pub ahead: Duration,
    /// What goes wrong.
    pub tally: Arc<Tally>,
    /// Feedback.
    pub surfaces: Arc<Surfaces>,
    /// Own handlers.
    pub handlers: Handlers,
    /// Who is meant.
    pub listeners: Arc<Listeners>,
    /// Where to.
    pub targets: Targets,
    /// What waits.
    pub schedule: Schedule<Waiting>,
    /// What is set off.
    pub rig: Rig,
    /// What needs the bus. When it is full the message is dropped, counted and told.
    pub work: mpsc::Sender<Task<Peer>>,
    /// What nobody takes. The same.
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
    /// Errors answered in this second.
    pub answers: Mutex<Answers>,
    /// Held while a packet or bundle is worked on: nothing comes in between its messages.
    pub whole: Mutex<()>,
}

impl Desk {
    /// Whether packets from there are taken; if not, it is counted.
    pub fn takes(&self, from: IpAddr) -> bool {
        let takes = self.allow.takes(from);
        if !takes {
            self.tally.count(Kind::Stranger, || format!("{}; add it to osc.allow if it may send", from.to_canonical()));
        }
        takes
    }

    /// A packet has come.
    pub fn packet(&self, packet: &[u8], peer: &Peer) {
        let messages = match decode(packet, &Limits::default()) {
            Ok(messages) => messages,
            Err(error) => return self.unreadable(peer, &error.to_string()),
        };
        let (clock, now) = (SystemTime::now(), Instant::now());
        self.surfaces.heard(peer, now);
        let _whole = self.whole();
        // What is due together, and was set off between the same stops.
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
                    self.tally.count(Kind::TooFar, || format!("{text} (from {})", peer.at));
                    self.error(peer, &text);
                }
            }
        }
        let stopped = self.rig.stops().count();
        for (wait, stops, bundle) in later.into_iter().filter(|(_, stops, _)| *stops >= stopped) {
            let (count, first) = (bundle.len(), bundle.first().map(|first| first.addr.clone()).unwrap_or_default());
            let waiting = Waiting { stops, what: Later::Came(bundle, peer.clone()) };
            if !self.schedule.put(now + wait, count, waiting) {
                self.tally.count(Kind::Waiting, || format!("{first} from {}", peer.at));
                let why = format!(
                    "{first}: too many messages wait for their time, so the {count} of its bundle are left out"
                );
                self.error(peer, &why);
            }
        }
    }

    /// A packet has come that is none.
    pub fn unreadable(&self, peer: &Peer, why: &str) {
        self.tally.count(Kind::Unreadable, || format!("from {}: {why}", peer.at));
        self.error(peer, why);
    }

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

    /// Does what is to be done at an address; `false` if that is nothing.
    fn take(&self, message: &OscMessage, peer: &Peer, trigger: &Trigger) -> bool {
        if let Some(meant) = meant(&message.addr) {
            match meant.verb.wish(&message.args) {
                Ok(wish) => self.wish(wish, meant.listener, &message.args, peer, trigger),
                Err(why) => self.error(peer, &format!("{}: {why}", message.addr)),
            }
            return true;
        }
        let mut taken = false;
        for handler in self.handlers.iter() {
            // One that waits for a press takes the release as well, and does nothing.
            taken |= handler.address.matches(&message.addr);
            match handler.take(message) {
                None => {}
                Some(Ok(deed)) => {
                    if handler.sends() {
                        self.loops().sent(trigger, self.begun.elapsed());
                    }
                    self.act_on(deed, handler.on, peer);
                }
                Some(Err(why)) => self.error(peer, &why),
            }
        }
        if !taken && message.addr.starts_with(ROOT) && !self.is_shown(&message.addr) {
            let there = VERBS.iter().map(|verb| verb.name).collect::<Vec<_>>().join(", ");
            self.error(peer, &format!("nothing is done at {}; under {ROOT} there are {there}", message.addr));
        }
        taken
    }

    /// Whether it is feedback, as another host sends it: to answer that by an error could go on for ever.
    fn is_shown(&self, address: &str) -> bool {
        let name = address.rsplit('/').next().unwrap_or_default();
        name == "pong" || super::addresses::SHOWN.iter().any(|shown| shown.name == name)
    }

    /// A pattern stands for every address that it fits.
    fn pattern(&self, message: OscMessage, peer: &Peer, trigger: &Trigger) {
        let pattern = match self.read(&message.addr) {
            Ok(pattern) => pattern,
            Err(error) => return self.unreadable(peer, &error.to_string()),
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
            Wish::Command(text) => self.act(Deed::Command { text }, peer),
            Wish::Control(control) => self.control(listener, &control, None, peer),
            Wish::Stop if listener.is_empty() => self.act(Deed::Stop, peer),
            Wish::Stop => self.control(listener, &Control::Stop, None, peer),
            Wish::Ping => {
                self.loops().sent(trigger, self.begun.elapsed());
                let addr = if listener.is_empty() { format!("{ROOT}pong") } else { format!("{ROOT}{listener}/pong") };
                self.tell(peer, &OscMessage { addr, args: args.to_vec() });
            }
            Wish::Subscribe(port) => {
                let viewer = Viewer::Peer(port.map_or_else(|| peer.clone(), |port| peer.at_port(port)));
                let scope = if listener.is_empty() { Scope::All } else { Scope::below(format!("{ROOT}{listener}/")) };
                if let Err(why) = self.surfaces.subscribe(viewer, scope) {
                    self.error(peer, &why);
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
                    self.act_on(Deed::Listener { listener, control: control.clone() }, on, peer);
                }
            }
            Err(why) => self.error(peer, &why),
        }
    }

    /// Does a deed: at once if it needs no bus.
    fn act(&self, deed: Deed, peer: &Peer) {
        self.act_on(deed, None, peer);
    }

    /// The same on the next beat or bar, if it is to wait for one.
    fn act_on(&self, deed: Deed, on: Option<Quantum>, peer: &Peer) {
        let deed = match deed {
            // On a host without listeners those of another are meant.
            Deed::Listener { listener, control } if listener.is_any() => return self.control("", &control, on, peer),
            // Whoever plays MIDI waits, to the frame.
            Deed::Midi(out) => Deed::Midi(midi::Out { on: out.on.or(on), ..out }),
            deed => deed,
        };
        let is_quick = on.is_none() || matches!(deed, Deed::Midi(_));
        match is_quick.then(|| self.rig.quick(&deed, &by(peer))).flatten() {
            Some(Ok(())) => {
                if deed == Deed::Stop {
                    // So that there is room for what comes after it.
                    self.stop();
                }
                return;
            }
            // Another host may have the target.
            Some(Err(fault)) if fault.code == FaultCode::NotFound => {}
            Some(Err(fault)) => return self.error(peer, &fault.message),
            None => {}
        }
        let task = Task { deed, on, by: by(peer), stops: self.rig.stops().count(), from: peer.clone() };
        if self.work.try_send(task).is_err() {
            self.left_out(peer, "too much is under way: this was left out");
        }
    }

    /// Something that came is not done.
    pub fn left_out(&self, peer: &Peer, why: &str) {
        self.tally.count(Kind::Flood, || format!("from {}: {why}", peer.at));
        self.error(peer, why);
    }

    /// What nobody takes goes on the bus.
    fn stray(&self, message: OscMessage, peer: &Peer) {
        let OscMessage { addr, args } = message;
        let args = args.into_iter().map(to_wire).collect();
        let stray = In { node: self.node.clone(), from: peer.at.to_string(), address: addr, args, at: now() };
        if let Err(error) = self.strays.try_send(stray) {
            let stray = error.into_inner();
            self.tally.count(Kind::Flood, || format!("{} from {}", stray.address, stray.from));
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
            let what = Later::Out(out.target, out.address, packet);
            let waiting = Waiting { stops: self.rig.stops().count(), what };
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
    pub fn due(&self, waiting: Waiting) {
        if waiting.stops < self.rig.stops().count() {
            return;
        }
        match waiting.what {
            Later::Came(bundle, peer) => {
                let _whole = self.whole();
                for message in bundle {
                    self.message(message, &peer);
                }
            }
            Later::Out(target, address, packet) => {
                let sent = self.targets.get(&target).and_then(|target| target.send(&packet));
                match sent {
                    Ok(to) => self.loops().sent(&(to.ip().to_canonical(), address), self.begun.elapsed()),
                    Err(fault) => self.tally.count(Kind::Unsent, || fault.message),
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

    /// Tells a peer what went wrong.
    pub fn error(&self, peer: &Peer, why: &str) {
        if !self.answers.lock().unwrap_or_else(PoisonError::into_inner).may(peer.at.ip(), self.begun.elapsed()) {
            return;
        }
        // OSC ends a text at NUL.
        let text = OscType::String(why.replace('\0', " "));
        self.tell(peer, &OscMessage { addr: format!("{ROOT}error"), args: vec![text] });
    }

    /// Sends a message to whoever asked.
    pub fn tell(&self, peer: &Peer, message: &OscMessage) {
        if let Err(fault) = peer.tell(message) {
            self.tally.count(Kind::Unsent, || fault.message);
        }
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

/// Who wants something, for logs.
#[must_use]
pub fn by(peer: &Peer) -> String {
    format!("OSC from {}", peer.at)
}

/// A value for arguments, to compare them with others.
fn worth(args: &[OscType]) -> u64 {
    value(&format!("{args:?}"))
}
