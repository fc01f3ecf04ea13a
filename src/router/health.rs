//! What a caller has learnt about the engines it asked: who failed, who was full, and what it has in flight itself.
//!
//! ```text
//!            failed                     1 s, 2 s, 4 s … 30 s
//!   ┌──────┐────────▶┌──────────────┐─────────────────────▶┌─────┐
//!   │ well │         │ cooling down │                      │ due │
//!   └──────┘         └──────────────┘◀──────┐              └─────┘
//!      ▲                      ▲      failed │                 │ one request is let through
//!      │                      └─────────────┤                 ▼
//!      └──────────────── answered ──────────┴───────────┌─────────┐
//!                                                       │ probing │
//!                                                       └─────────┘
//! ```
//!
//! A host that gives no sign of life fails for all that it offers, as far as that had not failed before, until its next report:
//! each engine would otherwise have to wait for that sign by itself.
//!
//! 'Full' is no failure: the host lives. It counts as full until its next report, for a second at most.
//!
//! The view is up to 3 s old. What this caller has begun and ended at a host since the host's last report is added to
//! the load that was reported, so that its own requests in a row do not all go to one host.
//!
//! When most requests are refused, reports are older than they are worth: everybody runs to the few hosts that had a
//! free slot once. The caller then doubts them, and draws from the hosts that reported to be full as well.

use std::collections::HashMap;
use std::time::Duration;

use super::host::{Load, OfferId};
use super::index::{Index, Listing};
use super::view::View;

/// How long an engine rests after its first failure; it doubles with each further one.
pub const COOL_DOWN_MIN: Duration = Duration::from_secs(1);
/// How long it rests at most.
pub const COOL_DOWN_MAX: Duration = Duration::from_secs(30);
/// How long an engine counts as full that said so, unless it reports earlier.
pub const BUSY_AVOID: Duration = Duration::from_secs(1);
/// After this time a probe of which nothing was heard counts as lost, and the next may go.
pub const PROBE_MAX: Duration = Duration::from_secs(30);

/// How long a host rests of which nothing is heard: as long as it takes for its next report, if it lives.
pub const SILENT_REST: Duration = Duration::from_secs(3);

/// How much the last request weighs in the share of those that were refused.
const REFUSED_WEIGHT: f64 = 0.1;

/// How a request to an engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, if only that the request can't be answered: it lives.
    Answered,
    /// It had no free slot.
    Busy,
    /// It is not there, said nothing in time, broke off, or can't do what it says it can.
    Failed,
    /// The caller gave up by itself: that says nothing about the host.
    Abandoned,
}

/// How an engine stands with a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is against it.
    Well,
    /// It failed, and is left alone.
    CoolingDown {
        /// For how long yet.
        left: Duration,
        /// How often it failed in a row.
        failures: u32,
    },
    /// It failed, and has rested: one request may find out how it is.
    Due {
        /// How often it failed in a row.
        failures: u32,
    },
    /// One request is finding out how it is.
    Probing {
        /// How often it failed in a row.
        failures: u32,
    },
}

impl Standing {
    /// Whether a request may go to it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Well | Self::Due { .. })
    }
}

/// A request on its way, to be given back to [`Health::settle`] however it ends.
#[derive(Debug)]
#[must_use = "a permit that is not settled counts as in flight for good"]
pub struct Permit {
    capability: String,
    at: usize,
    arrival: u64,
    began: Duration,
    probe: bool,
}

impl Permit {
    /// Whether it is the one that finds out how an engine is that failed.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

/// What a caller has learnt. One goes with one [`View`].
///
/// It holds an entry for each engine of which there is something to say; those of engines that left are dropped.
#[derive(Debug, Clone, Default)]
pub struct Health {
    learnt: HashMap<String, Learnt>,
    /// As [`View::departures`] when the entries were last gone through.
    departures: u64,
}

/// What was learnt about a capability.
#[derive(Debug, Clone, Default)]
struct Learnt {
    /// By place in the index.
    entries: HashMap<usize, Entry>,
    /// Which share of the last requests was refused.
    refused: f64,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    arrival: u64,
    in_flight: u32,
    /// `in_flight` as it was when the host reported last, and which report that was.
    in_flight_reported: u32,
    report: u64,
    failures: u32,
    /// Whether the failure is that it was silent, which its next report refutes.
    silent: bool,
    failed: Duration,
    rests_until: Duration,
    probing_since: Option<Duration>,
    busy_until: Option<Duration>,
}

/// What a caller knows of an engine beyond the view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) standing: Standing,
    pub(super) load: Load,
    /// Whether its slots are all taken, or it said so.
    pub(super) full: bool,
    /// Whether it said so itself just now.
    pub(super) refused: bool,
}

