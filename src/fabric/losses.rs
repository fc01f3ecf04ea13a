//! Hosts that are gone without a word, until somebody has told of them.
//!
//! One host tells for all: the first by name of those who are left. It may be gone as well, and its own entry not expired
//! yet. So everybody remembers what was lost for a while, and whoever is the first then tells it: once more, if need be.

use std::time::Duration;

use crate::bus::message::node::NodeInfo;

/// How long a loss is remembered, once it is sure: longer than the entry of whoever should have told it stands (10 s).
const REMEMBERED: Duration = Duration::from_secs(15);
/// A list that is read anew lacks those who are yet to put themselves in again, such as after a restart of the server.
const DOUBTED: Duration = Duration::from_secs(10);

/// What was lost, each with the time from when on it is sure.
#[derive(Debug, Default)]
pub(super) struct Losses(Vec<(Duration, NodeInfo)>);

impl Losses {
    /// A host is not there any more. Whether that `is_sure`, or it may only be late.
    pub(super) fn note(&mut self, info: NodeInfo, is_sure: bool, now: Duration) {
        self.forget(&info.node);
        self.0.push((if is_sure { now } else { now + DOUBTED }, info));
    }

    /// A host is there.
    pub(super) fn forget(&mut self, node: &str) {
        self.0.retain(|(_, info)| info.node != node);
    }

    /// What is to be told by this host, if it is the one who `tells`.
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

    fn told(losses: &mut Losses, tells: bool, now: Duration) -> Vec<String> {
        losses.due(tells, now).into_iter().map(|info| info.node).collect()
    }

    #[test]
    fn a_loss_is_told_by_whoever_becomes_the_first_in_time() {
        let mut losses = Losses::default();
        losses.note(lost("a"), true, s(1));
        assert!(told(&mut losses, false, s(1)).is_empty(), "the first by name is gone as well");
        losses.note(lost("b"), true, s(4));
        assert_eq!(told(&mut losses, true, s(4)), ["a", "b"]);
        assert!(told(&mut losses, true, s(4)).is_empty(), "once");
        losses.note(lost("a"), true, s(20));
        assert!(told(&mut losses, true, s(36)).is_empty(), "whoever was the first has told it long ago");
    }

    #[test]
    fn who_is_only_late_is_not_told() {
        let mut losses = Losses::default();
        losses.note(lost("a"), false, s(0));
        losses.note(lost("b"), false, s(0));
        assert!(told(&mut losses, true, s(9)).is_empty());
        losses.forget("b");
        assert_eq!(told(&mut losses, true, s(11)), ["a"]);
    }
}
