//! How loud a listener's microphone is, published for as long as a client asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::bus::message::voice::Level;
use crate::bus::{Bus, subject};

/// How often it is published.
const EVERY: Duration = Duration::from_millis(33);
/// How long one request lasts at most.
const LONGEST: Duration = Duration::from_secs(10);

/// The loudest sample since it was last looked at. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Peak(Arc<AtomicU32>);

impl Peak {
    /// Takes samples in.
    pub fn hear(&self, samples: &[f32]) {
        let loudest = samples.iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
        // Floats that are not negative are in the order of their bits.
        self.0.fetch_max(loudest.min(1.0).to_bits(), Ordering::Relaxed);
    }

    /// The loudest, 0 to 1. The next one counts from here.
    pub fn take(&self) -> f32 {
        f32::from_bits(self.0.swap(0, Ordering::Relaxed))
    }
}

/// Publishes levels while it is asked to. Dropping it ends that.
#[derive(Debug)]
pub struct Meter {
    until: watch::Sender<Instant>,
    _task: AbortOnDropHandle<()>,
}

impl Meter {
    /// A meter of `listener`, which publishes nothing yet.
    pub fn new(bus: &Bus, listener: &str, peak: Peak) -> Self {
        let (until, asked) = watch::channel(Instant::now());
        let task = tokio::spawn(run(bus.clone(), listener.to_owned(), peak, asked));
        Self { until, _task: AbortOnDropHandle::new(task) }
    }

    /// Publishes for `ms` from now on, 10 s at most; longer if another client has asked for longer.
    pub fn ask(&self, ms: u64) {
        let wanted = Instant::now() + Duration::from_millis(ms).min(LONGEST);
        self.until.send_if_modified(|until| {
            let longer = wanted > *until;
            *until = (*until).max(wanted);
            longer
        });
    }
}

async fn run(bus: Bus, listener: String, peak: Peak, mut asked: watch::Receiver<Instant>) {
    let subject = subject::voice_level(bus.node(), &listener);
    while asked.wait_for(|until| *until > Instant::now()).await.is_ok() {
        peak.take();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while *asked.borrow_and_update() > Instant::now() {
            ticks.tick().await;
            let level = Level { node: bus.node().to_owned(), listener: listener.clone(), level: peak.take() };
            if let Err(error) = bus.publish(subject.clone(), &level).await {
                tracing::debug!(%error, "a level was not published");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loudest_sample_is_given_once() {
        let peak = Peak::default();
        peak.hear(&[0.1, -0.5, 0.25]);
        peak.hear(&[0.3]);
        assert_eq!(peak.take(), 0.5);
        assert_eq!(peak.take(), 0.0);
        peak.hear(&[-3.0, f32::NAN]);
        assert_eq!(peak.take(), 1.0);
    }
}
