//! The open turn as its listener has it: ids, the trace, and the work under way. What is decided about it is in
//! [`crate::turn`].

use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::answer::Part;
use crate::telemetry::trace::Trace;

/// The open turn. Dropping it aborts its work.
pub struct OpenTurn {
    /// Its number in the talk.
    pub number: u64,
    /// Its id on the bus.
    pub id: Ulid,
    /// Its session.
    pub session: String,
    /// The span of its log lines and requests.
    pub trace: Trace,
    /// Parts of the utterance that are being transcribed while the rest is said.
    pub parts: Vec<Part>,
    /// The transcription, or the answer and its speech.
    pub work: Option<AbortOnDropHandle<()>>,
}

impl OpenTurn {
    /// One that begins now.
    pub fn begin(number: u64, session: String) -> Self {
        let id = Ulid::generate();
        let trace = Trace::begin(id, &session);
        Self { number, id, session, trace, parts: Vec::new(), work: None }
    }

    /// Does `work` as part of the turn, which aborts it when it ends. What it did before is broken off.
    pub fn start(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.work = Some(self.spawn(work));
    }

    /// Spawns `work` within the turn's trace; dropping the handle aborts it.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(tokio::spawn(self.trace.run(work)))
    }
}
