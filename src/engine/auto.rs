//! The chat model of a host that was told nothing: Ollama if one is there, else the embedded llama.cpp.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::ollama::DEFAULT_URL;
use super::{ChatModel, ChatSpec, EngineError, LlamaCpp, Ollama};
use crate::home::Home;

/// How long an Ollama may take to answer; one on this host or its network takes a few milliseconds.
const OLLAMA_TIMEOUT: Duration = Duration::from_millis(500);

/// Chooses as told above, and says in the log what and why.
pub(super) async fn choose(spec: &ChatSpec, home: &Home) -> Result<Arc<dyn ChatModel>, EngineError> {
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
