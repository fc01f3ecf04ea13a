//! The pace of feedback: each key's latest value, at most so often, and the last one always.

use std::collections::BTreeMap;
use std::time::Duration;

/// Holds values back that come too often. Times count from any moment, the same for all calls.
#[derive(Debug)]
pub struct Pace<K, V> {
    every: Duration,
    /// At most so many keys; what comes for a further one goes out unpaced.
    keys_max: usize,
    keys: BTreeMap<K, Paced<V>>,
}

#[derive(Debug)]
struct Paced<V> {
    sent: Duration,
    waits: Option<V>,
}

impl<K: Ord + Clone, V> Pace<K, V> {
    /// A value each `every`, for up to `keys_max` keys.
    #[must_use]
    pub fn new(every: Duration, keys_max: usize) -> Self {
        Self { every, keys_max, keys: BTreeMap::new() }
    }

    /// A new value: given back if it is to be sent now, kept in place of an earlier one if it is to wait.
    pub fn offer(&mut self, key: &K, value: V, now: Duration) -> Option<V> {
        match self.keys.get_mut(key) {
            Some(paced) if now < paced.sent + self.every => {
                paced.waits = Some(value);
                return None;
            }
            Some(paced) => *paced = Paced { sent: now, waits: None },
            None => {
                if self.keys.len() == self.keys_max {
                    let (every, now) = (self.every, now);
                    self.keys.retain(|_, paced| paced.waits.is_some() || now < paced.sent + every);
                }
                if self.keys.len() < self.keys_max {
                    self.keys.insert(key.clone(), Paced { sent: now, waits: None });
                }
            }
        }
        Some(value)
    }

    /// The values whose time has come.
    pub fn take(&mut self, now: Duration) -> Vec<(K, V)> {
        let every = self.every;
        let due = self.keys.iter_mut().filter(|(_, paced)| now >= paced.sent + every);
        due.filter_map(|(key, paced)| {
            let value = paced.waits.take()?;
            paced.sent = now;
            Some((key.clone(), value))
        })
        .collect()
    }

    /// When the next value's time comes; `None` if none waits.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.keys.values().filter(|paced| paced.waits.is_some()).map(|paced| paced.sent + self.every).min()
    }

    /// Forgets the keys that `gone` says are gone, and what waits for them.
    pub fn forget(&mut self, gone: impl Fn(&K) -> bool) {
        self.keys.retain(|key, _| !gone(key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVERY: Duration = Duration::from_millis(33);

    #[test]
    fn the_latest_goes_out_and_the_last_is_never_lost() {
        let mut pace = Pace::new(EVERY, 8);
        let ms = Duration::from_millis;
        assert_eq!(pace.offer(&"level", 1, ms(0)), Some(1));
        assert_eq!(pace.offer(&"level", 2, ms(10)), None);
        assert_eq!(pace.offer(&"level", 3, ms(20)), None);
        assert_eq!(pace.offer(&"state", 4, ms(20)), Some(4));
        assert_eq!((pace.take(ms(32)), pace.next()), (vec![], Some(ms(33))));
        assert_eq!(pace.take(ms(33)), [("level", 3)]);
        assert_eq!((pace.take(ms(99)), pace.next()), (vec![], None));
        assert_eq!(pace.offer(&"level", 5, ms(99)), Some(5));
        assert_eq!(pace.offer(&"level", 6, ms(100)), None);
        pace.forget(|key| *key == "level");
        assert_eq!(pace.next(), None);
    }

    proptest! {
        #[test]
        fn never_too_often_and_always_the_last(offers in prop::collection::vec((0_u8..3, 0_u64..40), 1..80)) {
            let mut pace = Pace::new(EVERY, 8);
            let (mut now, mut sent, mut last) = (Duration::ZERO, Vec::new(), BTreeMap::new());
            for (value, (key, wait)) in offers.into_iter().enumerate() {
                let next = now + Duration::from_millis(wait);
                while let Some(due) = pace.next().filter(|due| *due <= next) {
                    sent.extend(pace.take(due).into_iter().map(|(key, value)| (key, value, due)));
                }
                now = next;
                last.insert(key, value);
                sent.extend(pace.offer(&key, value, now).map(|value| (key, value, now)));
            }
            while let Some(due) = pace.next() {
                sent.extend(pace.take(due).into_iter().map(|(key, value)| (key, value, due)));
            }
            for (key, last) in last {
                let of_key: Vec<_> = sent.iter().filter(|(other, ..)| *other == key).collect();
                prop_assert_eq!(of_key.last().unwrap().1, last);
                prop_assert!(of_key.windows(2).all(|pair| pair[1].2 - pair[0].2 >= EVERY && pair[1].1 > pair[0].1));
            }
        }

        #[test]
        fn keys_are_bounded(keys in prop::collection::vec(0_u32..1_000, 1..200)) {
            let mut pace = Pace::new(EVERY, 16);
            for key in keys {
                pace.offer(&key, (), Duration::ZERO);
                prop_assert!(pace.keys.len() <= 16);
            }
        }
    }
}
