//! Chat by [Ollama](https://github.com/ollama/ollama/blob/main/docs/api.md).
//!
//! The wire types are ollama-rs's. The exchange itself is done here: ollama-rs 0.3 drops a network chunk that ends
//! within a UTF-8 character, prints to stderr, and passes neither the status nor an error in mid-stream on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, Stream, StreamExt, TryStreamExt};
use ollama_rs::generation::chat::request::ChatMessageRequest;
use ollama_rs::generation::chat::{ChatMessage as WireMessage, ChatMessageResponse, MessageRole};
use ollama_rs::generation::parameters::{FormatType, JsonStructure, KeepAlive, ThinkType, TimeUnit};
use ollama_rs::models::{LocalModel, ModelInfo, ModelOptions};
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::chat::{Endpoint, base_url, body_excerpt, excerpt, http_client, root_cause};
use super::{ChatDelta, ChatEnd, ChatModel, ChatRequest, ChatRole, ChatRow, ChatSpec, ChatStream, ChatTimeouts};
use super::{EngineError, Finding, Needs, Reach};
use crate::home::Home;

/// Where Ollama listens unless told otherwise.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:11434";
/// A line of an answer longer than this is nonsense.
const LINE_BYTES: usize = 1 << 20;
/// How long a model stays loaded after its last use, in minutes. Ollama's own default of 5 makes the first question
/// after a pause wait for seconds.
const KEEP_ALIVE_MIN: u64 = 30;

/// How long it may take to say how it is, to somebody who only looks.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_millis(900);

inventory::submit! {
    ChatRow {
        name: "ollama",
        about: "Ollama, on this host or another",
        needs: Needs { url: DEFAULT_URL, ..Needs::NOTHING },
        build: |spec, _| async move { Ok(Arc::new(Ollama::connect(spec).await?) as Arc<dyn ChatModel>) }.boxed(),
        check: Some(|spec, home| check(spec, home).boxed()),
    }
}

async fn check(spec: &ChatSpec, _: &Home) -> Vec<Finding> {
    let what = "Ollama";
    vec![match look(spec, false).await {
        Ok(detail) => Finding::Ok { what, detail },
        Err(why) => Finding::Fail { what, detail: why, todo: String::new() },
    }]
}

