//! How far what an engine is given travels, judged by where its provider is.

use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

/// How far what an engine is given travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It stays on this host.
    Host,
    /// Another host of the local network does the work.
    Lan,
    /// A provider outside does.
    Outside,
}

impl Reach {
    /// By a provider's address; empty: this host. What is no address is told as such where it is used.
    #[must_use]
    pub fn of_address(url: &str) -> Self {
        if url.is_empty() { Self::Host } else { Url::parse(url).map_or(Self::Outside, |url| Self::of(&url)) }
    }

    /// By a provider's address, of which the host alone counts: private, link-local and shared addresses (RFC 6598, used by
    /// overlay networks) are in the local network, as are names without a dot and under the suffixes kept for local use
    /// (RFC 6762, RFC 8375, and `internal`).
    #[must_use]
    pub fn of(url: &Url) -> Self {
        let Some(host) = url.host_str() else { return Self::Outside };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_local = match bare.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => return Self::Host,
            Ok(IpAddr::V4(ip)) => {
                let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
                ip.is_private() || ip.is_link_local() || shared
            }
            Ok(IpAddr::V6(ip)) => is_local_v6(ip),
            Err(_) => {
                let name = host.trim_end_matches('.').to_ascii_lowercase();
                if name == "localhost" || name.ends_with(".localhost") {
                    return Self::Host;
                }
                let local = [".local", ".lan", ".internal", ".home.arpa"];
                !name.contains('.') || local.iter().any(|suffix| name.ends_with(suffix))
            }
        };
        if is_local { Self::Lan } else { Self::Outside }
    }
}

fn is_local_v6(ip: Ipv6Addr) -> bool {
    ip.is_unique_local() || ip.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_host_in_the_local_network_and_outside() {
        let here = ["", "http://localhost:11434", "http://127.0.0.1:1", "http://[::1]:80", "http://a.localhost"];
        let inside = [
            "http://192.168.1.4",
            "http://10.0.0.1",
            "http://100.100.1.1",
            "http://[fd00::1]",
            "http://studio:11434",
            "http://studio.local",
            "http://a.home.arpa.",
        ];
        let outside = [
            "https://api.openai.com/v1",
            "http://8.8.8.8",
            "http://100.1.1.1",
            "http://[2001:db8::1]",
            "http://lan.example",
            "no address",
        ];
        for (reach, urls) in [(Reach::Host, &here[..]), (Reach::Lan, &inside), (Reach::Outside, &outside)] {
            for url in urls {
                assert_eq!(Reach::of_address(url), reach, "{url}");
            }
        }
    }
}
