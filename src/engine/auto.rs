//! The chat model of a host whose settings name none: Ollama if one is there, else the embedded llama.cpp.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::timeout;

use super::ollama::{self, DEFAULT_URL};
use super::{ChatModel, ChatRow, ChatSpec, EngineError, Finding, LlamaCpp, Needs, Ollama, llamacpp};
use crate::home::Home;
use crate::models::ModelKind;

/// How long an Ollama may take to answer; one on this host or its network takes a few milliseconds.
const OLLAMA_TIMEOUT: Duration = Duration::from_millis(500);

inventory::submit! {
    ChatRow {
        name: "auto",
        about: "Ollama if it answers, else the embedded llama.cpp",
        needs: Needs { url: DEFAULT_URL, ..Needs::NOTHING },
        build: |spec, home| choose(spec, home).boxed(),
        check: Some(|spec, home| check(spec, home).boxed()),
    }
}

async fn check(spec: &ChatSpec, home: &Home) -> Vec<Finding> {
    let what = "Ollama";
    match ollama::look(spec, true).await {
        Ok(detail) => vec![Finding::Ok { what, detail }],
        Err(why) => {
            let why = why.split(';').next().unwrap_or_default();
            let unused = Finding::Ok { what, detail: format!("not used, the embedded llama.cpp is: {why}") };
            vec![unused, llamacpp::check(home).await, Finding::Model(ModelKind::Gguf)]
        }
    }
}

/// Chooses as said above, and writes to the log what and why.
async fn choose(spec: &ChatSpec, home: &Home) -> Result<Arc<dyn ChatModel>, EngineError> {
    let url = spec.url.as_deref().unwrap_or(DEFAULT_URL);
    let why = match timeout(OLLAMA_TIMEOUT, Ollama::connect_to_any(spec)).await {
        Ok(Ok(ollama)) => {
            tracing::info!(provider = "ollama", url, model = ollama.default_model(), "chat model chosen");
            return Ok(Arc::new(ollama));
        }
        // A bad URL is a mistake to be corrected, not a sign that no Ollama is wanted.
        Ok(Err(error @ EngineError::Invalid(_))) => return Err(error),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("Ollama at {url} gave no answer in {} ms", OLLAMA_TIMEOUT.as_millis()),
    };
    tracing::info!(provider = "llama.cpp", model = spec.llamacpp.model, why, "chat model chosen");
    Ok(Arc::new(LlamaCpp::start(&spec.llamacpp, spec.timeouts, home).await?))
}
