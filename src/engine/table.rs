//! All engines there are, by name.
//!
//! An engine is a file and a row: its file submits the row, and nothing else names the engine. What others need to know of it
//! (which model of the catalogue it loads, whether it takes a key, where it is, how to look whether it is well) stands in
//! the row. The rows of all files of the program are found here, those of a test's own file too.
//!
//! ```ignore
//! inventory::submit! {
//!     RecognizerRow { name: "parrot", about: "repeats", needs: Needs::NOTHING, build: |spec, _| …, check: None }
//! }
//! ```

use std::sync::Arc;

use futures::future::BoxFuture;

use super::check::Finding;
use super::reach::Reach;
use super::{ChatModel, ChatSpec, EngineError, Recognizer, RecognizerSpec, Synthesizer, SynthesizerSpec};
use crate::home::Home;
use crate::models::ModelKind;

/// An engine in the making.
pub type Building<'a, T> = BoxFuture<'a, Result<Arc<T>, EngineError>>;

/// Looks at what an engine needs.
pub type Check<S> = for<'a> fn(&'a S, &'a Home) -> BoxFuture<'a, Vec<Finding>>;

/// What there is to know of an engine of kind `T` that is built from `S`.
pub struct EngineRow<S: 'static, T: ?Sized + 'static> {
    /// The name that a configuration uses.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Builds one: loads its model, connects to its provider, or starts it.
    pub build: for<'a> fn(&'a S, &'a Home) -> Building<'a, T>,
    /// Looks whether all is there that it needs beside what `needs` says, without building one.
    pub check: Option<Check<S>>,
}

/// What an engine needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The kind of the models of the catalogue that it loads.
    pub model: Option<ModelKind>,
    /// What its provider's key is called, if that wants one.
    pub key: Option<&'static str>,
    /// Where its provider is as a rule; empty: in this process, or a child of it.
    pub url: &'static str,
}

impl Needs {
    /// Nothing at all.
    pub const NOTHING: Self = Self { model: None, key: None, url: "" };
}

impl<S, T: ?Sized> EngineRow<S, T> {
    /// How far what it is given travels, if its provider is where it is as a rule.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::of_address(self.needs.url)
    }
}

/// An engine that recognizes speech.
pub type RecognizerRow = EngineRow<RecognizerSpec, dyn Recognizer>;
/// An engine that speaks.
pub type SynthesizerRow = EngineRow<SynthesizerSpec, dyn Synthesizer>;
/// An engine that chats.
pub type ChatRow = EngineRow<ChatSpec, dyn ChatModel>;

inventory::collect!(RecognizerRow);
inventory::collect!(SynthesizerRow);
inventory::collect!(ChatRow);

/// Engines that are compiled in by a cargo feature: of which kind, their names, the feature.
const OPTIONAL: &[(&str, &str, &str)] = &[
    (HEARS, "whisper", "whisper"),
    (HEARS, "fake", "fake"),
    (SPEAKS, "piper", "sherpa"),
    (SPEAKS, "fake", "fake"),
    (CHATS, "fake", "fake"),
    (WAKES, "fake", "fake"),
];
const HEARS: &str = "speech recognition";
const SPEAKS: &str = "speech synthesis";
const CHATS: &str = "chat";
pub(super) const WAKES: &str = "wake phrase";

/// The engine that recognizes speech by this name.
///
/// # Errors
/// [`EngineError::Invalid`] for an unknown engine (naming all), [`EngineError::Missing`] for one that is not compiled in.
pub fn recognizer_row(engine: &str) -> Result<&'static RecognizerRow, EngineError> {
    find(HEARS, engine, inventory::iter::<RecognizerRow>().map(|row| (row.name, row)))
}

/// The engine that speaks by this name.
///
/// # Errors
/// As [`recognizer_row`].
pub fn synthesizer_row(engine: &str) -> Result<&'static SynthesizerRow, EngineError> {
    find(SPEAKS, engine, inventory::iter::<SynthesizerRow>().map(|row| (row.name, row)))
}

/// The engine that chats by this name.
///
/// # Errors
/// As [`recognizer_row`].
pub fn chat_row(engine: &str) -> Result<&'static ChatRow, EngineError> {
    find(CHATS, engine, inventory::iter::<ChatRow>().map(|row| (row.name, row)))
}

