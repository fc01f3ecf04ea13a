//! The program to run, and how it shows that it is ready.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::TcpStream;

/// How to tell that a child is ready to serve.
#[derive(Clone)]
pub struct ReadyProbe(pub(super) Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>);

impl ReadyProbe {
    /// Ready as soon as `probe` says so. It is asked again and again until the child's `ready_timeout`.
    pub fn new<F, Fut>(probe: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(probe())))
    }

    /// Ready when `address` accepts a connection. Mind that another process on that port would do as well.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Self::new(move || async move { TcpStream::connect(address).await.is_ok() })
    }

    /// Ready when a GET of `url` gives a status of 200 to 299.
    #[must_use]
    pub fn http(client: reqwest::Client, url: String) -> Self {
        Self::new(move || {
            let request = client.get(&url).send();
            async move { request.await.is_ok_and(|reply| reply.status().is_success()) }
        })
    }
}

impl fmt::Debug for ReadyProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadyProbe")
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// The name that logs and errors show.
    pub name: String,
    /// The program: a path, or a name that `$PATH` resolves.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables beyond our own.
    pub env: Vec<(OsString, OsString)>,
    /// How to tell that it is ready.
    pub ready: ReadyProbe,
    /// How long it may take to become ready.
    pub ready_timeout: Duration,
    /// What to do when the program is missing, such as `run make setup`.
    pub install_hint: String,
}
