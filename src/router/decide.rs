//! From a need to an ordered list of engines, each of a host.

use std::fmt;
use std::time::Duration;

use fixedbitset::FixedBitSet;
use rand::{Rng, RngExt as _};

use super::explain::{Nobody, nobody};
use super::health::Health;
use super::host::{Load, OfferId};
use super::index::{Index, Serving};
use super::need::{Latency, Need, Privacy};
use super::policy::{Place, Policy, Ruled};
use super::view::View;

/// How many engines a decision names at most. A caller that has asked them all in vain decides anew: more is known by then.
pub const TARGETS_MAX: usize = 5;

/// An engine to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its host, and its name there.
    pub id: OfferId,
    /// Why it.
    pub reason: Reason,
}

/// Why an engine was chosen. Shown as `lan, warm whisper-tiny.en, 0 of 2 busy, less loaded than den/whisper`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// Where it is.
    pub place: Place,
    /// Whether the policy pins it.
    pub pinned: bool,
    /// The model that fits, if it has models.
    pub model: String,
    /// Whether one that fits is loaded.
    pub warm: bool,
    /// What it has to do, with what this caller has begun and ended there since it reported.
    pub load: Load,
    /// Whether its slots are all taken, or it said so just now.
    pub full: bool,
    /// How often it failed in a row; it has rested since.
    pub failures: u32,
    /// With which it was drawn, and has less to do than.
    pub rival: Option<OfferId>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pinned {
            f.write_str("pinned, ")?;
        }
        write!(f, "{}, ", self.place)?;
        if !self.model.is_empty() {
            write!(f, "{} {}, ", if self.warm { "warm" } else { "cold" }, self.model)?;
        }
        let Load { slots, in_flight, queued, .. } = self.load;
        if self.full {
            f.write_str("full: ")?;
        }
        write!(f, "{in_flight} of {slots} busy")?;
        if queued > 0 {
            write!(f, ", {queued} queued")?;
        }
        if let Some(rival) = &self.rival {
            write!(f, ", less loaded than {rival}")?;
        }
        match self.failures {
            0 => Ok(()),
            1 => f.write_str(", tried again after a failure"),
            failures => write!(f, ", tried again after {failures} failures"),
        }
    }
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Router<'a> {
    /// The host that asks.
    pub here: &'a str,
    /// Who is there.
    pub view: &'a View,
    /// What the user wants for the capability.
    pub policy: &'a Policy,
    /// What the caller has learnt.
    pub health: &'a Health,
}

/// A decision in the making: what may still be drawn, and what was.
struct Draw<'a> {
    router: Router<'a>,
    need: &'a Need,
    index: &'a Index,
    ruled: Ruled<'a>,
    now: Duration,
    open: FixedBitSet,
    /// Those of the host that asks.
    own: FixedBitSet,
    warm: FixedBitSet,
    full: FixedBitSet,
    /// Those that said themselves just now that they are full, when reports are doubted.
    refused: Option<FixedBitSet>,
    targets: Vec<Target>,
}

impl<'a> Router<'a> {
    /// The engines to ask, in this order; at least one, [`TARGETS_MAX`] at most. `now` counts from whenever the caller
    /// likes, but always from then. The same `rng` gives the same list.
    ///
    /// The order, and within each the next:
    ///
    /// 1. what the policy pins, even when it seems to be full and is in a place that is not preferred;
    /// 2. engines with a free slot before full ones: a full one refuses at once, so it is worth asking only when all are
    ///    full, and never for batch work;
    /// 3. local, lan, cloud, or as the policy prefers. So this host is left when its slots are all taken, not before;
    /// 4. those that have the model loaded;
    /// 5. of two at random the one with less to do ([`Load::cost_ms`] by its weight): the least loaded of all would be
    ///    everybody's choice at once, since everybody's view is a little old.
    ///
    /// When most requests are refused ([`Health::doubts_reports`]), free and full are drawn from together in a place where
    /// any is free; of two, one with a free slot is still taken before a full one.
    ///
    /// # Errors
    /// [`Nobody`] says what is wanted, and what is there instead.
    pub fn decide<R: Rng + ?Sized>(&self, need: &Need, now: Duration, rng: &mut R) -> Result<Vec<Target>, Nobody> {
        self.decide_beyond(&[], need, now, rng)
    }

