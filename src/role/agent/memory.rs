//! What the chat model is shown of a session: the last turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::bus::Bus;
use crate::bus::message::llm::{ChatMessage, Role};
use crate::bus::message::session::{SessionEvent, What};
use crate::bus::session::history;
use crate::role::RoleContext;

/// Sessions that are remembered here; the rest is read from JetStream when it goes on.
const SESSIONS: usize = 256;
/// Events read for each turn that is shown: utterance, command, reply, states, times.
const EVENTS_A_TURN: usize = 16;

/// A question and its answer.
type Exchange = (String, String);

/// The last exchanges of the sessions that this host answers.
pub struct Memory {
    bus: Bus,
    system_prompt: String,
    turns: usize,
    sessions: Mutex<HashMap<String, VecDeque<Exchange>>>,
}

impl Memory {
    pub fn new(context: &RoleContext) -> Self {
        let config = &context.config.agent;
        Self {
            bus: context.bus.clone(),
            system_prompt: config.system_prompt.clone(),
            turns: config.history_turns,
            sessions: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, VecDeque<Exchange>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages for a question `text` in `session`, the last exchanges before it.
    pub async fn messages(&self, session: &str, text: &str) -> Vec<ChatMessage> {
        let known = self.lock().get(session).cloned();
        let exchanges = match known {
            Some(exchanges) => exchanges,
            None => self.recall(session).await,
        };
        let mut messages = Vec::new();
        if !self.system_prompt.is_empty() {
            messages.push(ChatMessage::new(Role::System, &self.system_prompt));
        }
        for (question, answer) in exchanges {
            messages.push(ChatMessage::new(Role::User, question));
            messages.push(ChatMessage::new(Role::Assistant, answer));
        }
        messages.push(ChatMessage::new(Role::User, text));
        messages
    }

    /// Keeps an exchange. Those that are no longer shown are dropped; the session itself keeps them.
    pub fn remember(&self, session: &str, question: &str, answer: &str) {
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS && !sessions.contains_key(session) {
            sessions.clear();
        }
        let exchanges = sessions.entry(session.to_owned()).or_default();
        exchanges.push_back((question.to_owned(), answer.to_owned()));
        while exchanges.len() > self.turns {
            exchanges.pop_front();
        }
    }

    /// What is kept of a session that another host, or an earlier run, answered.
    async fn recall(&self, session: &str) -> VecDeque<Exchange> {
        let exchanges = match history(&self.bus, session, self.turns * EVENTS_A_TURN).await {
            Ok(events) => exchanges(&events, self.turns),
            Err(error) => {
                tracing::warn!(%error, session, "the model answers without what was said before");
                VecDeque::new()
            }
        };
        self.lock().insert(session.to_owned(), exchanges.clone());
        exchanges
    }
}

/// The last `turns` turns that a model answered.
fn exchanges(events: &[SessionEvent], turns: usize) -> VecDeque<Exchange> {
    let mut asked: HashMap<&str, &str> = HashMap::new();
    let mut found = VecDeque::new();
    for event in events {
        let turn = event.turn.as_deref().unwrap_or_default();
        match &event.what {
            What::Utterance { text, .. } => {
                asked.insert(turn, text);
            }
            What::Reply { text, model: Some(_) } => {
                if let Some(question) = asked.get(turn) {
                    found.push_back(((*question).to_owned(), text.clone()));
                }
            }
            _ => {}
        }
    }
    while found.len() > turns {
        found.pop_front();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(exchanges(&events, 2), [pair("four", "fourth"), pair("five", "fifth")]);
        assert_eq!(exchanges(&events, 9).len(), 3);
    }
}
