//! Feedback: what is shown of listeners, and to whom.
//!
//! Each address has a value, the latest. Whoever subscribes is sent all values, then each change, an address at most so often
//! and the last value always. A surface that comes back after a silence is sent all of them again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::addresses::ROOT;
use super::net::Peer;
use super::tally::{Kind, Tally};
use super::targets::Target;
use crate::bus::message::fault::Fault;
use crate::osc::pace::Pace;
use crate::osc::{OscMessage, OscType, encode};

/// Subscribers at once; the one that has been silent for longest goes for a new one.
const SUBSCRIBERS: usize = 64;
/// Addresses with feedback. There are some ten a listener.
const ADDRESSES: usize = 1_024;
/// A surface that is heard again after so long may have been restarted meanwhile.
const SILENCE: Duration = Duration::from_secs(10);
/// One that is reached by datagrams, and of which nothing was heard for so long, is sent no more.
const LAPSE: Duration = Duration::from_secs(600);
/// The longest address that somebody may listen to.
const ADDRESS_BYTES: usize = 255;

/// Whom feedback goes to.
#[derive(Debug, Clone)]
pub enum Viewer {
    /// Whoever asked for it.
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
    /// What begins so.
    Below(String),
    /// These addresses.
    Only(BTreeSet<String>),
}

impl Scope {
    fn has(&self, address: &str) -> bool {
        match self {
            Self::All => true,
            Self::Below(prefix) => address.starts_with(prefix.as_str()),
            Self::Only(addresses) => addresses.contains(address),
        }
    }
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
    inner: Mutex<Inner>,
    changed: Notify,
    begun: Instant,
    tally: Arc<Tally>,
    /// Called with everything that was sent, so that what comes back is known.
    sent: Mutex<Vec<(SocketAddr, String)>>,
}

#[derive(Debug)]
struct Inner {
    values: BTreeMap<String, Vec<OscType>>,
    subscribers: Vec<Subscriber>,
    pace: Pace<String, Vec<OscType>>,
}

