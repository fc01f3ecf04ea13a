//! All engines there are, by name. Adding one is a file and a row.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{ChatModel, ChatSpec, EngineError, LlamaCpp, Ollama, OpenAi, Recognizer, RecognizerSpec, Synthesizer};
use super::{SynthesizerSpec, auto};
use crate::home::Home;

type Built<T> = Result<Arc<T>, EngineError>;
type Build<S, T> = fn(&S) -> Built<T>;

/// One engine that recognizes speech.
pub struct RecognizerRow {
    /// The name that a configuration uses.
    pub name: &'static str,
    /// The cargo feature that compiles it in.
    pub feature: &'static str,
    build: Option<Build<RecognizerSpec, dyn Recognizer>>,
}

/// The engines that recognize speech; those not compiled in are listed too.
pub const RECOGNIZERS: &[RecognizerRow] = &[
    #[cfg(feature = "whisper")]
    RecognizerRow {
        name: "whisper",
        feature: "whisper",
        build: Some(|spec| Ok(Arc::new(super::Whisper::load(spec)?))),
    },
    #[cfg(not(feature = "whisper"))]
    RecognizerRow { name: "whisper", feature: "whisper", build: None },
    #[cfg(feature = "fake")]
    RecognizerRow {
        name: "fake",
        feature: "fake",
        build: Some(|spec| Ok(Arc::new(super::fake::Fake::new(&spec.model)?))),
    },
    #[cfg(not(feature = "fake"))]
    RecognizerRow { name: "fake", feature: "fake", build: None },
];

/// One engine that speaks.
pub struct SynthesizerRow {
    /// The name that a configuration uses.
    pub name: &'static str,
    /// The cargo feature that compiles it in.
    pub feature: &'static str,
    build: Option<Build<SynthesizerSpec, dyn Synthesizer>>,
}

/// The engines that speak; those not compiled in are listed too.
pub const SYNTHESIZERS: &[SynthesizerRow] = &[
    #[cfg(feature = "sherpa")]
    SynthesizerRow { name: "piper", feature: "sherpa", build: Some(|spec| Ok(Arc::new(super::Piper::load(spec)?))) },
    #[cfg(not(feature = "sherpa"))]
    SynthesizerRow { name: "piper", feature: "sherpa", build: None },
    #[cfg(feature = "fake")]
    SynthesizerRow {
        name: "fake",
        feature: "fake",
        build: Some(|spec| Ok(Arc::new(super::fake::Fake::new(&spec.voice)?))),
    },
    #[cfg(not(feature = "fake"))]
    SynthesizerRow { name: "fake", feature: "fake", build: None },
];

type BuildChat = for<'a> fn(&'a ChatSpec, &'a Home) -> BoxFuture<'a, Built<dyn ChatModel>>;

/// One engine that chats.
pub struct ChatRow {
    /// The name that a configuration uses.
    pub name: &'static str,
    /// The cargo feature that compiles it in; empty for one that always is.
    pub feature: &'static str,
    build: Option<BuildChat>,
}

/// The engines that chat; those not compiled in are listed too.
pub const CHAT_MODELS: &[ChatRow] = &[
    ChatRow { name: "auto", feature: "", build: Some(|spec, home| auto::choose(spec, home).boxed()) },
    ChatRow {
        name: "ollama",
        feature: "",
        build: Some(|spec, _| async move { Ok(Arc::new(Ollama::connect(spec).await?) as _) }.boxed()),
    },
    ChatRow {
        name: "llamacpp",
        feature: "",
        build: Some(|spec, home| {
            async move { Ok(Arc::new(LlamaCpp::start(&spec.llamacpp, spec.timeouts, home).await?) as _) }.boxed()
        }),
    },
    ChatRow {
        name: "openai",
        feature: "",
        build: Some(|spec, _| async move { Ok(Arc::new(OpenAi::connect(spec).await?) as _) }.boxed()),
    },
    #[cfg(feature = "fake")]
    ChatRow {
        name: "fake",
        feature: "fake",
        build: Some(|spec, _| {
            let fake = super::fake::Fake::new(spec.model.as_deref().unwrap_or("echo"));
            std::future::ready(fake.map(|fake| Arc::new(fake.at(spec.url.as_deref())) as _)).boxed()
        }),
    },
    #[cfg(not(feature = "fake"))]
    ChatRow { name: "fake", feature: "fake", build: None },
];

