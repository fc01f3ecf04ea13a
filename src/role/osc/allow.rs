//! Who may send.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// Words for whole kinds of networks.
const WORDS: [&str; 3] = ["loopback", "private", "any"];

/// Networks from which packets and requests are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    words: Vec<&'static str>,
    networks: Vec<IpNet>,
}

impl Allow {
    /// From the setting: `loopback`, `private`, `any`, addresses and networks such as `192.168.7.0/24`.
    ///
    /// # Errors
    /// The entry that is none of these.
    pub fn new(entries: &[String]) -> Result<Self, String> {
        let mut allow = Self { words: Vec::new(), networks: Vec::new() };
        for entry in entries {
            if let Some(word) = WORDS.into_iter().find(|word| word == entry) {
                allow.words.push(word);
            } else if let Ok(network) = entry.parse::<IpNet>() {
                allow.networks.push(network.trunc());
            } else if let Ok(address) = entry.parse::<IpAddr>() {
                allow.networks.push(address.into());
            } else {
                return Err(format!(
                    "osc.allow has {entry:?}: give \"loopback\", \"private\", \"any\", an address such as \"192.168.7.20\", or a network such as \"192.168.7.0/24\""
                ));
            }
        }
        Ok(allow)
    }

    /// Whether packets from there are taken.
    #[must_use]
    pub fn takes(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        let word = |word: &&str| match *word {
            "loopback" => from.is_loopback(),
            "private" => is_private(from),
            _ => true,
        };
        self.words.iter().any(|of| word(of)) || self.networks.iter().any(|network| network.contains(&from))
    }
}

/// Networks that the rest of the world does not reach: RFC 1918, link-local, unique local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => Ipv6Addr::is_unique_local(&address) || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(entries: &[&str], from: &str) -> bool {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        Allow::new(&entries).unwrap().takes(from.parse().unwrap())
    }

    #[test]
    fn the_default_takes_the_own_network_alone() {
        let default = ["loopback", "private"];
        for from in [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "172.16.0.9",
            "192.168.7.7",
            "169.254.1.1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(takes(&default, from), "{from}");
        }
        for from in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!takes(&default, from), "{from}");
        }
        assert!(takes(&["any"], "8.8.8.8"));
        assert!(!takes(&[], "127.0.0.1"));
    }

    #[test]
    fn addresses_and_networks() {
        assert!(takes(&["192.168.7.20"], "192.168.7.20") && !takes(&["192.168.7.20"], "192.168.7.21"));
        assert!(takes(&["192.168.7.9/24"], "192.168.7.200") && !takes(&["192.168.7.0/24"], "192.168.8.1"));
        assert!(takes(&["2001:db8::/32"], "2001:db8::5"));
        assert!(Allow::new(&["studio".to_owned()]).unwrap_err().contains("osc.allow has \"studio\""));
    }
}
