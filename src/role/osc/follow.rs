//! Feedback: what listeners say of themselves on the bus, shown to surfaces.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::select_all;
use futures::{FutureExt as _, StreamExt as _};
use tokio::task::JoinSet;

use super::addresses::{ROOT, mode_name};
use super::dispatcher::Dispatcher;
use super::listeners::NamedListener;
use super::surfaces::{Surfaces, addresses};
use crate::bus::message::fault::Fault;
use crate::bus::message::session::{SessionEvent, What};
use crate::bus::message::voice::{Control, Level, State};
use crate::bus::{Bus, BusError, Call, subject};
use crate::fabric::Fabric;
use crate::osc::OscType;

/// Turns that are known, to tell whose transcript or reply it is. One that is older is over.
const TURNS: usize = 256;
/// Events of turns that are not known yet: they come by another way than the states that tell whose turn it is. The oldest goes
/// for a new one.
const EARLY: usize = 32;
/// How long a listener may take to say how it is.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a listener is asked to go on publishing its level, while a surface wants to see it.
const METER_EVERY: Duration = Duration::from_secs(2);
/// For how long it then does.
const METER_MS: u64 = 5_000;

/// Something that a listener, or its session, says of itself.
enum News {
    State(State),
    Level(Level),
    Session(Box<SessionEvent>),
    Unheard(Fault),
}

/// Shows it, for ever.
///
/// # Errors
/// The bus refuses to let it hear.
pub async fn follow(bus: &Bus, fabric: &Fabric, dispatcher: &Arc<Dispatcher>) -> Result<(), BusError> {
    let states = bus.subscribe::<State>(subject::VOICE_STATES).await?;
    let mut all = vec![states.map(|(_, state)| state.map_or_else(News::Unheard, News::State)).boxed()];
    // A host without microphone and model may be kept from what people say; its surfaces show the states alone.
    match bus.subscribe::<Level>(subject::VOICE_LEVELS).await {
        Ok(levels) => all.push(levels.map(|(_, level)| level.map_or_else(News::Unheard, News::Level)).boxed()),
        Err(error @ BusError::DeniedHearing { .. }) => tracing::warn!(%error, "surfaces are shown no levels"),
        Err(error) => return Err(error),
    }
    match bus.subscribe::<SessionEvent>(subject::SESSIONS).await {
        Ok(sessions) => all.push(
            sessions.map(|(_, event)| event.map_or_else(News::Unheard, |event| News::Session(Box::new(event)))).boxed(),
        ),
        Err(error @ BusError::DeniedHearing { .. }) => {
            tracing::warn!(%error, "surfaces are shown no transcripts and replies");
        }
        Err(error) => return Err(error),
    }
    let mut news = select_all(all);
    let mut known = Turns { dispatcher: Arc::clone(dispatcher), turns: VecDeque::new(), early: VecDeque::new() };
    let mut changes = fabric.changes();
    let mut asked: Vec<NamedListener> = Vec::new();
    let mut asks: JoinSet<(NamedListener, bool)> = JoinSet::new();
    let mut meters = tokio::time::interval(METER_EVERY);
    let mut lost = bus.lost().boxed();
    loop {
        tokio::select! {
            Some(news) = news.next() => known.take(news),
            changed = changes.changed(), if dispatcher.listeners.follows => {
                if changed.is_ok() {
                    let before = dispatcher.listeners.all();
                    dispatcher.listeners.follow(bus.node(), &fabric.nodes().await);
                    if forget(dispatcher, &before) {
                        // The one that is the first now is shown under the plain addresses.
                        asked.clear();
                    }
                }
            }
            // What they said meanwhile was not heard.
            () = &mut lost => {
                asked.clear();
                lost = bus.lost().boxed();
            }
            Some(answer) = asks.join_next(), if !asks.is_empty() => {
                if let Ok((known, true)) = answer && !asked.contains(&known) {
                    asked.push(known);
                }
            }
            _ = meters.tick() => {
                let all = dispatcher.listeners.all();
                asked.retain(|known| all.contains(known));
                for (at, known) in all.into_iter().enumerate() {
                    let wanted = addresses(&known.shown, at == 0, "level");
                    let wanted = wanted.iter().any(|address| dispatcher.surfaces.wants(address));
                    // A listener is asked how it is until it answers; then it tells each change.
                    if !wanted && asked.contains(&known) {
                        continue;
                    }
                    let control = Control::Meter { ms: if wanted { METER_MS } else { 0 } };
                    let (bus, dispatcher) = (bus.clone(), Arc::clone(dispatcher));
                    asks.spawn(async move {
                        let call = Call::within(ASK_TIMEOUT);
                        match bus.control(&known.node, &known.listener, &control, &call).await {
                            Ok(state) => {
                                show(&dispatcher, &state);
                                (known, true)
                            }
                            Err(error) => {
                                tracing::debug!(listener = known.shown, %error, "a listener does not answer");
                                (known, false)
                            }
                        }
                    });
                }
            }
        }
    }
}

