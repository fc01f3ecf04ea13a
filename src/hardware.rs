//! What a host has, and where it is in the network.

use std::collections::BTreeSet;
use std::path::Path;

/// A host with at least so much memory has `high_mem`, in KiB (30 GiB: what is left of 32 beside the firmware's share).
const HIGH_MEM_KIB: u64 = 30 << 20;
/// A host with less has `low_power`, in KiB (3.5 GiB: a board with 4).
const LOW_MEM_KIB: u64 = 7 << 19;
/// Signs of graphics processors that engines compute on: NVIDIA's driver, and AMD's compute interface. Their devices may be
/// hidden from a service, and NVIDIA's are made by whoever uses them first.
const GPUS: [&str; 4] = ["/dev/nvidia0", "/proc/driver/nvidia/version", "/dev/kfd", "/sys/class/kfd/kfd"];

/// The tags of this host, sorted: what was found and what the settings add. A tag `-gpu` in the settings takes back what
/// was found.
#[must_use]
pub fn tags(settings: &[String]) -> Vec<String> {
    let memory_kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_kib(&text));
    let has_gpu = GPUS.iter().any(|sign| Path::new(sign).exists());
    merge(found(memory_kib, has_gpu), settings)
}

fn found(memory_kib: Option<u64>, has_gpu: bool) -> BTreeSet<String> {
    let mut tags = BTreeSet::new();
    if has_gpu {
        tags.insert("gpu".to_owned());
    }
    match memory_kib {
        Some(kib) if kib >= HIGH_MEM_KIB => drop(tags.insert("high_mem".to_owned())),
        Some(kib) if kib < LOW_MEM_KIB => drop(tags.insert("low_power".to_owned())),
        _ => {}
    }
    tags
}

fn merge(mut tags: BTreeSet<String>, settings: &[String]) -> Vec<String> {
    for tag in settings {
        match tag.strip_prefix('-') {
            Some(taken) => drop(tags.remove(taken)),
            None => drop(tags.insert(tag.clone())),
        }
    }
    tags.into_iter().collect()
}

fn memory_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The hostname; empty if the system does not tell.
#[must_use]
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// The addresses of this host in the network: no loopback, none that is valid on one link only.
#[must_use]
pub fn addresses() -> Vec<String> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            tracing::warn!(%error, "this host's addresses can't be read (a service needs AF_NETLINK for that), so others are told none");
        });
        Vec::new()
    });
    let here = interfaces.iter().filter(|interface| !interface.is_loopback() && !interface.is_link_local());
    here.map(|interface| interface.ip().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_add_to_what_was_found_and_take_it_back() {
        let settings = ["stage", "-gpu"].map(str::to_owned);
        assert_eq!(merge(found(Some(HIGH_MEM_KIB), true), &settings), ["high_mem", "stage"]);
        assert_eq!(merge(found(memory_kib("MemTotal:  2000000 kB\n"), false), &[]), ["low_power"]);
        assert_eq!(merge(found(None, true), &[]), ["gpu"]);
    }
}
