//! What `sidetone watch` shows.

use crate::bus::message::fault::Fault;
use crate::bus::message::node::{NodeInfo, Routed};
use crate::bus::message::session::SessionEvent;
use crate::bus::message::voice::State;

/// Something to show.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// Of a session.
    Session(SessionEvent),
    /// A listener's state.
    State(State),
    /// A host came.
    Up(NodeInfo),
    /// A host goes.
    Down(NodeInfo),
    /// A host offers more or less than before.
    Changed(NodeInfo),
    /// A host is there again whose entry had been lost.
    Back(NodeInfo),
    /// A host is gone without a word.
    Gone(NodeInfo),
    /// Which host is asked, and why.
    Routed {
        /// The host that asks.
        node: String,
        /// The host that is asked.
        routed: Routed,
    },
    /// Something went wrong that no caller hears of.
    Fault {
        /// The host that says so.
        node: String,
        /// What.
        fault: Fault,
    },
    /// A message of a later version, or of another program.
    Unknown {
        /// Where it came.
        subject: String,
        /// Why it can't be read.
        why: String,
    },
    /// The server can't be reached.
    Lost,
    /// From now on nothing is missed.
    Watching {
        /// Which.
        server: String,
    },
}
