//! Child processes that are started, watched and restarted.
//!
//! ```text
//! Starting ──ready──▶ Ready ──exit──▶ Restarting ──after a pause──▶ Starting (again)
//!    │ exit, time-out   └──────────stop, drop──────────▶ Stopped
//!    └─▶ an error from `start`, the first time; Restarting, later on
//! ```
//!
//! A child lives in a process group of its own, so that Ctrl-C in a terminal reaches us and not it, and stopping it
//! reaches its own children. It gets SIGTERM from the kernel when this process dies, however that happens. Its standard
//! input is a pipe that stays open for as long as we live.

mod output;
mod spawn;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use spawn::Running;

/// How often a child that starts is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_millis(15);
/// How long one such question may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause before the first restart, and the longest one.
const RESTART_MIN: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(5);
/// A child that ran this long has recovered: the next restart comes quickly again.
const STABLE: Duration = Duration::from_secs(30);
/// How long a child may take to stop once its [`Supervised`] was dropped.
const DROP_DEADLINE: Duration = Duration::from_secs(2);
/// Why a child did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProcessError {
    /// The program is not on this host.
    #[error("cannot start {name}: there is no program {}; {hint}", program.display())]
    NotInstalled {
        /// The child's name.
        name: String,
        /// The program that was looked for.
        program: PathBuf,
        /// What to install.
        hint: String,
    },
    /// The operating system refused.
    #[error("cannot start {name} ({}): {why}", program.display())]
    Spawn {
        /// The child's name.
        name: String,
        /// The program.
        program: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It ended before it was ready.
    #[error("{name} ended before it was ready ({status}); its last words: {}", last_words(tail))]
    Exited {
        /// The child's name.
        name: String,
        /// How it ended.
        status: String,
        /// Its last lines of output.
        tail: Vec<String>,
    },
    /// It runs, but was not ready in time.
    #[error("{name} was not ready within {} ms; its last words: {}", timeout.as_millis(), last_words(tail))]
    NotReady {
        /// The child's name.
        name: String,
        /// How long it was given.
        timeout: Duration,
        /// Its last lines of output.
        tail: Vec<String>,
    },
}

fn last_words(tail: &[String]) -> String {
    if tail.is_empty() { "none".into() } else { tail.join(" | ") }
}

/// How to tell that a child is ready to serve.
#[derive(Clone)]
pub struct ReadyProbe(Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>);

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

/// Where a child stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildState {
    /// It was started and is not ready yet.
    Starting,
    /// It serves.
    Ready {
        /// Its process id.
        pid: u32,
    },
    /// It ended, and will be started again.
    Restarting {
        /// Why it ended, or why the last start failed.
        why: String,
    },
    /// It was stopped on request.
    Stopped,
}

/// How a child came to a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It ended by itself after SIGTERM.
    Terminated,
    /// It had to be killed when the deadline passed.
    Killed,
}

/// A child process that runs until this is stopped or dropped.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    state: watch::Receiver<ChildState>,
    stop: watch::Sender<Option<Duration>>,
    outcome: watch::Receiver<Option<StopOutcome>>,
}

impl Supervised {
    /// Starts a child and waits until it is ready. From then on it is started again whenever it ends, after a pause of
    /// 100 ms that doubles up to 5 s.
    ///
    /// # Errors
    /// [`ProcessError`] when the first start fails; nothing is left running then.
    pub async fn start(spec: ChildSpec) -> Result<Self, ProcessError> {
        let (state_tx, state) = watch::channel(ChildState::Starting);
        let (stop, stop_rx) = watch::channel(None);
        let (outcome_tx, outcome) = watch::channel(None);
        let name = spec.name.clone();
        let child = start_once(&spec).await?;
        state_tx.send_replace(ChildState::Ready { pid: child.pid() });
        let supervision = Supervision { spec, state: state_tx, stop: stop_rx };
        tokio::spawn(async move { outcome_tx.send_replace(Some(supervision.run(child).await)) });
        Ok(Self { name, state, stop, outcome })
    }

    /// Where the child stands, to be looked at or awaited.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ChildState> {
        self.state.clone()
    }

    /// Waits until the child serves; at once when it does.
    ///
    /// # Errors
    /// The reason why it does not, when `patience` has passed or the child was stopped.
    pub async fn ready(&self, patience: Duration) -> Result<(), String> {
        let mut state = self.state.clone();
        let settled = |state: &ChildState| matches!(state, ChildState::Ready { .. } | ChildState::Stopped);
        let waited = timeout(patience, state.wait_for(settled)).await.map(|state| state.map(|state| state.clone()));
        match waited {
            Ok(Ok(ChildState::Ready { .. })) => Ok(()),
            Ok(_) => Err(format!("{} was stopped", self.name)),
            Err(_) => Err(match &*self.state.borrow() {
                ChildState::Restarting { why } => format!("{} is being restarted: {why}", self.name),
                _ => format!("{} is starting", self.name),
            }),
        }
    }

    /// Stops the child: SIGTERM to its process group, SIGKILL when `deadline` has passed. Returns once it is gone.
    pub async fn stop(self, deadline: Duration) -> StopOutcome {
        self.stop.send_replace(Some(deadline));
        let mut outcome = self.outcome.clone();
        // The channel closes without an outcome only when the runtime is being shut down, which kills the child.
        outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| *outcome).unwrap_or(StopOutcome::Killed)
    }
}

