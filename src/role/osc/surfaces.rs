//! Feedback: the state of listeners, and those who are shown it.
//!
//! Each address has a value, the latest. A subscriber is sent all values, then each change, an address at most so often
//! and the last value always. A surface that comes back after a silence is sent all of them again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::addresses::ROOT;
use super::net::Peer;
use super::tally::{Problem, Tally};
use super::targets::Target;
use crate::bus::message::fault::Fault;
use crate::osc::pace::Pace;
use crate::osc::{OscMessage, OscType, encode};

/// Subscribers at once; the one that has been silent for longest goes for a new one.
const SUBSCRIBERS: usize = 64;
/// Listeners that one subscriber names.
const PREFIXES: usize = 64;
/// Addresses with feedback. There are some ten a listener.
const ADDRESSES: usize = 1_024;
/// A surface that is heard again after so long may have been restarted meanwhile.
const SILENCE: Duration = Duration::from_secs(10);
/// One that is reached by datagrams, and of which nothing was heard for so long, is sent no more.
const LAPSE: Duration = Duration::from_secs(600);
/// The longest address that a client may listen to.
const ADDRESS_BYTES: usize = 255;

/// Where feedback goes.
#[derive(Debug, Clone)]
pub enum Viewer {
    /// The peer that asked for it.
    Peer(Peer),
    /// A target of the settings.
    Target(Arc<Target>),
}

impl Viewer {
    fn send(&self, packet: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Peer(peer) => peer.send(packet),
            Self::Target(target) => target.send(packet).map(drop),
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Peer(peer) => Some(peer.at),
            Self::Target(target) => target.address(),
        }
    }

    fn is_peer(&self, other: &Peer) -> bool {
        matches!(self, Self::Peer(peer) if peer.is_same(other))
    }

    /// Whether it can be gone without a word.
    fn may_lapse(&self) -> bool {
        matches!(self, Self::Peer(peer) if !peer.is_stream())
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Peer(peer) if peer.is_gone())
    }
}

/// What a subscriber is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    All,
    /// What begins with one of these.
    Below(BTreeSet<String>),
    /// These addresses.
    Only(BTreeSet<String>),
}

impl Scope {
    fn has(&self, address: &str) -> bool {
        match self {
            Self::All => true,
            Self::Below(prefixes) => prefixes.iter().any(|prefix| address.starts_with(prefix.as_str())),
            Self::Only(addresses) => addresses.contains(address),
        }
    }

    /// What begins with `prefix`.
    #[must_use]
    pub fn below(prefix: String) -> Self {
        Self::Below(BTreeSet::from([prefix]))
    }

    /// With what a subscriber was sent before: who asks for a second listener still wants the first.
    fn with(self, before: Self) -> Self {
        match (self, before) {
            (Self::Below(new), Self::Below(mut all)) => {
                all.extend(new);
                Self::Below(all)
            }
            (Self::Below(_), Self::All) => Self::All,
            (new, _) => new,
        }
    }
}

/// Something that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentFeedback {
    /// When.
    pub at: Instant,
    /// Where to.
    pub to: SocketAddr,
    /// At which address.
    pub address: String,
}

#[derive(Debug)]
struct Subscriber {
    viewer: Viewer,
    scope: Scope,
    heard: Instant,
}

/// The values, and those who see them.
#[derive(Debug)]
pub struct Surfaces {
    inner: Mutex<Feedback>,
    changed: Notify,
    begun: Instant,
    tally: Arc<Tally>,
    /// What was sent of late, so that what comes back is known.
    sent: Mutex<VecDeque<SentFeedback>>,
}

#[derive(Debug)]
struct Feedback {
    values: BTreeMap<String, Vec<OscType>>,
    subscribers: Vec<Subscriber>,
    pace: Pace<String, Vec<OscType>>,
}

impl Feedback {
    /// Leaves those that are gone, or that by datagrams nothing was heard of for too long.
    fn tidy(&mut self, now: Instant) {
        self.subscribers.retain(|old| {
            let silent = now.saturating_duration_since(old.heard);
            !(old.viewer.is_gone() || old.viewer.may_lapse() && silent > LAPSE)
        });
    }

    fn make_room(&mut self) {
        self.tidy(Instant::now());
        if self.subscribers.len() >= SUBSCRIBERS {
            let peers = self.subscribers.iter().enumerate().filter(|(_, old)| matches!(old.viewer, Viewer::Peer(_)));
            if let Some((at, _)) = peers.min_by_key(|(_, old)| old.heard) {
                self.subscribers.remove(at);
            }
        }
    }
}

