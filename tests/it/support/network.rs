//! Networks between hosts of one machine.

use std::process::Command;

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
        // One of the blocks for benchmarks between networks.
        let net = format!("198.18.{}", (id % 64) * 4 + u32::from(n));
        let address = format!("{net}.1");
        if !ip(&format!("ip netns add {name}")) {
            super::need(false, "the right to make network namespaces (root has it)");
            return None;
        }
        let network = Self { name, link, address };
        let Self { name, link, .. } = &network;
        for line in [
            format!("ip link add {link} type veth peer name {peer}"),
            format!("ip link set {peer} netns {name}"),
            format!("ip addr add {net}.1/24 dev {link}"),
            format!("ip link set {link} up"),
            format!("ip -n {name} addr add {net}.2/24 dev {peer}"),
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
