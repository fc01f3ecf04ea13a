//! Who is there and what they offer, kept so that 1,000 hosts are sifted in a microsecond.

use std::collections::HashMap;

use fixedbitset::FixedBitSet;

use super::index::{Index, mark};
use super::need::Privacy;

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// One run of its program. Another run starts with a clean slate: what the one before failed at is forgotten.
    pub instance: String,
    /// What it has: `gpu`, `high_mem`, `low_power`, the user's own.
    pub tags: Vec<String>,
    /// Whether it is about to stop: it takes nothing new.
    pub draining: bool,
    /// What it offers: a capability once; a second offer of the same is ignored.
    pub offers: Vec<Offer>,
}

/// A capability of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The capability, such as `stt`.
    pub capability: String,
    /// Who does the work, such as `whisper`.
    pub engine: String,
    /// The models it has. None: it needs none, and is always warm.
    pub models: Vec<Model>,
    /// The voices it has.
    pub voices: Vec<String>,
    /// The languages of the models that say none of their own. None: it takes any.
    pub languages: Vec<String>,
    /// How far it lets words and sound travel: `host`: they stay on it; `lan`: it passes them on to other hosts;
    /// `any`: a provider outside answers, wherever the host is ([`super::Place::Cloud`]).
    pub privacy: Privacy,
    /// How much it has to do.
    pub load: Load,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            capability: String::new(),
            engine: String::new(),
            models: Vec::new(),
            voices: Vec::new(),
            languages: Vec::new(),
            privacy: Privacy::Host,
            load: Load::default(),
        }
    }
}

/// A model of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Whether it is loaded.
    pub warm: bool,
    /// What it is good for: `planner`, `chat`, `big`, …
    pub classes: Vec<String>,
    /// Its languages. None: those of the offer.
    pub languages: Vec<String>,
}

/// How much an offer has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// How many requests it works on at once. 0: it is always full.
    pub slots: u32,
    /// How many it works on.
    pub in_flight: u32,
    /// How many wait at it.
    pub queued: u32,
    /// The usual time of a request. 0: it has not had one yet, and counts as its peers do.
    pub usual_ms: u32,
}

impl Load {
    /// Whether every slot is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.in_flight.saturating_add(self.queued) >= self.slots
    }

    /// What one more request would come to, in ms: all there is to do, per slot.
    #[must_use]
    pub fn cost_ms(&self) -> f64 {
        let requests = f64::from(self.in_flight) + f64::from(self.queued) + 1.0;
        requests * f64::from(self.usual_ms.max(1)) / f64::from(self.slots.max(1))
    }
}

impl Host {
    /// Its offer of a capability.
    #[must_use]
    pub fn offer(&self, capability: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.capability == capability)
    }

    /// Whether the two differ in nothing but their loads and whether they drain.
    fn has_shape_of(&self, other: &Self) -> bool {
        self.tags == other.tags
            && self.offers.len() == other.offers.len()
            && self.offers.iter().zip(&other.offers).all(|(ours, theirs)| ours.has_shape_of(theirs))
    }
}

impl Offer {
    fn has_shape_of(&self, other: &Self) -> bool {
        self.capability == other.capability
            && self.models == other.models
            && self.voices == other.voices
            && self.languages == other.languages
            && self.privacy == other.privacy
    }
}

/// A host's place in the view. Bit sets count in seats; a seat is used again when its host has left.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) host: Host,
    /// Tells this run of this host from whoever had the seat before.
    pub(super) arrival: u64,
    /// Which report of the host this is.
    pub(super) report: u64,
}

/// Who is there and what they offer.
///
/// A report that only brings new loads costs next to nothing; any other the indexing of one host.
#[derive(Debug, Clone, Default)]
pub struct View {
    seats: Vec<Option<Seat>>,
    seat_by_name: HashMap<String, usize>,
    free_seats: Vec<usize>,
    indexes: HashMap<String, Index>,
    tags: HashMap<String, FixedBitSet>,
    draining: FixedBitSet,
    /// Numbers arrivals and reports.
    clock: u64,
    departures: u64,
}