impl Surfaces {
    /// Each address is sent at most `hz` times a second.
    #[must_use]
    pub fn new(hz: u32, tally: Arc<Tally>) -> Self {
        let every = Duration::from_secs(1) / hz.max(1);
        let inner = Feedback { values: BTreeMap::new(), subscribers: Vec::new(), pace: Pace::new(every, ADDRESSES) };
        Self { inner: Mutex::new(inner), changed: Notify::new(), begun: Instant::now(), tally, sent: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Feedback> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a value that lasts, such as a state; nothing is sent if it is the same as before.
    pub fn show(&self, address: &str, args: Vec<OscType>) {
        if self.lock().values.get(address) != Some(&args) {
            self.happen(address, args);
        }
    }

    /// Shows something that has happened, such as a transcript; it is sent even if it is the same as before.
    pub fn happen(&self, address: &str, args: Vec<OscType>) {
        let mut inner = self.lock();
        if inner.values.len() == ADDRESSES && !inner.values.contains_key(address) {
            return self
                .tally
                .count(Problem::Unsent, || format!("{address}: {ADDRESSES} addresses have feedback already"));
        }
        inner.tidy(Instant::now());
        inner.values.insert(address.to_owned(), args.clone());
        match inner.pace.offer(&address.to_owned(), args, self.begun.elapsed()) {
            Some(args) => self.send(&inner, address, &args),
            // It may be due before the next that is waited for.
            None => self.changed.notify_one(),
        }
    }

    /// The value of an address.
    #[must_use]
    pub fn value(&self, address: &str) -> Option<Vec<OscType>> {
        self.lock().values.get(address).cloned()
    }

    /// Sends feedback to `viewer` from now on, and all there is at once.
    ///
    /// # Errors
    /// It is subscribed to as much as is kept of one.
    pub fn subscribe(&self, viewer: Viewer, scope: Scope) -> Result<(), String> {
        let mut inner = self.lock();
        let before = inner.subscribers.iter().position(|old| is_same(&old.viewer, &viewer));
        let scope = match before.and_then(|at| inner.subscribers.get(at)) {
            Some(before) => scope.with(before.scope.clone()),
            None => scope,
        };
        if matches!(&scope, Scope::Below(prefixes) if prefixes.len() > PREFIXES) {
            return Err(format!(
                "{PREFIXES} listeners are subscribed to, and no more can be: unsubscribe some, or subscribe to all by {ROOT}subscribe"
            ));
        }
        before.map(|at| inner.subscribers.remove(at));
        inner.make_room();
        let subscriber = Subscriber { viewer, scope, heard: Instant::now() };
        self.send_all(&inner, &subscriber);
        inner.subscribers.push(subscriber);
        Ok(())
    }

    /// Forgets the values of the addresses that `gone` says are gone.
    pub fn forget(&self, gone: impl Fn(&str) -> bool) {
        let mut inner = self.lock();
        inner.values.retain(|address, _| !gone(address));
        inner.pace.forget(|address| gone(address));
    }

    /// A target has come, or has come back: it is sent all that it is subscribed to.
    pub fn resync(&self, target: &Target) {
        let inner = self.lock();
        let is_it = |of: &&Subscriber| matches!(&of.viewer, Viewer::Target(one) if one.name == target.name);
        inner.subscribers.iter().filter(is_it).for_each(|subscriber| self.send_all(&inner, subscriber));
    }

    /// Sends no feedback to `peer` any more; with a prefix only none of what begins so, if that is what it had asked for.
    pub fn unsubscribe(&self, peer: &Peer, prefix: Option<&str>) {
        self.lock().subscribers.retain_mut(|old| {
            if !old.viewer.is_peer(peer) {
                return !old.viewer.is_gone();
            }
            match (&mut old.scope, prefix) {
                (Scope::Below(prefixes), Some(prefix)) => {
                    prefixes.remove(prefix);
                    !prefixes.is_empty()
                }
                _ => false,
            }
        });
    }

    /// Adds an address to what `peer` is sent, or takes it away (OSCQuery's LISTEN and IGNORE).
    ///
    /// # Errors
    /// It is longer than addresses are, or one too many.
    pub fn listen(&self, peer: &Peer, address: &str, on: bool) -> Result<(), String> {
        if address.len() > ADDRESS_BYTES {
            return Err(format!(
                "there is no address of {} bytes to listen to: {ADDRESS_BYTES} is the most",
                address.len()
            ));
        }
        let mut inner = self.lock();
        let at = inner.subscribers.iter().position(|old| old.viewer.is_peer(peer));
        match at.and_then(|at| inner.subscribers.get_mut(at)) {
            Some(Subscriber { scope: Scope::Only(addresses), .. }) => {
                if !on {
                    addresses.remove(address);
                } else if addresses.len() < ADDRESSES || addresses.contains(address) {
                    addresses.insert(address.to_owned());
                } else {
                    return Err(format!(
                        "{address} is not listened to: {ADDRESSES} addresses are, and no more can be; IGNORE some"
                    ));
                }
            }
            Some(_) => {}
            None if on => {
                let scope = Scope::Only(BTreeSet::from([address.to_owned()]));
                let viewer = Viewer::Peer(peer.clone());
                inner.make_room();
                inner.subscribers.push(Subscriber { viewer, scope, heard: Instant::now() });
            }
            None => {}
        }
        if on && let Some(args) = inner.values.get(address) {
            self.deliver(&Viewer::Peer(peer.clone()), address, args);
        }
        Ok(())
    }

    /// Sends all values once more: to the subscribers on the host that asks, else to the peer that asks.
    pub fn sync(&self, peer: &Peer) {
        let inner = self.lock();
        let here =
            |of: &&Subscriber| of.viewer.is_peer(peer) || of.viewer.address().is_some_and(|at| at.ip() == peer.at.ip());
        let mut found = inner.subscribers.iter().filter(here).peekable();
        if found.peek().is_none() {
            let once = Subscriber { viewer: Viewer::Peer(peer.clone()), scope: Scope::All, heard: Instant::now() };
            self.send_all(&inner, &once);
        }
        found.for_each(|subscriber| self.send_all(&inner, subscriber));
    }

    /// Something was heard of `peer`: if that is a subscriber that was silent for long, it is sent all values.
    pub fn heard(&self, peer: &Peer, now: Instant) {
        let mut inner = self.lock();
        let mut back = Vec::new();
        for (at, subscriber) in inner.subscribers.iter_mut().enumerate() {
            if subscriber.viewer.address().is_some_and(|address| address.ip() == peer.at.ip()) {
                if now.saturating_duration_since(subscriber.heard) > SILENCE {
                    back.push(at);
                }
                subscriber.heard = now;
            }
        }
        for subscriber in back.into_iter().filter_map(|at| inner.subscribers.get(at)) {
            self.send_all(&inner, subscriber);
        }
    }

    /// Whether an address has subscribers.
    #[must_use]
    pub fn wants(&self, address: &str) -> bool {
        let mut inner = self.lock();
        inner.tidy(Instant::now());
        inner.subscribers.iter().any(|subscriber| subscriber.scope.has(address))
    }

    /// What was sent since the last call, or the end of that.
    pub fn take_sent(&self) -> VecDeque<SentFeedback> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends what waits for its time, for ever.
    pub async fn keep_pace(&self) {
        loop {
            let next = self.lock().pace.next();
            let until = async {
                match next {
                    Some(next) => tokio::time::sleep_until((self.begun + next).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = until => {}
                () = self.changed.notified() => {}
            }
            let mut inner = self.lock();
            let due = inner.pace.take(self.begun.elapsed());
            for (address, args) in due {
                self.send(&inner, &address, &args);
            }
        }
    }

    fn send(&self, inner: &Feedback, address: &str, args: &[OscType]) {
        for subscriber in inner.subscribers.iter().filter(|subscriber| subscriber.scope.has(address)) {
            self.deliver(&subscriber.viewer, address, args);
        }
    }

    fn send_all(&self, inner: &Feedback, subscriber: &Subscriber) {
        for (address, args) in inner.values.iter().filter(|(address, _)| subscriber.scope.has(address)) {
            self.deliver(&subscriber.viewer, address, args);
        }
    }

    fn deliver(&self, viewer: &Viewer, address: &str, args: &[OscType]) {
        if viewer.is_gone() {
            return;
        }
        let message = OscMessage { addr: address.to_owned(), args: args.to_vec() };
        let sent = encode(&message).map_err(|e| Fault::invalid(e.to_string())).and_then(|packet| viewer.send(&packet));
        match sent {
            Ok(()) => {
                let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(to) = viewer.address() {
                    // Loops are as young as what was sent last.
                    if sent.len() == ADDRESSES {
                        sent.pop_front();
                    }
                    sent.push_back(SentFeedback { at: Instant::now(), to, address: message.addr });
                }
            }
            Err(fault) => self.tally.count(Problem::Unsent, || fault.message),
        }
    }
}

fn is_same(one: &Viewer, other: &Viewer) -> bool {
    match (one, other) {
        (Viewer::Peer(one), Viewer::Peer(other)) => one.is_same(other),
        (Viewer::Target(one), Viewer::Target(other)) => one.name == other.name,
        _ => false,
    }
}

/// The addresses of a listener's value: its own, and the plain one if it is the first.
#[must_use]
pub fn addresses(listener: &str, is_first: bool, name: &str) -> Vec<String> {
    let own = format!("{ROOT}{listener}/{name}");
    if is_first { vec![format!("{ROOT}{name}"), own] } else { vec![own] }
}

#[cfg(test)]
#[path = "surfaces_tests.rs"]
mod tests;
