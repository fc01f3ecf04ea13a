//! Chat by any server with the OpenAI protocol: llama.cpp's own, vLLM, LM Studio, or a cloud's.

use std::sync::Arc;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_openai::types::chat::{
    ChatCompletionRequestAssistantMessage, ChatCompletionRequestMessage, ChatCompletionRequestSystemMessage,
    ChatCompletionRequestUserMessage, ChatCompletionResponseStream, ChatCompletionStreamOptions,
    CreateChatCompletionRequest, CreateChatCompletionStreamResponse, FinishReason, ResponseFormat,
    ResponseFormatJsonSchema,
};
use async_trait::async_trait;
use futures::{FutureExt as _, Stream, StreamExt};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use tokio::time::timeout;
use tower::BoxError;

use super::EngineError;
use super::chat::{Endpoint, base_url, body_excerpt, excerpt, http_client};
use super::{ChatDelta, ChatEnd, ChatMessage, ChatModel, ChatRequest, ChatRole, ChatRow, ChatSpec, ChatStream};
use super::{ChatTimeouts, Needs, Reach};
use crate::secret::Secret;

const DEFAULT_URL: &str = "https://api.openai.com/v1";

inventory::submit! {
    ChatRow {
        name: "openai",
        about: "a server with the OpenAI protocol: a cloud's, vLLM, LM Studio",
        needs: Needs { model: None, key: Some("OpenAI key"), url: DEFAULT_URL },
        build: |spec, _| async move { Ok(Arc::new(OpenAi::connect(spec).await?) as Arc<dyn ChatModel>) }.boxed(),
        check: None,
    }
}

/// A server with the OpenAI protocol and one of its models.
pub struct OpenAi {
    client: Client<OpenAIConfig>,
    endpoint: Arc<Endpoint>,
    timeouts: ChatTimeouts,
    model: String,
    reach: Reach,
}

/// What the transport tells the calls above it, through async-openai's boxed error.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// The path or the model is unknown.
    #[error("{0}")]
    NotFound(String),
    /// Anything else, ready to be passed on.
    #[error(transparent)]
    Other(#[from] EngineError),
}

impl OpenAi {
    /// Connects to the server that `spec` names and checks that the model is on offer.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when it does not answer in time, [`EngineError::Missing`] when it has no such model or
    /// refuses the key, [`EngineError::Invalid`] for a bad URL or key, [`EngineError::Failed`] for nonsense.
    pub async fn connect(spec: &ChatSpec) -> Result<Self, EngineError> {
        let url = spec.url.as_deref().unwrap_or(DEFAULT_URL);
        let hint = "check the URL and the network";
        let mut server = Self::new("the chat server", url, hint, spec.key.as_ref(), spec.timeouts)?;
        let offered = server.models().await;
        server.model = match (&spec.model, offered) {
            (Some(model), Ok(offered)) if !offered.contains(model) => {
                return Err(server.endpoint.unknown_model(model, &offered));
            }
            (Some(model), Ok(_)) => model.clone(),
            // Not every server lists its models; the first question tells.
            (Some(model), Err(EngineError::Failed(error))) => {
                tracing::warn!(url, error, "the chat server does not list its models");
                model.clone()
            }
            (_, Err(error)) => return Err(error),
            (None, Ok(offered)) => {
                let none = || EngineError::Missing(format!("the chat server at {url} offers no model"));
                offered.into_iter().next().ok_or_else(none)?
            }
        };
        Ok(server)
    }

