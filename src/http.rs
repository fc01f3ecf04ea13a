//! The host's optional HTTP server. The host and its roles mount routes on it; it knows none itself.
//!
//! It is for machines on a trusted network: no TLS, no login. At most [`CONNECTIONS`] at once, further ones wait; a client
//! that does not finish its request's headers is dropped.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

/// Connections at once. A WebSocket holds its own for as long as it is open.
pub const CONNECTIONS: usize = 64;
/// How long a client may take to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none, or taken.
    #[error(
        "http.listen is {listen:?}: {why}; give an address and a free port such as \"127.0.0.1:9464\", or \"\" for no server"
    )]
    Bind {
        /// The setting.
        listen: String,
        /// What the system says.
        why: std::io::Error,
    },
}

/// The server. Cloning shares it; it ends with the last.
#[derive(Debug, Clone, Default)]
pub struct Http(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    mounts: Mounts,
    server: Option<(SocketAddr, AbortOnDropHandle<()>)>,
}

/// Who asks: every request carries it as an extension.
#[derive(Debug, Clone, Copy)]
pub struct Remote(pub SocketAddr);

/// Routes by the path at which they begin, the longest first.
#[derive(Debug, Clone, Default)]
struct Mounts(Arc<Mutex<Vec<(String, Router)>>>);

impl Mounts {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<(String, Router)>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, path: &str) -> Option<Router> {
        self.with(|mounts| mounts.iter().find(|(at, _)| covers(at, path)).map(|(_, routes)| routes.clone()))
    }
}

/// Whether `path` is `at`, or below it.
fn covers(at: &str, path: &str) -> bool {
    path.strip_prefix(at.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Http {
    /// Listens on `listen`, such as `127.0.0.1:9464`; if that is empty there is no server, and mounting has no effect.
    ///
    /// # Errors
    /// [`HttpError::Bind`].
    pub async fn start(listen: &str) -> Result<Self, HttpError> {
        let mounts = Mounts::default();
        if listen.is_empty() {
            return Ok(Self(Arc::new(Inner { mounts, server: None })));
        }
        let failed = |why| HttpError::Bind { listen: listen.to_owned(), why };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, mounts.clone())));
        Ok(Self(Arc::new(Inner { mounts, server: Some((address, server)) })))
    }

    /// Where it listens; `None` if it does not.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.server.as_ref().map(|(address, _)| *address)
    }

    /// Serves `routes` for `path` and all below it, until what it gives is dropped; of several that cover a request the
    /// longest answers. The paths of `routes` are whole. WebSockets work.
    #[must_use = "dropping it takes the routes away"]
    pub fn mount(&self, path: &str, routes: Router) -> Mounted {
        self.0.mounts.with(|mounts| {
            mounts.retain(|(at, _)| at != path);
            mounts.push((path.to_owned(), routes));
            mounts.sort_by_key(|(at, _)| std::cmp::Reverse(at.len()));
        });
        Mounted { mounts: self.0.mounts.clone(), path: path.to_owned() }
    }
}

/// Routes that are served. Dropping it takes them away.
#[derive(Debug)]
pub struct Mounted {
    mounts: Mounts,
    path: String,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.mounts.with(|mounts| mounts.retain(|(at, _)| *at != self.path));
    }
}

async fn serve(listener: TcpListener, mounts: Mounts) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => drop(connections.spawn(connection(stream, Remote(from), mounts.clone(), place))),
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection can't be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, from: Remote, mounts: Mounts, _place: OwnedSemaphorePermit) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(from);
        route(mounts.clone(), request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

async fn route(mounts: Mounts, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if let Some(routes) = mounts.find(request.uri().path()) {
        return routes.oneshot(request.map(Body::new)).await;
    }
    let there = mounts.with(|mounts| mounts.iter().map(|(at, _)| at.clone()).collect::<Vec<_>>().join(", "));
    let mut response = Response::new(Body::from(format!("nothing is served there; there are {there}\n")));
    *response.status_mut() = StatusCode::NOT_FOUND;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;

    async fn text(http: &Http, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", http.address().unwrap());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let response = reqwest::get(url).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    #[tokio::test]
    async fn the_longest_path_answers_until_it_is_dropped() {
        let http = Http::start("127.0.0.1:0").await.unwrap();
        assert_eq!(text(&http, "/a").await.0, 404);
        let all = Router::new().fallback(|| async { "all" });
        let _all = http.mount("/", all);
        let a = http.mount("/a", Router::new().route("/a/b", get(|| async { "b" })));
        assert_eq!(text(&http, "/a/b").await, (200, "b".to_owned()));
        assert_eq!(text(&http, "/a/c").await.0, 404);
        assert_eq!(text(&http, "/ab").await, (200, "all".to_owned()));
        drop(a);
        assert_eq!(text(&http, "/a/b").await, (200, "all".to_owned()));
    }

    #[tokio::test]
    async fn an_address_that_is_taken_or_none_is_named() {
        let first = Http::start("127.0.0.1:0").await.unwrap();
        for listen in [first.address().unwrap().to_string(), "nowhere".to_owned(), "127.0.0.1:99999".to_owned()] {
            let error = Http::start(&listen).await.unwrap_err().to_string();
            assert!(error.contains(&format!("http.listen is {listen:?}")), "{error}");
        }
        assert_eq!(Http::start("").await.unwrap().address(), None);
    }
}
