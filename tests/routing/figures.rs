//! What came of a run.

/// What came of a run, the warm-up aside.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// How long each answered request waited for the work that answered it to begin, in ms; sorted.
    pub waits_ms: Vec<f64>,
    pub requests: usize,
    pub answered: usize,
    /// Given up at the deadline, with a word to whoever asked.
    pub told: usize,
    /// Answers 'all slots are taken'.
    pub refusals: usize,
    /// How often a request lost its host in mid-work.
    pub lost: usize,
    /// Hosts that were there all the time and were given nothing.
    pub idle_hosts: usize,
    /// For each return of a host: how many requests came to it in its first 3 s, those that it refused among them.
    pub after_return: Vec<usize>,
    /// How many come to a host in 3 s on average.
    pub usual_in_3_s: f64,
    /// The work that was asked for, of all that the hosts could do.
    pub utilisation: f64,
}

impl Figures {
    /// The wait, in ms, that this share of the requests did not exceed.
    pub fn wait_ms(&self, share: f64) -> f64 {
        let last = self.waits_ms.len().saturating_sub(1);
        self.waits_ms.get(((self.waits_ms.len() as f64 * share) as usize).min(last)).copied().unwrap_or(0.0)
    }

    /// How many requests came to a host in the first 3 s after its return: on average, and at most.
    pub fn return_mean_max(&self) -> (f64, usize) {
        let sum: usize = self.after_return.iter().sum();
        (sum as f64 / self.after_return.len().max(1) as f64, self.after_return.iter().copied().max().unwrap_or(0))
    }

    /// The figures of several runs as those of one.
    pub fn together(runs: &[Self]) -> Self {
        let mut all = Self::default();
        for run in runs {
            all.waits_ms.extend(&run.waits_ms);
            all.requests += run.requests;
            all.answered += run.answered;
            all.told += run.told;
            all.refusals += run.refusals;
            all.lost += run.lost;
            all.idle_hosts += run.idle_hosts;
            all.after_return.extend(&run.after_return);
            all.usual_in_3_s += run.usual_in_3_s / runs.len() as f64;
            all.utilisation += run.utilisation / runs.len() as f64;
        }
        all.waits_ms.sort_by(f64::total_cmp);
        all
    }

    /// For people.
    pub fn line(&self) -> String {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| self.wait_ms(share));
        let refusals = self.refusals as f64 / self.requests as f64;
        let (mean, max) = self.return_mean_max();
        format!(
            "load {:.2}, wait p50 {p50:.1} p90 {p90:.1} p99 {p99:.1} ms, {refusals:.2} refusals a request; {} asked, \
             {} answered, {} told, {} lost a host, {} hosts idle; 3 s after a return {mean:.1} requests, at most {max} \
             ({:.1} usual)",
            self.utilisation, self.requests, self.answered, self.told, self.lost, self.idle_hosts, self.usual_in_3_s
        )
    }
}