    /// A client that has asked nothing yet and has no default model.
    pub(super) fn new(
        provider: &'static str,
        url: &str,
        hint: &'static str,
        key: Option<&Secret>,
        timeouts: ChatTimeouts,
    ) -> Result<Self, EngineError> {
        let (url, base) = base_url(url)?;
        let key = key.map_or("", |key| key.expose().trim());
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EngineError::Invalid(format!("the key for {base} is no key: it has spaces or odd characters")));
        }
        let http = http_client(&url, timeouts)?;
        let endpoint = Arc::new(Endpoint { provider, url: base.clone(), hint });
        // Explicitly empty, or async-openai takes them from the environment.
        let config = OpenAIConfig::new().with_api_base(base).with_api_key(key).with_org_id("").with_project_id("");
        let transport = {
            let (http, endpoint) = (http.clone(), Arc::clone(&endpoint));
            tower::service_fn(move |request: HttpRequestFactory| {
                let (http, endpoint) = (http.clone(), Arc::clone(&endpoint));
                async move { exchange(&http, &endpoint, request, timeouts).await.map_err(BoxError::from) }
            })
        };
        let client = Client::build(http, config).with_http_service(transport);
        Ok(Self { client, endpoint, timeouts, model: String::new(), reach: Reach::of(&url) })
    }

    /// The same with a default model.
    pub(super) fn with_model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request and gives the pieces of the answer as they come.
    async fn start(
        &self,
        request: CreateChatCompletionRequest,
    ) -> Result<impl Stream<Item = Result<ChatDelta, EngineError>> + Send + use<>, EngineError> {
        let model = request.model.clone();
        match self.client.chat().create_stream(request).await {
            Ok(chunks) => Ok(answer(chunks, Arc::clone(&self.endpoint))),
            Err(error) => Err(match self.refusal(error) {
                Refusal::NotFound(body) => match self.models().await {
                    Ok(offered) if !offered.contains(&model) => self.endpoint.unknown_model(&model, &offered),
                    _ => self.endpoint.nonsense(&format!("answered 404: {body}")),
                },
                Refusal::Other(error) => error,
            }),
        }
    }

    /// Has the server load the model and read `request`; it writes one token, since none is not to be had.
    async fn read(&self, request: ChatRequest) -> Result<ChatEnd, EngineError> {
        let request = self.request(ChatRequest { max_tokens: Some(1), format: None, ..request });
        self.endpoint.drain(self.start(request).await?, self.timeouts.first_token).await
    }

    fn refusal(&self, error: OpenAIError) -> Refusal {
        match error {
            OpenAIError::Boxed(error) => match error.downcast::<Refusal>() {
                Ok(refusal) => *refusal,
                Err(error) => self.endpoint.nonsense(&error.to_string()).into(),
            },
            error => failure(&self.endpoint, &error).into(),
        }
    }

    fn request(&self, request: ChatRequest) -> CreateChatCompletionRequest {
        CreateChatCompletionRequest {
            messages: request.messages.into_iter().map(wire_message).collect(),
            model: request.model.unwrap_or_else(|| self.model.clone()),
            temperature: request.temperature,
            max_completion_tokens: request.max_tokens,
            response_format: request.format.map(|schema| ResponseFormat::JsonSchema {
                json_schema: ResponseFormatJsonSchema {
                    description: None,
                    name: "answer".into(),
                    schema,
                    strict: Some(true),
                },
            }),
            stream: Some(true),
            stream_options: Some(ChatCompletionStreamOptions { include_usage: Some(true), include_obfuscation: None }),
            ..CreateChatCompletionRequest::default()
        }
    }
}

#[async_trait]
impl ChatModel for OpenAi {
    fn provider(&self) -> &str {
        "openai"
    }

    fn default_model(&self) -> &str {
        &self.model
    }

    fn reach(&self) -> Reach {
        self.reach
    }

    async fn models(&self) -> Result<Vec<String>, EngineError> {
        let listed = timeout(self.timeouts.token, async { self.client.models().list().await }).await;
        match listed {
            Ok(Ok(list)) => Ok(list.data.into_iter().map(|model| model.id).collect()),
            Ok(Err(error)) => Err(match self.refusal(error) {
                Refusal::NotFound(body) => self.endpoint.nonsense(&format!("answered 404: {body}")),
                Refusal::Other(error) => error,
            }),
            Err(_) => Err(self.endpoint.down("did not list its models in time")),
        }
    }

    async fn warm(&self) -> Result<(), EngineError> {
        if self.reach == Reach::Outside {
            // A cloud keeps its models loaded and counts every token; that it answers is enough.
            return self.models().await.map(drop);
        }
        let hello = ChatMessage { role: ChatRole::User, content: "Hello".into() };
        self.read(ChatRequest { messages: vec![hello], ..ChatRequest::default() }).await.map(drop)
    }

    async fn chat(&self, request: ChatRequest) -> Result<ChatStream, EngineError> {
        let pieces = self.start(self.request(request)).await?;
        Ok(Arc::clone(&self.endpoint).guard(pieces, self.timeouts))
    }

    async fn read_ahead(&self, request: ChatRequest) -> Result<Option<ChatEnd>, EngineError> {
        if self.reach == Reach::Outside { Ok(None) } else { self.read(request).await.map(Some) }
    }
}

