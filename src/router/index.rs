//! Which engines of which hosts offer what of one capability: a list of offers, and bit sets over it.

use std::collections::HashMap;
use std::sync::Arc;

use fixedbitset::FixedBitSet;

use super::host::{Host, Load, Model, Offer, OfferId};
use super::need::{Privacy, normal_language};

/// Of the languages of models that say none.
const ANY_LANGUAGE: &str = "*";

/// An offer in the list. Bit sets count in places of the list; one is used again when its offer is gone.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub(super) host: Arc<Host>,
    /// Which of its offers.
    nth: usize,
    /// Tells this run of this host from what had the place before.
    pub(super) arrival: u64,
    /// Which report of the host this is.
    pub(super) report: u64,
}

impl Listing {
    pub(super) fn offer(&self) -> &Offer {
        &self.host.offers[self.nth]
    }

    pub(super) fn id(&self) -> OfferId {
        OfferId::new(&self.host.name, &self.offer().name)
    }
}

/// What serves a model in a language.
#[derive(Debug, Clone, Default)]
pub(super) struct Serving {
    pub(super) offers: FixedBitSet,
    /// Those of them that have it loaded.
    pub(super) warm: FixedBitSet,
}

/// What serves a model or class (empty: whichever), then by [`language_keys`].
type ByModel = HashMap<String, HashMap<String, Serving>>;

/// Who offers what of one capability.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    listings: Vec<Option<Listing>>,
    free: Vec<usize>,
    by_host: HashMap<String, Vec<usize>>,
    cloud: FixedBitSet,
    /// Nothing leaves their hosts.
    discreet: FixedBitSet,
    full: FixedBitSet,
    /// Those whose hosts are about to stop.
    draining: FixedBitSet,
    /// By the tags of their hosts.
    tags: HashMap<String, FixedBitSet>,
    /// By all that [`Offer::is_called`].
    engines: HashMap<String, FixedBitSet>,
    voices: HashMap<String, FixedBitSet>,
    /// By what models are asked for, see [`Model::kind`].
    serving: HashMap<String, ByModel>,
    loads: Vec<Load>,
    /// How many of them have a usual time, and how many requests these do in [`PACE_MS`] one after the other.
    measured: u64,
    paces: u64,
}

/// Over which paces are counted: a unit fine enough for requests of minutes, so that sums are exact.
const PACE_MS: u64 = 1_000_000_000;

/// How many requests a host does in [`PACE_MS`], one after the other; `None` if it had none yet.
fn pace(load: Load) -> Option<u64> {
    (load.usual_ms > 0).then(|| PACE_MS / u64::from(load.usual_ms))
}

/// Says of a key whether a place has it; a key that no place has goes.
fn mark(sets: &mut HashMap<String, FixedBitSet>, key: &str, at: usize, there: bool) {
    if let Some(set) = sets.get_mut(key) {
        set.grow(at + 1);
        set.set(at, there);
        if set.is_clear() {
            sets.remove(key);
        }
    } else if there {
        sets.insert(key.to_owned(), with(at));
    }
}

fn with(at: usize) -> FixedBitSet {
    let mut set = FixedBitSet::with_capacity(at + 1);
    set.insert(at);
    set
}

/// Under what a model with these languages is found: any language, those it has, the languages of its dialects, and
/// (`en-*`) the dialects of its languages.
fn language_keys(languages: &[String]) -> Vec<String> {
    let mut keys = vec![String::new()];
    if languages.is_empty() {
        keys.push(ANY_LANGUAGE.to_owned());
    }
    for language in languages.iter().map(|language| normal_language(language)) {
        keys.extend(language.match_indices('-').map(|(end, _)| language[..end].to_owned()));
        keys.push(format!("{language}-*"));
        keys.push(language);
    }
    keys
}

