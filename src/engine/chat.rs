//! What the chat providers share: the HTTP client, deadlines, and how a bad answer is told.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use reqwest::{Client, Response, Url};
use tokio::time::timeout;

use super::{ChatDelta, ChatEnd, ChatStream, ChatTimeouts, EngineError, Reach};

/// How much of a strange answer an error quotes, in characters.
const EXCERPT_CHARS: usize = 160;
/// How much of a strange answer is read for that, in bytes.
const EXCERPT_BYTES: usize = 4096;

/// A provider's address as errors name it, and what to do when it is down.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// The provider, such as `Ollama`.
    pub(super) provider: &'static str,
    /// Its base URL.
    pub(super) url: String,
    /// What to do when it does not answer.
    pub(super) hint: &'static str,
}

impl Endpoint {
    /// The provider does not answer.
    pub(super) fn down(&self, why: &str) -> EngineError {
        EngineError::Unavailable(format!("{} at {} {why}; {}", self.provider, self.url, self.hint))
    }

    /// The provider answers nonsense, or that the conversation is too long.
    pub(super) fn nonsense(&self, why: &str) -> EngineError {
        if exceeds_context(why) {
            return EngineError::TooLarge(format!(
                "the conversation is more than the model holds: {} at {} {why}; say less at once, begin a new session, or \
                 give the model more context",
                self.provider, self.url
            ));
        }
        EngineError::Failed(format!("{} at {} {why}", self.provider, self.url))
    }

    /// The model is not on offer.
    pub(super) fn unknown_model(&self, model: &str, offered: &[String]) -> EngineError {
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        EngineError::Missing(format!("{} at {} has no model {model:?}; offered: {offered}", self.provider, self.url))
    }

    /// A failed HTTP exchange.
    pub(super) fn transport(&self, error: &reqwest::Error) -> EngineError {
        let why = if error.is_connect() {
            format!("does not accept a connection ({})", root_cause(error))
        } else if error.is_timeout() {
            "did not answer in time".to_owned()
        } else {
            format!("broke off ({})", root_cause(error))
        };
        self.down(&why)
    }

    /// An answer with an unexpected status. Reads a little of its body.
    pub(super) async fn bad_status(&self, response: Response, patience: Duration) -> EngineError {
        let status = response.status();
        let body = body_excerpt(response, patience).await;
        if matches!(status.as_u16(), 429 | 503) {
            return self.down(&format!("is busy ({status}: {body})"));
        }
        self.nonsense(&format!("answered {status}: {body}"))
    }

    /// Takes `pieces` to their end, for the sake of what the server loads and reads for them; gives how they ended.
    pub(super) async fn drain(
        &self,
        pieces: impl Stream<Item = Result<ChatDelta, EngineError>>,
        patience: Duration,
    ) -> Result<ChatEnd, EngineError> {
        let mut pieces = std::pin::pin!(pieces);
        let drained = async {
            let mut end = ChatEnd::default();
            while let Some(piece) = pieces.next().await {
                if let ChatDelta::Done(done) = piece? {
                    end = done;
                }
            }
            Ok(end)
        };
        timeout(patience, drained).await.unwrap_or_else(|_| Err(self.down("did not load the model in time")))
    }

    /// Puts deadlines and sense into `pieces`: each piece must come in time, the stream must end with
    /// [`ChatDelta::Done`], and something must have been said.
    pub(super) fn guard(
        self: Arc<Self>,
        pieces: impl Stream<Item = Result<ChatDelta, EngineError>> + Send + 'static,
        timeouts: ChatTimeouts,
    ) -> ChatStream {
        struct State {
            pieces: Option<BoxStream<'static, Result<ChatDelta, EngineError>>>,
            first: bool,
            spoke: bool,
        }
        let state = State { pieces: Some(pieces.boxed()), first: true, spoke: false };
        let next = move |mut state: State| {
            let endpoint = Arc::clone(&self);
            async move {
                loop {
                    let pieces = state.pieces.as_mut()?;
                    let patience = if state.first { timeouts.first_token } else { timeouts.token };
                    let item = match timeout(patience, pieces.next()).await {
                        Err(_) => Err(endpoint.down(&format!("sent nothing for {} ms", patience.as_millis()))),
                        Ok(None) => Err(endpoint.nonsense("closed the connection in mid-answer")),
                        Ok(Some(Ok(ChatDelta::Text(text)))) => {
                            if text.is_empty() {
                                continue;
                            }
                            state.first = false;
                            state.spoke |= !text.trim().is_empty();
                            Ok(ChatDelta::Text(text))
                        }
                        Ok(Some(Ok(ChatDelta::Done(end)))) if !state.spoke => {
                            Err(endpoint.nonsense(&format!("gave an empty answer (it ended by {:?})", end.finish)))
                        }
                        Ok(Some(other)) => other,
                    };
                    // After the end or an error nothing follows, and dropping the pieces stops the model.
                    if !matches!(item, Ok(ChatDelta::Text(_))) {
                        state.pieces = None;
                    }
                    return Some((item, state));
                }
            }
        };
        futures::stream::unfold(state, next).boxed()
    }
}

