//! Reads beforehand what the next request of a conversation will begin with.
//!
//! Where a conversation has become too long, its next request leaves out a block of messages, and a model that keeps what it
//! has read must read the rest again while a person waits. The caller says so in `cut_next`; then the rest is read after
//! the answer, while nothing else is to do. Every request ends that at once, and whatever was read by then is read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::bus::message::llm::{Chat, ChatMessage, Role as Speaker};
use crate::engine::{ChatModel, ChatRequest};

/// How long after an answer it begins: the end of the answer has still to be spoken, perhaps by the same processor.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads one conversation at a time ahead. Dropping it ends that.
pub struct ReadAhead {
    model: Arc<dyn ChatModel>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Requests that are being worked on.
    busy: usize,
    task: Option<AbortHandle>,
}

impl State {
    fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// A request that is being worked on, until it is dropped.
pub struct Busy(Arc<Mutex<State>>);

impl Drop for Busy {
    fn drop(&mut self) {
        lock(&self.0).busy -= 1;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReadAhead {
    /// With the model that is to read.
    pub fn new(model: Arc<dyn ChatModel>) -> Self {
        Self { model, state: Arc::default() }
    }

    /// A request begins: it goes first.
    pub fn busy(&self) -> Busy {
        let mut state = lock(&self.state);
        state.end();
        state.busy += 1;
        Busy(Arc::clone(&self.state))
    }

    /// Reads `request`, unless other requests are being worked on, until one comes.
    pub fn read(&self, request: ChatRequest) {
        let mut state = lock(&self.state);
        if state.busy > 0 {
            return;
        }
        state.end();
        let model = Arc::clone(&self.model);
        let task = tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            match model.read_ahead(request).await {
                Ok(Some(end)) => tracing::debug!(
                    prompt_tokens = end.prompt_tokens,
                    cached_tokens = end.cached_tokens,
                    "the next prompt of a conversation is read"
                ),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the next prompt of a conversation is not read beforehand"),
            }
        });
        state.task = Some(task.abort_handle());
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        lock(&self.state).end();
    }
}

/// The beginning of the request that will follow `chat` when it has been answered; `None` if it begins as this one does.
pub fn next(chat: &Chat, answer: &str) -> Option<Chat> {
    let instructions = chat.messages.iter().take_while(|message| message.role == Speaker::System).count();
    let rest = chat.messages.get(instructions.saturating_add(chat.cut_next)..).filter(|_| chat.cut_next > 0)?;
    let mut messages = [&chat.messages[..instructions], rest].concat();
    match messages.last_mut() {
        // What another host had given of the answer.
        Some(begun) if begun.role == Speaker::Assistant => begun.content.push_str(answer),
        _ => messages.push(ChatMessage::new(Speaker::Assistant, answer)),
    }
    Some(Chat { messages, cut_next: 0, ..chat.clone() })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;
    use crate::bus::message::Message as _;
    use crate::engine::{ChatEnd, ChatStream, EngineError, Reach};

    /// A model that says what it begins to read, and when that is ended; it never comes to the end by itself.
    struct Slow(UnboundedSender<&'static str>);

    struct Ends(UnboundedSender<&'static str>);

    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.send("ended").unwrap();
        }
    }

    #[async_trait]
    impl ChatModel for Slow {
        fn provider(&self) -> &str {
            "slow"
        }

        fn default_model(&self) -> &str {
            "slow"
        }

        fn reach(&self) -> Reach {
            Reach::Host
        }

        async fn models(&self) -> Result<Vec<String>, EngineError> {
            Ok(vec![])
        }

        async fn warm(&self) -> Result<(), EngineError> {
            Ok(())
        }

        async fn chat(&self, _: ChatRequest) -> Result<ChatStream, EngineError> {
            Err(EngineError::Failed("it is not asked".to_owned()))
        }

        async fn read_ahead(&self, _: ChatRequest) -> Result<Option<ChatEnd>, EngineError> {
            self.0.send("reads").unwrap();
            let _ends = Ends(self.0.clone());
            std::future::pending().await
        }
    }

    fn ahead() -> (ReadAhead, UnboundedReceiver<&'static str>) {
        let (out, events) = unbounded_channel();
        (ReadAhead::new(Arc::new(Slow(out))), events)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_what_is_read_ahead() {
        let (ahead, mut events) = ahead();
        ahead.read(ChatRequest::default());
        assert_eq!(events.recv().await, Some("reads"));
        let busy = ahead.busy();
        assert_eq!(events.recv().await, Some("ended"));
        // While it is worked on nothing is begun.
        ahead.read(ChatRequest::default());
        drop(busy);
        ahead.read(ChatRequest::default());
        assert_eq!(events.recv().await, Some("reads"));
        drop(ahead);
        assert_eq!(events.recv().await, Some("ended"));
        assert_eq!(events.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_within_the_pause_is_not_held_up() {
        let (ahead, mut events) = ahead();
        ahead.read(ChatRequest::default());
        drop(ahead.busy());
        tokio::time::sleep(2 * PAUSE).await;
        assert!(events.try_recv().is_err());
    }

    #[test]
    fn the_next_request_leaves_out_the_oldest_messages() {
        let say = |role, text: &str| ChatMessage::new(role, text);
        let (system, user, model) = (Speaker::System, Speaker::User, Speaker::Assistant);
        let messages = vec![say(system, "s"), say(user, "1"), say(model, "one"), say(user, "2")];
        let chat = Chat { messages, cut_next: 2, ..Chat::example() };
        let left = next(&chat, "two").unwrap();
        assert_eq!(left.messages, [say(system, "s"), say(user, "2"), say(model, "two")]);
        let taken_up = Chat { messages: [chat.messages.clone(), vec![say(model, "t")]].concat(), ..chat.clone() };
        assert_eq!(next(&taken_up, "wo"), Some(left));
        assert_eq!(next(&Chat { cut_next: 0, ..chat.clone() }, "two"), None);
        assert_eq!(next(&Chat { cut_next: usize::MAX, ..chat }, "two"), None);
    }
}