/// A child whose owner reads what it writes and starts it again itself. Dropping it kills it.
#[derive(Debug)]
pub struct ReadChild(Running);

impl ReadChild {
    /// Starts it; whether it is ready is for its owner to find out from its `lines`, of which those that find no room are
    /// dropped.
    ///
    /// # Errors
    /// [`ProcessError::NotInstalled`], [`ProcessError::Spawn`].
    pub async fn start(spec: &ChildSpec, lines: &mpsc::Sender<String>) -> Result<Self, ProcessError> {
        Ok(Self(Running::spawn(spec, Some(lines)).await?))
    }

    /// Waits for it to end and says how. Safe to drop and call again.
    pub async fn wait(&mut self) -> String {
        self.0.wait().await
    }

    /// SIGTERM to its process group, SIGKILL when `deadline` has passed. Returns once it is gone.
    pub async fn stop(self, deadline: Duration) -> StopOutcome {
        self.0.stop(deadline).await
    }
}

/// Starts the child once and waits until it is ready.
async fn start_once(spec: &ChildSpec) -> Result<Running, ProcessError> {
    let mut child = Running::spawn(spec, None).await?;
    let deadline = Instant::now() + spec.ready_timeout;
    let probing = async {
        loop {
            if timeout(PROBE_TIMEOUT, (spec.ready.0)()).await.unwrap_or(false) {
                return;
            }
            sleep(PROBE_EVERY).await;
        }
    };
    let ready = tokio::select! {
        biased;
        status = child.wait() => Err(Some(status)),
        probed = timeout_at(deadline, probing) => probed.map_err(|_| None),
    };
    match ready {
        Ok(()) => Ok(child),
        Err(Some(status)) => {
            Err(ProcessError::Exited { name: spec.name.clone(), status, tail: child.final_tail().await })
        }
        Err(None) => {
            let tail = child.tail();
            child.stop(DROP_DEADLINE).await;
            Err(ProcessError::NotReady { name: spec.name.clone(), timeout: spec.ready_timeout, tail })
        }
    }
}

/// The task behind a [`Supervised`].
struct Supervision {
    spec: ChildSpec,
    state: watch::Sender<ChildState>,
    stop: watch::Receiver<Option<Duration>>,
}

/// When the [`Supervised`] asked to stop: the deadline; when it was dropped: [`DROP_DEADLINE`].
async fn stop_asked(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline).unwrap_or(DROP_DEADLINE)
}

impl Supervision {
    async fn run(mut self, mut child: Running) -> StopOutcome {
        let backoff = ExponentialBuilder::new()
            .with_min_delay(RESTART_MIN)
            .with_max_delay(RESTART_MAX)
            .with_factor(2.0)
            .without_max_times();
        let name = self.spec.name.clone();
        let mut pauses = backoff.build();
        loop {
            let since = Instant::now();
            let mut why = tokio::select! {
                deadline = stop_asked(&mut self.stop) => {
                    let outcome = child.stop(deadline).await;
                    tracing::info!(target: "child", name, ?outcome, "stopped");
                    self.state.send_replace(ChildState::Stopped);
                    return outcome;
                }
                status = child.wait() => format!("it ended ({status}); its last words: {}", last_words(&child.final_tail().await)),
            };
            if since.elapsed() >= STABLE {
                pauses = backoff.build();
            }
            child = loop {
                let pause = pauses.next().unwrap_or(RESTART_MAX);
                tracing::warn!(target: "child", name, why, pause_ms = pause.as_millis(), "restarting");
                self.state.send_replace(ChildState::Restarting { why });
                let again = async {
                    sleep(pause).await;
                    start_once(&self.spec).await
                };
                tokio::select! {
                    _ = stop_asked(&mut self.stop) => {
                        self.state.send_replace(ChildState::Stopped);
                        return StopOutcome::Terminated;
                    }
                    started = again => match started {
                        Ok(child) => break child,
                        Err(error) => why = error.to_string(),
                    },
                }
            };
            tracing::info!(target: "child", name, pid = child.pid(), "ready again");
            self.state.send_replace(ChildState::Ready { pid: child.pid() });
        }
    }
}

/// How a process ended, in words.
fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| format!("its end could not be awaited: {error}"), |status| status.to_string())
}

#[cfg(test)]
mod tests;