/// Its version and models; `any` chat model will do, or the one that is wanted.
///
/// # Errors
/// Why it can't be used.
pub(super) async fn look(spec: &ChatSpec, any: bool) -> Result<String, String> {
    let timeouts = ChatTimeouts { connect: LOOK_TIMEOUT, first_token: LOOK_TIMEOUT, token: LOOK_TIMEOUT };
    let spec = ChatSpec { timeouts, ..spec.clone() };
    let asked = async {
        let ollama = if any { Ollama::connect_to_any(&spec).await? } else { Ollama::connect(&spec).await? };
        let (version, models) = (ollama.version().await?, ollama.models().await?);
        Ok(format!("{version}; uses {}; has {}", ollama.default_model(), models.join(", ")))
    };
    match timeout(LOOK_TIMEOUT, asked).await {
        Ok(result) => result.map_err(|error: EngineError| error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", LOOK_TIMEOUT.as_millis())),
    }
}

/// A running Ollama and one of its models.
#[derive(Debug)]
pub struct Ollama {
    client: reqwest::Client,
    endpoint: Arc<Endpoint>,
    timeouts: ChatTimeouts,
    model: String,
    reach: Reach,
}

impl Ollama {
    /// Connects to the Ollama that `spec` names and checks that the model is on offer.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when it does not answer in time, [`EngineError::Missing`] when it has no such model,
    /// [`EngineError::Invalid`] for a bad URL, [`EngineError::Failed`] when something else answers there.
    pub async fn connect(spec: &ChatSpec) -> Result<Self, EngineError> {
        let mut ollama = Self::new(spec)?;
        let offered = ollama.all_models().await?;
        ollama.model = match &spec.model {
            Some(model) => {
                find(&offered, model).cloned().ok_or_else(|| ollama.endpoint.unknown_model(model, &offered))?
            }
            None => ollama.first_chat_model(&offered).await?,
        };
        Ok(ollama)
    }

    /// Like [`Ollama::connect`], but takes the first chat model when the wanted one is not on offer.
    ///
    /// # Errors
    /// As [`Ollama::connect`]; [`EngineError::Missing`] only when no chat model is on offer at all.
    pub async fn connect_to_any(spec: &ChatSpec) -> Result<Self, EngineError> {
        let mut ollama = Self::new(spec)?;
        let offered = ollama.all_models().await?;
        let wanted = spec.model.as_deref().and_then(|model| find(&offered, model));
        ollama.model = match wanted {
            Some(model) => model.clone(),
            None => {
                let first = ollama.first_chat_model(&offered).await?;
                if let Some(wanted) = &spec.model {
                    tracing::warn!(url = ollama.endpoint.url, wanted, taken = first, "Ollama lacks the wanted model");
                }
                first
            }
        };
        Ok(ollama)
    }

    /// The version of the server.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when it does not answer in time, [`EngineError::Failed`] when it is no Ollama.
    pub async fn version(&self) -> Result<String, EngineError> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: String,
        }
        let Version { version } = self.ask(self.client.get(self.path("version"))).await?;
        Ok(version)
    }

    fn new(spec: &ChatSpec) -> Result<Self, EngineError> {
        let (url, base) = base_url(spec.url.as_deref().unwrap_or(DEFAULT_URL))?;
        Ok(Self {
            client: http_client(&url, spec.timeouts)?,
            endpoint: Arc::new(Endpoint {
                provider: "Ollama",
                url: base,
                hint: "start it (`ollama serve`) or correct the URL",
            }),
            timeouts: spec.timeouts,
            model: String::new(),
            reach: Reach::of(&url),
        })
    }

    /// The first of `offered` that can chat, which embedding models can't, and that runs there: what is said goes to a
    /// cloud only where one is named.
    async fn first_chat_model(&self, offered: &[String]) -> Result<String, EngineError> {
        let (relayed, own): (Vec<_>, Vec<_>) = offered.iter().partition(|model| is_relayed(model));
        for model in own {
            let request = self.client.post(self.path("show")).body(json!({ "model": model }).to_string());
            let info: ModelInfo = self.ask(request).await?;
            // Versions before 0.6 tell no capabilities.
            if info.capabilities.is_empty() || info.capabilities.iter().any(|can| can == "completion") {
                return Ok(model.clone());
            }
        }
        let name =
            |model: &&String| format!(", or set model = \"{model}\" in llm.providers to have Ollama's cloud answer");
        Err(EngineError::Missing(format!(
            "Ollama at {} has no chat model of its own; fetch one, such as `ollama pull llama3.2`{}",
            self.endpoint.url,
            relayed.first().map(name).unwrap_or_default()
        )))
    }

    /// Everything that it lists, models of its cloud too.
    async fn all_models(&self) -> Result<Vec<String>, EngineError> {
        #[derive(serde::Deserialize)]
        struct Tags {
            models: Vec<LocalModel>,
        }
        let tags: Tags = self.ask(self.client.get(self.path("tags"))).await?;
        Ok(tags.models.into_iter().map(|model| model.name).collect())
    }

    fn path(&self, verb: &str) -> String {
        format!("{}/api/{verb}", self.endpoint.url)
    }

    /// One request, one JSON answer.
    async fn ask<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, EngineError> {
        let response = self.send(request, self.timeouts.token).await?;
        if !response.status().is_success() {
            return Err(self.endpoint.bad_status(response, self.timeouts.token).await);
        }
        let body = timeout(self.timeouts.token, response.text()).await;
        let body = body.map_err(|_| self.endpoint.down("did not finish its answer in time"))?;
        let body = body.map_err(|error| self.endpoint.transport(&error))?;
        serde_json::from_str(&body).map_err(|_| self.endpoint.nonsense(&format!("is no Ollama: {}", excerpt(&body))))
    }

    async fn send(&self, request: reqwest::RequestBuilder, patience: Duration) -> Result<Response, EngineError> {
        let sent = timeout(patience, request.send()).await;
        let sent = sent.map_err(|_| self.endpoint.down(&format!("gave no answer in {} ms", patience.as_millis())))?;
        sent.map_err(|error| self.endpoint.transport(&error))
    }

    /// Sends a chat request and gives the pieces of the answer as they come.
    async fn start(
        &self,
        request: &ChatMessageRequest,
    ) -> Result<impl Stream<Item = Result<ChatDelta, EngineError>> + Send + use<>, EngineError> {
        let model = &request.model_name;
        let bad = |error: serde_json::Error| EngineError::Invalid(format!("the request can't be written: {error}"));
        let mut body = serde_json::to_value(request).map_err(bad)?;
        body["stream"] = true.into();
        let response = self.send(self.client.post(self.path("chat")).body(body.to_string()), self.timeouts.first_token);
        let response = response.await?;
        match response.status() {
            StatusCode::OK => Ok(answer(response, Arc::clone(&self.endpoint))),
            StatusCode::NOT_FOUND => {
                let body = body_excerpt(response, self.timeouts.token).await;
                // Something that is no Ollama knows no /api/tags either.
                Err(match self.models().await {
                    Ok(offered) => self.endpoint.unknown_model(model, &offered),
                    Err(_) => self.endpoint.nonsense(&format!("answered 404: {body}")),
                })
            }
            _ => Err(self.endpoint.bad_status(response, self.timeouts.token).await),
        }
    }

    fn request(&self, model: Option<&str>, messages: Vec<WireMessage>) -> Result<ChatMessageRequest, EngineError> {
        let model = model.unwrap_or(&self.model);
        if self.reach() != Reach::Outside && is_relayed(model) {
            return Err(EngineError::Invalid(format!(
                "{model} runs in Ollama's cloud, and {} is used as a local provider; choose a local model",
                self.endpoint.url
            )));
        }
        Ok(ChatMessageRequest::new(model.to_owned(), messages)
            .keep_alive(KeepAlive::Until { time: KEEP_ALIVE_MIN, unit: TimeUnit::Minutes })
            // Someone waits for the first sentence; a model that can't think accepts this too.
            .think(ThinkType::False))
    }

    fn chat_request(&self, request: ChatRequest) -> Result<ChatMessageRequest, EngineError> {
        let messages = request.messages.into_iter().map(|message| {
            let role = match message.role {
                ChatRole::System => MessageRole::System,
                ChatRole::User => MessageRole::User,
                ChatRole::Assistant => MessageRole::Assistant,
            };
            WireMessage::new(role, message.content)
        });
        let mut wire = self.request(request.model.as_deref(), messages.collect())?;
        let mut options = ModelOptions::default();
        if let Some(temperature) = request.temperature {
            options = options.temperature(temperature);
        }
        if let Some(max_tokens) = request.max_tokens {
            options = options.num_predict(i32::try_from(max_tokens).unwrap_or(i32::MAX));
        }
        wire = wire.options(options);
        if let Some(schema) = request.format {
            let Value::Object(schema) = schema else {
                return Err(EngineError::Invalid("the answer's format must be a JSON Schema, an object".into()));
            };
            let schema = JsonStructure::new_for_schema(schema.into());
            wire = wire.format(FormatType::StructuredJson(Box::new(schema)));
        }
        Ok(wire)
    }
}