/// Builds the recognizer that `engine` names. Blocks while the model loads.
///
/// # Errors
/// [`EngineError::Invalid`] for an unknown engine (naming all), [`EngineError::Missing`] for one that is not compiled in
/// or lacks its model, [`EngineError::Failed`] when the model does not load.
pub fn recognizer(engine: &str, spec: &RecognizerSpec) -> Result<Arc<dyn Recognizer>, EngineError> {
    let rows = RECOGNIZERS.iter().map(|row| (row.name, row.feature, row.build));
    find("speech recognition", engine, rows)?(spec)
}

/// Builds the synthesizer that `engine` names. Blocks while the voice loads.
///
/// # Errors
/// As [`recognizer`].
pub fn synthesizer(engine: &str, spec: &SynthesizerSpec) -> Result<Arc<dyn Synthesizer>, EngineError> {
    let rows = SYNTHESIZERS.iter().map(|row| (row.name, row.feature, row.build));
    find("speech synthesis", engine, rows)?(spec)
}

/// Builds the chat model that `spec.engine` names: connects to its provider, or starts it.
///
/// # Errors
/// As [`recognizer`], and [`EngineError::Unavailable`] when the provider does not answer.
pub async fn chat_model(spec: &ChatSpec, home: &Home) -> Result<Arc<dyn ChatModel>, EngineError> {
    let rows = CHAT_MODELS.iter().map(|row| (row.name, row.feature, row.build));
    find("chat", &spec.engine, rows)?(spec, home).await
}

/// What the row `engine` builds with, in `rows` of name, feature and builder.
pub(super) fn find<B>(
    kind: &str,
    engine: &str,
    rows: impl Iterator<Item = (&'static str, &'static str, Option<B>)> + Clone,
) -> Result<B, EngineError> {
    match rows.clone().find(|(name, ..)| *name == engine) {
        Some((_, _, Some(build))) => Ok(build),
        Some((_, feature, None)) => Err(EngineError::Missing(format!(
            "the {kind} engine {engine} is not compiled in: build with --features {feature}"
        ))),
        None => {
            let offered: Vec<_> = rows.filter(|(.., build)| build.is_some()).map(|(name, ..)| name).collect();
            Err(EngineError::Invalid(format!(
                "there is no {kind} engine {engine:?}; there are: {}",
                offered.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_engine_names_those_there_are() {
        let rows = [("a", "", Some(1)), ("b", "x", None), ("c", "", Some(3))];
        assert_eq!(find("chat", "c", rows.into_iter()).unwrap(), 3);
        let error = find("chat", "olama", rows.into_iter()).unwrap_err();
        assert!(matches!(error, EngineError::Invalid(_)));
        assert_eq!(error.to_string(), "there is no chat engine \"olama\"; there are: a, c");
    }

    #[test]
    fn an_engine_left_out_names_its_feature() {
        let error = find("chat", "b", [("b", "x", None::<()>)].into_iter()).unwrap_err();
        assert!(matches!(error, EngineError::Missing(_)));
        assert_eq!(error.to_string(), "the chat engine b is not compiled in: build with --features x");
    }

    #[test]
    fn names_are_unique() {
        for names in [
            RECOGNIZERS.iter().map(|row| row.name).collect::<Vec<_>>(),
            SYNTHESIZERS.iter().map(|row| row.name).collect(),
            CHAT_MODELS.iter().map(|row| row.name).collect(),
        ] {
            let unique: std::collections::BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len());
        }
    }
}
