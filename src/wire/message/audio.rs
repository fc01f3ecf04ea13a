//! The JACK graph of a host, and its links to other hosts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ask, Message, Replies};
use crate::wire::subject::{Capability, Verb};

/// Asks a host for its graph; only ever by `audio.graph.n.<node>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskGraph {}

impl Message for AskGraph {
    const SCHEMA: &'static str = "audio.graph/1";

    fn example() -> Self {
        Self {}
    }
}

impl Ask for AskGraph {
    const VERB: Verb = Verb::new(Capability::Audio, "graph");
    const ABOUT: &'static str = "the JACK ports of a host, their connections and latencies";
    const REPLIES: Replies = Replies::One;
    type Reply = Graph;
    const COUNTS: bool = false;
}

/// The JACK graph of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Graph {
    /// The host.
    pub node: String,
    /// Why there is none; absent: there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// The server's sample rate, in Hz.
    #[serde(default)]
    pub rate_hz: u32,
    /// Frames of a period.
    #[serde(default)]
    pub period_frames: u32,
    /// Periods that JACK missed since it came up.
    #[serde(default)]
    pub xruns: u64,
    /// The ports.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// The connections.
    #[serde(default)]
    pub connections: Vec<Connection>,
}

/// A JACK port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// `client:port`.
    pub name: String,
    /// `audio`, `midi` or `other`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it gives; else it takes.
    pub gives: bool,
    /// Other names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The name that people should see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretty_name: Option<String>,
    /// Whether it is a device's.
    #[serde(default)]
    pub physical: bool,
    /// How long ago what it carries came in, in frames: the shortest and the longest way.
    #[serde(default)]
    pub capture_frames: [u32; 2],
    /// How long until what it carries goes out, in frames.
    #[serde(default)]
    pub playback_frames: [u32; 2],
}

/// Two ports that are connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// What gives.
    pub from: String,
    /// What takes.
    pub to: String,
}

impl Message for Graph {
    const SCHEMA: &'static str = "audio.graph-state/1";

    fn example() -> Self {
        let capture = Port {
            name: "system:capture_1".to_owned(),
            kind: "audio".to_owned(),
            gives: true,
            physical: true,
            capture_frames: [128, 128],
            ..Port::default()
        };
        let voice = Port { name: "sidetone-main:voice_in".to_owned(), kind: "audio".to_owned(), ..Port::default() };
        let connection = Connection { from: capture.name.clone(), to: voice.name.clone() };
        Self {
            node: "studio".to_owned(),
            down: None,
            rate_hz: 48_000,
            period_frames: 128,
            xruns: 0,
            ports: vec![capture, voice],
            connections: vec![connection],
        }
    }
}

/// Makes connections of a host once; only ever by `audio.apply.n.<node>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Apply {
    /// What to connect, as in `[[audio.connect]]`.
    pub connect: Vec<Rule>,
    /// Whether all other connections are parted.
    #[serde(default)]
    pub exact: bool,
}

/// Ports to connect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// What gives: a port, a client, a pattern or a /regular expression/.
    pub from: String,
    /// What takes.
    pub to: String,
    /// Only ports of this type: `audio` or `midi`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `auto`, `pairs`, `all`, or pairs such as `1-2 2-1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub channels: String,
}

impl Message for Apply {
    const SCHEMA: &'static str = "audio.apply/1";

    fn example() -> Self {
        let rule =
            Rule { from: "system:capture_1".to_owned(), to: "sidetone-main:voice_in".to_owned(), ..Rule::default() };
        Self { connect: vec![rule], exact: false }
    }
}

impl Ask for Apply {
    const VERB: Verb = Verb::new(Capability::Audio, "apply");
    const ABOUT: &'static str = "connects JACK ports of a host, once";
    const REPLIES: Replies = Replies::One;
    type Reply = Applied;
}

/// What has become of a graph that was to be restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The host.
    pub node: String,
    /// What was connected.
    pub made: Vec<Connection>,
    /// What was parted.
    pub parted: Vec<Connection>,
    /// What was there already.
    pub there: Vec<Connection>,
    /// What could not be.
    pub missing: Vec<Missing>,
}

/// A connection that can't be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// What gives, as it was written.
    pub from: String,
    /// What takes.
    pub to: String,
    /// Why not.
    pub why: String,
}

