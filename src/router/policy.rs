//! What the user wants of the routing of a capability; it stands in the configuration.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::host::Offer;

/// How requests for one capability are routed.
///
/// ```toml
/// [route.stt]                      # all speech recognition on this host
/// prefer = ["local"]
///
/// [route.tts]                      # that host's voices
/// pin = "studio"
///
/// [route.llm]                      # a host, one engine of a host, or an engine wherever it is
/// deny = ["kitchen", "rack/openai", "*/fake"]
/// weights = { rack = 2.0 }
///
/// [[route.llm.rules]]              # always remote for big models
/// models = ["planner", "qwen3-32b"]
/// prefer = ["lan", "cloud"]
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The places to ask, in this order. A place that is not named is not asked.
    pub prefer: Places,
    /// What is asked first wherever it is, even when it seems to be full; the others only when it can't. A host, or one
    /// of its engines: `rack`, `rack/ollama`, `*/ollama`. Empty: nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pin: String,
    /// Hosts that are never asked, and engines, written the same way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// How much more a host or an engine should get than its load says: one with 2.0 counts as half as loaded. 1.0 where not
    /// named; of several that fit, that of the engine of the host counts, then that of the host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, Weight>,
    /// What is different for some models. The first rule that fits counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// What is different for some models.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The models, by name or by class. A rule for a class fits its models too when they are asked for by name.
    pub models: Vec<String>,
    /// Instead of the policy's `prefer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Places>,
    /// Instead of the policy's `pin`; an empty text unpins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Beside those of the policy's `deny`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// Where an answer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On the host that asks.
    Local,
    /// On another host.
    Lan,
    /// At a provider outside, whichever host passes it on.
    Cloud,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Lan => "lan",
            Self::Cloud => "cloud",
        })
    }
}

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// `prefer = []`.
    #[error("prefer names no place: name one or more of local, lan, cloud")]
    NoPlace,
    /// `prefer = ["lan", "lan"]`.
    #[error("prefer names {0} twice: name each place once")]
    Twice(Place),
    /// `weights = { rack = 0.0 }`.
    #[error("a weight of {0} can't be: it is a number above 0; to leave a host out, put it into deny")]
    Weight(f64),
}

/// Places in the order in which they are asked: at least one, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Place>", into = "Vec<Place>")]
pub struct Places(Vec<Place>);

impl Places {
    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = Place> + Clone + '_ {
        self.0.iter().copied()
    }
}

impl Default for Places {
    fn default() -> Self {
        Self(vec![Place::Local, Place::Lan, Place::Cloud])
    }
}

impl TryFrom<Vec<Place>> for Places {
    type Error = PolicyError;

    fn try_from(places: Vec<Place>) -> Result<Self, PolicyError> {
        if places.is_empty() {
            return Err(PolicyError::NoPlace);
        }
        match places.iter().enumerate().find(|(n, place)| places[..*n].contains(place)) {
            Some((_, twice)) => Err(PolicyError::Twice(*twice)),
            None => Ok(Self(places)),
        }
    }
}

impl From<Places> for Vec<Place> {
    fn from(places: Places) -> Self {
        places.0
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(Place::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// How much a host should get; above 0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Weight(f64);

impl TryFrom<f64> for Weight {
    type Error = PolicyError;

    fn try_from(weight: f64) -> Result<Self, PolicyError> {
        if weight.is_finite() && weight > 0.0 { Ok(Self(weight)) } else { Err(PolicyError::Weight(weight)) }
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

/// A policy with the rule for a model put in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ruled<'a> {
    policy: &'a Policy,
    rule: Option<&'a Rule>,
}

impl Policy {
    /// With the first rule that fits a model of any of these names and classes.
    pub(super) fn ruled(&self, fits: impl Fn(&str) -> bool) -> Ruled<'_> {
        Ruled { policy: self, rule: self.rules.iter().find(|rule| rule.models.iter().any(|model| fits(model))) }
    }
}

impl<'a> Ruled<'a> {
    pub(super) fn prefer(&self) -> &'a Places {
        self.rule.and_then(|rule| rule.prefer.as_ref()).unwrap_or(&self.policy.prefer)
    }

    pub(super) fn pin(&self) -> &'a str {
        self.rule.and_then(|rule| rule.pin.as_deref()).unwrap_or(&self.policy.pin)
    }

    pub(super) fn deny(&self) -> impl Iterator<Item = &'a str> {
        self.policy.deny.iter().chain(self.rule.into_iter().flat_map(|rule| &rule.deny)).map(String::as_str)
    }

    pub(super) fn weight(&self, host: &str, offer: &Offer) -> f64 {
        let fitting = self.policy.weights.iter().filter(|(name, _)| means(name, host, offer));
        let nearest = fitting.min_by_key(|(name, _)| match name.as_str() {
            name if name == host => 1,
            name if name.starts_with("*/") => 2,
            _ => 0,
        });
        nearest.map_or(1.0, |(_, weight)| weight.0)
    }
}

/// Whether a policy means an engine by `name`: by its host's name, by `host/engine`, or by `*/engine`.
pub(super) fn means(name: &str, host: &str, offer: &Offer) -> bool {
    let is_engine = |(of, engine): (&str, &str)| (of == "*" || of == host) && offer.is_called(engine);
    name == host || name.rsplit_once('/').is_some_and(is_engine)
}