    /// The same without those that were `tried` in vain.
    ///
    /// # Errors
    /// [`Nobody`], which says how all stand, those that were tried as well.
    pub fn decide_beyond<R: Rng + ?Sized>(
        &self,
        tried: &[OfferId],
        need: &Need,
        now: Duration,
        rng: &mut R,
    ) -> Result<Vec<Target>, Nobody> {
        let Some(index) = self.view.index_of(&need.capability) else { return Err(nobody(self, need, now)) };
        let mut draw = self.draw(need, index, now);
        let tried = tried.iter().filter_map(|id| index.position(&id.host, &id.engine));
        tried.for_each(|at| remove(&mut draw.open, at));
        draw.pinned(rng);
        draw.waves(None, draw.ruled.prefer().iter(), rng);
        if draw.targets.is_empty() { Err(nobody(self, need, now)) } else { Ok(draw.targets) }
    }

    fn draw(self, need: &'a Need, index: &'a Index, now: Duration) -> Draw<'a> {
        let ruled = self.ruled(need);
        let Serving { offers: mut open, warm } = index.serving(&need.kind, &need.model, &need.language);
        let voice = (!need.voice.is_empty()).then(|| index.speaking(&need.voice));
        let engine = (!need.engine.is_empty()).then(|| index.called(&need.engine));
        for wanted in need.tags.iter().map(|tag| index.tagged(tag)).chain(voice).chain(engine) {
            match wanted {
                Some(offers) => open.intersect_with(offers),
                None => open.clear(),
            }
        }
        let own: FixedBitSet = index.at_host(self.here).iter().copied().collect();
        match need.privacy {
            Privacy::Host => {
                open.intersect_with(index.discreet());
                open.intersect_with(&own);
            }
            Privacy::Lan => open.difference_with(index.cloud()),
            Privacy::Any => {}
        }
        open.difference_with(index.draining());
        let mut full = index.full().clone();
        ruled.deny().for_each(|denied| open.difference_with(&index.meant(denied)));
        let mut refused = FixedBitSet::new();
        for (at, known) in self.health.all_known(&need.capability, index, now) {
            full.grow(at + 1);
            full.set(at, known.full);
            if known.refused {
                refused.grow_and_insert(at);
            }
            if !known.standing.is_open() {
                remove(&mut open, at);
            }
        }
        let doubts = need.latency == Latency::Interactive && self.health.doubts_reports(&need.capability);
        let refused = doubts.then_some(refused);
        let targets = Vec::with_capacity(TARGETS_MAX);
        Draw { router: self, need, index, ruled, now, open, own, warm, full, refused, targets }
    }

    /// The policy for what is wanted. A rule for a class fits a model that any engine says to be of it.
    pub(super) fn ruled(&self, need: &Need) -> Ruled<'a> {
        let model = need.model.as_str();
        let classes: Vec<&str> = if model.is_empty() || self.policy.rules.is_empty() {
            Vec::new()
        } else {
            let index = self.view.index_of(&need.capability);
            let at = index.and_then(|index| index.serving(&need.kind, model, "").offers.ones().next());
            let listing = index.zip(at).and_then(|(index, at)| index.listing(at));
            let models = listing.into_iter().flat_map(|listing| &listing.offer().models);
            models.filter(|of| of.name == model).flat_map(|of| &of.classes).map(String::as_str).collect()
        };
        self.policy.ruled(|fits| !model.is_empty() && (fits == model || classes.contains(&fits)))
    }
}

fn remove(set: &mut FixedBitSet, at: usize) {
    if set.contains(at) {
        set.remove(at);
    }
}

/// The `n`th member of a set.
fn member(set: &FixedBitSet, n: usize) -> Option<usize> {
    let mut left = n;
    for (block, bits) in set.as_slice().iter().enumerate() {
        let ones = bits.count_ones() as usize;
        if left < ones {
            // Its lower members away, the lowest is the one.
            let bits = (0..left).fold(*bits, |bits, _| bits & (bits - 1));
            return Some(block * usize::BITS as usize + bits.trailing_zeros() as usize);
        }
        left -= ones;
    }
    None
}

