//! Beats and bars of this host: those of the clock that the role `midi` follows or makes, else of a tempo that runs from the
//! host's start. Anything that is to be done `on = "beat"` or `"bar"` waits here.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::midi::clock::Grid;
pub use crate::midi::clock::Quantum;

/// How long before its time the clock is asked again: the tempo may have changed meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(40);

/// Says how long it is until the next beat or bar.
pub type Until = Arc<dyn Fn(Quantum) -> Duration + Send + Sync>;

/// The clock of this host. Cloning shares it.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    begun: Instant,
    own: Grid,
    plugged: Arc<RwLock<Option<Until>>>,
}

/// A clock is plugged in for as long as this lives.
#[must_use = "dropping it unplugs"]
pub struct ClockPlugged(Arc<RwLock<Option<Until>>>);

impl Drop for ClockPlugged {
    fn drop(&mut self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Clock {
    /// One of its own, from now on.
    #[must_use]
    pub fn new(bpm: f64, beats_per_bar: u32) -> Self {
        let bpm = if crate::midi::clock::BPM.contains(&bpm) { bpm } else { 120.0 };
        let plugged = Arc::default();
        Self(Arc::new(Inner { begun: Instant::now(), own: Grid::new(0, bpm, beats_per_bar), plugged }))
    }

    /// Asks `until` from now on.
    pub fn plug(&self, until: Until) -> ClockPlugged {
        *self.0.plugged.write().unwrap_or_else(PoisonError::into_inner) = Some(until);
        ClockPlugged(Arc::clone(&self.0.plugged))
    }

    /// How long it is until the next beat or bar.
    #[must_use]
    pub fn until(&self, quantum: Quantum) -> Duration {
        let plugged = self.0.plugged.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(until) = plugged {
            return until(quantum);
        }
        let now_us = u64::try_from(self.0.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.0.own.next_us(quantum, now_us) - now_us)
    }

    /// Waits for the next beat or bar, to the millisecond. At 5 BPM in 4/4 that is 48 s at most.
    pub async fn wait(&self, quantum: Quantum) {
        loop {
            let left = self.until(quantum);
            if left <= ASK_AGAIN {
                return tokio::time::sleep(left).await;
            }
            tokio::time::sleep(left - ASK_AGAIN / 2).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_plugged_in_is_followed_while_one_waits() {
        let clock = Clock::new(60.0, 4);
        assert!(clock.until(Quantum::Beat) <= Duration::from_secs(1));
        assert!(clock.until(Quantum::Bar) <= Duration::from_secs(4));
        let begun = tokio::time::Instant::now();
        let at = begun + Duration::from_millis(100);
        let plugged = clock.plug(Arc::new(move |_| at.saturating_duration_since(tokio::time::Instant::now())));
        clock.wait(Quantum::Bar).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(100));
        drop(plugged);
        assert!(clock.until(Quantum::Bar) > Duration::ZERO);
    }
}
