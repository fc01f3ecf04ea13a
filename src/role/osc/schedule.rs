//! What waits for its time. A stop drops all of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// At most so many messages wait; more are refused.
const WAITING: usize = 4_096;

/// Things with their times. Those of one time keep their order.
#[derive(Debug)]
pub struct Schedule<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    /// How many things there ever were.
    count: u64,
    /// Each with the number of its messages.
    things: BTreeMap<(Instant, u64), (usize, T)>,
    /// Messages of all of them.
    messages: usize,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { count: 0, things: BTreeMap::new(), messages: 0 }), changed: Notify::new() }
    }
}

impl<T> Schedule<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has something of so many messages wait until `at`; `false` if too many wait already.
    pub fn put(&self, at: Instant, messages: usize, what: T) -> bool {
        let mut waiting = self.lock();
        if waiting.messages + messages > WAITING {
            return false;
        }
        waiting.count += 1;
        waiting.messages += messages;
        let key = (at, waiting.count);
        let is_first = waiting.things.first_key_value().is_none_or(|(first, _)| key < *first);
        waiting.things.insert(key, (messages, what));
        drop(waiting);
        if is_first {
            self.changed.notify_one();
        }
        true
    }

    /// Drops what `stays` does not take; gives how many messages that were.
    pub fn keep(&self, stays: impl Fn(&T) -> bool) -> usize {
        let mut waiting = self.lock();
        let before = waiting.messages;
        waiting.things.retain(|_, (_, what)| stays(what));
        waiting.messages = waiting.things.values().map(|(messages, _)| messages).sum();
        before - waiting.messages
    }

    /// The next whose time has come. It can be dropped while it waits.
    pub async fn next(&self) -> T {
        loop {
            let changed = self.changed.notified();
            let first = {
                let mut waiting = self.lock();
                match waiting.things.first_entry() {
                    Some(first) if first.key().0 <= Instant::now() => {
                        let (messages, what) = first.remove();
                        waiting.messages -= messages;
                        return what;
                    }
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
            assert!(schedule.put(at(ms), 1, what));
        }
        for what in ["a", "b", "c"] {
            assert_eq!(schedule.next().await, what);
        }
        assert_eq!(schedule.keep(|what| *what != "d"), 1);
        // One that comes while another is waited for, and is due before.
        schedule.put(at(60_000), 1, "later");
        let (next, ()) = tokio::join!(schedule.next(), async { assert!(schedule.put(at(1), 1, "sooner")) });
        assert_eq!(next, "sooner");
        assert!(Instant::now() >= at(20), "it waits for the time");
        // A bundle counts by its messages, and is taken whole or not at all.
        assert!(schedule.put(at(60_000), WAITING - 2, "many"));
        assert!(!schedule.put(at(60_000), 2, "too many"));
        assert!(schedule.put(at(60_000), 1, "the last"));
        assert!(!schedule.put(at(60_000), 1, "too many"));
        assert_eq!(schedule.keep(|what| *what == "many"), 2);
        assert!(schedule.put(at(60_000), 2, "again"));
    }
}
