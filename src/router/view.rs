//! Who is there and what they offer, kept so that 1,000 hosts are sifted in microseconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::host::Host;
use super::index::Index;

/// Who is there and what they offer.
///
/// A report that only brings new loads costs next to nothing; any other the indexing of one host.
#[derive(Debug, Clone, Default)]
pub struct View {
    hosts: BTreeMap<String, Arc<Host>>,
    /// By capability.
    indexes: HashMap<String, Index>,
    /// Numbers reports.
    clock: u64,
    departures: u64,
}

impl View {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many hosts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values().map(Arc::as_ref)
    }

    /// A host by its name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.get(name).map(Arc::as_ref)
    }

    /// Takes in a host's report: it has come, has changed, or is still there.
    pub fn put(&mut self, host: Host) {
        self.clock += 1;
        let (host, report) = (Arc::new(host), self.clock);
        let old = self.hosts.insert(host.name.clone(), Arc::clone(&host));
        if let Some(old) = old.filter(|old| !old.has_shape_of(&host)) {
            let gone = old.distinct().filter(|(_, offer)| host.offer(&offer.capability, &offer.name).is_none());
            for (_, offer) in gone {
                self.withdraw(&old.name, &offer.capability, &offer.name);
            }
        }
        for (nth, offer) in host.distinct() {
            if !self.indexes.contains_key(&offer.capability) {
                self.indexes.insert(offer.capability.clone(), Index::default());
            }
            if let Some(index) = self.indexes.get_mut(&offer.capability) {
                index.put(&host, nth, report);
            }
        }
    }

    /// A host has left.
    pub fn remove(&mut self, name: &str) {
        let Some(old) = self.hosts.remove(name) else { return };
        for (_, offer) in old.distinct() {
            self.withdraw(name, &offer.capability, &offer.name);
        }
        self.departures += 1;
    }

    /// An offer is there no more.
    fn withdraw(&mut self, host: &str, capability: &str, name: &str) {
        let Some(index) = self.indexes.get_mut(capability) else { return };
        index.remove(host, name);
        if index.is_empty() {
            self.indexes.remove(capability);
        }
        self.departures += 1;
    }

    /// Whether any host offers a capability.
    #[must_use]
    pub fn offers(&self, capability: &str) -> bool {
        self.indexes.contains_key(capability)
    }

    pub(super) fn index_of(&self, capability: &str) -> Option<&Index> {
        self.indexes.get(capability)
    }

    pub(super) fn capabilities(&self) -> impl Iterator<Item = &str> {
        self.indexes.keys().map(String::as_str)
    }

    /// How many hosts and offers have left so far.
    pub(super) fn departures(&self) -> u64 {
        self.departures
    }
}

impl FromIterator<Host> for View {
    fn from_iter<I: IntoIterator<Item = Host>>(hosts: I) -> Self {
        let mut view = Self::new();
        hosts.into_iter().for_each(|host| view.put(host));
        view
    }
}