impl Health {
    /// Nothing learnt yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request is about to go to an engine. `None` when it may not: the engine is gone, cools down, or is being probed
    /// by another request; then the next target is to be asked.
    pub fn admit(&mut self, view: &View, capability: &str, id: &OfferId, now: Duration) -> Option<Permit> {
        self.tidy(view);
        let index = view.index_of(capability)?;
        let at = index.position(&id.host, &id.engine)?;
        let listing = index.listing(at)?;
        let entry = self.entry_mut(capability, at, listing);
        entry.see(listing);
        let standing = entry.standing(listing, now);
        if !standing.is_open() {
            return None;
        }
        let probe = standing != Standing::Well;
        if probe {
            entry.probing_since = Some(now);
        }
        entry.in_flight += 1;
        self.learnt.get_mut(capability)?.refused *= 1.0 - REFUSED_WEIGHT;
        Some(Permit { capability: capability.to_owned(), at, arrival: listing.arrival, began: now, probe })
    }

    /// A request has ended.
    pub fn settle(&mut self, view: &View, permit: Permit, outcome: Outcome, now: Duration) {
        self.tidy(view);
        let Some(learnt) = self.learnt.get_mut(&permit.capability) else { return };
        if outcome == Outcome::Busy {
            learnt.refused += REFUSED_WEIGHT;
        }
        let entries = &mut learnt.entries;
        let listing = view.index_of(&permit.capability).and_then(|index| index.listing(permit.at));
        let Some(listing) = listing.filter(|listing| listing.arrival == permit.arrival) else { return };
        let Some(entry) = entries.get_mut(&permit.at).filter(|entry| entry.arrival == permit.arrival) else { return };
        entry.see(listing);
        entry.in_flight = entry.in_flight.saturating_sub(1);
        entry.hear(&permit, outcome, now);
        if entry.is_blank() {
            entries.remove(&permit.at);
        }
    }

    /// A host gives no sign of life. Until it reports again it rests for all that it offers, and is probed after that; what
    /// it has failed at before keeps its own rest.
    pub fn fell_silent(&mut self, view: &View, host: &str, now: Duration) {
        self.tidy(view);
        let Some(silent) = view.host(host) else { return };
        for (_, offer) in silent.distinct() {
            let Some(index) = view.index_of(&offer.capability) else { continue };
            let at = index.position(host, &offer.name);
            let Some((at, listing)) = at.and_then(|at| Some((at, index.listing(at)?))) else { continue };
            let entry = self.entry_mut(&offer.capability, at, listing);
            entry.see(listing);
            if entry.failures == 0 {
                (entry.failures, entry.silent) = (1, true);
                (entry.failed, entry.rests_until) = (now, now + SILENT_REST);
            }
        }
    }

    /// How an engine stands.
    #[must_use]
    pub fn standing(&self, view: &View, capability: &str, id: &OfferId, now: Duration) -> Standing {
        let known = view.index_of(capability).and_then(|index| {
            let at = index.position(&id.host, &id.engine)?;
            let listing = index.listing(at)?;
            Some((listing, self.entry(listing, capability, at)?))
        });
        known.map_or(Standing::Well, |(listing, entry)| entry.standing(listing, now))
    }

