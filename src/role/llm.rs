//! Role `llm`: a conversation in, an answer out, as it is written.

mod ahead;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;

use super::{Role, RoleContext, RoleError, millis};
use crate::bus::message::fault::Fault;
use crate::bus::message::llm::{Answer, Chat, Done, ListModels, Models, Role as Speaker};
use crate::bus::message::node::{Offer, Privacy};
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::Capability;
use crate::config::LlmConfig;
use crate::engine::{
    ChatDelta, ChatMessage, ChatModel, ChatRequest, ChatRole, ChatSpec, ChatTimeouts, LlamaCppSpec, chat_model,
};
use crate::models::ModelKind;
use crate::secret::Secret;
use crate::telemetry::metrics as measured;
use ahead::ReadAhead;

/// How long the embedded server may take to load its model.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest answer that is taken from a model, in characters: one that never ends must not fill the memory.
const MAX_ANSWER_CHARS: usize = 200_000;

/// Chat models.
pub struct Llm;

#[async_trait]
impl Role for Llm {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        let config = &context.config.llm;
        let model = chat_model(&spec(config, &context)?, &context.home).await?;
        model.warm().await?;
        let service = ServiceSpec {
            capability: Capability::Llm,
            about: "chat models",
            engine: model.provider().to_owned(),
            models: model.models().await?,
            slots: config.slots,
        };
        let cloud = model.is_cloud();
        let offer = Offer { classes: config.classes.clone(), cloud, ..service.offer() };
        let server = context.bus.service(service).await?;
        let lister = Arc::clone(&model);
        let classes = Arc::new(config.classes.clone());
        let ahead = Arc::new(ReadAhead::new(Arc::clone(&model)));
        server
            .serve(move |mut incoming: Incoming<Chat>| {
                of_class(&mut incoming.request, &classes);
                let (model, ahead) = (Arc::clone(&model), Arc::clone(&ahead));
                async move {
                    let busy = ahead.busy();
                    let cut = (incoming.request.cut_next > 0).then(|| incoming.request.clone());
                    let answer = chat(model, cloud, incoming).await?;
                    drop(busy);
                    if let Some(next) = cut.and_then(|request| ahead::next(&request, &answer.text)) {
                        ahead.read(engine_request(next));
                    }
                    Ok(answer)
                }
            })
            .await?;
        server.serve(move |_: Incoming<ListModels>| list(Arc::clone(&lister))).await?;
        server.ready().await?;
        context.up(offer, Some(server.load()));
        context.serve_until_stopped(server).await
    }
}

/// What the engine is built from.
fn spec(config: &LlmConfig, context: &RoleContext) -> Result<ChatSpec, RoleError> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let key = match given(&config.key_env) {
        None => None,
        Some(name) => Some(Secret::new(std::env::var(&name).map_err(|_| {
            RoleError::Setting(format!(
                "llm.key_env names the environment variable {name}, which is not set: export it, or empty the setting"
            ))
        })?)),
    };
    let model = context.pool.catalogue().find(&config.embedded_model)?;
    // Only the embedded server needs the model; `auto` may find an Ollama and do without.
    if config.engine == "llamacpp" {
        context.pool.catalogue().require(&context.home, &config.embedded_model, ModelKind::Gguf)?;
    }
    Ok(ChatSpec {
        engine: config.engine.clone(),
        url: given(&config.url),
        model: given(&config.model),
        key,
        timeouts: ChatTimeouts {
            connect: Duration::from_millis(config.connect_timeout_ms),
            first_token: Duration::from_millis(config.first_token_timeout_ms),
            token: Duration::from_millis(config.token_timeout_ms),
        },
        llamacpp: LlamaCppSpec {
            model: config.embedded_model.clone(),
            path: model.dir(&context.home),
            threads: config.threads,
            context_tokens: config.context_tokens,
            load_timeout: LOAD_TIMEOUT,
        },
    })
}

async fn list(model: Arc<dyn ChatModel>) -> Result<Models, Fault> {
    let models = model.models().await?;
    Ok(Models { models, default: model.default_model().to_owned(), provider: model.provider().to_owned() })
}

/// Asks for the first model of a class where a class is asked for.
fn of_class(chat: &mut Chat, classes: &BTreeMap<String, Vec<String>>) {
    let model = chat.model.as_ref().and_then(|class| classes.get(class)?.first());
    if let Some(model) = model {
        chat.model = Some(model.clone());
    }
}

async fn chat(model: Arc<dyn ChatModel>, cloud: bool, incoming: Incoming<Chat>) -> Result<Answer, Fault> {
    if cloud && incoming.privacy != Privacy::Any {
        return Err(Fault::invalid(format!(
            "the request may not leave the {}, and {} answers from outside: ask another host, or with Privacy: any",
            incoming.privacy.token(),
            model.provider()
        )));
    }
    let Incoming { request, replies, .. } = incoming;
    if request.messages.iter().all(|message| message.content.trim().is_empty()) {
        return Err(Fault::invalid(
            "messages holds no text: send for example {\"messages\":[{\"role\":\"user\",\"content\":\"Say hello.\"}]}",
        ));
    }
    let begun = Instant::now();
    let mut stream = model.chat(engine_request(request)).await?;
    let (mut whole, mut chars, mut first_text_ms) = (String::new(), 0, None);
    while let Some(delta) = stream.next().await {
        match delta? {
            ChatDelta::Text(text) => {
                first_text_ms.get_or_insert_with(|| millis(begun.elapsed()));
                whole.push_str(&text);
                chars += text.chars().count();
                if chars > MAX_ANSWER_CHARS {
                    return Err(Fault::failed(format!(
                        "the model wrote more than {MAX_ANSWER_CHARS} characters: set max_tokens"
                    )));
                }
                replies.send(&Answer { text, done: None }).await?;
            }
            ChatDelta::Done(end) => {
                let done = Done {
                    model: end.model,
                    provider: model.provider().to_owned(),
                    finish: end.finish,
                    prompt_tokens: end.prompt_tokens,
                    cached_tokens: end.cached_tokens,
                    completion_tokens: end.completion_tokens,
                    first_text_ms: first_text_ms.unwrap_or_default(),
                    engine_ms: millis(begun.elapsed()),
                };
                measured::engine("llm", first_text_ms, done.engine_ms);
                return Ok(Answer { text: whole, done: Some(done) });
            }
        }
    }
    Err(Fault::failed(format!("{} broke its answer off after {chars} characters", model.provider())))
}

fn engine_request(chat: Chat) -> ChatRequest {
    let role = |role| match role {
        Speaker::System => ChatRole::System,
        Speaker::User => ChatRole::User,
        Speaker::Assistant => ChatRole::Assistant,
    };
    ChatRequest {
        model: chat.model,
        messages: chat.messages.into_iter().map(|m| ChatMessage { role: role(m.role), content: m.content }).collect(),
        temperature: chat.temperature,
        max_tokens: chat.max_tokens,
        format: chat.format,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Message as _;

    #[test]
    fn a_class_stands_for_its_first_model() {
        let classes = BTreeMap::from([("planner".to_owned(), vec!["big".to_owned(), "bigger".to_owned()])]);
        for (asked, wanted) in [(Some("planner"), Some("big")), (Some("small"), Some("small")), (None, None)] {
            let mut chat = Chat { model: asked.map(str::to_owned), ..Chat::example() };
            of_class(&mut chat, &classes);
            assert_eq!(chat.model.as_deref(), wanted);
        }
    }
}
