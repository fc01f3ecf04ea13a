//! Role `osc`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::midi::clock::Quantum;

/// Role `osc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OscConfig {
    /// Where OSC comes in, by UDP and by TCP.
    pub listen: String,
    /// Multicast groups that are joined, such as `239.0.0.1`.
    pub groups: Vec<String>,
    /// Who may send: `loopback`, `private`, `any`, addresses, networks such as `192.168.7.0/24`.
    pub allow: Vec<String>,
    /// Where surfaces look up what there is (OSCQuery, HTTP and WebSocket); empty: nowhere.
    pub query: String,
    /// Whether surfaces in the LAN find this host by themselves (mDNS).
    pub announce: bool,
    /// The listeners that `/assistant/…` means, the first of them where one is meant: `main`, or `stage/main` of another
    /// host; empty: those of this host, and if it has none, all there are.
    pub listeners: Vec<String>,
    /// Targets that are told of states, transcripts, replies and levels, without asking for it.
    pub subscribers: Vec<String>,
    /// How often a second they are told of a value, at most.
    pub feedback_hz: u32,
    /// How far ahead a time tag may lie.
    pub ahead_ms: u64,
    /// Where OSC goes to, by name: `"192.168.1.20:8000"`, or a table.
    pub targets: BTreeMap<String, OscTarget>,
    /// What is done when a message comes.
    pub on: Vec<OscOn>,
}

impl Default for OscConfig {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:9000".to_owned(),
            groups: Vec::new(),
            allow: vec!["loopback".to_owned(), "private".to_owned()],
            query: "0.0.0.0:9001".to_owned(),
            announce: true,
            listeners: Vec::new(),
            subscribers: Vec::new(),
            feedback_hz: 30,
            ahead_ms: 60_000,
            targets: BTreeMap::new(),
            on: Vec::new(),
        }
    }
}

/// Where OSC goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct OscTarget {
    /// Host and port; a broadcast address or a multicast group will do.
    pub to: String,
    /// How.
    pub by: OscTransport,
    /// How many routers a multicast passes.
    pub ttl: u32,
    /// The address of this host's interface that a multicast leaves by; empty: the system decides.
    pub interface: String,
}

/// The way of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OscTransport {
    /// A datagram each.
    #[default]
    Udp,
    /// A stream with SLIP, as in OSC 1.1.
    Tcp,
    /// A stream with the size in front of each packet, as in OSC 1.0.
    TcpSize,
}

/// The same as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Short(String),
    Long(Long),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    to: String,
    #[serde(default)]
    by: OscTransport,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    ttl: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    interface: String,
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_one(ttl: &u32) -> bool {
    *ttl == 1
}

impl From<Written> for OscTarget {
    fn from(written: Written) -> Self {
        match written {
            Written::Short(to) => Self { to, by: OscTransport::Udp, ttl: 1, interface: String::new() },
            Written::Long(Long { to, by, ttl, interface }) => Self { to, by, ttl, interface },
        }
    }
}

impl From<OscTarget> for Written {
    fn from(OscTarget { to, by, ttl, interface }: OscTarget) -> Self {
        if by == OscTransport::Udp && ttl == 1 && interface.is_empty() {
            Self::Short(to)
        } else {
            Self::Long(Long { to, by, ttl, interface })
        }
    }
}

/// What is done when a message comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OscOn {
    /// Its address, or a pattern of addresses: `/cue/*`, `/mixer/[1-8]/{mute,solo}`.
    pub address: String,
    /// Names of the arguments, as slots. What the wildcards of the address stand for is in the slots `1`, `2`, …, the whole
    /// address in `address`, all arguments in `args`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// When: buttons send 1 when they are pressed and 0 when they are let go.
    #[serde(default)]
    pub when: OscWhen,
    /// Wait for the next `beat` or `bar`; absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Quantum>,
    /// What is done.
    pub r#do: Action,
}

/// Which messages of an address are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OscWhen {
    /// All if OSC or MIDI is sent, else [`OscWhen::Press`].
    #[default]
    Auto,
    /// Those without arguments, and those whose first is neither 0 nor false.
    Press,
    /// Those whose first argument is 0 or false.
    Release,
    /// All of them.
    Any,
}
