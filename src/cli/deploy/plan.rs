//! `hosts.toml`: which servers, hosts and clients there are. Read, and checked to the last name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::bus::contract::rights::{Duties, Rights, verbs_of};
use crate::bus::contract::table::VERBS;
use crate::bus::subject::Capability;
use crate::role;

/// A mistake in a list of hosts.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It can't be read.
    #[error("can't read the list of hosts {file}: {why}; deploy/nats has commented examples of one")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// It has a mistake.
    #[error("in {file}: {why}")]
    Wrong {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would do.
        why: String,
    },
}

/// The servers, hosts and clients of an installation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    #[serde(default)]
    pub servers: Vec<ServerPlan>,
    #[serde(default)]
    pub hosts: Vec<HostPlan>,
    #[serde(default)]
    pub clients: Vec<ClientPlan>,
    /// Certificates of one's own.
    pub tls: Option<TlsPlan>,
    #[serde(default)]
    pub limits: LimitsPlan,
}

/// A nats-server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerPlan {
    pub name: String,
    /// Where others reach it; the first is what hosts are told, all are in its certificate.
    pub addresses: Vec<String>,
    #[serde(default = "client_port")]
    pub port: u16,
    #[serde(default = "cluster_port")]
    pub cluster_port: u16,
    #[serde(default = "leaf_port")]
    pub leaf_port: u16,
    /// Where its files are on its machine.
    #[serde(default = "server_folder")]
    pub folder: String,
    /// Where it keeps streams and buckets.
    #[serde(default = "server_store")]
    pub store: String,
}

/// A host of Sidetone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostPlan {
    pub name: String,
    /// What it does; a host without roles only asks.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What it asks beyond what its roles ask.
    #[serde(default)]
    pub asks: Vec<String>,
    /// Whether it has a nats-server of its own, that is a leaf of the others.
    #[serde(default)]
    pub leaf: bool,
    /// The port of that, on loopback.
    #[serde(default = "client_port")]
    pub port: u16,
    /// The public key, if the host has made its own.
    pub nkey: Option<String>,
    /// Where its files are on its machine.
    #[serde(default = "host_folder")]
    pub folder: String,
}

/// A person or program that uses the bus and is no host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientPlan {
    pub name: String,
    pub rights: ClientRights,
    /// What a caller asks; all by default.
    pub asks: Option<Vec<String>>,
    pub nkey: Option<String>,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientRights {
    /// Everything.
    Admin,
    /// Hear and see everything that is told.
    Observer,
    /// Ask hosts.
    Caller,
}

/// Certificates of one's own, as paths on the machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsPlan {
    /// Who vouches for the servers; empty: whom the systems trust, which will not do for a cluster.
    #[serde(default)]
    pub ca: String,
    /// A server's certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// What the servers may use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsPlan {
    pub max_payload: String,
    pub max_file_store: String,
    pub max_memory_store: String,
}

impl Default for LimitsPlan {
    fn default() -> Self {
        let text = str::to_owned;
        Self { max_payload: text("8MB"), max_file_store: text("10GB"), max_memory_store: text("64MB") }
    }
}

fn client_port() -> u16 {
    4222
}

fn cluster_port() -> u16 {
    6222
}

fn leaf_port() -> u16 {
    7422
}

fn server_folder() -> String {
    "/etc/nats".to_owned()
}

fn server_store() -> String {
    "/var/lib/nats".to_owned()
}

fn host_folder() -> String {
    "/etc/sidetone".to_owned()
}