impl Draw<'_> {
    /// Draws from what the policy pins, wherever it is; first from the places that are preferred.
    fn pinned<R: Rng + ?Sized>(&mut self, rng: &mut R) {
        if self.ruled.pin().is_empty() {
            return;
        }
        let pinned = self.index.meant(self.ruled.pin());
        let others = [Place::Local, Place::Lan, Place::Cloud];
        let preferred = self.ruled.prefer();
        let others = others.into_iter().filter(|place| !preferred.iter().any(|other| other == *place));
        self.waves(Some(&pinned), preferred.iter().chain(others), rng);
    }

    /// Draws place by place, first from those with a free slot; from all, or from some `of` them.
    fn waves<R: Rng + ?Sized>(
        &mut self,
        of: Option<&FixedBitSet>,
        places: impl Iterator<Item = Place> + Clone,
        rng: &mut R,
    ) {
        let waves = if self.need.latency == Latency::Interactive { 2 } else { 1 };
        for full in [false, true].into_iter().take(waves) {
            for place in places.clone() {
                self.place(of, place, full, rng);
            }
        }
    }

    /// Draws from those of a place with or without a free slot.
    fn place<R: Rng + ?Sized>(&mut self, of: Option<&FixedBitSet>, place: Place, full: bool, rng: &mut R) {
        let mut here = self.open.clone();
        of.into_iter().for_each(|of| here.intersect_with(of));
        match place {
            Place::Cloud => here.intersect_with(self.index.cloud()),
            Place::Local => {
                here.intersect_with(&self.own);
                here.difference_with(self.index.cloud());
            }
            Place::Lan => {
                here.difference_with(&self.own);
                here.difference_with(self.index.cloud());
            }
        }
        let mut cold = here.clone();
        cold.difference_with(&self.warm);
        here.intersect_with(&self.warm);
        for alike in [here, cold] {
            let among = if full { &alike & &self.full } else { self.free(alike) };
            self.two_at_random(among, rng);
        }
    }

    /// Those with a free slot. When reports are doubted and any has one, all but those that refused just now.
    fn free(&self, alike: FixedBitSet) -> FixedBitSet {
        let mut free = alike.clone();
        free.difference_with(&self.full);
        match &self.refused {
            Some(refused) if !free.is_clear() => {
                let mut any = alike;
                any.difference_with(refused);
                any
            }
            _ => free,
        }
    }

    fn two_at_random<R: Rng + ?Sized>(&mut self, mut among: FixedBitSet, rng: &mut R) {
        let mut count = among.count_ones(..);
        while count > 0 && self.targets.len() < TARGETS_MAX {
            let first = rng.random_range(0..count);
            let Some(one) = member(&among, first) else { return };
            let mut drawn = (one, None);
            if count > 1 {
                let Some(other) = member(&among, (first + rng.random_range(1..count)) % count) else { return };
                let (one_cost, other_cost) = (self.cost(one), self.cost(other));
                let (less, more) = if other_cost < one_cost { (other, one) } else { (one, other) };
                drawn = (less, (one_cost != other_cost).then_some(more));
            }
            among.remove(drawn.0);
            count -= 1;
            self.take(drawn.0, drawn.1);
        }
    }

    /// Whether one is full, and what one more request would come to there.
    fn cost(&self, at: usize) -> (bool, f64) {
        let Some(listing) = self.index.listing(at) else { return (true, f64::INFINITY) };
        let known = self.router.health.known(listing, &self.need.capability, at, self.index.load(at), self.now);
        let weight = self.ruled.weight(&listing.host.name, listing.offer());
        (known.full, self.index.measured(known.load).cost_ms() / weight)
    }

    fn take(&mut self, at: usize, rival: Option<usize>) {
        remove(&mut self.open, at);
        let Some(listing) = self.index.listing(at) else { return };
        let mut reason = self.router.reason(self.need, at, listing, self.now);
        reason.rival = rival.and_then(|at| self.index.listing(at)).map(super::index::Listing::id);
        self.targets.push(Target { id: listing.id(), reason });
    }
}
