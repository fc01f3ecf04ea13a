//! Hosts: who is there, and what they offer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
use crate::wire::subject::{Capability, Verb};

/// Asks a host about itself; only ever by `node.info.n.<node>`, or of all by `node.info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskInfo {}

impl Message for AskInfo {
    const SCHEMA: &'static str = "node.info/1";

    fn example() -> Self {
        Self {}
    }
}

impl Ask for AskInfo {
    const VERB: Verb = Verb::new(Capability::Node, "info");
    const ABOUT: &'static str = "what a host is and offers";
    const REPLIES: Replies = Replies::One;
    type Reply = NodeInfo;
}

/// A host as it stands in the bucket NODES, renewed every 3 s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeInfo {
    /// Its name.
    pub node: String,
    /// One run of the program (a ULID): tells two hosts of one name apart.
    pub instance: String,
    /// The program's version.
    pub version: String,
    /// When it came up, in RFC 3339.
    pub since: String,
    /// What it offers.
    pub offers: Vec<Offer>,
    /// Its hostname.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Its addresses in the network, loopback left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What it has: `gpu`, `high_mem`, `low_power`, the user's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How far what is said on it may travel.
    #[serde(default)]
    pub privacy: Privacy,
    /// Takes no new work and will end.
    #[serde(default)]
    pub draining: bool,
}

impl NodeInfo {
    /// Whether it is the same host with the same offers, whatever it is working on.
    #[must_use]
    pub fn has_shape_of(&self, other: &Self) -> bool {
        let idle = |info: &Self| Self { offers: info.offers.iter().map(Offer::idle).collect(), ..info.clone() };
        idle(self) == idle(other)
    }
}

/// How far words and sound may travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Privacy {
    /// They stay on the host.
    Host,
    /// They stay in the LAN: no provider outside sees them.
    Lan,
    /// Anywhere.
    #[default]
    Any,
}

impl Privacy {
    /// As it stands in the header `Privacy`.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Lan => "lan",
            Self::Any => "any",
        }
    }

    /// From the header; what is unknown is taken for the strictest.
    #[must_use]
    pub fn of(token: &str) -> Self {
        match token {
            "" | "any" => Self::Any,
            "lan" => Self::Lan,
            _ => Self::Host,
        }
    }
}

/// What a role of a host offers; one with several engines has an offer for each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Offer {
    /// The role.
    pub role: String,
    /// Models, voices or listeners.
    #[serde(default)]
    pub models: Vec<String>,
    /// What does the work: `whisper`, `sherpa`, `ollama`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine: String,
    /// The engine's name on its host, which the header `Engine` names; absent where the role has but one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Models that are asked for something else than the capability is as a rule: by what that is, such as `embed`. They are
    /// not among `models`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, Vec<String>>,
    /// How many requests it works on at once.
    #[serde(default)]
    pub slots: usize,
    /// How many it works on now.
    #[serde(default)]
    pub in_flight: usize,
    /// How many wait for a slot.
    #[serde(default)]
    pub queued: usize,
    /// The usual time of a request, in ms; 0 before the first.
    #[serde(default)]
    pub usual_ms: u64,
    /// Those of the models that are loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warm: Vec<String>,
    /// What models are good for: `planner`, `chat`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, Vec<String>>,
    /// Languages; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Whether a provider outside the LAN does the work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cloud: bool,
    /// How far what it is given travels: `lan` if another host does the work, `any` if a provider outside does. Absent: as
    /// `cloud` says, `any` or `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// Of role `audio`: what a link to this host needs to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioOffer>,
}

/// What a link to a host needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AudioOffer {
    /// The rate of its JACK server, in Hz; 0 while it has none. Both ends of a link have one rate.
    pub rate_hz: u32,
    /// Frames of a period.
    #[serde(default)]
    pub period_frames: u32,
    /// The UDP port where the way to it is measured; 0: none.
    #[serde(default)]
    pub probe_port: u16,
    /// Whether JackTrip is installed.
    #[serde(default)]
    pub jacktrip: bool,
}

impl Offer {
    /// How far what it is given travels.
    #[must_use]
    pub fn reach(&self) -> Privacy {
        self.privacy.unwrap_or(if self.cloud { Privacy::Any } else { Privacy::Host })
    }