/// A client for the provider at `url`. It follows no redirect, so that a key never goes anywhere else, and asks no proxy
/// for what is on the local network.
pub(super) fn http_client(url: &Url, timeouts: ChatTimeouts) -> Result<Client, EngineError> {
    // Fails only when another part of the program has chosen a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().connect_timeout(timeouts.connect).redirect(reqwest::redirect::Policy::none());
    let client = if Reach::of(url) == Reach::Outside { client } else { client.no_proxy() };
    client.build().map_err(|error| EngineError::Failed(format!("no HTTP client could be made: {}", root_cause(&error))))
}

/// Parses a provider's base URL and drops a slash at its end.
pub(super) fn base_url(url: &str) -> Result<(Url, String), EngineError> {
    let bad = |why: &str| {
        EngineError::Invalid(format!("{url:?} is no provider's address ({why}); give one such as http://host:11434"))
    };
    let parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(bad("it must begin with http:// or https://"));
    }
    Ok((parsed, url.trim_end_matches('/').to_owned()))
}

/// The last error in the chain: the one that says what happened.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}

/// Whether a provider says that a conversation is longer than its model's context: llama.cpp, vLLM, Ollama and OpenAI
/// each say it in words of their own, and some in a code that stands behind the words.
fn exceeds_context(why: &str) -> bool {
    let why = why.to_lowercase();
    let mentions = |words: &[&str]| words.iter().any(|word| why.contains(word));
    mentions(&["context size", "context_size", "context length", "context_length", "context window"])
        && mentions(&["exceed", "maximum", "too long", "larger than"])
}

/// The beginning of `text` on one line.
pub(super) fn excerpt(text: &str) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = words.char_indices().nth(EXCERPT_CHARS) {
        words.truncate(at);
        words.push('…');
    }
    if words.is_empty() { "nothing".to_owned() } else { words }
}

/// The beginning of a response's body; what came until `patience` had passed.
pub(super) async fn body_excerpt(response: Response, patience: Duration) -> String {
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    let read = async {
        while let Some(Ok(piece)) = pieces.next().await {
            body.extend_from_slice(&piece);
            if body.len() >= EXCERPT_BYTES {
                break;
            }
        }
    };
    // A body that does not end in time is quoted as far as it came.
    let _ = timeout(patience, read).await;
    excerpt(&String::from_utf8_lossy(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint { provider: "Ollama", url: "http://h".into(), hint: "start it" })
    }

    async fn guarded(pieces: Vec<Result<ChatDelta, EngineError>>) -> Vec<Result<ChatDelta, String>> {
        let stream = endpoint().guard(futures::stream::iter(pieces), ChatTimeouts::default());
        stream.map(|item| item.map_err(|error| error.to_string())).collect().await
    }

    fn text(text: &str) -> Result<ChatDelta, EngineError> {
        Ok(ChatDelta::Text(text.into()))
    }

    fn done() -> ChatDelta {
        ChatDelta::Done(ChatEnd { finish: "stop".into(), ..ChatEnd::default() })
    }

    #[tokio::test]
    async fn a_good_answer_passes() {
        let items = guarded(vec![text(""), text("Hi"), Ok(done()), text("late")]).await;
        assert_eq!(items, [Ok(ChatDelta::Text("Hi".into())), Ok(done())]);
    }

    #[tokio::test]
    async fn an_end_that_is_missing_or_empty_is_an_error() {
        let items = guarded(vec![text("Hi")]).await;
        assert_eq!(items.len(), 2);
        assert_eq!(items[1], Err("Ollama at http://h closed the connection in mid-answer".into()));
        let items = guarded(vec![text(" \n"), Ok(done())]).await;
        assert_eq!(items[1], Err("Ollama at http://h gave an empty answer (it ended by \"stop\")".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_runs_into_the_deadline() {
        let pieces = futures::stream::iter([text("Hi")]).chain(futures::stream::pending());
        let mut stream = endpoint().guard(pieces, ChatTimeouts::default());
        assert!(stream.next().await.unwrap().is_ok());
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(matches!(error, EngineError::Unavailable(_)));
        assert_eq!(error.to_string(), "Ollama at http://h sent nothing for 15000 ms; start it");
        assert!(stream.next().await.is_none());
    }

    #[test]
    fn a_conversation_that_is_too_long_is_told() {
        for why in [
            "answered 400: {\"error\":{\"message\":\"request (5000 tokens) exceeds the available context size (4096 tokens)",
            "answered 400: {\"error\":{\"type\":\"exceed_context_size_error\"}}",
            "answered 400: This model's maximum context length is 8192 tokens.",
            "failed: prompt too long; exceeded max context length by 12 tokens",
        ] {
            assert!(matches!(endpoint().nonsense(why), EngineError::TooLarge(_)), "{why}");
        }
        for why in ["answered 400: the maximum temperature is 2", "failed: no context size was set"] {
            assert!(matches!(endpoint().nonsense(why), EngineError::Failed(_)), "{why}");
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(" <html>\n  <body>"), "<html> <body>");
        assert_eq!(excerpt(""), "nothing");
        assert_eq!(excerpt(&"é".repeat(1000)).chars().count(), EXCERPT_CHARS + 1);
    }

    #[test]
    fn a_bad_address_says_how_a_good_one_looks() {
        for url in ["localhost:11434", "nats://h", "", "http://"] {
            let error = base_url(url).unwrap_err();
            assert!(error.to_string().contains("http://host:11434"), "{error}");
        }
        assert_eq!(base_url("http://h:1/v1/").unwrap().1, "http://h:1/v1");
    }
}
