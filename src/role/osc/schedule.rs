//! What waits for its time. A stop drops all of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// At most so much waits; more is refused.
const WAITING: usize = 4_096;

/// Things with their times. Those of one time keep their order.
#[derive(Debug)]
pub struct Schedule<T> {
    waiting: Mutex<(u64, BTreeMap<(Instant, u64), T>)>,
    changed: Notify,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new((0, BTreeMap::new())), changed: Notify::new() }
    }
}

impl<T> Schedule<T> {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<(Instant, u64), T>)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it wait until `at`; `false` if too much waits already.
    pub fn put(&self, at: Instant, what: T) -> bool {
        let mut waiting = self.lock();
        if waiting.1.len() == WAITING {
            return false;
        }
        waiting.0 += 1;
        let key = (at, waiting.0);
        let is_first = waiting.1.first_key_value().is_none_or(|(first, _)| key < *first);
        waiting.1.insert(key, what);
        drop(waiting);
        if is_first {
            self.changed.notify_one();
        }
        true
    }

    /// Drops all; gives how much it was.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut self.lock().1).len()
    }

    /// The next whose time has come. It can be dropped while it waits.
    pub async fn next(&self) -> T {
        loop {
            let changed = self.changed.notified();
            let first = {
                let mut waiting = self.lock();
                match waiting.1.first_entry() {
                    Some(first) if first.key().0 <= Instant::now() => return first.remove(),
                    first => first.map(|first| first.key().0),
                }
            };
            let until = async {
                match first {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = until => {}
                () = changed => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn things_come_in_the_order_of_their_times() {
        let (schedule, now) = (Schedule::default(), Instant::now());
        let at = |ms| now + Duration::from_millis(ms);
        for (ms, what) in [(20, "c"), (10, "a"), (10, "b"), (30, "d")] {
            assert!(schedule.put(at(ms), what));
        }
        for what in ["a", "b", "c"] {
            assert_eq!(schedule.next().await, what);
        }
        assert_eq!(schedule.clear(), 1);
        // One that comes while another is waited for, and is due before.
        schedule.put(at(60_000), "later");
        let (next, ()) = tokio::join!(schedule.next(), async { drop(schedule.put(at(1), "sooner")) });
        assert_eq!(next, "sooner");
        assert!(Instant::now() >= at(20), "it waits for the time");
        for _ in 0..WAITING - 1 {
            assert!(schedule.put(at(60_000), "many"));
        }
        assert!(!schedule.put(at(60_000), "too many"));
    }
}