    /// The same, with how far what it is given travels; hosts that know `cloud` alone are told as well.
    #[must_use]
    pub fn reaching(self, privacy: Privacy) -> Self {
        Self { cloud: privacy == Privacy::Any, privacy: Some(privacy), ..self }
    }

    /// Whether it may be given what may travel so far: one of another host for what stays on its host, or a provider
    /// outside for what stays in the LAN, may not.
    #[must_use]
    pub fn keeps_within(&self, privacy: Privacy) -> bool {
        match privacy {
            Privacy::Host => self.reach() == Privacy::Host,
            Privacy::Lan => self.reach() != Privacy::Any,
            Privacy::Any => true,
        }
    }

    /// Whether a request that names this model, voice or class is for it.
    #[must_use]
    pub fn has_model(&self, model: &str) -> bool {
        let of_kinds = self.kinds.values().flatten();
        self.models.iter().chain(of_kinds).any(|own| own == model) || self.classes.contains_key(model)
    }

    /// The same without its load.
    #[must_use]
    pub fn idle(&self) -> Self {
        Self { in_flight: 0, queued: 0, usual_ms: 0, ..self.clone() }
    }
}

impl Message for NodeInfo {
    const SCHEMA: &'static str = "node.node-info/1";

    fn example() -> Self {
        Self {
            node: "studio".to_owned(),
            instance: "01KB3Z7A1B2C3D4E5F6G7H8J9K".to_owned(),
            version: "0.1.0".to_owned(),
            since: "2026-11-24T10:20:00Z".to_owned(),
            offers: vec![Offer {
                role: "stt".to_owned(),
                models: vec!["whisper-tiny.en".to_owned()],
                engine: "whisper".to_owned(),
                slots: 2,
                in_flight: 1,
                usual_ms: 420,
                name: "whisper".to_owned(),
                privacy: Some(Privacy::Host),
                warm: vec!["whisper-tiny.en".to_owned()],
                languages: vec!["en".to_owned()],
                ..Offer::default()
            }],
            hostname: "studio".to_owned(),
            addresses: vec!["192.168.1.20".to_owned()],
            tags: vec!["gpu".to_owned()],
            privacy: Privacy::Any,
            draining: false,
        }
    }
}

/// A request was sent to a host; or it was, and is sent to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Routed {
    /// The capability that was asked for.
    pub capability: String,
    /// The host that is asked; empty: anyone of the queue group.
    pub host: String,
    /// Which of its engines; empty: the only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine: String,
    /// Why it.
    pub reason: String,
    /// The turn that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// Why the try before failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Message for Routed {
    const SCHEMA: &'static str = "node.routed/1";

    fn example() -> Self {
        Self {
            capability: "stt".to_owned(),
            host: "studio".to_owned(),
            engine: "whisper".to_owned(),
            reason: "lan, warm whisper-tiny.en, 0 of 2 busy".to_owned(),
            turn: Some("01KB3Z7DC1V5W2J0Q8H6F4D2B0".to_owned()),
            attempt: 2,
            after: Some("nobody offers stt.request.n.den".to_owned()),
        }
    }
}

/// Tells a host to take no new work, to finish what runs within its node.drain_timeout_ms, and to end; as SIGTERM does.
/// Only ever by `node.drain.n.<node>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// Who wants it, for the log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

impl Message for Drain {
    const SCHEMA: &'static str = "node.drain/1";

    fn example() -> Self {
        Self { by: "sidetone drain".to_owned() }
    }
}

impl Ask for Drain {
    const VERB: Verb = Verb::new(Capability::Node, "drain");
    const ABOUT: &'static str = "a host takes no new work, finishes what runs, and ends";
    const REPLIES: Replies = Replies::One;
    type Reply = Draining;
}

/// A host begins to drain, or does so already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Draining {
    /// What it still works on.
    pub offers: Vec<Offer>,
    /// What is not finished then is cut off.
    pub timeout_ms: u64,
}

impl Message for Draining {
    const SCHEMA: &'static str = "node.draining/1";

    fn example() -> Self {
        Self { offers: NodeInfo::example().offers, timeout_ms: 10_000 }
    }
}

/// Everything that sounds or acts stops, everywhere, on `control.stop`. An empty body will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stop {
    /// Who wants it, for the log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// What tells one from another, so that whoever has told it knows its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
}

impl Message for Stop {
    const SCHEMA: &'static str = "control.stop/1";

    fn example() -> Self {
        Self { by: "footswitch".to_owned(), id: String::new() }
    }
}
