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

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::{Instrument as _, Span, field};
use ulid::Ulid;

tokio::task_local! {
    static CURRENT: Trace;
}

/// Where a request comes from, as the W3C header `traceparent` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace, which is the turn.
    pub turn: Ulid,
    /// The span that asks.
    pub span: u64,
}

impl Parent {
    /// Reads a header; `None` for one that is none, or says nothing.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let version = parts.next()?;
        let (turn, span) = (parts.next()?, parts.next()?);
        let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !(is_hex(version, 2) && is_hex(turn, 32) && is_hex(span, 16)) || version == "ff" {
            return None;
        }
        let (turn, span) = (u128::from_str_radix(turn, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        (turn != 0 && span != 0).then_some(Self { turn: Ulid(turn), span })
    }

    /// What a request of `turn` says that is asked by the work under way, or by nobody in particular.
    #[must_use]
    pub fn of_request(turn: Option<Ulid>) -> Option<Self> {
        let current = Trace::current();
        let turn = turn.or_else(|| current.as_ref().map(|trace| trace.0.id))?;
        let span = current.and_then(|trace| trace.0.span_id).unwrap_or_else(random_span);
        Some(Self { turn, span })
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.turn.0, self.span)
    }
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
    told: AtomicBool,
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

    fn new(span: Span, id: Ulid, parent: Option<Parent>, told: bool, session: &str, name: &str) -> Self {
        let own = link(&span, id, parent, name);
        let known = OnceLock::new();
        if !session.is_empty() {
            let _ = known.set(session.to_owned());
        }
        let span_id = own.or_else(|| parent.map(|parent| parent.span));
        Self(Arc::new(Inner { id, told: told.into(), session: known, span, span_id }))
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

    /// A turn for work that was given none: the trace that it is in, or a new one.
    #[must_use]
    pub fn turn() -> Ulid {
        CURRENT.try_with(|trace| trace.0.id).unwrap_or_else(|_| Ulid::generate())
    }

    /// Says what the work under way belongs to, once it knows. A session that the caller has named stays.
    pub fn belongs_to(turn: Ulid, session: &str) {
        let note = |trace: &Self| {
            if !trace.0.told.swap(true, Ordering::AcqRel) {
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

    #[test]
    fn a_parent_is_read_as_it_was_written() {
        let parent = Parent { turn: Ulid::generate(), span: random_span() };
        assert_eq!(Parent::parse(&parent.to_string()), Some(parent));
        // A later version has more parts.
        let later = format!("01{}-more", parent.to_string().split_at(2).1);
        assert_eq!(Parent::parse(&later), Some(parent));
        for odd in [
            "",
            "nonsense",
            "00-zz-zz-01",
            "00-00000000000000000000000000000000-0000000000000001-01",
            "00-00000000000000000000000000000001-0000000000000000-01",
            "ff-00000000000000000000000000000001-0000000000000001-01",
            "00-+0000000000000000000000000000001-0000000000000001-01",
        ] {
            assert_eq!(Parent::parse(odd), None, "{odd}");
        }
    }

    #[tokio::test]
    async fn what_is_asked_within_a_request_belongs_to_its_turn() {
        assert_eq!(Parent::of_request(None), None);
        let turn = Ulid::generate();
        assert_eq!(Parent::of_request(Some(turn)).unwrap().turn, turn);

        let caller = Parent { turn, span: 7 };
        let trace = Trace::follow("llm.chat", Some(caller), "evening");
        trace
            .run(async {
                // No span is exported here: the caller's own is handed on.
                assert_eq!(Parent::of_request(None), Some(caller));
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
                assert_eq!(Parent::of_request(None).unwrap().turn, id);
            })
            .await;
        assert!(Trace::current().is_none());
    }
}