impl Index {
    /// Takes in a host's report of its `nth` offer: it has come, has changed, or is still there.
    pub(super) fn put(&mut self, host: &Arc<Host>, nth: usize, report: u64) {
        let offer = &host.offers[nth];
        let known = self.position(&host.name, &offer.name);
        let at = known.unwrap_or_else(|| self.free.pop().unwrap_or(self.listings.len()));
        if at == self.listings.len() {
            self.listings.push(None);
        }
        if known.is_none() {
            self.by_host.entry(host.name.clone()).or_default().push(at);
        }
        let old = self.listings[at].take();
        let arrival = old.as_ref().filter(|old| old.host.instance == host.instance).map_or(report, |old| old.arrival);
        match old {
            Some(old) if old.host.has_shape_of(host) => {
                self.draining.set(at, host.draining);
                self.take_load(at, offer.load);
            }
            old => {
                if let Some(old) = old {
                    self.take(at, &old.host, old.offer(), false);
                }
                self.take(at, host, offer, true);
            }
        }
        self.listings[at] = Some(Listing { host: Arc::clone(host), nth, arrival, report });
    }

    /// An offer is there no more.
    pub(super) fn remove(&mut self, host: &str, name: &str) {
        let Some(at) = self.position(host, name) else { return };
        if let Some(old) = self.listings[at].take() {
            self.take(at, &old.host, old.offer(), false);
            self.free.push(at);
        }
        if let Some(places) = self.by_host.get_mut(host) {
            places.retain(|place| *place != at);
            if places.is_empty() {
                self.by_host.remove(host);
            }
        }
    }

    /// Takes an offer in, or out.
    fn take(&mut self, at: usize, host: &Host, offer: &Offer, there: bool) {
        for set in [&mut self.cloud, &mut self.discreet, &mut self.full, &mut self.draining] {
            set.grow(at + 1);
        }
        self.cloud.set(at, there && offer.privacy == Privacy::Any);
        self.discreet.set(at, there && offer.privacy == Privacy::Host);
        self.draining.set(at, there && host.draining);
        for tag in &host.tags {
            mark(&mut self.tags, tag, at, there);
        }
        for name in [&offer.name, &offer.engine] {
            mark(&mut self.engines, name, at, there);
        }
        for voice in &offer.voices {
            mark(&mut self.voices, voice, at, there);
        }
        let without = [Model { warm: true, ..Model::default() }];
        let models = if offer.models.is_empty() { &without[..] } else { &offer.models[..] };
        for model in models {
            let languages = if model.languages.is_empty() { &offer.languages } else { &model.languages };
            let keys = language_keys(languages);
            for name in [&String::new(), &model.name].into_iter().chain(&model.classes) {
                self.serve(&model.kind, name, &keys, at, there.then_some(model.warm));
            }
        }
        self.take_load(at, if there { offer.load } else { Load::default() });
    }

    /// `there` says whether it is warm.
    fn serve(&mut self, kind: &str, name: &str, keys: &[String], at: usize, there: Option<bool>) {
        if there.is_some() && !self.serving.contains_key(kind) {
            self.serving.insert(kind.to_owned(), ByModel::new());
        }
        let Some(by_model) = self.serving.get_mut(kind) else { return };
        if there.is_some() && !by_model.contains_key(name) {
            by_model.insert(name.to_owned(), HashMap::new());
        }
        let Some(by_language) = by_model.get_mut(name) else { return };
        for key in keys {
            if there.is_some() && !by_language.contains_key(key) {
                by_language.insert(key.clone(), Serving::default());
            }
            let Some(serving) = by_language.get_mut(key) else { continue };
            serving.offers.grow(at + 1);
            serving.warm.grow(at + 1);
            serving.offers.set(at, there.is_some());
            // One warm model of several will do.
            let warm = there.is_some_and(|warm| warm || serving.warm.contains(at));
            serving.warm.set(at, warm);
            if serving.offers.is_clear() {
                by_language.remove(key);
            }
        }
        if by_language.is_empty() {
            by_model.remove(name);
        }
        if by_model.is_empty() {
            self.serving.remove(kind);
        }
    }

