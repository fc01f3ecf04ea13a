//! Role `audio`: the JACK graph, and links to other hosts.

use serde::{Deserialize, Serialize};

use super::error::ConfigError;

/// Links of one host; each is a program that runs.
pub const LINKS_MAX: usize = 16;

/// Role `audio`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioConfig {
    /// What is to be connected, as its ports come and go.
    pub connect: Vec<ConnectConfig>,
    /// What is not to be connected; what `connect` wants is left alone.
    pub disconnect: Vec<DisconnectConfig>,
    /// Audio from and to other hosts, by JackTrip.
    pub link: Vec<LinkConfig>,
    /// The UDP port where other hosts measure the way to this one; 0: a free one.
    pub probe_port: u16,
}

/// Ports that are to be connected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectConfig {
    /// What gives: `client:port` with `*`, `?` and `[…]`, `client` for all of its ports, or `/regex/`.
    pub from: String,
    /// What takes, written in the same way.
    pub to: String,
    /// Only ports of this type; absent: of any, each to its own.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PortType>,
    /// `auto`, `pairs`, `all`, or pairs such as `1-2 2-1`; absent: `auto`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub channels: String,
    /// Whether it is put right again when somebody parts it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// Ports that are not to be connected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisconnectConfig {
    /// What gives, as in [`ConnectConfig`].
    pub from: String,
    /// What takes.
    pub to: String,
    /// Only ports of this type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PortType>,
    /// Whether a connection that somebody makes by hand is parted as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortType {
    /// Samples.
    Audio,
    /// MIDI.
    Midi,
}

/// Audio from and to another host, by JackTrip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// Its name, and that of its JACK client.
    pub name: String,
    /// Which end this host is.
    pub mode: LinkMode,
    /// The other side: a host of Sidetone by its name, or an address. Who calls needs it.
    #[serde(default)]
    pub peer: String,
    /// The port where the end that waits listens, in UDP; a hub in TCP as well.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The port that the end that calls sends from; 0: the same.
    #[serde(default)]
    pub bind_port: u16,
    /// Channels each way.
    #[serde(default = "default_channels")]
    pub channels: u16,
    /// Packets that are buffered against jitter; each is a period long.
    #[serde(default = "default_queue")]
    pub queue: u16,
    /// How often each packet is sent, against loss.
    #[serde(default = "default_redundancy")]
    pub redundancy: u16,
    /// Bits of a sample: 8, 16, 24, 32.
    #[serde(default = "default_bits")]
    pub bits: u16,
    /// The first of the UDP ports of a hub, one a peer.
    #[serde(default = "default_hub_base_port")]
    pub hub_base_port: u16,
}

/// Which end of a link a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkMode {
    /// Waits for one peer.
    P2pServer,
    /// Calls one peer.
    P2pClient,
    /// Waits for any number of peers; each is a JACK client of its own.
    HubServer,
    /// Calls a hub.
    HubClient,
}

impl LinkMode {
    /// Whether it calls somebody.
    #[must_use]
    pub const fn calls(self) -> bool {
        matches!(self, Self::P2pClient | Self::HubClient)
    }
}

const fn default_port() -> u16 {
    4464
}

const fn default_channels() -> u16 {
    2
}

const fn default_queue() -> u16 {
    4
}

const fn default_redundancy() -> u16 {
    1
}

const fn default_bits() -> u16 {
    16
}

const fn default_hub_base_port() -> u16 {
    61_002
}

impl LinkConfig {
    /// A link with the usual values.
    #[must_use]
    pub fn new(name: &str, mode: LinkMode, peer: &str) -> Self {
        Self {
            name: name.to_owned(),
            mode,
            peer: peer.to_owned(),
            port: default_port(),
            bind_port: 0,
            channels: default_channels(),
            queue: default_queue(),
            redundancy: default_redundancy(),
            bits: default_bits(),
            hub_base_port: default_hub_base_port(),
        }
    }

    /// The UDP port that it takes on this host.
    #[must_use]
    pub const fn own_port(&self) -> u16 {
        if self.mode.calls() && self.bind_port != 0 { self.bind_port } else { self.port }
    }