impl View {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many hosts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seat_by_name.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seat_by_name.is_empty()
    }

    /// The hosts, in no order.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.seats.iter().flatten().map(|seat| &seat.host)
    }

    /// A host by its name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.seat_of(name).and_then(|seat| self.seat(seat)).map(|seat| &seat.host)
    }

    /// Takes in a host's report: it has come, has changed, or is still there.
    pub fn put(&mut self, host: Host) {
        self.clock += 1;
        let report = self.clock;
        let Some(at) = self.seat_of(&host.name) else {
            let at = self.free_seats.pop().unwrap_or(self.seats.len());
            if at == self.seats.len() {
                self.seats.push(None);
            }
            self.seat_by_name.insert(host.name.clone(), at);
            self.index(at, &host, true);
            self.seats[at] = Some(Seat { host, arrival: report, report });
            return;
        };
        let Some(old) = self.seats[at].take() else { return };
        if old.host.has_shape_of(&host) {
            self.take_loads(at, &host);
        } else {
            self.index(at, &old.host, false);
            self.index(at, &host, true);
        }
        let arrival = if old.host.instance == host.instance { old.arrival } else { report };
        self.seats[at] = Some(Seat { host, arrival, report });
    }

    /// A host has left.
    pub fn remove(&mut self, name: &str) {
        if let Some(at) = self.seat_by_name.remove(name)
            && let Some(old) = self.seats[at].take()
        {
            self.index(at, &old.host, false);
            self.free_seats.push(at);
            self.departures += 1;
        }
    }

    fn index(&mut self, at: usize, host: &Host, there: bool) {
        for tag in &host.tags {
            mark(&mut self.tags, tag, at, there);
        }
        for (n, offer) in host.offers.iter().enumerate() {
            if host.offers[..n].iter().any(|before| before.capability == offer.capability) {
                continue;
            }
            let index = self.indexes.entry(offer.capability.clone()).or_default();
            index.take(at, offer, there);
            if index.is_empty() {
                self.indexes.remove(&offer.capability);
            }
        }
        self.draining.grow(at + 1);
        self.draining.set(at, there && host.draining);
    }

    fn take_loads(&mut self, at: usize, host: &Host) {
        for offer in host.offers.iter().rev() {
            // Backwards, so that the first of two offers of a capability counts.
            if let Some(index) = self.indexes.get_mut(&offer.capability) {
                index.take_load(at, offer.load);
            }
        }
        self.draining.set(at, host.draining);
    }

    pub(super) fn seat_of(&self, name: &str) -> Option<usize> {
        self.seat_by_name.get(name).copied()
    }

    pub(super) fn seat(&self, at: usize) -> Option<&Seat> {
        self.seats.get(at)?.as_ref()
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = (usize, &Seat)> {
        self.seats.iter().enumerate().filter_map(|(at, seat)| Some((at, seat.as_ref()?)))
    }

    pub(super) fn index_of(&self, capability: &str) -> Option<&Index> {
        self.indexes.get(capability)
    }

    pub(super) fn capabilities(&self) -> impl Iterator<Item = &str> {
        self.indexes.keys().map(String::as_str)
    }

    pub(super) fn tagged(&self, tag: &str) -> Option<&FixedBitSet> {
        self.tags.get(tag)
    }

    pub(super) fn draining(&self) -> &FixedBitSet {
        &self.draining
    }

    /// How many hosts have left so far.
    pub(super) fn departures(&self) -> u64 {
        self.departures
    }
}

impl FromIterator<Host> for View {
    fn from_iter<I: IntoIterator<Item = Host>>(hosts: I) -> Self {
        let mut view = Self::new();
        hosts.into_iter().for_each(|host| view.put(host));
        view
    }
}
