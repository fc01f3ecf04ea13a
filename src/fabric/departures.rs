//! Hosts that are gone without a word, until one of those left has published it.
//!
//! One host publishes it for all: the first by name of those left. It may be gone as well, and its own entry not expired
//! yet. So every host remembers departures for a while, and the one that is the first then publishes them: once more, if
//! need be.

use std::time::Duration;

use crate::bus::message::node::NodeInfo;

/// How long a departure is remembered, once it is sure: longer than the entry of the host stands that should have published
/// it (10 s).
const REMEMBERED: Duration = Duration::from_secs(15);
/// A list that is read again lacks the hosts that are yet to put themselves in again, such as after a restart of the server.
const DOUBTED: Duration = Duration::from_secs(10);

/// The hosts that are gone, each with the time from when on that is sure.
#[derive(Debug, Default)]
pub(super) struct Departures(Vec<(Duration, NodeInfo)>);

impl Departures {
    /// A host is not there any more. Whether that `is_sure`, or it may only be late.
    pub(super) fn note(&mut self, info: NodeInfo, is_sure: bool, now: Duration) {
        self.forget(&info.node);
        self.0.push((if is_sure { now } else { now + DOUBTED }, info));
    }

    /// A host is there.
    pub(super) fn forget(&mut self, node: &str) {
        self.0.retain(|(_, info)| info.node != node);
    }

    /// What this host is to publish, if it `is_first` by name.
    pub(super) fn due(&mut self, is_first: bool, now: Duration) -> Vec<NodeInfo> {
        self.0.retain(|(sure, _)| now < *sure + REMEMBERED);
        let due = self.0.extract_if(.., |(sure, _)| is_first && *sure <= now);
        due.map(|(_, info)| info).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn lost(node: &str) -> NodeInfo {
        NodeInfo { node: node.to_owned(), ..NodeInfo::default() }
    }

    fn due(departures: &mut Departures, is_first: bool, now: Duration) -> Vec<String> {
        departures.due(is_first, now).into_iter().map(|info| info.node).collect()
    }

    #[test]
    fn a_departure_is_published_by_the_host_that_becomes_the_first_in_time() {
        let mut departures = Departures::default();
        departures.note(lost("a"), true, s(1));
        assert!(due(&mut departures, false, s(1)).is_empty(), "the first by name is gone as well");
        departures.note(lost("b"), true, s(4));
        assert_eq!(due(&mut departures, true, s(4)), ["a", "b"]);
        assert!(due(&mut departures, true, s(4)).is_empty(), "once");
        departures.note(lost("a"), true, s(20));
        assert!(due(&mut departures, true, s(36)).is_empty(), "the host that was the first published it long ago");
    }

    #[test]
    fn a_host_that_is_only_late_is_not_published() {
        let mut departures = Departures::default();
        departures.note(lost("a"), false, s(0));
        departures.note(lost("b"), false, s(0));
        assert!(due(&mut departures, true, s(9)).is_empty());
        departures.forget("b");
        assert_eq!(due(&mut departures, true, s(11)), ["a"]);
    }
}
