//! Watches over the live JACK callback in builds with feature `rt-check`: an allocation in it aborts the process, and how
//! long it takes is counted and logged. In other builds nothing of this is there.

/// Runs the callback's work.
#[cfg(not(feature = "rt-check"))]
pub(super) fn watched<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Logs how long the callbacks took so far.
#[cfg(not(feature = "rt-check"))]
pub(super) fn report() {}

#[cfg(feature = "rt-check")]
pub use checking::{CALLBACK_TIMES, CallbackTimes};
#[cfg(feature = "rt-check")]
pub(super) use checking::{report, watched};

#[cfg(feature = "rt-check")]
mod checking {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    #[global_allocator]
    static ALLOCATOR: assert_no_alloc::AllocDisabler = assert_no_alloc::AllocDisabler;

    /// How long the callbacks of this process took.
    pub static CALLBACK_TIMES: CallbackTimes = CallbackTimes { counts: [const { AtomicU64::new(0) }; BINS] };

    /// One bin is 0.5 µs; the last holds everything longer.
    const BINS: usize = 2000;
    const BIN_NS: u128 = 500;

    /// Runs the callback's work, aborts if it allocates, and counts its time.
    pub(in crate::audio) fn watched<T>(work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = assert_no_alloc::assert_no_alloc(work);
        CALLBACK_TIMES.add(start.elapsed().as_nanos());
        done
    }

    /// Logs how long the callbacks of this process took so far.
    pub(in crate::audio) fn report() {
        let us = |quantile| CALLBACK_TIMES.quantile_us(quantile).unwrap_or_default();
        let (count, p50_us, p99_us, max_us) = (CALLBACK_TIMES.count(), us(0.5), us(0.99), us(1.0));
        tracing::debug!(count, p50_us, p99_us, max_us, "callback times");
    }

    /// A histogram that a callback may fill.
    #[derive(Debug)]
    pub struct CallbackTimes {
        counts: [AtomicU64; BINS],
    }

    impl CallbackTimes {
        fn add(&self, ns: u128) {
            let bin = usize::try_from(ns / BIN_NS).unwrap_or(BINS).min(BINS - 1);
            if let Some(count) = self.counts.get(bin) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }

        /// How many callbacks were counted.
        #[must_use]
        pub fn count(&self) -> u64 {
            self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
        }

        /// The time in µs that a share of `quantile` (0 to 1) of the callbacks did not exceed; `None` before the first.
        #[must_use]
        pub fn quantile_us(&self, quantile: f64) -> Option<f64> {
            let wanted = (self.count() as f64 * quantile).ceil() as u64;
            let mut seen = 0;
            self.counts
                .iter()
                .position(|count| {
                    seen += count.load(Ordering::Relaxed);
                    seen >= wanted.max(1)
                })
                .map(|bin| (bin as f64 + 1.0) * BIN_NS as f64 / 1000.0)
        }

        /// Forgets what was counted.
        pub fn reset(&self) {
            self.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
    }
}
