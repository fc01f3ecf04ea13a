//! The announcement in the LAN, by mDNS.

use std::time::Duration;

use mdns_sd::{ServiceDaemon, ServiceInfo};

/// How long the goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// Announced for as long as this lives.
pub struct Announced {
    daemon: ServiceDaemon,
    names: Vec<String>,
}

/// The name under which a host is found.
#[must_use]
pub fn name(node: &str) -> String {
    format!("Sidetone {node}")
}

/// The name of a host in the LAN, before `.local`.
#[must_use]
pub fn host(node: &str) -> String {
    node.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

impl Announced {
    /// Announces OSC at `osc_port`, and OSCQuery if it has a port.
    ///
    /// # Errors
    /// The problem with the network.
    pub fn start(node: &str, osc_port: u16, query_port: Option<u16>) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let host = host(node);
        let mut announced = Self { daemon, names: Vec::new() };
        let services = [("_osc._udp.local.", Some(osc_port)), ("_oscjson._tcp.local.", query_port)];
        for (kind, port) in services {
            let Some(port) = port else { continue };
            let none: &[(&str, &str)] = &[];
            let service =
                ServiceInfo::new(kind, &name(node), &format!("{host}.local."), "", port, none)?.enable_addr_auto();
            announced.names.push(service.get_fullname().to_owned());
            announced.daemon.register(service)?;
        }
        Ok(announced)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // So that surfaces do not show a host that is gone. Both are awaited, by a thread that may wait: the daemon forgets what it
        // has not said.
        let (daemon, names) = (self.daemon.clone(), std::mem::take(&mut self.names));
        let goodbye = move || {
            let done: Vec<_> = names.iter().filter_map(|name| daemon.unregister(name).ok()).collect();
            for done in done {
                let _ = done.recv_timeout(GOODBYE_TIMEOUT);
            }
            let _ = daemon.shutdown();
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(goodbye)),
            Err(_) => goodbye(),
        }
    }
}
