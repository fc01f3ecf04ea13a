//! Hosts that are gone without a word, until one of those left has published it.
//!
//! One host publishes it for all: the first by name of those left. It may be gone as well, and its own entry not expired
//! yet. So every host remembers departures for a while, and the one that is the first then publishes them: once more, if need be.

use std::time::Duration;

use crate::bus::message::node::NodeInfo;

/// How long a departure is remembered, once it is sure: longer than the entry stands of the host that should have published it (10 s).
const REMEMBERED: Duration = Duration::from_secs(15);
/// A list that is read anew lacks those who are yet to put themselves in again, such as after a restart of the server.
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

    /// What this host is to publish, if it is the one that `tells`.
    pub(super) fn due(&mut self, tells: bool, now: Duration) -> Vec<NodeInfo> {
        self.0.retain(|(sure, _)| now < *sure + REMEMBERED);
        let told = self.0.extract_if(.., |(sure, _)| tells && *sure <= now);
        told.map(|(_, info)| info).collect()
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

    fn told(departures: &mut Departures, tells: bool, now: Duration) -> Vec<String> {
        departures.due(tells, now).into_iter().map(|info| info.node).collect()
    }

    #[test]
    fn a_loss_is_told_by_whoever_becomes_the_first_in_time() {
        let mut departures = Departures::default();
        departures.note(lost("a"), true, s(1));
        assert!(told(&mut departures, false, s(1)).is_empty(), "the first by name is gone as well");
        departures.note(lost("b"), true, s(4));
        assert_eq!(told(&mut departures, true, s(4)), ["a", "b"]);
        assert!(told(&mut departures, true, s(4)).is_empty(), "once");
        departures.note(lost("a"), true, s(20));
        assert!(told(&mut departures, true, s(36)).is_empty(), "whoever was the first has told it long ago");
    }

    #[test]
    fn who_is_only_late_is_not_told() {
        let mut departures = Departures::default();
        departures.note(lost("a"), false, s(0));
        departures.note(lost("b"), false, s(0));
        assert!(told(&mut departures, true, s(9)).is_empty());
        departures.forget("b");
        assert_eq!(told(&mut departures, true, s(11)), ["a"]);
    }
}
