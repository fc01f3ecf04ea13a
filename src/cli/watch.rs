//! `sidetone watch`: a live, readable view of sessions and states.

mod event;
mod line;

use std::collections::VecDeque;

use anyhow::Context as _;
use clap::Args;
use console::Term;
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::globals::Globals;
use super::{client, print};
use crate::bus::message::Message;
use crate::bus::message::fault::Fault;
use crate::bus::message::node::{NodeInfo, Routed};
use crate::bus::message::session::{SessionEvent, What};
use crate::bus::message::voice::State;
use crate::bus::subject::{self, Parsed};
use crate::bus::{Bus, BusError};
use event::Event;
use line::LineView;

/// Watch what is said and done, live
///
/// One line an event: the time, the host (and the listener), the end of the turn's id, what happened. A text that is wider
/// than the terminal is wrapped; in a pipe every event is one line.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Print one JSON object a line: the subject and the message, or a notice
    #[arg(long)]
    json: bool,
}

/// What came: the message with its subject, for programs, and as an event.
type WatchItem = (Value, Event);

/// Shows events until it is stopped.
///
/// # Errors
/// The bus can't be reached at first, refuses a subscription, or standard output can't be written to.
pub async fn run(args: WatchArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, _) = client::connect(globals).await?;
    let mut events = subscribe(&bus, args.session.as_deref()).await?;
    let mut go_on = show(&args, &notice("watching", Event::Watching { server: bus.server() }))?;
    while go_on {
        let lost = bus.lost();
        tokio::pin!(lost);
        // What was lost before `lost` began to look shows here.
        while bus.is_up() {
            let heard = tokio::select! {
                heard = events.next() => heard.context("the connection to NATS was closed")?,
                () = &mut lost => break,
            };
            if !show(&args, &heard)? {
                return Ok(());
            }
        }
        if !show(&args, &notice("lost", Event::Lost))? {
            return Ok(());
        }
        // What was published meanwhile is in the stream SESSIONS.
        bus.until_heard().await;
        go_on = show(&args, &notice("watching", Event::Watching { server: bus.server() }))?;
    }
    Ok(())
}

fn notice(what: &str, event: Event) -> WatchItem {
    (json!({ "notice": what }), event)
}

/// What a host says of itself, as an event.
type OfHost = fn(NodeInfo) -> Event;

async fn subscribe(bus: &Bus, session: Option<&str>) -> Result<SelectAll<BoxStream<'static, WatchItem>>, BusError> {
    let mut all = SelectAll::new();
    let subject = session.map_or_else(|| subject::SESSIONS.to_owned(), subject::session_all);
    let mut seen = SeenEvents::default();
    let of_sessions = listen::<SessionEvent>(bus, &subject, |_, event| Event::Session(event)).await?;
    let once = of_sessions.filter(move |heard| std::future::ready(seen.is_new(heard)));
    if session.is_some() {
        all.push(once.boxed());
        return Ok(all);
    }
    // A listener's states come on a subject of their own, in a turn and without one: those in sessions are left out.
    let is_state =
        |(_, event): &WatchItem| matches!(event, Event::Session(SessionEvent { what: What::State { .. }, .. }));
    all.push(once.filter(move |heard| std::future::ready(!is_state(heard))).boxed());
    all.push(listen::<State>(bus, subject::VOICE_STATES, |_, state| Event::State(state)).await?);
    let hosts: [(&str, OfHost); 5] = [
        ("up", Event::Up),
        ("down", Event::Down),
        ("changed", Event::Changed),
        ("back", Event::Back),
        ("lost", Event::Gone),
    ];
    for (kind, event) in hosts {
        all.push(listen::<NodeInfo>(bus, &subject::event_of_all(kind), move |_, info| event(info)).await?);
    }
    let routed = |subject: &str, routed| Event::Routed { node: teller(subject), routed };
    all.push(listen::<Routed>(bus, &subject::event_of_all("routed"), routed).await?);
    let fault = |subject: &str, fault| Event::Fault { node: teller(subject), fault };
    all.push(listen::<Fault>(bus, &subject::event_of_all("fault"), fault).await?);
    Ok(all)
}

/// The host whose event it is.
fn teller(subject: &str) -> String {
    match subject::parse(subject) {
        Some(Parsed::Event { node, .. }) => node,
        _ => String::new(),
    }
}

/// How many events of sessions are remembered, to be shown once.
const SEEN: usize = 256;

/// The last events of sessions. One whose first append met another host's, or that a second host tells as well, comes
/// again with its id; the stream SESSIONS keeps the first.
#[derive(Debug, Default)]
struct SeenEvents(VecDeque<String>);

impl SeenEvents {
    fn is_new(&mut self, (_, event): &WatchItem) -> bool {
        let Event::Session(SessionEvent { id, .. }) = event else { return true };
        if id.is_empty() {
            return true;
        }
        if self.0.contains(id) {
            return false;
        }
        if self.0.len() == SEEN {
            self.0.pop_front();
        }
        self.0.push_back(id.clone());
        true
    }
}

async fn listen<M: Message>(
    bus: &Bus,
    subject: &str,
    event: impl Fn(&str, M) -> Event + Send + 'static,
) -> Result<BoxStream<'static, WatchItem>, BusError> {
    let messages = bus.subscribe::<M>(subject).await?;
    let heard = messages.map(move |(subject, message)| match message {
        Ok(message) => {
            let body = json!({ "subject": subject, "message": message });
            let event = event(&subject, message);
            (body, event)
        }
        Err(fault) => {
            let body = json!({ "subject": subject, "unreadable": fault.message });
            let event = Event::Unknown { subject, why: fault.message };
            (body, event)
        }
    });
    Ok(heard.boxed())
}

/// Prints an event; `false` when the reader has gone.
fn show(args: &WatchArgs, (body, event): &WatchItem) -> anyhow::Result<bool> {
    if args.json {
        return print::follow(&body.to_string());
    }
    print::follow(&shown(event))
}

/// An event of a session as it is watched.
pub(super) fn session_line(event: SessionEvent) -> String {
    shown(&Event::Session(event))
}

fn shown(event: &Event) -> String {
    let terminal = Term::stdout();
    // Asked again for each event, since a terminal can be resized; one that does not tell its size wraps by itself.
    let width = terminal.size_checked().map(|(_, columns)| usize::from(columns));
    let view = LineView { zone: TimeZone::system(), width, colour: terminal.is_term() && console::colors_enabled() };
    line::line(event, Timestamp::now(), &view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_told_twice_is_shown_once() {
        let of =
            |id: &str| (Value::Null, Event::Session(SessionEvent { id: id.to_owned(), ..SessionEvent::example() }));
        let mut seen = SeenEvents::default();
        assert!(seen.is_new(&of("a")) && seen.is_new(&of("b")));
        assert!(!seen.is_new(&of("a")) && !seen.is_new(&of("b")));
        // Events without an id, and all that is no event of a session, can't be compared.
        for heard in [of(""), notice("lost", Event::Lost)] {
            assert!(seen.is_new(&heard) && seen.is_new(&heard));
        }
        // The oldest is forgotten.
        assert!((0..SEEN).all(|number| seen.is_new(&of(&number.to_string()))));
        assert!(seen.0.len() == SEEN && seen.is_new(&of("a")));
    }
}