    /// Takes in how much the offer has to do now.
    pub(super) fn take_load(&mut self, at: usize, load: Load) {
        if self.loads.len() <= at {
            self.loads.resize(at + 1, Load::default());
        }
        if let Some(pace) = pace(self.loads[at]) {
            self.measured -= 1;
            self.paces -= pace;
        }
        if let Some(pace) = pace(load) {
            self.measured += 1;
            self.paces += pace;
        }
        self.loads[at] = load;
        self.full.grow(at + 1);
        self.full.set(at, load.is_full());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// All that is listed, with its place.
    pub(super) fn listings(&self) -> impl Iterator<Item = (usize, &Listing)> {
        self.listings.iter().enumerate().filter_map(|(at, listing)| Some((at, listing.as_ref()?)))
    }

    pub(super) fn listing(&self, at: usize) -> Option<&Listing> {
        self.listings.get(at)?.as_ref()
    }

    /// The place of an engine.
    pub(super) fn position(&self, host: &str, name: &str) -> Option<usize> {
        let is_it = |at: &usize| self.listing(*at).is_some_and(|listing| listing.offer().name == name);
        self.at_host(host).iter().copied().find(is_it)
    }

    /// The places of a host.
    pub(super) fn at_host(&self, host: &str) -> &[usize] {
        self.by_host.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// The places that the policy means by a name, see [`super::policy::means`].
    pub(super) fn meant(&self, name: &str) -> FixedBitSet {
        let mut set = FixedBitSet::with_capacity(self.listings.len());
        set.extend(self.at_host(name).iter().copied());
        match name.rsplit_once('/') {
            Some(("*", engine)) => self.engines.get(engine).into_iter().for_each(|engines| set.union_with(engines)),
            Some((host, engine)) => {
                let called = |at: &usize| self.listing(*at).is_some_and(|listing| listing.offer().is_called(engine));
                set.extend(self.at_host(host).iter().copied().filter(called));
            }
            None => {}
        }
        set
    }

    /// What serves a model of a kind in a language; each may be empty.
    pub(super) fn serving(&self, kind: &str, model: &str, language: &str) -> Serving {
        let mut found = Serving::default();
        let Some(by_language) = self.serving.get(kind).and_then(|by_model| by_model.get(model)) else { return found };
        let mut add = |key: &str| {
            if let Some(serving) = by_language.get(key) {
                found.offers.union_with(&serving.offers);
                found.warm.union_with(&serving.warm);
            }
        };
        let language = normal_language(language);
        add(&language);
        if !language.is_empty() {
            language.match_indices('-').for_each(|(end, _)| add(&format!("{}-*", &language[..end])));
            add(ANY_LANGUAGE);
        }
        found
    }

    pub(super) fn speaking(&self, voice: &str) -> Option<&FixedBitSet> {
        self.voices.get(voice)
    }

    pub(super) fn tagged(&self, tag: &str) -> Option<&FixedBitSet> {
        self.tags.get(tag)
    }

    /// Those that are called so.
    pub(super) fn called(&self, engine: &str) -> Option<&FixedBitSet> {
        self.engines.get(engine)
    }

    /// Those whose hosts are about to stop.
    pub(super) fn draining(&self) -> &FixedBitSet {
        &self.draining
    }

    /// Those for which a provider outside answers.
    pub(super) fn cloud(&self) -> &FixedBitSet {
        &self.cloud
    }

    /// Those from which nothing goes on to other hosts.
    pub(super) fn discreet(&self) -> &FixedBitSet {
        &self.discreet
    }

    /// Whose slots are all taken.
    pub(super) fn full(&self) -> &FixedBitSet {
        &self.full
    }

    pub(super) fn load(&self, at: usize) -> Load {
        self.loads.get(at).copied().unwrap_or_default()
    }

    /// The load with a usual time: that of an engine that had no request yet is the harmonic mean of the others', and 1 ms
    /// while none has one.
    pub(super) fn measured(&self, load: Load) -> Load {
        let usual_ms = (PACE_MS * self.measured).checked_div(self.paces).unwrap_or(1);
        let usual_ms = u32::try_from(usual_ms).unwrap_or(u32::MAX).max(1);
        Load { usual_ms: if load.usual_ms == 0 { usual_ms } else { load.usual_ms }, ..load }
    }
}
