//! The supervisors of JACK clients that live as long as a role does: what each does with its client.
//! [`alive`](super::jack::alive) is what they have in common.

mod graph;
mod voice;

pub use graph::{GraphEvent, GraphReport, GraphSupervisor, Notify};
pub use voice::{AudioEvent, JackStatus, JackSupervisor};
