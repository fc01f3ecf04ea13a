//! How a request is made: its time, its turn, how it is written.

use std::time::Duration;

use async_nats::HeaderMap;
use ulid::Ulid;

use crate::bus::connect::headers;
use crate::telemetry::trace::Trace;
use crate::wire::codec::{self, Format, header};
use crate::wire::message::Message;
use crate::wire::message::node::Privacy;

/// The most time that a request can ask for.
pub(in crate::bus) const MAX_DEADLINE: Duration = Duration::from_secs(3_600);
/// How much longer than its deadline a caller waits, so that the worker's own word that it passed can arrive.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// How a request is made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The time for all of it, the whole stream included; an hour at most.
    pub deadline: Duration,
    /// The turn that it belongs to; `None` takes that of the work under way, if there is one.
    pub turn: Option<Ulid>,
    /// How the body is written, and the reply is to be.
    pub format: Format,
    /// Why this host is asked; the reply gives it back.
    pub route: Option<String>,
    /// Which engine of the host is asked, by its name; `None`: one that fits.
    pub engine: Option<String>,
    /// How far it may travel; the host that is asked refuses what breaks it.
    pub privacy: Privacy,
}

impl Call {
    /// A call with a deadline, in MessagePack.
    #[must_use]
    pub const fn within(deadline: Duration) -> Self {
        Self { deadline, turn: None, format: Format::MsgPack, route: None, engine: None, privacy: Privacy::Any }
    }

    /// The same for a turn.
    #[must_use]
    pub fn of_turn(self, turn: Ulid) -> Self {
        Self { turn: Some(turn), ..self }
    }

    pub(super) fn time(&self) -> Duration {
        self.deadline.min(MAX_DEADLINE)
    }

    pub(super) fn headers<M: Message>(&self, request: &str) -> HeaderMap {
        let mut headers = self.plain_headers();
        headers::set(&mut headers, header::REQ_ID, request);
        headers::set(&mut headers, header::SCHEMA, M::SCHEMA);
        headers
    }

    /// Those of any request.
    pub(super) fn plain_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers::set(&mut headers, header::CONTENT_TYPE, self.format.content_type());
        headers::set(&mut headers, header::ACCEPT, self.format.content_type());
        headers::set(&mut headers, header::DEADLINE_MS, self.time().as_millis().to_string());
        if let Some(parent) = Trace::parent(self.turn) {
            headers::set(&mut headers, header::TRACEPARENT, parent.to_string());
        }
        if let Some(session) = Trace::session() {
            headers::set(&mut headers, header::SESSION, codec::one_line(&session));
        }
        if let Some(route) = &self.route {
            headers::set(&mut headers, header::ROUTE, codec::one_line(route));
        }
        if let Some(engine) = &self.engine {
            headers::set(&mut headers, header::ENGINE, codec::one_line(engine));
        }
        if self.privacy != Privacy::Any {
            headers::set(&mut headers, header::PRIVACY, self.privacy.token());
        }
        headers
    }
}
