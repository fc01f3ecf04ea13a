//! Which hosts offer what of one capability: bit sets over the seats of the view.

use std::collections::HashMap;

use fixedbitset::FixedBitSet;

use super::need::{Privacy, normal_language};
use super::view::{Load, Model, Offer};

/// Of the languages of models that say none.
const ANY_LANGUAGE: &str = "*";

/// Who serves a model in a language.
#[derive(Debug, Clone, Default)]
pub(super) struct Serving {
    pub(super) hosts: FixedBitSet,
    /// Those of them that have it loaded.
    pub(super) warm: FixedBitSet,
}

/// Who offers what of one capability.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    all: FixedBitSet,
    cloud: FixedBitSet,
    /// Nothing leaves them.
    discreet: FixedBitSet,
    full: FixedBitSet,
    voices: HashMap<String, FixedBitSet>,
    /// By model or class (empty: whichever), then by [`language_keys`].
    serving: HashMap<String, HashMap<String, Serving>>,
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

/// Says of a key whether a seat has it; a key that nobody has goes.
pub(super) fn mark(sets: &mut HashMap<String, FixedBitSet>, key: &str, at: usize, there: bool) {
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
    /// Takes an offer in, or out.
    pub(super) fn take(&mut self, at: usize, offer: &Offer, there: bool) {
        for set in [&mut self.all, &mut self.cloud, &mut self.discreet, &mut self.full] {
            set.grow(at + 1);
        }
        self.all.set(at, there);
        self.cloud.set(at, there && offer.privacy == Privacy::Any);
        self.discreet.set(at, there && offer.privacy == Privacy::Host);
        for voice in &offer.voices {
            mark(&mut self.voices, voice, at, there);
        }
        let without = [Model { warm: true, ..Model::default() }];
        let models = if offer.models.is_empty() { &without[..] } else { &offer.models[..] };
        for model in models {
            let languages = if model.languages.is_empty() { &offer.languages } else { &model.languages };
            let keys = language_keys(languages);
            for name in [&String::new(), &model.name].into_iter().chain(&model.classes) {
                self.serve(name, &keys, at, there.then_some(model.warm));
            }
        }
        self.take_load(at, if there { offer.load } else { Load::default() });
    }

    /// `there` says whether it is warm.
    fn serve(&mut self, name: &str, keys: &[String], at: usize, there: Option<bool>) {
        if there.is_some() && !self.serving.contains_key(name) {
            self.serving.insert(name.to_owned(), HashMap::new());
        }
        let Some(by_language) = self.serving.get_mut(name) else { return };
        for key in keys {
            if there.is_some() && !by_language.contains_key(key) {
                by_language.insert(key.clone(), Serving::default());
            }
            let Some(serving) = by_language.get_mut(key) else { continue };
            serving.hosts.grow(at + 1);
            serving.warm.grow(at + 1);
            serving.hosts.set(at, there.is_some());
            // One warm model of several will do.
            let warm = there.is_some_and(|warm| warm || serving.warm.contains(at));
            serving.warm.set(at, warm);
            if serving.hosts.is_clear() {
                by_language.remove(key);
            }
        }
        if by_language.is_empty() {
            self.serving.remove(name);
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
        self.all.is_clear()
    }

    /// Who serves a model in a language; either may be empty.
    pub(super) fn serving(&self, model: &str, language: &str) -> Serving {
        let mut found = Serving::default();
        let Some(by_language) = self.serving.get(model) else { return found };
        let mut add = |key: &str| {
            if let Some(serving) = by_language.get(key) {
                found.hosts.union_with(&serving.hosts);
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

    /// Whom a provider outside answers for.
    pub(super) fn cloud(&self) -> &FixedBitSet {
        &self.cloud
    }

    /// From whom nothing goes on to other hosts.
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

    /// The load with a usual time: that of a host that had no request yet is the harmonic mean of the others', and 1 ms
    /// while nobody has one.
    pub(super) fn measured(&self, load: Load) -> Load {
        let usual_ms = (PACE_MS * self.measured).checked_div(self.paces).unwrap_or(1);
        let usual_ms = u32::try_from(usual_ms).unwrap_or(u32::MAX).max(1);
        Load { usual_ms: if load.usual_ms == 0 { usual_ms } else { load.usual_ms }, ..load }
    }
}
