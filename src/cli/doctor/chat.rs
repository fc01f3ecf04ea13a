//! The chat model: Ollama, the embedded llama.cpp, or a provider with a key.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::host::model;
use super::program::output;
use super::{Case, Row};
use crate::engine::{ChatModel as _, ChatSpec, ChatTimeouts, LlamaCppSpec, Ollama};
use crate::models::ModelKind;

/// How long Ollama may take.
const OLLAMA_TIMEOUT: Duration = Duration::from_millis(900);
/// Says the version of the wheel without loading it, which takes long.
const VERSION: &str = "from importlib.metadata import version; print(version('xllamacpp'))";

/// What `llm.engine` needs.
pub async fn chat(case: Arc<Case>) -> Vec<Row> {
    match case.config.llm.engine.as_str() {
        "auto" => match ollama(&case).await {
            Ok(detail) => vec![Row::ok("Ollama", detail)],
            Err(why) => {
                let mut rows = embedded(&case).await;
                let why = why.split(';').next().unwrap_or_default();
                rows.insert(0, Row::ok("Ollama", format!("not used, the embedded llama.cpp is: {why}")));
                rows
            }
        },
        "ollama" => vec![match ollama(&case).await {
            Ok(detail) => Row::ok("Ollama", detail),
            Err(why) => Row::error("Ollama", &why),
        }],
        "llamacpp" => embedded(&case).await,
        "openai" => {
            let name = &case.config.llm.key_env;
            vec![key(name, std::env::var_os(name))]
        }
        _ => Vec::new(),
    }
}

/// Its version and models.
async fn ollama(case: &Case) -> Result<String, String> {
    let config = &case.config.llm;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let spec = ChatSpec {
        engine: "ollama".to_owned(),
        url: given(&config.url),
        model: given(&config.model),
        key: None,
        timeouts: ChatTimeouts { connect: OLLAMA_TIMEOUT, first_token: OLLAMA_TIMEOUT, token: OLLAMA_TIMEOUT },
        // Not started here.
        llamacpp: LlamaCppSpec {
            model: String::new(),
            path: PathBuf::new(),
            threads: 0,
            context_tokens: 0,
            load_timeout: Duration::ZERO,
        },
    };
    let asked = async {
        let ollama = match config.engine.as_str() {
            "auto" => Ollama::connect_to_any(&spec).await?,
            _ => Ollama::connect(&spec).await?,
        };
        let (version, models) = (ollama.version().await?, ollama.models().await?);
        Ok(format!("{version}; uses {}; has {}", ollama.default_model(), models.join(", ")))
    };
    match timeout(OLLAMA_TIMEOUT, asked).await {
        Ok(result) => result.map_err(|error: crate::engine::EngineError| error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", OLLAMA_TIMEOUT.as_millis())),
    }
}

async fn embedded(case: &Case) -> Vec<Row> {
    let what = "llama.cpp";
    let set_up = "run `make setup`, or `python3 -m venv` there and `pip install xllamacpp` in it";
    let python = case.home.python();
    let program = match output(&python, &["-c", VERSION]).await {
        Ok(Some(version)) => Row::ok(what, format!("embedded, xllamacpp {version}")),
        Ok(None) => Row::fail(what, format!("there is no {}", python.display()), set_up),
        Err(why) => Row::fail(what, format!("{} has no xllamacpp ({why})", python.display()), set_up),
    };
    vec![program, model(case, "chat model", &case.config.llm.embedded_model, ModelKind::Gguf)]
}

/// Whether the provider's key is set; its value is nobody's business.
fn key(name: &str, value: Option<OsString>) -> Row {
    let what = "OpenAI key";
    if name.is_empty() {
        return Row::warn(
            what,
            "none is sent",
            "if the provider wants one, name its environment variable in llm.key_env",
        );
    }
    match value {
        Some(value) if !value.is_empty() => Row::ok(what, format!("in ${name}")),
        _ => {
            Row::fail(what, format!("${name} is not set"), "export it where the host is started, or empty llm.key_env")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_key_must_be_set_and_is_not_shown() {
        let row = key("KEY", Some("sk-123".into()));
        assert_eq!(row.status, Status::Ok);
        assert!(!format!("{row:?}").contains("sk-123"));
        assert_eq!(key("KEY", None).status, Status::Fail);
        assert_eq!(key("KEY", Some("".into())).status, Status::Fail);
        assert_eq!(key("", None).status, Status::Warn);
    }
}
