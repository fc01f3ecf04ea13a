//! Roles `stt`, `tts` and `llm`: each has one engine or several, an entry of `providers` each.
//!
//! An entry has a name, by which requests, policies and `sidetone route` tell it from the others of its role; what it leaves
//! out is as the role says. Settings that stood for the only engine of a role, such as `llm.engine`, are still read and
//! become one entry ([`take_old`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::error::ConfigError;
use crate::router::Privacy;

/// What models or voices are good for, such as `planner`: the names that requests for a class are answered with.
pub type Classes = BTreeMap<String, Vec<String>>;

/// Role `stt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SttConfig {
    /// The language assumed when a request names none; empty: the model decides.
    pub language: String,
    /// Threads a transcription; 0: half of the cores, at most 4.
    pub threads: usize,
    /// Transcriptions at once, of each engine.
    pub slots: usize,
    /// The longest clip that is taken.
    pub max_clip_ms: u64,
    /// How long the audio of a stream may stay away until it is given up.
    pub stream_idle_ms: u64,
    /// The engines.
    pub providers: Vec<SttProvider>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
}

impl Default for SttConfig {
    fn default() -> Self {
        Self {
            language: "en".to_owned(),
            threads: 0,
            slots: 2,
            max_clip_ms: 600_000,
            stream_idle_ms: 10_000,
            providers: vec![SttProvider::default()],
            engine: None,
            model: None,
        }
    }
}

impl SttConfig {
    /// The engine that looks for wake phrases with `model`: the one that has it, so that it is loaded once; else the first.
    #[must_use]
    pub fn wakes(&self, model: &str) -> Option<&SttProvider> {
        self.providers.iter().find(|provider| provider.model == model).or(self.providers.first())
    }

    /// Whether `model` is the only one that transcribes here, in the language of the role.
    #[must_use]
    pub fn has_only(&self, model: &str) -> bool {
        self.providers.iter().all(|provider| provider.model == model && provider.language.is_none())
    }
}

/// An engine that recognizes speech.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SttProvider {
    /// Its name; empty: the engine's.
    pub name: String,
    /// What does the work.
    pub engine: String,
    /// The model, from the catalogue.
    pub model: String,
    /// As that of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// As those of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// As those of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<usize>,
    /// How far it lets sound travel, if that is not what the engine says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// What its model is good for.
    #[serde(skip_serializing_if = "Classes::is_empty")]
    pub classes: Classes,
}

impl Default for SttProvider {
    fn default() -> Self {
        Self {
            name: String::new(),
            engine: "whisper".to_owned(),
            model: "whisper-tiny.en".to_owned(),
            language: None,
            threads: None,
            slots: None,
            privacy: None,
            classes: Classes::new(),
        }
    }
}

/// Role `tts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TtsConfig {
    /// Threads a synthesis; 0: half of the cores, at most 4.
    pub threads: usize,
    /// Syntheses at once, of each engine.
    pub slots: usize,
    /// The longest text that is taken, in characters.
    pub max_text_chars: usize,
    /// The engines.
    pub providers: Vec<TtsProvider>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voices: Option<Vec<String>>,
}

impl Default for TtsConfig {
    fn default() -> Self {
        let providers = vec![TtsProvider::default()];
        Self { threads: 0, slots: 4, max_text_chars: 20_000, providers, engine: None, voices: None }
    }
}

/// An engine that speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TtsProvider {
    /// Its name; empty: the engine's.
    pub name: String,
    /// What does the work.
    pub engine: String,
    /// The voices, from the catalogue; the first is the default.
    pub voices: Vec<String>,
    /// As those of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// As those of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<usize>,
    /// How far it lets words travel, if that is not what the engine says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// What its voices are good for.
    #[serde(skip_serializing_if = "Classes::is_empty")]
    pub classes: Classes,
}

impl Default for TtsProvider {
    fn default() -> Self {
        Self {
            name: String::new(),
            engine: "piper".to_owned(),
            voices: vec!["en_US-joe-medium".to_owned()],
            threads: None,
            slots: None,
            privacy: None,
            classes: Classes::new(),
        }
    }
}

