//! Hosts: who is there, and what they offer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
use crate::bus::subject::{Capability, Verb};

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
    /// Takes no new work and will end.
    #[serde(default)]
    pub draining: bool,
}

/// What a role of a host offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Offer {
    /// The role.
    pub role: String,
    /// Models, voices or listeners.
    #[serde(default)]
    pub models: Vec<String>,
    /// Who does the work: `whisper`, `sherpa`, `ollama`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engine: String,
    /// How many requests it works on at once.
    #[serde(default)]
    pub slots: usize,
    /// How many it works on now.
    #[serde(default)]
    pub in_flight: usize,
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
            }],
            draining: false,
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
}

impl Message for Stop {
    const SCHEMA: &'static str = "control.stop/1";

    fn example() -> Self {
        Self { by: "footswitch".to_owned() }
    }
}