/// Forgets the values of listeners that are gone; `true` if another is the first now.
fn forget(dispatcher: &Dispatcher, before: &[NamedListener]) -> bool {
    let all = dispatcher.listeners.all();
    let gone: Vec<String> =
        before.iter().filter(|known| !all.contains(known)).map(|known| format!("{ROOT}{}/", known.shown)).collect();
    let is_other = before.first() != all.first();
    let is_plain = |address: &str| address.strip_prefix(ROOT).is_some_and(|name| !name.contains('/'));
    if is_other || !gone.is_empty() {
        dispatcher.surfaces.forget(|address| {
            gone.iter().any(|gone| address.starts_with(gone.as_str())) || (is_other && is_plain(address))
        });
    }
    is_other
}

/// The turns that are known.
struct Turns {
    dispatcher: Arc<Dispatcher>,
    turns: VecDeque<(String, String, String)>,
    early: VecDeque<SessionEvent>,
}

impl Turns {
    fn take(&mut self, news: News) {
        match news {
            News::State(state) => {
                if let Some(turn) = &state.turn
                    && !self.turns.iter().any(|(known, ..)| known == turn)
                {
                    self.turns.truncate(TURNS - 1);
                    self.turns.push_front((turn.clone(), state.node.clone(), state.listener.clone()));
                    // Events that are still of no known turn go back.
                    for event in std::mem::take(&mut self.early) {
                        self.session(event);
                    }
                }
                show(&self.dispatcher, &state);
            }
            News::Level(level) => {
                let shown = self.dispatcher.listeners.shown(&level.node, &level.listener);
                put(&self.dispatcher.surfaces, shown, "level", OscType::Float(level.level), false);
            }
            News::Session(event) => self.session(*event),
            News::Unheard(fault) => tracing::debug!(%fault, "what a listener says of itself was not understood"),
        }
    }

    fn session(&mut self, event: SessionEvent) {
        let Some(turn) = &event.turn else { return };
        let (name, text) = match &event.what {
            What::Utterance { text, .. } => ("transcript", text),
            What::Reply { text, .. } => ("reply", text),
            What::Error { message, .. } => ("error", message),
            What::Command { .. } | What::State { .. } | What::Times(_) => return,
        };
        let Some((_, node, listener)) = self.turns.iter().find(|(known, ..)| known == turn) else {
            if self.early.len() == EARLY {
                self.early.pop_front();
            }
            return self.early.push_back(event);
        };
        let text = OscType::String(text.replace('\0', " "));
        put(&self.dispatcher.surfaces, self.dispatcher.listeners.shown(node, listener), name, text, true);
    }
}

/// Shows a listener's state.
fn show(dispatcher: &Dispatcher, state: &State) {
    let shown = dispatcher.listeners.shown(&state.node, &state.listener);
    let values = [
        ("state", OscType::String(state.state.name().to_owned())),
        ("mode", OscType::String(mode_name(state.mode).to_owned())),
        ("muted", OscType::Int(i32::from(state.muted))),
        ("mute", OscType::Int(i32::from(state.muted))),
    ];
    for (name, value) in values {
        put(&dispatcher.surfaces, shown.clone(), name, value, false);
    }
}

fn put(surfaces: &Surfaces, shown: Option<(String, bool)>, name: &str, value: OscType, happens: bool) {
    let Some((listener, is_first)) = shown else { return };
    for address in addresses(&listener, is_first, name) {
        if happens {
            surfaces.happen(&address, vec![value.clone()]);
        } else {
            surfaces.show(&address, vec![value.clone()]);
        }
    }
}