    /// Whether it makes sense by itself.
    ///
    /// # Errors
    /// The field, what was given, and what would do.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        let wrong = |field, given: &dyn std::fmt::Debug, why| Err((field, format!("{given:?}"), why));
        let is_name = |c: char| !c.is_control() && !matches!(c, ':' | '*' | '?' | '[' | '/' | ' ');
        if self.name.is_empty() || self.name.len() > 40 || !self.name.chars().all(is_name) {
            return wrong(
                "name",
                &self.name,
                "it names a JACK client: 1 to 40 bytes without spaces, ':', '/', '*', '?', '['",
            );
        }
        if self.mode.calls() && self.peer.trim().is_empty() {
            return wrong(
                "peer",
                &self.peer,
                "who calls needs a host's name or an address; who waits is \"p2p-server\" or \"hub-server\"",
            );
        }
        // It becomes an argument of JackTrip.
        if self.peer.starts_with('-') || self.peer.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return wrong("peer", &self.peer, "a host's name or an address has no spaces and does not begin with '-'");
        }
        if self.port == 0 {
            return wrong("port", &self.port, "1 to 65535; 4464 is JackTrip's own");
        }
        if !(1..=64).contains(&self.channels) {
            return wrong("channels", &self.channels, "1 to 64");
        }
        if !(2..=250).contains(&self.queue) {
            return wrong("queue", &self.queue, "2 to 250 packets; 4 is usual in a LAN");
        }
        if !(1..=10).contains(&self.redundancy) {
            return wrong("redundancy", &self.redundancy, "1 to 10; 1 sends each packet once");
        }
        if !matches!(self.bits, 8 | 16 | 24 | 32) {
            return wrong("bits", &self.bits, "8, 16, 24 or 32");
        }
        Ok(())
    }
}

impl AudioConfig {
    /// Checks what the types alone don't.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let value = |key: String, given: String, why: &str| Err(ConfigError::Value { key, given, why: why.to_owned() });
        if self.link.len() > LINKS_MAX {
            let given = format!("{} links", self.link.len());
            return value("audio.link".to_owned(), given, "a host can have 16; a hub has any number of peers in one");
        }
        for (at, link) in self.link.iter().enumerate() {
            if let Err((field, given, why)) = link.check() {
                return value(format!("audio.link.{}.{field}", link.name), given, why);
            }
            for other in self.link.iter().take(at) {
                if other.name == link.name {
                    return value(
                        "audio.link.name".to_owned(),
                        format!("{:?}", link.name),
                        "two links can't share a name",
                    );
                }
                if other.own_port() == link.own_port() {
                    let why = format!("link {} takes it already; choose another port or bind_port", other.name);
                    return value(format!("audio.link.{}.port", link.name), link.own_port().to_string(), &why);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(&[file.path().to_owned()], &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_link_needs_a_name_a_mode_and_whom_to_call() {
        let config = load("[[audio.link]]\nname = \"stage\"\nmode = \"p2p-server\"\n").unwrap();
        assert_eq!((config.audio.link[0].port, config.audio.link[0].queue), (4_464, 4));
        for (text, says) in [
            ("name = \"stage\"\nmode = \"p2p-client\"", "audio.link.stage.peer"),
            ("name = \"stage\"\nmode = \"p2p\"", "p2p-server"),
            ("name = \"sta:ge\"\nmode = \"p2p-server\"", "JACK client"),
            ("name = \"\"\nmode = \"p2p-server\"", "JACK client"),
            ("name = \"s\"\nmode = \"p2p-client\"\npeer = \"--help\"", "begin with '-'"),
            ("name = \"s\"\nmode = \"p2p-client\"\npeer = \"a b\"", "no spaces"),
            ("name = \"s\"\nmode = \"p2p-server\"\nport = 0", "1 to 65535"),
            ("name = \"s\"\nmode = \"p2p-server\"\nport = 70000", "70000"),
            ("name = \"s\"\nmode = \"p2p-server\"\nchannels = 0", "1 to 64"),
            ("name = \"s\"\nmode = \"p2p-server\"\nqueue = 1", "2 to 250"),
            ("name = \"s\"\nmode = \"p2p-server\"\nredundancy = 0", "1 to 10"),
            ("name = \"s\"\nmode = \"p2p-server\"\nbits = 17", "8, 16, 24"),
            ("name = \"s\"\nmode = \"p2p-server\"\nbuffer = 17", "buffer"),
        ] {
            let error = load(&format!("[[audio.link]]\n{text}\n")).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn two_links_share_neither_name_nor_port() {
        let link = |name: &str, port: u16| {
            format!("[[audio.link]]\nname = \"{name}\"\nmode = \"p2p-server\"\nport = {port}\n")
        };
        assert!(load(&(link("a", 1) + &link("a", 2))).unwrap_err().contains("share a name"));
        assert!(load(&(link("a", 1) + &link("b", 1))).unwrap_err().contains("link a takes it"));
        let many: String = (1..=17).map(|n| link(&format!("l{n}"), n)).collect();
        assert!(load(&many).unwrap_err().contains("a host can have 16"));
    }

    #[test]
    fn a_rule_has_two_sides() {
        let config =
            load("[[audio.connect]]\nfrom = \"mic\"\nto = \"main\"\ntype = \"audio\"\npinned = true\n").unwrap();
        assert!(config.audio.connect[0].pinned);
        for text in
            ["[[audio.connect]]\nfrom = \"mic\"\n", "[[audio.connect]]\nfrom = \"m\"\nto = \"n\"\ntype = \"cv\"\n"]
        {
            load(text).unwrap_err();
        }
    }
}