/// Role `llm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlmConfig {
    /// Threads of an embedded server; 0: half of the cores, at most 4.
    pub threads: usize,
    /// How long a provider may take to accept a connection.
    pub connect_timeout_ms: u64,
    /// How long the first text may take; a model may have to be loaded.
    pub first_token_timeout_ms: u64,
    /// How long the model may pause between two pieces of text.
    pub token_timeout_ms: u64,
    /// Answers at once, of each provider.
    pub slots: usize,
    /// The providers.
    pub providers: Vec<LlmProvider>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedded_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Classes>,
}

impl Default for LlmConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            connect_timeout_ms: 2_000,
            first_token_timeout_ms: 60_000,
            token_timeout_ms: 15_000,
            slots: 2,
            providers: vec![LlmProvider::default()],
            engine: None,
            url: None,
            model: None,
            key_env: None,
            embedded_model: None,
            context_tokens: None,
            classes: None,
        }
    }
}

/// A provider of chat models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlmProvider {
    /// Its name; empty: the engine's.
    pub name: String,
    /// `auto` (Ollama if it answers, else the embedded llama.cpp), `ollama`, `llamacpp` or `openai`.
    pub engine: String,
    /// Its address; empty: the engine's usual one.
    pub url: String,
    /// The default model of a provider that has several; empty: the first on offer.
    pub model: String,
    /// The environment variable that holds its key; empty: none is sent.
    pub key_env: String,
    /// The embedded server's model, from the catalogue.
    pub embedded_model: String,
    /// The embedded server's context.
    pub context_tokens: u32,
    /// As those of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// As those of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<usize>,
    /// How far it lets words travel, if that is not what its address says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// What its models are good for.
    #[serde(skip_serializing_if = "Classes::is_empty")]
    pub classes: Classes,
    /// Those of its models that do not chat, by what they do, such as `embed`.
    #[serde(skip_serializing_if = "Classes::is_empty")]
    pub kinds: Classes,
}

impl Default for LlmProvider {
    fn default() -> Self {
        Self {
            name: String::new(),
            engine: "auto".to_owned(),
            url: String::new(),
            model: String::new(),
            key_env: String::new(),
            embedded_model: "smollm2-135m-instruct".to_owned(),
            context_tokens: 4_096,
            threads: None,
            slots: None,
            privacy: None,
            classes: Classes::new(),
            kinds: Classes::new(),
        }
    }
}

macro_rules! named {
    ($($provider:ty),*) => {$(
        impl $provider {
            /// Its name among the engines of its role.
            #[must_use]
            pub fn name(&self) -> &str {
                if self.name.is_empty() { &self.engine } else { &self.name }
            }
        }
    )*};
}
named!(SttProvider, TtsProvider, LlmProvider);

/// The settings of a role that stood for its only engine.
const OLD: &[(&str, &[&str])] = &[
    ("stt", &["engine", "model"]),
    ("tts", &["engine", "voices"]),
    ("llm", &["engine", "url", "model", "key_env", "embedded_model", "context_tokens", "classes"]),
];

/// Makes one entry of the settings that stood for the only engine of a role; gives how to write each now.
///
/// # Errors
/// There are entries as well.
pub(super) fn take_old(settings: &mut Table) -> Result<Vec<String>, ConfigError> {
    let mut hints = Vec::new();
    for (role, keys) in OLD {
        let Some(Value::Table(settings)) = settings.get_mut(*role) else { continue };
        let old: Table = keys.iter().filter_map(|key| settings.remove_entry(*key)).collect();
        if old.is_empty() {
            continue;
        }
        let names = old.keys().map(|key| format!("{role}.{key}")).collect::<Vec<_>>().join(", ");
        let entries = Value::Array(vec![Value::Table(old)]);
        if settings.contains_key("providers") {
            let why = format!(
                "{names} is the old way to set up the only engine of role {role}, and there are [[{role}.providers]] as \
                 well: make it an entry of them, {entries}, or leave one of the two out"
            );
            return Err(ConfigError::Wrong { place: "the settings".to_owned(), why });
        }
        hints.push(format!("{names}: a role can have several engines now; write into [{role}]: providers = {entries}"));
        settings.insert("providers".to_owned(), entries);
    }
    Ok(hints)
}