#[async_trait]
impl ChatModel for Ollama {
    fn provider(&self) -> &str {
        "ollama"
    }

    fn default_model(&self) -> &str {
        &self.model
    }

    fn reach(&self) -> Reach {
        if is_relayed(&self.model) { Reach::Outside } else { self.reach }
    }

    async fn models(&self) -> Result<Vec<String>, EngineError> {
        let mut models = self.all_models().await?;
        models.retain(|model| self.reach() == Reach::Outside || !is_relayed(model));
        Ok(models)
    }

    async fn warm(&self) -> Result<(), EngineError> {
        // A chat without messages loads the model and says nothing.
        let mut pieces = Box::pin(self.start(&self.request(None, vec![])?).await?);
        match timeout(self.timeouts.first_token, pieces.next()).await {
            Ok(Some(piece)) => piece.map(drop),
            Ok(None) => Err(self.endpoint.nonsense("closed the connection while it loaded the model")),
            Err(_) => Err(self.endpoint.down("did not load the model in time")),
        }
    }

    async fn chat(&self, request: ChatRequest) -> Result<ChatStream, EngineError> {
        let pieces = self.start(&self.chat_request(request)?).await?;
        Ok(Arc::clone(&self.endpoint).guard(pieces, self.timeouts))
    }

    async fn read_ahead(&self, request: ChatRequest) -> Result<Option<ChatEnd>, EngineError> {
        if self.reach == Reach::Outside || is_relayed(request.model.as_deref().unwrap_or(&self.model)) {
            return Ok(None);
        }
        // Without a token it does not read either.
        let request = self.chat_request(ChatRequest { max_tokens: Some(1), format: None, ..request })?;
        self.endpoint.drain(self.start(&request).await?, self.timeouts.first_token).await.map(Some)
    }
}

