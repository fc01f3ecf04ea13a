//! Models that roles of one host share, so that none is loaded twice: the wake phrase is looked for by the model that
//! also serves `stt`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::config::SttConfig;
use crate::engine::{EngineError, Recognizer, RecognizerSpec, Synthesizer, SynthesizerSpec, recognizer, synthesizer};
use crate::home::Home;
use crate::models::{Catalogue, ModelError, ModelKind};

use super::RoleError;

/// Loaded models. Cloning shares them.
#[derive(Clone)]
pub struct Pool {
    home: Home,
    catalogue: Arc<Catalogue>,
    recognizers: Arc<Mutex<HashMap<String, Arc<dyn Recognizer>>>>,
}

impl Pool {
    /// An empty pool of `home`'s models.
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
        let key = format!("{engine} {}", spec.model);
        if let Some(found) = loaded.get(&key) {
            return Ok(Arc::clone(found));
        }
        // An engine that is not there says so itself, and names those that are.
        if engine == "whisper" {
            spec.path = self.catalogue.require(&self.home, &spec.model, ModelKind::Whisper)?;
        }
        let engine = engine.to_owned();
        let built = blocking(move || recognizer(&engine, &spec)).await?;
        loaded.insert(key, Arc::clone(&built));
        Ok(built)
    }

    /// The synthesizer of `engine` for a voice of the catalogue.
    ///
    /// # Errors
    /// The voice is missing, or does not load.
    pub async fn synthesizer(
        &self,
        engine: &str,
        voice: &str,
        threads: usize,
    ) -> Result<Arc<dyn Synthesizer>, RoleError> {
        let path = if engine == "piper" {
            self.catalogue.require(&self.home, voice, ModelKind::Piper)?
        } else {
            PathBuf::new()
        };
        let (engine, spec) = (engine.to_owned(), SynthesizerSpec { voice: voice.to_owned(), path, threads });
        Ok(blocking(move || synthesizer(&engine, &spec)).await?)
    }
}

/// How to build the recognizer `model` as `stt` is set up. The role `voice` looks for wake phrases with the same one.
#[must_use]
pub fn recognizer_spec(config: &SttConfig, model: &str) -> RecognizerSpec {
    RecognizerSpec {
        model: model.to_owned(),
        path: PathBuf::new(),
        language: (!config.language.is_empty()).then(|| config.language.clone()),
        threads: config.threads,
        // One more than is served, so that the search for the wake phrase need not wait.
        slots: config.slots + 1,
    }
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
