//! The engines of roles `stt`, `tts` and `llm`: what their rows say that they need.

use std::ffi::OsString;
use std::sync::Arc;

use futures::future::join_all;

use super::case::{Case, Row};
use super::host::model;
use crate::engine::{self, EngineError, EngineRow, Finding};
use crate::role::llm::chat_spec;
use crate::role::model_cache::{recognizer_spec, synthesizer_spec};

/// An engine of the settings.
struct Wanted<'a, S: 'static, T: ?Sized + 'static> {
    role: &'static str,
    /// Its row, or why there is none.
    row: Result<&'static EngineRow<S, T>, EngineError>,
    spec: S,
    /// What its models are called here, and which it loads.
    models: (&'static str, Vec<&'a str>),
    /// The environment variable with its key; empty: none.
    key_env: &'a str,
}

/// The engines that recognize speech.
pub async fn recognizers(case: Arc<Case>) -> Vec<Row> {
    let config = &case.config.stt;
    let all = config.providers.iter().map(|provider| Wanted {
        role: "stt",
        row: engine::recognizer_row(&provider.engine),
        spec: recognizer_spec(config, provider, &provider.model),
        models: ("speech model", vec![provider.model.as_str()]),
        key_env: "",
    });
    look_at_all(&case, all).await
}

/// The engines that speak.
pub async fn synthesizers(case: Arc<Case>) -> Vec<Row> {
    let config = &case.config.tts;
    let all = config.providers.iter().map(|provider| Wanted {
        role: "tts",
        row: engine::synthesizer_row(&provider.engine),
        spec: synthesizer_spec(config, provider, ""),
        models: ("voice", provider.voices.iter().map(String::as_str).collect()),
        key_env: "",
    });
    look_at_all(&case, all).await
}

/// The engines that chat.
pub async fn chat(case: Arc<Case>) -> Vec<Row> {
    let config = &case.config.llm;
    let all = config.providers.iter().map(|provider| Wanted {
        role: "llm",
        row: engine::chat_row(&provider.engine),
        // Looked at without its key, which is nobody's business.
        spec: chat_spec(config, provider, None, &case.home.models().join(&provider.embedded_model)),
        models: ("chat model", vec![provider.embedded_model.as_str()]),
        key_env: &provider.key_env,
    });
    look_at_all(&case, all).await
}

async fn look_at_all<'a, S, T>(case: &Case, all: impl Iterator<Item = Wanted<'a, S, T>>) -> Vec<Row>
where
    S: Send + Sync + 'static,
    T: ?Sized + 'static,
{
    join_all(all.map(|wanted| look_at(case, wanted))).await.into_iter().flatten().collect()
}

async fn look_at<S, T>(case: &Case, wanted: Wanted<'_, S, T>) -> Vec<Row>
where
    S: Send + Sync + 'static,
    T: ?Sized + 'static,
{
    let Wanted { role, row, spec, models: (what, models), key_env } = wanted;
    let row = match row {
        Ok(row) => row,
        Err(error) => return vec![Row::error(format!("{role}.engine"), &error)],
    };
    let key = row.needs.key.map(|name| key(name, key_env, std::env::var_os(key_env)));
    let mut rows: Vec<Row> = key.into_iter().collect();
    if let Some(kind) = row.needs.model {
        rows.extend(models.iter().map(|name| model(case, what, name, kind)));
    }
    let findings = match row.check {
        Some(check) => check(&spec, &case.home).await,
        None => Vec::new(),
    };
    for finding in findings {
        match finding {
            Finding::Ok { what, detail } => rows.push(Row::ok(what, detail)),
            Finding::Fail { what, detail, todo } if todo.is_empty() => rows.push(Row::error(what, &detail)),
            Finding::Fail { what, detail, todo } => rows.push(Row::fail(what, detail, todo)),
            Finding::Model(kind) => rows.extend(models.iter().map(|name| model(case, what, name, kind))),
        }
    }
    rows
}

/// Whether the provider's key is set; its value is nobody's business.
fn key(what: &str, name: &str, value: Option<OsString>) -> Row {
    if name.is_empty() {
        let todo = "if the provider wants one, name its environment variable as key_env in llm.providers";
        return Row::warn(what, "none is sent", todo);
    }
    match value {
        Some(value) if !value.is_empty() => Row::ok(what, format!("in ${name}")),
        _ => Row::fail(what, format!("${name} is not set"), "export it where the host is started, or empty key_env"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::case::Status;

    #[test]
    fn a_key_must_be_set_and_is_not_shown() {
        let row = key("K", "KEY", Some("sk-123".into()));
        assert_eq!(row.status, Status::Ok);
        assert!(!format!("{row:?}").contains("sk-123"));
        assert_eq!(key("K", "KEY", None).status, Status::Fail);
        assert_eq!(key("K", "KEY", Some("".into())).status, Status::Fail);
        assert_eq!(key("K", "", None).status, Status::Warn);
    }
}
