//! What the chat model is shown of a session: the last turns, as many as fit.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bus::message::llm::{ChatMessage, Role};
use crate::bus::message::session::{SessionEvent, What};
use crate::bus::session::{history, last_reply};
use crate::bus::{Bus, BusError};
use crate::role::RoleContext;

/// Sessions that are remembered here; the rest is read from JetStream when it goes on.
const SESSIONS: usize = 256;
/// Events read for each turn that is shown: utterance, command, reply, states, times.
const EVENTS_A_TURN: usize = 16;
/// A token has at least so many bytes on average, in English as in Chinese.
const BYTES_A_TOKEN: usize = 3;
/// What the mark-up around a message takes, in tokens.
const MESSAGE_TOKENS: usize = 8;

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exchange {
    turn: String,
    question: String,
    answer: String,
    /// Whether the session had the answer when it was given; a server that takes its time gets it later.
    kept: bool,
}

impl Exchange {
    fn bytes(&self) -> usize {
        2 * MESSAGE_TOKENS * BYTES_A_TOKEN + self.question.len() + self.answer.len()
    }
}

/// What is known of a session.
#[derive(Debug, Clone, Default)]
struct Known {
    exchanges: VecDeque<Exchange>,
    /// The turn of its last reply. When the session has another one, another host has answered since, or a command.
    last: Option<String>,
    /// Whether it could not be read when it was to be.
    is_stale: bool,
}

/// How much is shown.
#[derive(Debug, Clone, Copy)]
struct Room {
    turns: usize,
    bytes: usize,
}

/// The last exchanges of the sessions that this host answers.
pub struct Memory {
    bus: Bus,
    is_kept: bool,
    system_prompt: String,
    sessions: Sessions,
}

impl Memory {
    pub fn new(context: &RoleContext) -> Self {
        let config = &context.config.agent;
        let tokens = config.context_tokens.saturating_sub(config.max_tokens) as usize;
        Self {
            bus: context.bus.clone(),
            is_kept: context.sessions.is_kept(),
            system_prompt: config.system_prompt.clone(),
            sessions: Sessions::new(Room { turns: config.history_turns, bytes: tokens * BYTES_A_TOKEN }),
        }
    }

    /// The messages for the question `text` of `turn`: the instructions, as many of the last exchanges of `session` as
    /// fit, and the question.
    pub async fn messages(&self, session: &str, turn: &str, text: &str) -> Vec<ChatMessage> {
        let last = if self.is_kept { Some(last_reply(&self.bus, session).await) } else { None };
        let read = || history(&self.bus, session, self.sessions.room.turns * EVENTS_A_TURN);
        let mut exchanges = self.sessions.up_to_date(session, last, read).await;
        exchanges.retain(|exchange| exchange.turn != turn);
        let around = [self.system_prompt.as_str(), text].map(|text| text.len() + MESSAGE_TOKENS * BYTES_A_TOKEN);
        self.sessions.room.without(around.into_iter().sum()).fit(&mut exchanges);
        let mut messages = self.question(text);
        let earlier = exchanges.into_iter().flat_map(|exchange| {
            [ChatMessage::new(Role::User, exchange.question), ChatMessage::new(Role::Assistant, exchange.answer)]
        });
        let at = messages.len() - 1;
        messages.splice(at..at, earlier);
        messages
    }

    /// The messages for the question `text` alone.
    pub fn question(&self, text: &str) -> Vec<ChatMessage> {
        let told = (!self.system_prompt.is_empty()).then(|| ChatMessage::new(Role::System, &self.system_prompt));
        told.into_iter().chain([ChatMessage::new(Role::User, text)]).collect()
    }

    /// Takes down what the model is to be shown in the next turns; `kept` says whether the session has it already.
    pub fn remember(&self, session: &str, turn: &str, question: &str, answer: &str, kept: bool) {
        let [turn, question, answer] = [turn, question, answer].map(str::to_owned);
        self.sessions.remember(session, Exchange { turn, question, answer, kept });
    }

    /// Forgets a session: what was said in it is more than the model holds.
    pub fn forget(&self, session: &str) {
        self.sessions.lock().remove(session);
    }
}

/// The sessions that are remembered.
struct Sessions {
    room: Room,
    known: Mutex<HashMap<String, Known>>,
}