fn wire_message(message: ChatMessage) -> ChatCompletionRequestMessage {
    match message.role {
        ChatRole::System => ChatCompletionRequestSystemMessage::from(message.content).into(),
        ChatRole::User => ChatCompletionRequestUserMessage::from(message.content).into(),
        ChatRole::Assistant => ChatCompletionRequestAssistantMessage::from(message.content).into(),
    }
}

/// One HTTP exchange. It replaces async-openai's own, which retries for up to minutes: whether to try again, and where,
/// is the router's choice.
async fn exchange(
    http: &reqwest::Client,
    endpoint: &Endpoint,
    request: HttpRequestFactory,
    timeouts: ChatTimeouts,
) -> Result<Response, Refusal> {
    let request = request.build().await.map_err(|error| endpoint.nonsense(&error.to_string()))?;
    let expected =
        if request.url().path().ends_with("/chat/completions") { "text/event-stream" } else { "application/json" };
    let sent = timeout(timeouts.first_token, http.execute(request)).await;
    let sent =
        sent.map_err(|_| endpoint.down(&format!("gave no answer in {} ms", timeouts.first_token.as_millis())))?;
    let response = sent.map_err(|error| endpoint.transport(&error))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(Refusal::NotFound(body_excerpt(response, timeouts.token).await)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let body = body_excerpt(response, timeouts.token).await;
            let text = format!("{} at {} refuses the key ({body}); set a valid one", endpoint.provider, endpoint.url);
            return Err(EngineError::Missing(text).into());
        }
        _ => return Err(endpoint.bad_status(response, timeouts.token).await.into()),
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
    if kind.starts_with(expected) {
        return Ok(response);
    }
    let body = body_excerpt(response, timeouts.token).await;
    Err(endpoint.nonsense(&format!("answered with {kind:?} instead of {expected}: {body}")).into())
}

/// What went wrong once the server had begun to answer.
fn failure(endpoint: &Endpoint, error: &OpenAIError) -> EngineError {
    match error {
        OpenAIError::JSONDeserialize(error, content) => {
            endpoint.nonsense(&format!("sent a strange answer ({error}): {}", excerpt(content)))
        }
        OpenAIError::Reqwest(error) => endpoint.transport(error),
        OpenAIError::StreamError(error) => endpoint.down(&format!("broke off ({error})")),
        error => endpoint.nonsense(&format!("failed: {}", excerpt(&error.to_string()))),
    }
}

/// The pieces of a streamed answer. The end is given once the server has closed the stream, since the token counts come
/// after the finish reason; without a finish reason there is no end.
fn answer(
    chunks: ChatCompletionResponseStream,
    endpoint: Arc<Endpoint>,
) -> impl Stream<Item = Result<ChatDelta, EngineError>> + Send {
    let state = (chunks, endpoint, ChatEnd::default(), false);
    futures::stream::unfold(state, |(mut chunks, endpoint, mut end, over)| async move {
        if over {
            return None;
        }
        loop {
            match chunks.next().await {
                Some(Ok(chunk)) => {
                    let text = take(chunk, &mut end);
                    if !text.is_empty() {
                        return Some((Ok(ChatDelta::Text(text)), (chunks, endpoint, end, false)));
                    }
                }
                Some(Err(error)) => {
                    return Some((Err(failure(&endpoint, &error)), (chunks, endpoint, end, true)));
                }
                None if end.finish.is_empty() => return None,
                None => return Some((Ok(ChatDelta::Done(end)), (chunks, endpoint, ChatEnd::default(), true))),
            }
        }
    })
}

/// The text of a chunk; what it says of the end goes to `end`.
fn take(chunk: CreateChatCompletionStreamResponse, end: &mut ChatEnd) -> String {
    end.model = chunk.model;
    if let Some(usage) = chunk.usage {
        end.prompt_tokens = Some(usage.prompt_tokens);
        end.cached_tokens = usage.prompt_tokens_details.and_then(|details| details.cached_tokens);
        end.completion_tokens = Some(usage.completion_tokens);
    }
    let Some(choice) = chunk.choices.into_iter().next() else { return String::new() };
    if let Some(reason) = choice.finish_reason {
        end.finish = match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls | FinishReason::FunctionCall => "tool_calls",
            FinishReason::ContentFilter => "content_filter",
        }
        .into();
    }
    choice.delta.content.unwrap_or_default()
}
