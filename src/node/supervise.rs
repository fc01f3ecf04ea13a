//! The roles as tasks: started, started again when they break, drained in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::error::NodeError;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::role::{RoleContext, RoleError, RoleRow};

/// A role that has run this long before it fails starts over with the shortest pause.
const STEADY: Duration = Duration::from_secs(60);

/// The roles of a host. Dropping it aborts them.
pub(super) struct RoleTasks {
    /// Those that drain together, in that order.
    groups: BTreeMap<u8, (CancellationToken, JoinSet<()>)>,
    /// Roles that are yet to be up.
    waiting: usize,
    /// Each role says once that it is up, or why it ended.
    events: mpsc::Receiver<Result<(), NodeError>>,
}

impl RoleTasks {
    /// Starts the roles of `rows`, each with `context` and the stop of its group.
    pub(super) fn start(rows: &[&'static RoleRow], context: &RoleContext) -> Self {
        let (sender, events) = mpsc::channel(rows.len().max(1));
        let mut groups = BTreeMap::<u8, (CancellationToken, JoinSet<()>)>::new();
        for row in rows {
            let (stop, tasks) = groups.entry(row.drains).or_default();
            tasks.spawn(supervise(row, RoleContext { stop: stop.clone(), ..context.clone() }, sender.clone()));
        }
        Self { groups, waiting: rows.len(), events }
    }

    /// Waits until every role is up. `false` when `stop` fires before.
    ///
    /// # Errors
    /// A role can't start.
    pub(super) async fn until_up(&mut self, stop: &CancellationToken) -> Result<bool, NodeError> {
        while self.waiting > 0 {
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                event = self.events.recv() => match event {
                    Some(result) => result.map(|()| self.waiting -= 1)?,
                    None => return Ok(false),
                },
            }
        }
        Ok(true)
    }

    /// Completes when a role has ended that no new start can mend.
    pub(super) async fn failed(&mut self) -> NodeError {
        loop {
            match self.events.recv().await {
                Some(Err(error)) => return error,
                Some(Ok(())) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Lets the roles that ask finish their work while those that they ask still serve; cuts off what is left after
    /// `patience`.
    pub(super) async fn drain(mut self, patience: Duration) {
        let draining = async {
            for (stop, tasks) in self.groups.values_mut() {
                stop.cancel();
                while tasks.join_next().await.is_some() {}
            }
        };
        if timeout(patience, draining).await.is_err() {
            tracing::warn!("a role did not end within node.drain_timeout_ms and was cut off");
        }
        for (_, tasks) in self.groups.values_mut() {
            tasks.shutdown().await;
        }
    }
}

/// Runs a role, and starts it again when it breaks. Says once that it is up, or why it can't be.
async fn supervise(row: &'static RoleRow, context: RoleContext, events: mpsc::Sender<Result<(), NodeError>>) {
    let span = tracing::info_span!("role", role = row.name);
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times();
    let mut pauses = backoff.build();
    let mut is_up = false;
    loop {
        let begun = Instant::now();
        let role = (row.build)();
        let run = RoleContext { is_up: CancellationToken::new(), ..context.clone() };
        let came_up = run.is_up.clone();
        let mut work = Box::pin(role.run(run).instrument(span.clone()));
        let result = tokio::select! {
            result = &mut work => result,
            // It has promised nothing yet.
            () = context.stop.cancelled(), if !is_up => {
                let is_own = |role: &str| row.serves.iter().any(|capability| capability.token() == role);
                if !context.offers.now().iter().any(|offer| is_own(&offer.role)) {
                    return;
                }
                // One of its engines serves already.
                work.await
            }
            () = came_up.cancelled(), if !is_up => {
                is_up = true;
                let _ = events.send(Ok(())).await;
                work.await
            }
        };
        row.serves.iter().for_each(|capability| context.offers.remove(capability.token()));
        if context.stop.is_cancelled() {
            return;
        }
        let error = result.err().unwrap_or_else(|| RoleError::Setting("it ended though it was not stopped".to_owned()));
        if !is_up || !error.can_retry() {
            let _ = events.send(Err(NodeError::Role { role: row.name, error })).await;
            return;
        }
        if begun.elapsed() > STEADY {
            pauses = backoff.build();
        }
        let pause = pauses.next().unwrap_or(Duration::from_secs(10));
        let text = format!("role {} broke and is started again in {} ms: {error}", row.name, pause.as_millis());
        context.bus.report(&Fault::new(FaultCode::Failed, text)).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.stop.cancelled() => return,
        }
    }
}
