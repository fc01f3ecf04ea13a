//! When those who wait for an answer look whether its host lives: all of them at once.
//!
//! With a timer each, most requests would cost a system call and wake a thread: the runtime sleeps until its next timer, and
//! is told of each that comes before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How often they look.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Says when to look, as long as anybody wants to.
#[derive(Debug)]
pub(super) struct Looks {
    shared: Arc<Shared>,
    _clock: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    looks: watch::Sender<()>,
    wanted: Notify,
}

impl Looks {
    pub(super) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let clock = tokio::spawn(Arc::clone(&shared).run());
        Self { shared, _clock: AbortOnDropHandle::new(clock) }
    }

    /// For one who begins to wait. The first look comes within [`LOOK_EVERY`], then one after that time each.
    pub(super) fn watch(&self) -> Look {
        let look = Look(self.shared.looks.subscribe());
        self.shared.wanted.notify_one();
        look
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        loop {
            while self.looks.receiver_count() == 0 {
                self.wanted.notified().await;
            }
            sleep(LOOK_EVERY).await;
            self.looks.send_replace(());
        }
    }
}

/// The looks of one who waits.
#[derive(Debug)]
pub(super) struct Look(watch::Receiver<()>);

impl Look {
    /// Waits for the next.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The fabric is gone: nobody looks any more.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_come_for_all_who_wait_and_begin_anew() {
        let looks = Looks::start();
        for _ in 0..2 {
            let begun = Instant::now();
            let (mut one, mut other) = (looks.watch(), looks.watch());
            for n in 1..4 {
                tokio::join!(one.next(), other.next());
                assert!(begun.elapsed() <= LOOK_EVERY * n + Duration::from_millis(n.into()), "{:?}", begun.elapsed());
                assert!(begun.elapsed() > LOOK_EVERY * (n - 1), "{:?}", begun.elapsed());
            }
            drop((one, other));
            // Nobody looks meanwhile.
            sleep(LOOK_EVERY * 10).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_fabric_there_is_no_look() {
        let mut look = Looks::start().watch();
        assert!(timeout(LOOK_EVERY * 3, look.next()).await.is_err());
    }
}
