//! Models that roles of one host share, so that none is loaded twice: the wake phrase is looked for by the model that
//! also serves `stt`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::config::{SttConfig, SttProvider, TtsConfig, TtsProvider};
use crate::engine::{EngineError, Recognizer, RecognizerSpec, Synthesizer, SynthesizerSpec};
use crate::engine::{recognizer_row, synthesizer_row};
use crate::home::Home;
use crate::models::{Catalogue, ModelError};

use super::RoleError;

/// Loaded models. Cloning shares them.
#[derive(Clone)]
pub struct ModelCache {
    home: Home,
    catalogue: Arc<Catalogue>,
    recognizers: Arc<Mutex<HashMap<String, Arc<dyn Recognizer>>>>,
}

impl ModelCache {
    /// An empty cache of `home`'s models.
    ///
    /// # Errors
    /// [`ModelError`] when the catalogue has a mistake.
    pub fn new(home: &Home) -> Result<Self, ModelError> {
        let catalogue = Arc::new(Catalogue::load(home)?);
        Ok(Self { home: home.clone(), catalogue, recognizers: Arc::default() })
    }

    /// The models there are.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The recognizer of `engine` and `spec.model`; `spec.path` is filled in from the catalogue. Loaded by the first who asks.
    ///
    /// # Errors
    /// The model is missing, or does not load.
    pub async fn recognizer(&self, engine: &str, mut spec: RecognizerSpec) -> Result<Arc<dyn Recognizer>, RoleError> {
        let mut loaded = self.recognizers.lock().await;
        let key = format!("{engine} {} {:?} {}", spec.model, spec.language, spec.threads);
        if let Some(found) = loaded.get(&key) {
            return Ok(Arc::clone(found));
        }
        let row = recognizer_row(engine)?;
        if let Some(kind) = row.needs.model {
            spec.path = self.catalogue.require(&self.home, &spec.model, kind)?;
        }
        let built = (row.build)(&spec, &self.home).await?;
        loaded.insert(key, Arc::clone(&built));
        Ok(built)
    }

    /// The synthesizer of `engine` and `spec.voice`; `spec.path` is filled in from the catalogue.
    ///
    /// # Errors
    /// The voice is missing, or does not load.
    pub async fn synthesizer(
        &self,
        engine: &str,
        mut spec: SynthesizerSpec,
    ) -> Result<Arc<dyn Synthesizer>, RoleError> {
        let row = synthesizer_row(engine)?;
        if let Some(kind) = row.needs.model {
            spec.path = self.catalogue.require(&self.home, &spec.voice, kind)?;
        }
        Ok((row.build)(&spec, &self.home).await?)
    }
}

/// How to build the recognizer `model` of an engine. The role `voice` looks for wake phrases with the same one.
#[must_use]
pub fn recognizer_spec(config: &SttConfig, provider: &SttProvider, model: &str) -> RecognizerSpec {
    let language = provider.language.as_ref().unwrap_or(&config.language);
    RecognizerSpec {
        model: model.to_owned(),
        path: PathBuf::new(),
        language: (!language.is_empty()).then(|| language.clone()),
        threads: provider.threads.unwrap_or(config.threads),
        // One more than is served, so that the search for the wake phrase need not wait.
        slots: provider.slots.unwrap_or(config.slots) + 1,
    }
}

/// How to build a voice of an engine.
#[must_use]
pub fn synthesizer_spec(config: &TtsConfig, provider: &TtsProvider, voice: &str) -> SynthesizerSpec {
    let threads = provider.threads.unwrap_or(config.threads);
    SynthesizerSpec { voice: voice.to_owned(), path: PathBuf::new(), threads }
}

/// Runs engine work that blocks, off the threads that serve the bus.
///
/// # Errors
/// What `work` says; [`EngineError::Failed`] if it panicked.
pub async fn blocking<T: Send + 'static, E: From<EngineError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .unwrap_or_else(|error| Err(EngineError::Failed(format!("the engine broke: {error}")).into()))
}