impl Plan {
    /// Reads and checks a list of hosts.
    pub(super) fn read(file: &Path) -> Result<Self, PlanError> {
        let text = std::fs::read_to_string(file).map_err(|why| PlanError::Read { file: file.to_owned(), why })?;
        Self::parse(&text).map_err(|why| PlanError::Wrong { file: file.to_owned(), why })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), String> {
        match self.servers.len() {
            0 => return Err("there is no server: add a table [[servers]] with name and addresses".to_owned()),
            1 | 3 | 5 => {}
            other => {
                return Err(format!(
                    "there are {other} servers: one, or 3 or 5 that form a cluster, since a majority must be there"
                ));
            }
        }
        if self.hosts.is_empty() {
            return Err("there is no host: add a table [[hosts]] with name and roles".to_owned());
        }
        let users = self
            .hosts
            .iter()
            .map(|host| ("host", &host.name))
            .chain(self.clients.iter().map(|client| ("client", &client.name)));
        distinct(users)?;
        distinct(self.servers.iter().map(|server| ("server", &server.name)))?;
        for server in &self.servers {
            server.check()?;
        }
        for host in &self.hosts {
            host.duties().map_err(|why| format!("host {:?}: {why}", host.name))?;
            absolute(&format!("host {:?}: folder", host.name), &host.folder)?;
        }
        for client in &self.clients {
            client.asked().map_err(|why| format!("client {:?}: {why}", client.name))?;
        }
        let keys: Vec<_> = self
            .hosts
            .iter()
            .map(|host| (&host.name, host.nkey.as_ref()))
            .chain(self.clients.iter().map(|client| (&client.name, client.nkey.as_ref())))
            .collect();
        let mut seen = BTreeSet::new();
        for (name, key) in keys.iter().filter_map(|(name, key)| Some((name, (*key)?))) {
            if key.starts_with("SU") {
                // The key itself stays out of the message.
                return Err(format!(
                    "{name:?}: nkey is a secret seed: give the public key, which begins with U, and renew it"
                ));
            }
            if !key.starts_with('U') || nkeys::KeyPair::from_public_key(key).is_err() {
                return Err(format!(
                    "{name:?}: nkey {key:?} is no public key of a user: it begins with U and has 56 characters"
                ));
            }
            if !seen.insert(key) {
                return Err(format!("{name:?}: another user has the nkey {key}: each needs its own"));
            }
        }
        if let Some(tls) = &self.tls {
            absolute("tls.cert", &tls.cert)?;
            absolute("tls.key", &tls.key)?;
            if !tls.ca.is_empty() {
                absolute("tls.ca", &tls.ca)?;
            } else if self.servers.len() > 1 {
                return Err("tls.ca is empty, so the servers of the cluster would take whoever has a certificate of any public \
                            authority for one of them: give the file of the authority that vouches for these servers alone, or leave out \
                            [tls] and one is made"
                    .to_owned());
            }
        }
        self.limits.check()
    }

    /// Whether certificates are made here.
    pub(super) fn makes_certificates(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether a host has a server of its own.
    pub(super) fn has_leaves(&self) -> bool {
        self.hosts.iter().any(|host| host.leaf)
    }
}

impl ServerPlan {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if self.addresses.is_empty() {
            return Err(format!(
                "server {name:?} has no addresses: give the names or addresses by which hosts reach it"
            ));
        }
        let fits = |address: &String| {
            let is_name = address.len() <= 253
                && !address.starts_with(['-', '.'])
                && address.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
            !address.is_empty() && (is_name || address.parse::<std::net::Ipv6Addr>().is_ok())
        };
        if let Some(address) = self.addresses.iter().find(|address| !fits(address)) {
            return Err(format!(
                "server {name:?}: {address:?} is no host name and no IP address; ports have keys of their own"
            ));
        }
        absolute(&format!("server {name:?}: folder"), &self.folder)?;
        absolute(&format!("server {name:?}: store"), &self.store)?;
        let ports = BTreeSet::from([self.port, self.cluster_port, self.leaf_port]);
        if ports.len() < 3 || ports.contains(&0) {
            return Err(format!("server {name:?}: port, cluster_port and leaf_port must be three different ports"));
        }
        Ok(())
    }

    /// Where others reach it, as in an address.
    pub(super) fn at(&self, port: u16) -> String {
        let address = self.addresses.first().map_or("", String::as_str);
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    }
}

