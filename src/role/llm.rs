//! Role `llm`: a conversation in, an answer out, as it is written.

mod ahead;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;

use super::providers::{self, Place};
use super::{Offers, Role, RoleContext, RoleError, millis};
use crate::bus::message::fault::Fault;
use crate::bus::message::llm::{Answer, Chat, Done, ListModels, Models, Role as Speaker};
use crate::bus::message::node::Offer;
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::Capability;
use crate::config::{LlmConfig, LlmProvider};
use crate::engine::{ChatDelta, ChatMessage, ChatModel, ChatRequest, ChatRole, ChatRow, ChatSpec, ChatTimeouts};
use crate::engine::{LlamaCppSpec, chat_row};
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
        let all = &context.config.llm.providers;
        let names: Vec<&str> = all.iter().map(LlmProvider::name).collect();
        providers::run(&context, Capability::Llm, &names, |at, place| provide(&context, &all[at], place)).await
    }
}

/// Serves with one provider.
async fn provide(context: &RoleContext, provider: &LlmProvider, place: Place) -> Result<(), RoleError> {
    let config = &context.config.llm;
    let row = chat_row(&provider.engine)?;
    let model = (row.build)(&spec(row, provider, context)?, &context.home).await?;
    model.warm().await?;
    let is_of_kind = |name: &String| provider.kinds.values().flatten().any(|other| other == name);
    let (of_kinds, models): (Vec<_>, Vec<_>) = model.models().await?.into_iter().partition(is_of_kind);
    let service = ServiceSpec {
        capability: Capability::Llm,
        about: "chat models",
        engine: model.provider().to_owned(),
        models,
        slots: provider.slots.unwrap_or(config.slots),
    };
    let mut kinds = provider.kinds.clone();
    kinds.values_mut().for_each(|models| models.retain(|name| of_kinds.contains(name)));
    kinds.retain(|_, models| !models.is_empty());
    let (name, classes) = (provider.name().to_owned(), provider.classes.clone());
    let offer = Offer { name, classes, kinds, ..service.offer() };
    let offer = offer.reaching(providers::privacy(provider.privacy, model.reach()));
    let on_offer: Arc<[String]> = service.models.clone().into();
    let server = place.open(context, service, &offer).await?;
    let (lister, offers) = (Arc::clone(&model), context.offers.clone());
    let classes = Arc::new(provider.classes.clone());
    let ahead = Arc::new(ReadAhead::new(Arc::clone(&model)));
    server
        .serve(move |mut incoming: Incoming<Chat>| {
            let asked = &mut incoming.request.model;
            let has = |name: &str| on_offer.iter().any(|own| own == name);
            *asked = asked.as_deref().map(|model| providers::of_class(&classes, model, has).to_owned());
            let (model, ahead) = (Arc::clone(&model), Arc::clone(&ahead));
            async move {
                let busy = ahead.busy();
                let cut = (incoming.request.cut_next > 0).then(|| incoming.request.clone());
                let answer = chat(model, incoming).await?;
                drop(busy);
                if let Some(next) = cut.and_then(|request| ahead::next(&request, &answer.text)) {
                    ahead.read(engine_request(next));
                }
                Ok(answer)
            }
        })
        .await?;
    server.serve(move |_: Incoming<ListModels>| list(Arc::clone(&lister), offers.clone())).await?;
    server.ready().await?;
    place.up(context, offer, server.load());
    context.serve_until_stopped(server).await
}

/// What the provider's engine is built from.
fn spec(row: &ChatRow, provider: &LlmProvider, context: &RoleContext) -> Result<ChatSpec, RoleError> {
    let key = match provider.key_env.as_str() {
        "" => None,
        name => Some(Secret::new(std::env::var(name).map_err(|_| {
            RoleError::Setting(format!(
                "key_env of the provider {} names the environment variable {name}, which is not set: export it, or empty \
                 the setting",
                provider.name()
            ))
        })?)),
    };
    let catalogue = context.model_cache.catalogue();
    let model = catalogue.find(&provider.embedded_model)?;
    // `auto` may find an Ollama and do without.
    if let Some(kind) = row.needs.model {
        catalogue.require(&context.home, &provider.embedded_model, kind)?;
    }
    Ok(chat_spec(&context.config.llm, provider, key, &model.dir(&context.home)))
}

/// How to build a provider's engine, whose embedded model is at `path`.
#[must_use]
pub fn chat_spec(config: &LlmConfig, provider: &LlmProvider, key: Option<Secret>, path: &Path) -> ChatSpec {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ChatSpec {
        engine: provider.engine.clone(),
        url: given(&provider.url),
        model: given(&provider.model),
        key,
        timeouts: ChatTimeouts {
            connect: Duration::from_millis(config.connect_timeout_ms),
            first_token: Duration::from_millis(config.first_token_timeout_ms),
            token: Duration::from_millis(config.token_timeout_ms),
        },
        llamacpp: LlamaCppSpec {
            model: provider.embedded_model.clone(),
            path: path.to_owned(),
            threads: provider.threads.unwrap_or(config.threads),
            context_tokens: provider.context_tokens,
            load_timeout: LOAD_TIMEOUT,
        },
    }
}

/// The models of all engines of the host, and the default of the one that answers.
async fn list(model: Arc<dyn ChatModel>, offers: Offers) -> Result<Models, Fault> {
    let mut models = model.models().await?;
    let others = offers.now().into_iter().filter(|offer| offer.role == Capability::Llm.token());
    for name in others.flat_map(|offer| offer.models) {
        if !models.contains(&name) {
            models.push(name);
        }
    }
    Ok(Models { models, default: model.default_model().to_owned(), provider: model.provider().to_owned() })
}

async fn chat(model: Arc<dyn ChatModel>, incoming: Incoming<Chat>) -> Result<Answer, Fault> {
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
