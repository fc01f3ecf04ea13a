//! The turn and the session that work belongs to: in the span of its log lines, and in the headers of what it asks of
//! other hosts.
//!
//! ```text
//! voice: span `turn` ──traceparent, Session──▶ agent: span `request` ──▶ llm: span `request`
//!                    └─────────────────────────▶ tts: span `request`
//! ```
//!
//! The trace id is the turn's ULID, so that a turn seen on the bus is found in a tracing backend and the other way round. A
//! host that exports no spans hands its caller's span on: the trace stays whole over it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::{Instrument as _, Span, field};
use ulid::Ulid;

use super::parent::Parent;

tokio::task_local! {
    static CURRENT: Trace;
}

fn random_span() -> u64 {
    (Ulid::generate().0 & u128::from(u64::MAX)) as u64 | 1
}

/// A piece of work and what it belongs to. Cloning shares it; its span ends with the last.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The turn; of a request without one, the trace.
    id: Ulid,
    /// Whether the span says the turn: a field that is recorded again stands there twice.
    has_turn: AtomicBool,
    session: OnceLock<String>,
    span: Span,
    /// The span's id on the wire: its own, or the caller's if none is exported.
    span_id: Option<u64>,
}

impl Trace {
    /// Begins a turn on this host.
    #[must_use]
    pub fn begin(turn: Ulid, session: &str) -> Self {
        let span = tracing::info_span!(parent: None, "turn", %turn, session);
        Self::new(span, turn, None, true, session, "turn")
    }

    /// Takes up a request for `verb`, of the caller's turn and session, or of no known ones.
    #[must_use]
    pub fn follow(verb: &str, parent: Option<Parent>, session: &str) -> Self {
        let turn = parent.map(|parent| field::display(parent.turn));
        let span = tracing::info_span!(parent: None, "request", verb, turn, session = field::Empty);
        if !session.is_empty() {
            span.record("session", session);
        }
        let id = parent.map_or_else(Ulid::generate, |parent| parent.turn);
        Self::new(span, id, parent, parent.is_some(), session, verb)
    }

    fn new(span: Span, id: Ulid, parent: Option<Parent>, has_turn: bool, session: &str, name: &str) -> Self {
        let own = link(&span, id, parent, name);
        let known = OnceLock::new();
        if !session.is_empty() {
            let _ = known.set(session.to_owned());
        }
        let span_id = own.or_else(|| parent.map(|parent| parent.span));
        Self(Arc::new(Inner { id, has_turn: has_turn.into(), session: known, span, span_id }))
    }

    /// That of the work under way.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// The session of the work under way, if it is known.
    #[must_use]
    pub fn session() -> Option<String> {
        CURRENT.try_with(|trace| trace.0.session.get().cloned()).ok().flatten()
    }

    /// What a request of `turn` names as its parent: the work under way, or, outside of any, a span of its own.
    #[must_use]
    pub fn parent(turn: Option<Ulid>) -> Option<Parent> {
        let current = Self::current();
        let turn = turn.or_else(|| current.as_ref().map(|trace| trace.0.id))?;
        let span = current.and_then(|trace| trace.0.span_id).unwrap_or_else(random_span);
        Some(Parent { turn, span })
    }

    /// A turn for work that was given none: the trace that it is in, or a new one.
    #[must_use]
    pub fn turn() -> Ulid {
        CURRENT.try_with(|trace| trace.0.id).unwrap_or_else(|_| Ulid::generate())
    }

    /// Says what the work under way belongs to, once it knows. A session that the caller has named stays.
    pub fn belongs_to(turn: Ulid, session: &str) {
        let note = |trace: &Self| {
            if !trace.0.has_turn.swap(true, Ordering::AcqRel) {
                trace.0.span.record("turn", field::display(turn));
            }
            if trace.0.session.set(session.to_owned()).is_ok() {
                trace.0.span.record("session", session);
            }
        };
        // Work outside of any request belongs to nothing.
        let _ = CURRENT.try_with(note);
    }

    /// Runs `work` as part of it: its log lines have the ids, and what it asks of others carries them.
    pub fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), work.instrument(self.0.span.clone()))
    }

    /// Marks its span as failed, with a word that says how.
    pub fn fail(&self, code: &'static str) {
        #[cfg(feature = "otlp")]
        super::otlp::fail(&self.0.span, code);
        #[cfg(not(feature = "otlp"))]
        let _ = code;
    }
}

#[cfg(feature = "otlp")]
fn link(span: &Span, id: Ulid, parent: Option<Parent>, name: &str) -> Option<u64> {
    super::otlp::link(span, id, parent, name)
}

/// Without an exporter no span has an id of its own.
#[cfg(not(feature = "otlp"))]
fn link(_: &Span, _: Ulid, _: Option<Parent>, _: &str) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_within_a_request_belongs_to_its_turn() {
        assert_eq!(Trace::parent(None), None);
        let turn = Ulid::generate();
        assert_eq!(Trace::parent(Some(turn)).unwrap().turn, turn);

        let caller = Parent { turn, span: 7 };
        let trace = Trace::follow("llm.chat", Some(caller), "evening");
        trace
            .run(async {
                // No span is exported here: the caller's own is handed on.
                assert_eq!(Trace::parent(None), Some(caller));
                assert_eq!(Trace::session().as_deref(), Some("evening"));
                Trace::belongs_to(turn, "another");
                assert_eq!(Trace::session().as_deref(), Some("evening"));
                assert_eq!(Trace::turn(), turn);
            })
            .await;

        let trace = Trace::follow("agent.run", None, "");
        trace
            .run(async {
                let id = Trace::turn();
                assert_eq!(Trace::session(), None);
                Trace::belongs_to(id, "new");
                assert_eq!(Trace::session().as_deref(), Some("new"));
                assert_eq!(Trace::parent(None).unwrap().turn, id);
            })
            .await;
        assert!(Trace::current().is_none());
    }
}
