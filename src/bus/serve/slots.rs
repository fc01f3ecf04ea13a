//! Which requests are worked on: so many at once. A caller that waits goes before work that may wait.
//!
//! Work that may wait takes any slot that is idle, the last one too, and gives it back when a caller comes for which there
//! is none: what has run least gives way first. Keeping a slot free instead would leave it idle most of the time, and
//! a host with one slot could do nothing by the way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long work that may wait may take to give its slot back.
const YIELD_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    total: usize,
    /// Slots that give way, oldest first.
    batch: Mutex<Vec<CancellationToken>>,
    freed: Notify,
}

/// A slot in use; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
    /// Of work that may wait: fires when it has to give way.
    yields: Option<CancellationToken>,
}

impl Slots {
    pub(super) fn new(total: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(total));
        Arc::new(Self { free, total, batch: Mutex::default(), freed: Notify::new() })
    }

    /// Slots in use, but for those that give way.
    pub(super) fn in_flight(&self) -> usize {
        let batch = self.lock().len();
        self.total.saturating_sub(self.free.available_permits() + batch)
    }

    /// Whether there is one for a caller that waits.
    pub(super) fn is_free(&self) -> bool {
        self.in_flight() < self.total
    }

    /// Slots that give way.
    pub(super) fn batch(&self) -> usize {
        self.lock().len()
    }

    /// A slot for a caller that waits; `None` if others that wait have them all.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Slot> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(self.slot(permit, None));
        }
        let yields = self.lock().pop()?;
        yields.cancel();
        // A task that waits for a permit gets it before one that only looks whether there is one.
        let permit = timeout(YIELD_TIMEOUT, Arc::clone(&self.free).acquire_owned()).await.ok()?.ok()?;
        Some(self.slot(permit, None))
    }

    /// A slot for work that may wait, if one is idle.
    pub(super) fn try_idle(self: &Arc<Self>) -> Option<Slot> {
        // Under the lock, so that no caller finds the slot taken and not yet giving way.
        let mut batch = self.lock();
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        let yields = CancellationToken::new();
        batch.push(yields.clone());
        drop(batch);
        Some(self.slot(permit, Some(yields)))
    }

    /// Waits until one is idle, and takes it.
    pub(super) async fn idle(self: &Arc<Self>) -> Slot {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(slot) = self.try_idle() {
                return slot;
            }
            freed.await;
        }
    }

    /// Waits until one is idle, without taking it.
    pub(super) async fn until_idle(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.free.available_permits() > 0 {
                return;
            }
            freed.await;
        }
    }

    fn slot(self: &Arc<Self>, permit: OwnedSemaphorePermit, yields: Option<CancellationToken>) -> Slot {
        Slot { slots: Arc::clone(self), permit: Some(permit), yields }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CancellationToken>> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Completes when it has to be given back; never for a caller that waits.
    pub(super) async fn has_to_yield(&self) {
        match &self.yields {
            Some(yields) => yields.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut batch = self.slots.lock();
            if let Some(yields) = self.yields.take().filter(|yields| !yields.is_cancelled()) {
                // Marked, so that it differs from its equals.
                yields.cancel();
                batch.retain(|other| !other.is_cancelled());
            }
            self.permit.take();
        }
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_waits_goes_before_what_may_wait() {
        let slots = Slots::new(2);
        let (old, young) = (slots.try_idle().unwrap(), slots.try_idle().unwrap());
        assert!(slots.try_idle().is_none());
        assert_eq!((slots.in_flight(), slots.batch()), (0, 2));
        let mut first = Box::pin(slots.take());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(young.has_to_yield().now_or_never().is_some() && old.has_to_yield().now_or_never().is_none());
        // Work that waits for an idle slot does not get the one that is given back.
        let mut idle = Box::pin(slots.idle());
        assert!(idle.as_mut().now_or_never().is_none());
        drop(young);
        let first = first.await.unwrap();
        assert!(idle.as_mut().now_or_never().is_none());
        assert_eq!((slots.in_flight(), slots.batch()), (1, 1));

        let (second, ()) = tokio::join!(slots.take(), async {
            old.has_to_yield().await;
            drop(old);
        });
        assert!(second.is_some());
        assert!(slots.take().await.is_none(), "both are taken by callers that wait");
        drop(first);
        let idle = idle.await;
        assert_eq!((slots.in_flight(), slots.batch()), (1, 1));
        drop((idle, second));
        assert_eq!((slots.in_flight(), slots.batch(), slots.free.available_permits()), (0, 0, 2));
    }
}