/// `model` among `offered`; Ollama takes a name without a tag as `:latest`.
fn find<'a>(offered: &'a [String], model: &str) -> Option<&'a String> {
    let latest = format!("{model}:latest");
    offered.iter().find(|name| *name == model).or_else(|| offered.iter().find(|name| **name == latest))
}

/// Whether Ollama hands requests for `model` on to its cloud, told by the tag (`gpt-oss:120b-cloud`).
fn is_relayed(model: &str) -> bool {
    model.rsplit_once(':').is_some_and(|(_, tag)| tag == "cloud" || tag.ends_with("-cloud"))
}

/// The pieces of a streamed answer, one JSON object a line.
fn answer(
    response: Response,
    endpoint: Arc<Endpoint>,
) -> impl Stream<Item = Result<ChatDelta, EngineError>> + Send + use<> {
    let bytes = response.bytes_stream().map_err(std::io::Error::other);
    FramedRead::new(StreamReader::new(bytes), LinesCodec::new_with_max_length(LINE_BYTES)).flat_map(move |line| {
        let pieces = match line {
            Ok(line) => pieces(&line).map_err(|why| endpoint.nonsense(&why)),
            Err(error) => Err(endpoint.down(&format!("broke off ({})", root_cause(&error)))),
        };
        let pieces = pieces.map_or_else(|error| vec![Err(error)], |pieces| pieces.into_iter().map(Ok).collect());
        futures::stream::iter(pieces)
    })
}

/// What one line of an answer says.
fn pieces(line: &str) -> Result<Vec<ChatDelta>, String> {
    if line.trim().is_empty() {
        return Ok(vec![]);
    }
    let value: Value = serde_json::from_str(line).map_err(|_| format!("sent what is no JSON: {}", excerpt(line)))?;
    if let Some(error) = value.get("error") {
        return Err(format!("failed: {}", excerpt(error.as_str().unwrap_or(&error.to_string()))));
    }
    let finish = value.get("done_reason").and_then(Value::as_str).unwrap_or("stop").to_owned();
    let count = |name| value.get(name).and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
    let (prompt_tokens, completion_tokens) = (count("prompt_eval_count"), count("eval_count"));
    let reply: ChatMessageResponse =
        serde_json::from_value(value).map_err(|error| format!("sent a strange answer ({error}): {}", excerpt(line)))?;
    let mut pieces = vec![];
    if !reply.message.content.is_empty() {
        pieces.push(ChatDelta::Text(reply.message.content));
    }
    if reply.done {
        // It does not say what of the prompt it had read before.
        let end = ChatEnd { model: reply.model, finish, prompt_tokens, cached_tokens: None, completion_tokens };
        pieces.push(ChatDelta::Done(end));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_text_and_the_end() {
        let line = r#"{"model":"m","created_at":"x","message":{"role":"assistant","content":"Hi"},"done":false}"#;
        assert_eq!(pieces(line).unwrap(), [ChatDelta::Text("Hi".into())]);
        let line = r#"{"model":"m","created_at":"x","message":{"role":"assistant","content":""},"done":true,
            "done_reason":"length","total_duration":1,"load_duration":1,"eval_count":7}"#;
        let end =
            ChatEnd { model: "m".into(), finish: "length".into(), completion_tokens: Some(7), ..ChatEnd::default() };
        assert_eq!(pieces(line).unwrap(), [ChatDelta::Done(end)]);
        assert_eq!(pieces("\r").unwrap(), []);
    }

    #[test]
    fn nonsense_is_quoted() {
        assert_eq!(pieces("<html>").unwrap_err(), "sent what is no JSON: <html>");
        assert_eq!(pieces(r#"{"error":"out of memory"}"#).unwrap_err(), "failed: out of memory");
        assert!(pieces(r#"{"hello":1}"#).unwrap_err().starts_with("sent a strange answer (missing field"));
    }

    #[test]
    fn a_name_without_a_tag_means_latest() {
        let offered = ["a:1b".to_owned(), "a:latest".to_owned(), "b".to_owned()];
        assert_eq!(find(&offered, "a").unwrap(), "a:latest");
        assert_eq!(find(&offered, "b").unwrap(), "b");
        assert_eq!(find(&offered, "a:2b"), None);
    }

    #[test]
    fn a_cloud_tag_is_told() {
        assert!(is_relayed("gpt-oss:120b-cloud") && is_relayed("glm:cloud"));
        assert!(!is_relayed("cloud:7b") && !is_relayed("my-cloud"));
    }
}
