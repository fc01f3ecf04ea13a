//! What the agent knows of sessions, and the prompt that it makes of one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::window::{Exchange, Limits, Window};
use crate::bus::message::llm::{ChatMessage, Role};
use crate::bus::message::session::{SessionEvent, What};
use crate::bus::session::{each, last_reply};
use crate::bus::{Bus, BusError};
use crate::role::RoleContext;

/// Sessions that are remembered here; the rest is read from JetStream when it goes on.
const SESSIONS: usize = 256;
/// Questions of a session that may wait for their answers while it is read; further ones push out the oldest.
const OPEN_QUESTIONS: usize = 64;

/// What the chat model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The instructions, turns of the session, and the question.
    pub messages: Vec<ChatMessage>,
    /// How many messages after the instructions the next prompt of the session will not have.
    pub cut_next: usize,
}

/// What is known of a session.
#[derive(Debug, Clone)]
struct Known {
    window: Window,
    /// The turn of its last reply. When the session has another one, another host has answered since, or a command.
    last: Option<String>,
    /// Whether it could not be read when it was to be.
    is_stale: bool,
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
        let tokens = config.context_tokens.saturating_sub(config.max_tokens);
        Self {
            bus: context.bus.clone(),
            is_kept: context.sessions.is_kept(),
            system_prompt: config.system_prompt.clone(),
            sessions: Sessions::new(Limits::new(config.history_turns, tokens, &config.system_prompt)),
        }
    }

    /// The prompt for the question `text` of `turn`: the instructions, as many of the last turns of `session` as the
    /// window shows, and the question.
    pub async fn prompt(&self, session: &str, turn: &str, text: &str) -> Prompt {
        let last = if self.is_kept { Some(last_reply(&self.bus, session).await) } else { None };
        let read = |mut reading: Reading| async move {
            each(&self.bus, session, |event| reading.take(event)).await?;
            Ok(reading.end())
        };
        let window = self.sessions.up_to_date(session, last, read).await;
        let shown = window.before(turn, text);
        let mut messages = self.question(text);
        let earlier = shown.exchanges.into_iter().flat_map(|exchange| {
            [ChatMessage::new(Role::User, exchange.question), ChatMessage::new(Role::Assistant, exchange.answer)]
        });
        let at = messages.len() - 1;
        messages.splice(at..at, earlier);
        Prompt { messages, cut_next: 2 * shown.cut_next }
    }

    /// The messages for the question `text` alone.
    pub fn question(&self, text: &str) -> Vec<ChatMessage> {
        let told = (!self.system_prompt.is_empty()).then(|| ChatMessage::new(Role::System, &self.system_prompt));
        told.into_iter().chain([ChatMessage::new(Role::User, text)]).collect()
    }

    /// Takes down what the model is to be shown in the next turns, to the byte as it read and wrote it; `kept` says whether
    /// the session has it already.
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
    limits: Limits,
    known: Mutex<HashMap<String, Known>>,
}

