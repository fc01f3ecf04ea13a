//! The embedded chat model: llama.cpp's own server as a supervised child, asked by the OpenAI protocol.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;

use super::chat::http_client;
use super::{
    ChatEnd, ChatModel, ChatRequest, ChatRow, ChatStream, ChatTimeouts, EngineError, Finding, LlamaCppSpec, Needs,
};
use super::{OpenAi, Reach, default_threads};
use crate::home::Home;
use crate::models::ModelKind;
use crate::process::{self, ChildSpec, ReadyProbe, StopOutcome, Supervised};

/// The server's program. It goes to Python on the command line, so an installed binary needs no file beside it.
const SERVER: &str = include_str!("../../deploy/llama_server.py");
const SET_UP: &str = "run `make setup`, or `python3 -m venv` there and `pip install xllamacpp` in it";

/// Says the version of the wheel without loading it, which takes long.
const VERSION: &str = "from importlib.metadata import version; print(version('xllamacpp'))";

inventory::submit! {
    ChatRow {
        name: "llamacpp",
        about: "an embedded llama.cpp server with a model of the catalogue",
        needs: Needs { model: Some(ModelKind::Gguf), ..Needs::NOTHING },
        build: |spec, home| async move {
            Ok(Arc::new(LlamaCpp::start(&spec.llamacpp, spec.timeouts, home).await?) as Arc<dyn ChatModel>)
        }.boxed(),
        check: Some(|_, home| async move { vec![check(home).await] }.boxed()),
    }
}

/// Whether the server is installed.
pub(super) async fn check(home: &Home) -> Finding {
    let what = "llama.cpp";
    let python = home.python();
    let detail = match process::answer(&python, &["-c", VERSION]).await {
        Ok(Some(version)) => return Finding::Ok { what, detail: format!("embedded, xllamacpp {version}") },
        Ok(None) => format!("there is no {}", python.display()),
        Err(why) => format!("{} has no xllamacpp ({why})", python.display()),
    };
    Finding::Fail { what, detail, todo: SET_UP.to_owned() }
}

/// A running llama.cpp server with one model. Dropping it stops the server.
pub struct LlamaCpp {
    server: Supervised,
    client: OpenAi,
    patience: Duration,
}

impl LlamaCpp {
    /// Starts the server on a free port of loopback and waits until it has loaded the model.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when the model or the server is not installed, [`EngineError::Failed`] when the server ends
    /// (a broken model), [`EngineError::Unavailable`] when loading takes too long.
    pub async fn start(spec: &LlamaCppSpec, timeouts: ChatTimeouts, home: &Home) -> Result<Self, EngineError> {
        let model = model_file(&spec.model, &spec.path)?;
        let port = free_port()?;
        let origin = format!("http://{}:{port}", Ipv4Addr::LOCALHOST);
        let client = OpenAi::new("llama.cpp", &format!("{origin}/v1"), "it is being restarted", None, timeouts)?;
        let threads = if spec.threads == 0 { default_threads() } else { spec.threads };
        let mut args: Vec<std::ffi::OsString> = vec!["-c".into(), SERVER.into(), model.into()];
        args.extend([
            "--alias".into(),
            spec.model.clone().into(),
            "--port".into(),
            port.to_string().into(),
            "--threads".into(),
            threads.to_string().into(),
            "--context".into(),
            spec.context_tokens.to_string().into(),
        ]);
        let (url, _) = super::chat::base_url(&origin)?;
        let server = Supervised::start(ChildSpec {
            name: "llama.cpp".into(),
            program: home.python(),
            args,
            env: vec![],
            ready: ReadyProbe::http(http_client(&url, timeouts)?, format!("{origin}/health")),
            ready_timeout: spec.load_timeout,
            install_hint: SET_UP.into(),
        })
        .await?;
        Ok(Self { server, client: client.with_model(&spec.model), patience: timeouts.connect })
    }

    /// The child process, to be watched.
    #[must_use]
    pub fn server(&self) -> &Supervised {
        &self.server
    }

    /// Stops the server, killing it when `deadline` has passed.
    pub async fn stop(self, deadline: Duration) -> StopOutcome {
        self.server.stop(deadline).await
    }

    /// Waits for a server that is being restarted, but not long.
    async fn up(&self) -> Result<(), EngineError> {
        self.server.ready(self.patience).await.map_err(EngineError::Unavailable)
    }
}

#[async_trait]
impl ChatModel for LlamaCpp {
    fn provider(&self) -> &str {
        "llama.cpp"
    }

    fn default_model(&self) -> &str {
        self.client.default_model()
    }

    fn reach(&self) -> Reach {
        Reach::Host
    }

    async fn models(&self) -> Result<Vec<String>, EngineError> {
        Ok(vec![self.default_model().to_owned()])
    }

    async fn warm(&self) -> Result<(), EngineError> {
        self.up().await?;
        self.client.warm().await
    }

    async fn chat(&self, request: ChatRequest) -> Result<ChatStream, EngineError> {
        // The server answers with its only model whatever name it is asked for.
        if let Some(model) = request.model.as_deref().filter(|model| *model != self.default_model()) {
            return Err(self.client.endpoint().unknown_model(model, &[self.default_model().to_owned()]));
        }
        self.up().await?;
        self.client.chat(request).await
    }

    async fn read_ahead(&self, request: ChatRequest) -> Result<Option<ChatEnd>, EngineError> {
        self.up().await?;
        self.client.read_ahead(request).await
    }
}

/// The model's file: `path` itself, or `model.gguf` in it.
fn model_file(model: &str, path: &Path) -> Result<PathBuf, EngineError> {
    let file = if path.is_dir() { path.join("model.gguf") } else { path.to_path_buf() };
    if file.is_file() {
        return Ok(file);
    }
    Err(EngineError::Missing(format!(
        "the chat model {model} is not at {}; fetch it by `sidetone models fetch {model}`",
        file.display()
    )))
}

/// A port that nobody uses now. Someone may take it before the server does; the server then ends and says so.
fn free_port() -> Result<u16, EngineError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|error| EngineError::Failed(format!("no port is free on loopback: {error}")))
}
