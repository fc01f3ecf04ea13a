//! What hosts are and offer, as the router reads it.

use std::fmt;

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
    /// What it offers: of each capability one engine or several, told apart by [`Offer::name`]. A second offer of one name is
    /// ignored.
    pub offers: Vec<Offer>,
}

/// An engine of a host: one capability, done in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The capability, such as `stt`.
    pub capability: String,
    /// Its name among the engines of the capability on its host; empty where a host has but one.
    pub name: String,
    /// What does the work, such as `whisper`.
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
            name: String::new(),
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
    /// What it is asked for, such as `embed`; empty: what the capability is asked for as a rule, such as to chat.
    pub kind: String,
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
    /// Its offers, each with its place in the list: of several with one capability and name the first.
    pub fn distinct(&self) -> impl Iterator<Item = (usize, &Offer)> {
        self.offers.iter().enumerate().filter(|(n, offer)| {
            !self.offers[..*n].iter().any(|before| before.capability == offer.capability && before.name == offer.name)
        })
    }

    /// Its engines of a capability.
    pub fn offers_of(&self, capability: &str) -> impl Iterator<Item = &Offer> {
        self.distinct().map(|(_, offer)| offer).filter(move |offer| offer.capability == capability)
    }

    /// Its engine of a capability by its name.
    #[must_use]
    pub fn offer(&self, capability: &str, name: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.capability == capability && offer.name == name)
    }

    /// Whether the two differ in nothing but their loads and whether they drain.
    pub(super) fn has_shape_of(&self, other: &Self) -> bool {
        self.tags == other.tags
            && self.offers.len() == other.offers.len()
            && self.offers.iter().zip(&other.offers).all(|(ours, theirs)| ours.has_shape_of(theirs))
    }
}

impl Offer {
    /// Whether a policy or a need means it by `engine`: its name, or that of what does the work.
    #[must_use]
    pub fn is_called(&self, engine: &str) -> bool {
        self.name == engine || self.engine == engine
    }

    fn has_shape_of(&self, other: &Self) -> bool {
        self.capability == other.capability
            && self.name == other.name
            && self.engine == other.engine
            && self.models == other.models
            && self.voices == other.voices
            && self.languages == other.languages
            && self.privacy == other.privacy
    }
}

/// An engine of a capability by its names. Shown as `rack/ollama`, and as `rack` where the host has but one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OfferId {
    /// The host.
    pub host: String,
    /// The name of the engine on it, as [`Offer::name`].
    pub engine: String,
}

impl OfferId {
    /// The engine `engine` of `host`.
    pub fn new(host: impl Into<String>, engine: impl Into<String>) -> Self {
        Self { host: host.into(), engine: engine.into() }
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if self.engine.is_empty() { Ok(()) } else { write!(f, "/{}", self.engine) }
    }
}