/// Checks the entries of a role: `name` and slots of each.
pub(super) fn check<'a>(
    role: &str,
    entries: impl Iterator<Item = (&'a str, Option<usize>)>,
) -> Result<(), ConfigError> {
    let value = |key: &str, given: String, why: &str| {
        Err(ConfigError::Value { key: format!("{role}.providers{key}"), given, why: why.to_owned() })
    };
    let mut names = BTreeSet::new();
    for (name, slots) in entries {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 40 || !name.chars().all(is_plain) {
            let why = "it is told from others in headers and policies by it: 1 to 40 letters, digits, '-', '_', '.'";
            return value(".name", format!("{name:?}"), why);
        }
        if slots == Some(0) {
            return value(
                ".slots",
                "0".to_owned(),
                "an engine needs at least 1 slot; leave its entry out to switch it off",
            );
        }
        if !names.insert(name) {
            return value(".name", format!("{name:?}"), "two engines of a role can't share a name: give each its own");
        }
    }
    if names.is_empty() {
        let why = "a role needs at least one engine; leave the role out of node.roles to switch it off";
        return value("", "[]".to_owned(), why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn load(sets: &[&str]) -> Result<Config, String> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        Config::load(&[], &sets).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_for_an_only_engine_become_one_entry() {
        let config = load(&["llm.engine=openai", "llm.url=http://h/v1", "llm.slots=3", "stt.model=big"]).unwrap();
        let [llm] = &config.llm.providers[..] else { panic!("{:?}", config.llm) };
        assert_eq!((llm.name(), llm.engine.as_str(), llm.url.as_str()), ("openai", "openai", "http://h/v1"));
        assert_eq!((config.llm.slots, llm.slots, config.stt.providers[0].model.as_str()), (3, None, "big"));
        assert_eq!(config.stt.providers[0].engine, "whisper");
        assert_eq!(config.tts, Config::default().tts);
        let written = r#"write into [llm]: providers = [{ engine = "openai", url = "http://h/v1" }]"#;
        assert!(config.hints.iter().any(|hint| hint.contains(written)), "{:?}", config.hints);
        assert_eq!(config.hints.len(), 2);
        // What the hint says to write is the same.
        let now = load(&["llm.providers=[{ engine = \"openai\", url = \"http://h/v1\" }]", "llm.slots=3"]).unwrap();
        assert_eq!((now.llm, now.hints.len()), (config.llm, 0));
    }

    #[test]
    fn the_old_way_and_the_new_together_are_refused() {
        let error = load(&["llm.model=x", "llm.providers=[{ engine = \"ollama\" }]"]).unwrap_err();
        assert!(error.contains("llm.model is the old way") && error.contains("[[llm.providers]]"), "{error}");
    }

    #[test]
    fn entries_are_told_apart_by_their_names() {
        let two = "llm.providers=[{ engine = \"ollama\" }, { name = \"far\", engine = \"openai\", privacy = \"any\" }]";
        let config = load(&[two]).unwrap();
        let names: Vec<&str> = config.llm.providers.iter().map(super::LlmProvider::name).collect();
        assert_eq!(names, ["ollama", "far"]);
        for (set, word) in [
            ("llm.providers=[{ engine = \"ollama\" }, { engine = \"ollama\" }]", "can't share a name"),
            ("stt.providers=[]", "at least one engine"),
            ("tts.providers=[{ name = \"a b\" }]", "1 to 40 letters"),
            ("stt.providers=[{ slots = 0 }]", "at least 1 slot"),
            ("tts.providers=[{ voices = [] }]", "at least one voice"),
            ("llm.providers=[{ privacy = \"secret\" }]", "expected one of `host`, `lan`, `any`"),
            ("llm.providers=[{ enigne = \"ollama\" }]", "unknown field `enigne`"),
        ] {
            let error = load(&[set]).unwrap_err();
            assert!(error.contains(word), "{set}: {error}");
        }
    }

    #[test]
    fn the_wake_phrase_is_looked_for_by_the_engine_that_has_its_model() {
        let two = "stt.providers=[{ engine = \"fake\", model = \"big\" }, { engine = \"whisper\", model = \"tiny\" }]";
        let stt = load(&[two]).unwrap().stt;
        assert_eq!(stt.wakes("tiny").unwrap().engine, "whisper");
        assert_eq!(stt.wakes("small").unwrap().engine, "fake");
        assert!(!stt.has_only("tiny") && Config::default().stt.has_only("whisper-tiny.en"));
    }
}
