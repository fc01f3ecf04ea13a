//! Keeping a child up.
//!
//! ```text
//! Starting ──ready──▶ Ready ──exit──▶ Restarting ──after a pause──▶ Starting (again)
//!    │ exit, time-out   └──────────stop, drop──────────▶ Stopped
//!    └─▶ an error from `start`, the first time; Restarting, later on
//! ```

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{ProcessError, last_words};
use super::spawn::{ChildProcess, StopOutcome};
use super::spec::ChildSpec;

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

/// Starts the child once and waits until it is ready.
async fn start_once(spec: &ChildSpec) -> Result<ChildProcess, ProcessError> {
    let mut child = ChildProcess::spawn(spec, None).await?;
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
    async fn run(mut self, mut child: ChildProcess) -> StopOutcome {
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
