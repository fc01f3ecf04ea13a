//! When callers that wait for an answer check whether its host lives: all of them at once.
//!
//! With a timer each, most requests would cost a system call and wake a thread: the runtime sleeps until its next timer, and
//! is woken for each that comes before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How often they check.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// Says when to check, as long as a caller waits.
#[derive(Debug)]
pub(super) struct Liveness {
    shared: Arc<Shared>,
    _clock: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    checks: watch::Sender<()>,
    wanted: Notify,
}

impl Liveness {
    pub(super) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let clock = tokio::spawn(Arc::clone(&shared).run());
        Self { shared, _clock: AbortOnDropHandle::new(clock) }
    }

    /// For a caller that begins to wait. The first check comes within [`CHECK_EVERY`], then one after that time each.
    pub(super) fn watch(&self) -> Checks {
        let checks = Checks(self.shared.checks.subscribe());
        self.shared.wanted.notify_one();
        checks
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        loop {
            while self.checks.receiver_count() == 0 {
                self.wanted.notified().await;
            }
            sleep(CHECK_EVERY).await;
            self.checks.send_replace(());
        }
    }
}

/// The checks of one caller.
#[derive(Debug)]
pub(super) struct Checks(watch::Receiver<()>);

impl Checks {
    /// Waits for the next.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The fabric is gone, and with it what was asked.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn checks_come_for_all_callers_and_begin_again() {
        let liveness = Liveness::start();
        for _ in 0..2 {
            let begun = Instant::now();
            let (mut one, mut other) = (liveness.watch(), liveness.watch());
            for n in 1..4 {
                tokio::join!(one.next(), other.next());
                assert!(begun.elapsed() <= CHECK_EVERY * n + Duration::from_millis(n.into()), "{:?}", begun.elapsed());
                assert!(begun.elapsed() > CHECK_EVERY * (n - 1), "{:?}", begun.elapsed());
            }
            drop((one, other));
            // No caller waits meanwhile.
            sleep(CHECK_EVERY * 10).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_fabric_there_is_no_check() {
        let mut checks = Liveness::start().watch();
        assert!(timeout(CHECK_EVERY * 3, checks.next()).await.is_err());
    }
}