impl Inner {
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
        let inner = Inner { values: BTreeMap::new(), subscribers: Vec::new(), pace: Pace::new(every, ADDRESSES) };
        Self { inner: Mutex::new(inner), changed: Notify::new(), begun: Instant::now(), tally, sent: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
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
            return;
        }
        inner.tidy(Instant::now());
        inner.values.insert(address.to_owned(), args.clone());
        if let Some(args) = inner.pace.offer(&address.to_owned(), args, self.begun.elapsed()) {
            self.send(&inner, address, &args);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// The value of an address.
    #[must_use]
    pub fn value(&self, address: &str) -> Option<Vec<OscType>> {
        self.lock().values.get(address).cloned()
    }

    /// Sends feedback to `viewer` from now on, and all there is at once.
    pub fn subscribe(&self, viewer: Viewer, scope: Scope) {
        let mut inner = self.lock();
        inner.subscribers.retain(|old| !is_same(&old.viewer, &viewer));
        inner.make_room();
        let subscriber = Subscriber { viewer, scope, heard: Instant::now() };
        self.send_all(&inner, &subscriber);
        inner.subscribers.push(subscriber);
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

    /// Sends no feedback to `peer` any more.
    pub fn unsubscribe(&self, peer: &Peer) {
        self.lock().subscribers.retain(|old| !old.viewer.is_peer(peer) && !old.viewer.is_gone());
    }

    /// Adds an address to what `peer` is sent, or takes it away (OSCQuery's LISTEN and IGNORE).
    ///
    /// # Errors
    /// It is longer than addresses are.
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
                } else if addresses.len() < ADDRESSES {
                    addresses.insert(address.to_owned());
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

    /// Sends all values once more: to the subscribers on the host that asks, else to whoever asks.
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

    /// Whether anybody is sent an address.
    #[must_use]
    pub fn wants(&self, address: &str) -> bool {
        let mut inner = self.lock();
        inner.tidy(Instant::now());
        inner.subscribers.iter().any(|subscriber| subscriber.scope.has(address))
    }

    /// What was sent since the last call: where to, and at which address.
    pub fn take_sent(&self) -> Vec<(SocketAddr, String)> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends what waits for its time, for ever.
    pub async fn keep_pace(&self) {
        loop {
            let changed = self.changed.notified();
            let next = self.lock().pace.next();
            match next {
                None => changed.await,
                Some(next) => tokio::time::sleep_until((self.begun + next).into()).await,
            }
            let mut inner = self.lock();
            let due = inner.pace.take(self.begun.elapsed());
            for (address, args) in due {
                self.send(&inner, &address, &args);
            }
        }
    }

    fn send(&self, inner: &Inner, address: &str, args: &[OscType]) {
        for subscriber in inner.subscribers.iter().filter(|subscriber| subscriber.scope.has(address)) {
            self.deliver(&subscriber.viewer, address, args);
        }
    }

    fn send_all(&self, inner: &Inner, subscriber: &Subscriber) {
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
                if sent.len() < ADDRESSES
                    && let Some(at) = viewer.address()
                {
                    sent.push((at, message.addr));
                }
            }
            Err(fault) => self.tally.count(Kind::Unsent, || fault.message),
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
mod tests {
    use std::net::UdpSocket;

    use super::super::net::{self, Way};
    use super::*;
    use crate::osc::{Limits, decode};

    /// Feedback, and a surface that may see it.
    fn setting() -> (Surfaces, UdpSocket, Peer) {
        let surface = UdpSocket::bind("127.0.0.1:0").unwrap();
        surface.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mouth = Arc::new(net::sender("127.0.0.1:0".parse().unwrap()).unwrap());
        let peer = Peer::new(surface.local_addr().unwrap(), Way::Udp(mouth));
        (Surfaces::new(30, Arc::default()), surface, peer)
    }

    /// What has come, up to a pause.
    fn seen(surface: &UdpSocket) -> Vec<String> {
        let mut seen = Vec::new();
        let mut buffer = [0; 1_024];
        while let Ok(size) = surface.recv(&mut buffer) {
            seen.extend(
                decode(&buffer[..size], &Limits::default()).unwrap().into_iter().map(|timed| timed.message.addr),
            );
        }
        seen
    }

    #[test]
    fn a_surface_is_sent_all_then_changes_then_all_when_it_is_back() {
        let (surfaces, surface, peer) = setting();
        let int = |number| vec![OscType::Int(number)];
        surfaces.show("/assistant/muted", int(0));
        surfaces.show("/assistant/main/muted", int(0));
        surfaces.subscribe(Viewer::Peer(peer.clone()), Scope::All);
        assert_eq!(seen(&surface), ["/assistant/main/muted", "/assistant/muted"]);
        surfaces.show("/assistant/muted", int(0));
        assert_eq!(seen(&surface), [""; 0], "nothing has changed");
        surfaces.show("/assistant/muted", int(1));
        surfaces.happen("/assistant/main/muted", int(0));
        assert_eq!(seen(&surface), ["/assistant/muted", "/assistant/main/muted"]);
        // It is known what was sent, for loops.
        assert!(surfaces.take_sent().contains(&(peer.at, "/assistant/muted".to_owned())));
        let now = Instant::now();
        surfaces.heard(&peer, now + SILENCE / 2);
        assert_eq!(seen(&surface), [""; 0]);
        surfaces.heard(&peer, now + 2 * SILENCE);
        assert_eq!(seen(&surface), ["/assistant/main/muted", "/assistant/muted"]);
        surfaces.unsubscribe(&peer);
        surfaces.show("/assistant/muted", int(0));
        assert_eq!(seen(&surface), [""; 0]);
        assert!(!surfaces.wants("/assistant/muted"));
    }

    #[test]
    fn who_listens_to_single_addresses_is_sent_those() {
        let (surfaces, surface, peer) = setting();
        surfaces.show("/a", vec![OscType::Int(1)]);
        surfaces.listen(&peer, "/a", true).unwrap();
        surfaces.listen(&peer, "/b", true).unwrap();
        let long = format!("/{}", "a".repeat(255));
        assert!(surfaces.listen(&peer, &long, true).unwrap_err().contains("256 bytes"));
        surfaces.show("/b", vec![OscType::Int(1)]);
        surfaces.show("/c", vec![OscType::Int(1)]);
        assert_eq!(seen(&surface), ["/a", "/b"]);
        surfaces.listen(&peer, "/b", false).unwrap();
        surfaces.show("/b", vec![OscType::Int(2)]);
        assert_eq!(seen(&surface), [""; 0]);
    }

    #[test]
    fn who_is_silent_for_long_is_sent_no_more_unless_it_is_connected() {
        let (surfaces, _, peer) = setting();
        let (queue, _packets) = net::queue();
        surfaces.subscribe(Viewer::Peer(peer.clone()), Scope::All);
        surfaces.subscribe(Viewer::Peer(Peer::new("10.0.0.9:1".parse().unwrap(), Way::Stream(queue))), Scope::All);
        let (now, there) = (Instant::now(), || surfaces.lock().subscribers.len());
        surfaces.lock().tidy(now + LAPSE / 2);
        surfaces.heard(&peer, now + LAPSE / 2);
        surfaces.lock().tidy(now + LAPSE + LAPSE / 4);
        assert_eq!(there(), 2, "it was heard");
        surfaces.lock().tidy(now + 2 * LAPSE);
        assert_eq!(there(), 1);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (surfaces, surface, peer) = setting();
        for address in ["/assistant/stage/main/muted", "/assistant/studio/main/muted"] {
            surfaces.show(address, vec![OscType::Int(1)]);
            surfaces.show(address, vec![OscType::Int(0)]);
        }
        surfaces.forget(|address| address.starts_with("/assistant/stage/"));
        assert_eq!(surfaces.value("/assistant/stage/main/muted"), None);
        surfaces.subscribe(Viewer::Peer(peer), Scope::All);
        assert_eq!(seen(&surface), ["/assistant/studio/main/muted"]);
        // Nothing holds back what comes anew.
        surfaces.show("/assistant/stage/main/muted", vec![OscType::Int(2)]);
        assert_eq!(seen(&surface), ["/assistant/stage/main/muted"]);
    }

    #[test]
    fn the_one_that_was_silent_for_longest_makes_room() {
        let (surfaces, _, peer) = setting();
        for port in 1..=100 {
            surfaces.subscribe(Viewer::Peer(peer.at_port(port)), Scope::All);
        }
        let ports: Vec<u16> =
            surfaces.lock().subscribers.iter().filter_map(|old| Some(old.viewer.address()?.port())).collect();
        assert_eq!(ports, (37..=100).collect::<Vec<u16>>());
    }
}