/// Builds the recognizer that `engine` names.
///
/// # Errors
/// As [`recognizer_row`]; [`EngineError::Missing`] for one that lacks its model, [`EngineError::Failed`] when the model does
/// not load.
pub async fn recognizer(engine: &str, spec: &RecognizerSpec, home: &Home) -> Result<Arc<dyn Recognizer>, EngineError> {
    (recognizer_row(engine)?.build)(spec, home).await
}

/// Builds the synthesizer that `engine` names.
///
/// # Errors
/// As [`recognizer`].
pub async fn synthesizer(
    engine: &str,
    spec: &SynthesizerSpec,
    home: &Home,
) -> Result<Arc<dyn Synthesizer>, EngineError> {
    (synthesizer_row(engine)?.build)(spec, home).await
}

/// Builds the chat model that `spec.engine` names: connects to its provider, or starts it.
///
/// # Errors
/// As [`recognizer`], and [`EngineError::Unavailable`] when the provider does not answer.
pub async fn chat_model(spec: &ChatSpec, home: &Home) -> Result<Arc<dyn ChatModel>, EngineError> {
    (chat_row(&spec.engine)?.build)(spec, home).await
}

/// Loads what blocks while it loads, on a thread of its own.
#[cfg(any(feature = "whisper", feature = "sherpa"))]
pub(super) fn load<S, E>(spec: &S, load: fn(&S) -> Result<E, EngineError>) -> BoxFuture<'static, Result<E, EngineError>>
where
    S: Clone + Send + 'static,
    E: Send + 'static,
{
    let (spec, span) = (spec.clone(), tracing::Span::current());
    Box::pin(async move {
        let loading = tokio::task::spawn_blocking(move || span.in_scope(|| load(&spec)));
        loading.await.unwrap_or_else(|error| Err(EngineError::Failed(format!("the engine broke: {error}"))))
    })
}

/// The row of the engine of a kind by its name; a row is told by its name.
pub(super) fn find<R>(
    kind: &str,
    engine: &str,
    rows: impl Iterator<Item = (&'static str, R)>,
) -> Result<R, EngineError> {
    let mut offered = Vec::new();
    for (name, row) in rows {
        if name == engine {
            return Ok(row);
        }
        offered.push(name);
    }
    if let Some((.., feature)) = OPTIONAL.iter().find(|(of, name, _)| *of == kind && *name == engine) {
        let text = format!("the {kind} engine {engine} is not compiled in: build with --features {feature}");
        return Err(EngineError::Missing(text));
    }
    // The linker's order means nothing.
    offered.sort_unstable();
    let offered = offered.join(", ");
    Err(EngineError::Invalid(format!("there is no {kind} engine {engine:?}; choose from {offered}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_unknown_engine_names_those_there_are() {
        let rows = [("c", 3), ("a", 1)];
        assert_eq!(find(CHATS, "c", rows.into_iter()).unwrap(), 3);
        let error = find(CHATS, "olama", rows.into_iter()).unwrap_err();
        assert!(matches!(error, EngineError::Invalid(_)));
        assert_eq!(error.to_string(), "there is no chat engine \"olama\"; choose from a, c");
    }

    #[test]
    fn an_engine_left_out_names_its_feature() {
        let error = find(SPEAKS, "piper", std::iter::empty::<(&str, ())>()).unwrap_err();
        assert!(matches!(error, EngineError::Missing(_)));
        let text = "the speech synthesis engine piper is not compiled in: build with --features sherpa";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn names_are_unique() {
        for names in [
            inventory::iter::<RecognizerRow>().map(|row| row.name).collect::<Vec<_>>(),
            inventory::iter::<SynthesizerRow>().map(|row| row.name).collect(),
            inventory::iter::<ChatRow>().map(|row| row.name).collect(),
        ] {
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len());
        }
        for chats in ["auto", "ollama", "llamacpp", "openai"] {
            assert!(chat_row(chats).is_ok(), "{chats}");
        }
    }

    #[test]
    fn a_row_says_how_far_its_provider_is() {
        assert_eq!(chat_row("openai").ok().map(EngineRow::reach), Some(Reach::Outside));
        assert_eq!(chat_row("llamacpp").ok().map(EngineRow::reach), Some(Reach::Host));
    }
}