impl Message for Applied {
    const SCHEMA: &'static str = "audio.applied/1";

    fn example() -> Self {
        let missing = Missing {
            from: "synth:out_1".to_owned(),
            to: "system:playback_1".to_owned(),
            why: "client 'synth' is not running".to_owned(),
        };
        let made = Graph::example().connections;
        Self { node: "studio".to_owned(), made, parted: Vec::new(), there: Vec::new(), missing: vec![missing] }
    }
}

/// An order about the links of a host; only ever by `audio.links.n.<node>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum LinkOrder {
    /// Tells of all links.
    List,
    /// Sets one up, or another one of the same name; it is kept until it is removed.
    Set {
        /// What it is.
        link: LinkSpec,
    },
    /// Ends one that was set up by an order.
    Remove {
        /// Its name.
        name: String,
    },
}

/// A link, as in `[[audio.link]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkSpec {
    /// Its name, and that of its JACK client.
    pub name: String,
    /// `p2p-server`, `p2p-client`, `hub-server` or `hub-client`.
    pub mode: String,
    /// The host or address on the other side.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Where the end that waits listens; 0: a free port, which the answer names.
    #[serde(default)]
    pub port: u16,
    /// Where the end that calls sends from; 0: a free port.
    #[serde(default)]
    pub bind_port: u16,
    /// Channels each way; 0: as usual.
    #[serde(default)]
    pub channels: u16,
    /// Packets that are buffered; 0: as usual.
    #[serde(default)]
    pub queue: u16,
    /// How often each packet is sent; 0: as usual.
    #[serde(default)]
    pub redundancy: u16,
    /// Bits of a sample; 0: as usual.
    #[serde(default)]
    pub bits: u16,
}

impl Message for LinkOrder {
    const SCHEMA: &'static str = "audio.link/1";

    fn example() -> Self {
        let link = LinkSpec {
            name: "stage".to_owned(),
            mode: "p2p-server".to_owned(),
            peer: "stage".to_owned(),
            port: 4_464,
            channels: 2,
            ..LinkSpec::default()
        };
        Self::Set { link }
    }
}

impl Ask for LinkOrder {
    const VERB: Verb = Verb::new(Capability::Audio, "links");
    const ABOUT: &'static str = "lists, sets up or removes audio links of a host";
    const REPLIES: Replies = Replies::One;
    type Reply = Links;
}

/// The links of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Links {
    /// Each, by name.
    pub links: Vec<Link>,
}

impl Message for Links {
    const SCHEMA: &'static str = "audio.links/1";

    fn example() -> Self {
        Self { links: vec![Link::example()] }
    }
}

/// How a link is doing; published as `event.<node>.link` whenever its state changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// The host whose end it is.
    pub node: String,
    /// What it is.
    pub spec: LinkSpec,
    /// Where it stands.
    pub state: LinkState,
    /// Why, if it is not up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Since when, in RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// Round trip of the network between the hosts, in µs: the mean of the last 5 s. Only for a peer that is a host of
    /// Sidetone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// How long audio takes there and back beside that, in µs: periods, and packets that are buffered, on both sides if
    /// they are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffered_us: Option<u64>,
    /// The share of packets that did not come within the last 10 s, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// How often JackTrip was started again.
    #[serde(default)]
    pub restarts: u64,
    /// Whether it stands in the settings; else an order has set it up.
    #[serde(default)]
    pub configured: bool,
}

/// Where a link stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// JackTrip starts.
    #[default]
    Starting,
    /// It waits for the other side.
    Waiting,
    /// Audio flows; a hub is there for its peers.
    Up,
    /// The other side is silent.
    Lost,
    /// It can't be as things are; `why` says what to do.
    Refused,
    /// It broke, and is tried again.
    Failed,
}

impl LinkState {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Up => "up",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Message for Link {
    const SCHEMA: &'static str = "audio.link-state/1";

    fn example() -> Self {
        let LinkOrder::Set { link: spec } = LinkOrder::example() else { return Self::default() };
        Self {
            node: "studio".to_owned(),
            spec,
            state: LinkState::Up,
            since: "2026-11-24T10:27:03Z".to_owned(),
            round_trip_us: Some(420),
            buffered_us: Some(26_667),
            loss: Some(0.0),
            ..Self::default()
        }
    }
}