impl Sessions {
    fn new(room: Room) -> Self {
        Self { room, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exchanges of a session. It is `read` if it is not known here, or if `last`, the turn of its last reply as the
    /// server has it (`None`: nothing is kept), is not the one that is known. What can't be read is read the next time.
    async fn up_to_date<R: Future<Output = Result<Vec<SessionEvent>, BusError>>>(
        &self,
        session: &str,
        last: Option<Result<Option<String>, BusError>>,
        read: impl FnOnce() -> R,
    ) -> VecDeque<Exchange> {
        let known = self.lock().get(session).cloned().unwrap_or_default();
        let events = match last {
            None => return known.exchanges,
            Some(Ok(last)) if last == known.last && !known.is_stale => return known.exchanges,
            Some(Ok(_)) => read().await,
            Some(Err(error)) => Err(error),
        };
        match events {
            Ok(events) => {
                let now = self.room.merged(&events, known.exchanges);
                let exchanges = now.exchanges.clone();
                self.put(session, now);
                exchanges
            }
            Err(error) => {
                tracing::warn!(%error, session, "the model may answer without some of what was said before");
                let exchanges = known.exchanges.clone();
                self.put(session, Known { is_stale: true, ..known });
                exchanges
            }
        }
    }

    fn remember(&self, session: &str, exchange: Exchange) {
        let mut known = self.lock().get(session).cloned().unwrap_or_default();
        known.last = Some(exchange.turn.clone());
        known.exchanges.push_back(exchange);
        self.room.fit(&mut known.exchanges);
        self.put(session, known);
    }

    /// The only way in: there are never more than [`SESSIONS`].
    fn put(&self, session: &str, known: Known) {
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS && !sessions.contains_key(session) {
            sessions.clear();
        }
        sessions.insert(session.to_owned(), known);
    }
}

impl Room {
    /// What is left of it beside so many bytes.
    fn without(self, bytes: usize) -> Self {
        Self { bytes: self.bytes.saturating_sub(bytes), ..self }
    }

    /// Drops the oldest exchanges until the rest fits.
    fn fit(self, exchanges: &mut VecDeque<Exchange>) {
        let mut bytes: usize = exchanges.iter().map(Exchange::bytes).sum();
        while exchanges.len() > self.turns || bytes > self.bytes {
            let Some(oldest) = exchanges.pop_front() else { return };
            bytes -= oldest.bytes();
        }
    }

    /// What a session's `events` say, and the exchanges of this host that it does not have yet.
    fn merged(self, events: &[SessionEvent], known: VecDeque<Exchange>) -> Known {
        let mut now = read(events);
        let missing = |exchange: &Exchange| {
            !exchange.kept && events.iter().all(|event| event.turn.as_ref() != Some(&exchange.turn) || !is_reply(event))
        };
        now.exchanges.extend(known.into_iter().filter(missing));
        self.fit(&mut now.exchanges);
        now
    }
}

fn is_reply(event: &SessionEvent) -> bool {
    matches!(event.what, What::Reply { .. })
}

/// The turns that a model answered.
fn read(events: &[SessionEvent]) -> Known {
    let mut asked: HashMap<&str, &str> = HashMap::new();
    let mut known = Known::default();
    for event in events {
        let turn = event.turn.as_deref().unwrap_or_default();
        match &event.what {
            What::Utterance { text, .. } => {
                asked.insert(turn, text);
            }
            What::Reply { text, model } => {
                known.last.clone_from(&event.turn);
                if let (Some(question), Some(_)) = (asked.get(turn), model) {
                    let [turn, question, answer] = [turn, question, text].map(str::to_owned);
                    known.exchanges.push_back(Exchange { turn, question, answer, kept: true });
                }
            }
            _ => {}
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { turns: 6, bytes: 1_000 };

    fn event(turn: &str, what: What) -> SessionEvent {
        SessionEvent {
            id: String::new(),
            session: "s".to_owned(),
            turn: Some(turn.to_owned()),
            at: String::new(),
            node: "n".to_owned(),
            what,
        }
    }

    fn said(text: &str) -> What {
        What::Utterance { text: text.to_owned(), listener: None, audio_ms: None }
    }

    fn reply(text: &str, model: Option<&str>) -> What {
        What::Reply { text: text.to_owned(), model: model.map(str::to_owned) }
    }

    /// The events of turns that a model answered by their own names.
    fn turns(turns: &[&str]) -> Vec<SessionEvent> {
        turns.iter().flat_map(|turn| [event(turn, said("?")), event(turn, reply(turn, Some("m")))]).collect()
    }

    fn exchange(turn: &str, kept: bool) -> Exchange {
        Exchange { turn: turn.to_owned(), question: "?".to_owned(), answer: turn.to_owned(), kept }
    }

    fn answers(exchanges: &VecDeque<Exchange>) -> Vec<&str> {
        exchanges.iter().map(|exchange| exchange.answer.as_str()).collect()
    }

    fn last(turn: &str) -> Option<Result<Option<String>, BusError>> {
        Some(Ok(Some(turn.to_owned())))
    }

    fn down() -> BusError {
        BusError::Disconnected { what: "reading".to_owned() }
    }

    async fn unread() -> Result<Vec<SessionEvent>, BusError> {
        panic!("it is known and must not be read")
    }

    #[test]
    fn only_the_models_last_answers_are_shown() {
        let events = [
            event("1", said("one")),
            event("1", reply("first", Some("m"))),
            event("2", said("what time is it")),
            event("2", reply("It is 10 AM.", None)),
            event("3", said("three")),
            event("4", said("four")),
            event("4", reply("fourth", Some("m"))),
            event("5", said("five")),
            event("5", reply("fifth", Some("m"))),
        ];
        let shown = |turns| {
            let known = Room { turns, ..ROOM }.merged(&events, VecDeque::new());
            known.exchanges.into_iter().map(|exchange| (exchange.question, exchange.answer)).collect::<Vec<_>>()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(shown(2), [pair("four", "fourth"), pair("five", "fifth")]);
        assert_eq!(shown(9).len(), 3);
        assert_eq!(read(&events[..4]).last.as_deref(), Some("2"));
    }

    #[tokio::test]
    async fn what_another_host_has_answered_is_read() {
        let sessions = Sessions::new(ROOM);
        sessions.remember("s", exchange("a", true));
        assert_eq!(answers(&sessions.up_to_date("s", last("a"), unread).await), ["a"]);
        let read = || async { Ok(turns(&["a", "b"])) };
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), read).await), ["a", "b"]);
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), unread).await), ["a", "b"]);
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_read_the_next_time() {
        let sessions = Sessions::new(ROOM);
        assert!(sessions.up_to_date("s", last("a"), || async { Err(down()) }).await.is_empty());
        // Also when this host has answered meanwhile.
        sessions.remember("s", exchange("b", true));
        let read = || async { Ok(turns(&["a", "b"])) };
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), read).await), ["a", "b"]);
        let read = || async { Ok(turns(&["a"])) };
        assert_eq!(answers(&sessions.up_to_date("s", last("a"), read).await), ["a"]);
        // What is known here is shown as long as the server does not answer.
        assert_eq!(answers(&sessions.up_to_date("s", Some(Err(down())), unread).await), ["a"]);
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), || async { Err(down()) }).await), ["a"]);
    }

    #[tokio::test]
    async fn an_answer_that_the_server_has_not_taken_yet_is_not_lost() {
        let sessions = Sessions::new(ROOM);
        sessions.remember("s", exchange("old", true));
        sessions.remember("s", exchange("own", false));
        let read = || async { Ok(turns(&["b"])) };
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), read).await), ["b", "own"]);
        // Once it is there it is shown once.
        let read = || async { Ok(turns(&["b", "own", "c"])) };
        assert_eq!(answers(&sessions.up_to_date("s", last("c"), read).await), ["b", "own", "c"]);
    }

    #[tokio::test]
    async fn where_nothing_is_kept_the_host_itself_remembers() {
        let sessions = Sessions::new(ROOM);
        sessions.remember("s", exchange("a", true));
        assert_eq!(answers(&sessions.up_to_date("s", None, unread).await), ["a"]);
    }

    #[tokio::test]
    async fn sessions_that_are_read_are_bounded_too() {
        let sessions = Sessions::new(ROOM);
        for number in 0..3 * SESSIONS {
            sessions.up_to_date(&number.to_string(), last("a"), || async { Ok(turns(&["a"])) }).await;
        }
        assert!(sessions.lock().len() <= SESSIONS);
    }

    #[test]
    fn the_oldest_exchanges_go_until_the_rest_fits() {
        let long = |turn: &str| Exchange { answer: turn.repeat(300), ..exchange(turn, true) };
        let mut exchanges = VecDeque::from(["a", "b", "c"].map(long));
        ROOM.fit(&mut exchanges);
        assert_eq!(exchanges.iter().map(|exchange| exchange.turn.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        ROOM.without(500).fit(&mut exchanges);
        assert_eq!(exchanges.len(), 1);
        ROOM.without(9_999).fit(&mut exchanges);
        assert!(exchanges.is_empty());
    }
}
