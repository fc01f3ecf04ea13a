//! Networks between hosts of one machine.

use std::net::Ipv4Addr;
use std::process::Command;

/// What is set apart for benchmarks between networks (RFC 2544): 198.18.0.0/15, from which each pair takes four addresses.
const BLOCK: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Pairs of one run at most; with 1,024 runs they fill the block.
const PAIRS: u8 = 32;

/// Runs `ip` or `tc`; whether it went well.
pub fn ip(line: &str) -> bool {
    let mut words = line.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().is_ok_and(|done| done.status.success())
}

/// A network namespace that a veth pair joins to this one. Taken down when it is dropped.
pub struct Network {
    name: String,
    link: String,
    /// The address of this end.
    address: String,
}

impl Network {
    /// Makes one; `None` where that is not permitted. `n` tells those of one run apart.
    pub fn make(n: u8) -> Option<Self> {
        let id = std::process::id() % 10_000;
        let (name, link, peer) = (format!("sidetone{id}-{n}"), format!("st{id}a{n}"), format!("st{id}b{n}"));
        assert!(n < PAIRS, "network {n}: a run has {PAIRS} at most");
        let pair = id % 1_024 * u32::from(PAIRS) + u32::from(n);
        let [address, far] = [1, 2].map(|end| Ipv4Addr::from(BLOCK + pair * 4 + end).to_string());
        if !ip(&format!("ip netns add {name}")) {
            super::need(false, "the right to make network namespaces (root has it)");
            return None;
        }
        let network = Self { name, link, address };
        let Self { name, link, address } = &network;
        for line in [
            format!("ip link add {link} type veth peer name {peer}"),
            format!("ip link set {peer} netns {name}"),
            format!("ip addr add {address}/30 dev {link}"),
            format!("ip link set {link} up"),
            format!("ip -n {name} addr add {far}/30 dev {peer}"),
            format!("ip -n {name} link set {peer} up"),
            format!("ip -n {name} link set lo up"),
        ] {
            if !ip(&line) {
                super::need(false, &format!("the right to `{line}` (root has it)"));
                return None;
            }
        }
        Some(network)
    }

    /// The address of this end.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The words that run a program in it.
    pub fn wrapper(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// This end of the pair.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        assert!(ip(&format!("ip link set {} down", self.link)));
    }

    /// All passes again.
    pub fn join(&self) {
        assert!(ip(&format!("ip link set {} up", self.link)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("ip link del {}", self.link));
        ip(&format!("ip netns del {}", self.name));
    }
}
