//! MIDI: what is sent, from any host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
use crate::bus::subject::{Capability, Verb};

/// A MIDI message to a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Out {
    /// The port's name; empty: the host's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port: String,
    /// The bytes of it.
    pub raw: Vec<u8>,
}

impl Message for Out {
    const SCHEMA: &'static str = "midi.out/1";

    fn example() -> Self {
        Self { port: "pad".to_owned(), raw: vec![0x90, 60, 100] }
    }
}

impl Ask for Out {
    const VERB: Verb = Verb::new(Capability::Midi, "out");
    const ABOUT: &'static str = "sends MIDI to a port of a host";
    const REPLIES: Replies = Replies::One;
    type Reply = Sent;
}

/// It has left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// The host that has sent it.
    pub node: String,
}

impl Message for Sent {
    const SCHEMA: &'static str = "midi.sent/1";

    fn example() -> Self {
        Self { node: "stage".to_owned() }
    }
}