impl Sessions {
    fn new(limits: Limits) -> Self {
        Self { limits, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, session: &str) -> Known {
        let known = self.lock().get(session).cloned();
        known.unwrap_or_else(|| Known { window: Window::new(self.limits), last: None, is_stale: false })
    }

    /// What of a session the model is shown. It is `read` if it is not known here, or if `last`, the turn of its last reply
    /// as the server has it (`None`: nothing is kept), is not the one that is known. What can't be read is read the next
    /// time.
    async fn up_to_date<R: Future<Output = Result<Known, BusError>>>(
        &self,
        session: &str,
        last: Option<Result<Option<String>, BusError>>,
        read: impl FnOnce(Reading) -> R,
    ) -> Window {
        let known = self.known(session);
        let now = match last {
            None => return known.window,
            Some(Ok(last)) if last == known.last && !known.is_stale => return known.window,
            Some(Ok(_)) => read(Reading::new(self.limits, &known.window)).await,
            Some(Err(error)) => Err(error),
        };
        let now = now.unwrap_or_else(|error| {
            tracing::warn!(%error, session, "the model may answer without some of what was said before");
            Known { is_stale: true, ..known }
        });
        let window = now.window.clone();
        self.put(session, now);
        window
    }

    fn remember(&self, session: &str, exchange: Exchange) {
        let mut known = self.known(session);
        known.last = Some(exchange.turn.clone());
        known.window.push(exchange);
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

/// A session that is being read from its beginning: the turns that a model answered.
struct Reading {
    window: Window,
    last: Option<String>,
    /// The questions without an answer as yet: turn and text.
    open: VecDeque<(String, String)>,
    /// What this host has answered and the session does not have yet.
    unkept: Vec<Exchange>,
}

impl Reading {
    /// Of the limits `limits`; `known` is what the host knows of the session.
    fn new(limits: Limits, known: &Window) -> Self {
        let unkept = known.exchanges().filter(|exchange| !exchange.kept).cloned().collect();
        Self { window: Window::new(limits), last: None, open: VecDeque::new(), unkept }
    }

    fn take(&mut self, event: SessionEvent) {
        let at = event.turn.clone();
        let turn = event.turn.unwrap_or_default();
        match event.what {
            What::Utterance { text, .. } => self.ask(turn, text),
            What::Command { prompt: Some(prompt), .. } => self.ask(turn, prompt),
            What::Reply { text, model } => {
                self.unkept.retain(|exchange| exchange.turn != turn);
                self.last = at;
                if let (Some(question), Some(_)) = (self.asked(&turn), model) {
                    self.window.push(Exchange { turn, question, answer: text, kept: true });
                }
            }
            _ => {}
        }
    }

    /// The last question of a turn is the one that the model is asked.
    fn ask(&mut self, turn: String, text: String) {
        self.asked(&turn);
        if self.open.len() == OPEN_QUESTIONS {
            self.open.pop_front();
        }
        self.open.push_back((turn, text));
    }

    fn asked(&mut self, turn: &str) -> Option<String> {
        let at = self.open.iter().position(|(asked, _)| asked == turn)?;
        self.open.remove(at).map(|(_, text)| text)
    }

    /// All is read.
    fn end(mut self) -> Known {
        for exchange in self.unkept {
            self.window.push(exchange);
        }
        Known { window: self.window, last: self.last, is_stale: false }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::{Ready, ready};

    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits::new(6, 340, "")
    }

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

    fn answers(window: &Window) -> Vec<&str> {
        window.exchanges().map(|exchange| exchange.answer.as_str()).collect()
    }

    fn last(turn: &str) -> Option<Result<Option<String>, BusError>> {
        Some(Ok(Some(turn.to_owned())))
    }

    fn down() -> BusError {
        BusError::Disconnected { what: "reading".to_owned() }
    }

    /// Reads a session with these events.
    fn reads(events: Vec<SessionEvent>) -> impl FnOnce(Reading) -> Ready<Result<Known, BusError>> {
        |mut reading| {
            events.into_iter().for_each(|event| reading.take(event));
            ready(Ok(reading.end()))
        }
    }

    fn fails(_: Reading) -> Ready<Result<Known, BusError>> {
        ready(Err(down()))
    }

    fn unread(_: Reading) -> Ready<Result<Known, BusError>> {
        panic!("it is known and must not be read")
    }

    fn known(limits: Limits, events: &[SessionEvent]) -> Known {
        let mut reading = Reading::new(limits, &Window::new(limits));
        events.iter().cloned().for_each(|event| reading.take(event));
        reading.end()
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
            let known = known(Limits::new(turns, 300, ""), &events);
            let pair = |exchange: &Exchange| (exchange.question.clone(), exchange.answer.clone());
            known.window.exchanges().map(pair).collect::<Vec<_>>()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(shown(2), [pair("four", "fourth"), pair("five", "fifth")]);
        assert_eq!(shown(9).len(), 3);
        assert_eq!(known(limits(), &events[..4]).last.as_deref(), Some("2"));
    }

    #[test]
    fn a_command_that_asks_the_model_is_shown_as_the_model_was_asked() {
        let asks =
            What::Command { name: "ask".to_owned(), slots: BTreeMap::new(), prompt: Some("who are you".to_owned()) };
        let events = [event("1", said("ask it who it is")), event("1", asks), event("1", reply("me", Some("m")))];
        let known = known(limits(), &events);
        assert_eq!(known.window.exchanges().next().unwrap().question, "who are you");
    }

    #[tokio::test]
    async fn what_another_host_has_answered_is_read() {
        let sessions = Sessions::new(limits());
        sessions.remember("s", exchange("a", true));
        assert_eq!(answers(&sessions.up_to_date("s", last("a"), unread).await), ["a"]);
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), reads(turns(&["a", "b"]))).await), ["a", "b"]);
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), unread).await), ["a", "b"]);
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_read_the_next_time() {
        let sessions = Sessions::new(limits());
        assert!(answers(&sessions.up_to_date("s", last("a"), fails).await).is_empty());
        // Also when this host has answered meanwhile.
        sessions.remember("s", exchange("b", true));
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), reads(turns(&["a", "b"]))).await), ["a", "b"]);
        assert_eq!(answers(&sessions.up_to_date("s", last("a"), reads(turns(&["a"]))).await), ["a"]);
        // What is known here is shown as long as the server does not answer.
        assert_eq!(answers(&sessions.up_to_date("s", Some(Err(down())), unread).await), ["a"]);
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), fails).await), ["a"]);
    }

    #[tokio::test]
    async fn an_answer_that_the_server_has_not_taken_yet_is_not_lost() {
        let sessions = Sessions::new(limits());
        sessions.remember("s", exchange("old", true));
        sessions.remember("s", exchange("own", false));
        assert_eq!(answers(&sessions.up_to_date("s", last("b"), reads(turns(&["b"]))).await), ["b", "own"]);
        // Once it is there it is shown once.
        let read = reads(turns(&["b", "own", "c"]));
        assert_eq!(answers(&sessions.up_to_date("s", last("c"), read).await), ["b", "own", "c"]);
    }

    #[tokio::test]
    async fn where_nothing_is_kept_the_host_itself_remembers() {
        let sessions = Sessions::new(limits());
        sessions.remember("s", exchange("a", true));
        assert_eq!(answers(&sessions.up_to_date("s", None, unread).await), ["a"]);
    }

    #[tokio::test]
    async fn sessions_that_are_read_are_bounded_too() {
        let sessions = Sessions::new(limits());
        for number in 0..3 * SESSIONS {
            sessions.up_to_date(&number.to_string(), last("a"), reads(turns(&["a"]))).await;
        }
        assert!(sessions.lock().len() <= SESSIONS);
    }

    #[test]
    fn questions_without_an_answer_are_bounded_too() {
        let mut reading = Reading::new(limits(), &Window::new(limits()));
        (0..1_000).for_each(|turn| reading.take(event(&turn.to_string(), said("?"))));
        assert_eq!(reading.open.len(), OPEN_QUESTIONS);
        reading.take(event("999", reply("!", Some("m"))));
        assert_eq!(answers(&reading.end().window), ["!"]);
    }

    proptest! {
        // Turns go from host to host, hosts are started again: all of them show what the session says.
        #[test]
        fn each_host_shows_the_same_of_a_session(
            most in 0..10_usize,
            tokens in 0..600_u32,
            steps in prop::collection::vec((0..3_usize, any::<bool>(), 0..400_usize), 1..40),
        ) {
            let limits = Limits::new(most, tokens, "Be kind.");
            let mut hosts = [0; 3].map(|_| Sessions::new(limits));
            let mut log: Vec<SessionEvent> = Vec::new();
            for (turn, (host, is_new, length)) in steps.into_iter().enumerate() {
                if is_new {
                    hosts[host] = Sessions::new(limits);
                }
                let last_turn = log.last().and_then(|event| event.turn.clone());
                let up_to_date = hosts[host].up_to_date("s", Some(Ok(last_turn)), reads(log.clone()));
                let window = up_to_date.now_or_never().unwrap();
                prop_assert_eq!(&window, &known(limits, &log).window);
                let (turn, answer) = (turn.to_string(), "a".repeat(length));
                log.extend([event(&turn, said("?")), event(&turn, reply(&answer, Some("m")))]);
                hosts[host].remember("s", Exchange { turn, question: "?".to_owned(), answer, kept: true });
            }
        }
    }
}