    /// Whether most of the last requests for a capability were refused, so that reports are not worth much.
    #[must_use]
    pub fn doubts_reports(&self, capability: &str) -> bool {
        self.learnt.get(capability).is_some_and(|learnt| learnt.refused > 0.5)
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.learnt.values().map(|learnt| learnt.entries.len()).sum()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops what is known of engines that left.
    fn tidy(&mut self, view: &View) {
        if self.departures != view.departures() {
            self.departures = view.departures();
            for (capability, learnt) in &mut self.learnt {
                let index = view.index_of(capability);
                learnt.entries.retain(|at, entry| {
                    let listing = index.and_then(|index| index.listing(*at));
                    listing.is_some_and(|listing| listing.arrival == entry.arrival)
                });
            }
        }
    }

    fn entry(&self, listing: &Listing, capability: &str, at: usize) -> Option<&Entry> {
        self.learnt.get(capability)?.entries.get(&at).filter(|entry| entry.arrival == listing.arrival)
    }

    /// The same, made if there is none.
    fn entry_mut(&mut self, capability: &str, at: usize, listing: &Listing) -> &mut Entry {
        let entry = self.learnt.entry(capability.to_owned()).or_default().entries.entry(at).or_default();
        if entry.arrival != listing.arrival {
            *entry = Entry { arrival: listing.arrival, ..Entry::default() };
        }
        entry
    }

    /// What is known of an engine beyond what its host `reported`.
    pub(super) fn known(&self, listing: &Listing, capability: &str, at: usize, reported: Load, now: Duration) -> Known {
        let entry = self.entry(listing, capability, at);
        entry.map_or_else(
            || Known { standing: Standing::Well, load: reported, full: reported.is_full(), refused: false },
            |entry| entry.known(listing, reported, now),
        )
    }

    /// All that is known for a capability beyond what hosts reported, by place in its index.
    pub(super) fn all_known<'a>(
        &'a self,
        capability: &str,
        index: &'a Index,
        now: Duration,
    ) -> impl Iterator<Item = (usize, Known)> + 'a {
        let entries = self.learnt.get(capability).into_iter().flat_map(|learnt| &learnt.entries);
        entries.filter_map(move |(at, entry)| {
            let listing = index.listing(*at).filter(|listing| listing.arrival == entry.arrival)?;
            Some((*at, entry.known(listing, index.load(*at), now)))
        })
    }
}

impl Entry {
    fn standing(&self, listing: &Listing, now: Duration) -> Standing {
        let failures = self.failures;
        if failures == 0 || self.silent && self.report != listing.report {
            Standing::Well
        } else if self.probing_since.is_some_and(|since| now < since + PROBE_MAX) {
            Standing::Probing { failures }
        } else if now < self.rests_until {
            Standing::CoolingDown { left: self.rests_until - now, failures }
        } else {
            Standing::Due { failures }
        }
    }

    fn known(&self, listing: &Listing, reported: Load, now: Duration) -> Known {
        let mut load = reported;
        let mut refused = false;
        if self.report == listing.report {
            load.in_flight = (load.in_flight + self.in_flight).saturating_sub(self.in_flight_reported);
            refused = self.busy_until.is_some_and(|until| now < until);
        }
        Known { standing: self.standing(listing, now), load, full: refused || load.is_full(), refused }
    }

    /// Notes where the host's last report left things. To be called before anything changes.
    fn see(&mut self, listing: &Listing) {
        if self.report != listing.report {
            self.report = listing.report;
            self.in_flight_reported = self.in_flight;
            self.busy_until = None;
            if self.silent {
                (self.failures, self.silent, self.probing_since) = (0, false, None);
            }
        }
    }

    fn hear(&mut self, permit: &Permit, outcome: Outcome, now: Duration) {
        let probed = permit.probe && self.probing_since == Some(permit.began);
        if probed {
            self.probing_since = None;
        }
        match outcome {
            Outcome::Answered => self.failures = 0,
            Outcome::Busy => {
                self.failures = 0;
                self.busy_until = Some(now + BUSY_AVOID);
            }
            // What was on its way when the host failed tells the same once more.
            Outcome::Failed if self.failures == 0 || probed || permit.began > self.failed => {
                let rest = COOL_DOWN_MIN * 2_u32.saturating_pow(self.failures.min(16));
                self.failures = self.failures.saturating_add(1);
                self.silent = false;
                self.failed = now;
                self.rests_until = now + rest.min(COOL_DOWN_MAX);
            }
            Outcome::Failed | Outcome::Abandoned => {}
        }
        if self.failures == 0 {
            (self.silent, self.probing_since) = (false, None);
        }
    }

    fn is_blank(&self) -> bool {
        self.in_flight == 0 && self.in_flight_reported == 0 && self.failures == 0 && self.busy_until.is_none()
    }
}