impl HostPlan {
    /// What it does, as far as its rights go.
    pub(super) fn duties(&self) -> Result<Duties, String> {
        let asks = asked(&self.asks)?;
        // No role gives jobs, only people do: whoever lists what they ask says so.
        let mut duties = Duties { gives: asks.clone(), asks, ..Duties::default() };
        if self.roles.is_empty() {
            if self.asks.is_empty() {
                return Err(
                    "it has no roles and asks nothing: give it roles = [\"voice\"], or asks = [\"agent\"]".to_owned()
                );
            }
            return Ok(duties);
        }
        for row in role::find(&self.roles)? {
            duties.serves.extend(row.serves);
            duties.asks.extend(row.asks);
            duties.sessions = duties.sessions.max(row.sessions);
        }
        Ok(duties)
    }

    /// What its user may do.
    pub(super) fn rights(&self) -> Rights {
        let duties = self.duties().unwrap_or_default();
        if self.roles.is_empty() {
            Rights::of_caller(&self.name, &duties.asks)
        } else {
            Rights::of_host(&self.name, &duties)
        }
    }
}

impl ClientPlan {
    fn asked(&self) -> Result<Vec<crate::bus::subject::Verb>, String> {
        match (&self.asks, self.rights) {
            (Some(asks), ClientRights::Caller) => asked(asks),
            (Some(_), rights) => Err(format!("asks is for rights = \"caller\", and these are {rights:?}")),
            // Whoever may end hosts says so.
            (None, _) => {
                let all = capabilities().into_iter().filter(|capability| *capability != Capability::Node);
                Ok(verbs_of(&all.collect::<Vec<_>>()))
            }
        }
    }

    /// What its user may do.
    pub(super) fn user_rights(&self) -> Rights {
        match self.rights {
            ClientRights::Admin => Rights::of_admin(),
            ClientRights::Observer => Rights::of_observer(&self.name),
            ClientRights::Caller => Rights::of_caller(&self.name, &self.asked().unwrap_or_default()),
        }
    }
}

impl LimitsPlan {
    fn check(&self) -> Result<(), String> {
        for (key, size) in [
            ("max_payload", &self.max_payload),
            ("max_file_store", &self.max_file_store),
            ("max_memory_store", &self.max_memory_store),
        ] {
            let digits = size.trim_end_matches(|c: char| c.is_ascii_uppercase());
            let unit = size.strip_prefix(digits).unwrap_or_default();
            if digits.parse::<u32>().is_err() || !["KB", "MB", "GB", "TB"].contains(&unit) {
                return Err(format!("limits.{key} is {size:?}: give a whole number and a unit, such as \"8MB\""));
            }
        }
        Ok(())
    }
}

fn capabilities() -> Vec<Capability> {
    let all: BTreeSet<_> = VERBS.iter().map(|row| row.verb.capability).collect();
    all.into_iter().collect()
}

fn asked(names: &[String]) -> Result<Vec<crate::bus::subject::Verb>, String> {
    let all = capabilities();
    let mut found = Vec::new();
    for name in names {
        let Some(capability) = all.iter().find(|capability| capability.token() == name) else {
            let list = all.iter().map(|capability| capability.token()).collect::<Vec<_>>().join(", ");
            return Err(format!("nobody can be asked for {name:?}; there are {list}"));
        };
        found.push(*capability);
    }
    Ok(verbs_of(&found))
}

/// Names are subject tokens, folders and parts of configurations.
fn distinct<'a>(names: impl Iterator<Item = (&'static str, &'a String)>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (kind, name) in names {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 63 || name.starts_with(['.', '-']) || !name.bytes().all(fits) {
            return Err(format!(
                "{kind} {name:?}: a name has 1 to 63 letters, digits, '-', '_' and '.', and begins with none of the last"
            ));
        }
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(format!("{kind} {name:?}: the name is there twice; hosts and clients need names of their own"));
        }
    }
    Ok(())
}

fn absolute(what: &str, path: &str) -> Result<(), String> {
    if path.starts_with('/') && !path.contains(['"', '\\', '\n', '$']) {
        return Ok(());
    }
    Err(format!("{what} is {path:?}: give the whole path on that machine, such as \"/etc/nats\""))
}
