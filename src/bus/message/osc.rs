//! OSC: what is sent, from any host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
use crate::bus::subject::{Capability, Verb};

/// An OSC message to a target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Out {
    /// The target's name in `[osc.targets]` of a host.
    pub target: String,
    /// The address, such as `/scene/3`.
    pub address: String,
    /// The arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg>,
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Arg {
    /// `T` or `F`.
    Bool(bool),
    /// `i`.
    Int(i32),
    /// `f`.
    Float(f32),
    /// `s`.
    Text(String),
}

impl Message for Out {
    const SCHEMA: &'static str = "osc.out/1";

    fn example() -> Self {
        let args = vec![Arg::Int(3), Arg::Float(0.5), Arg::Text("red".to_owned())];
        Self { target: "lights".to_owned(), address: "/scene".to_owned(), args }
    }
}

impl Ask for Out {
    const VERB: Verb = Verb::new(Capability::Osc, "out");
    const ABOUT: &'static str = "sends OSC to a target of a host";
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
    const SCHEMA: &'static str = "osc.sent/1";

    fn example() -> Self {
        Self { node: "stage".to_owned() }
    }
}
