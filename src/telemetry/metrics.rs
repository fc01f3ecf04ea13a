//! Every metric there is, in Prometheus' terms. Times are in seconds; labels have few values, and never an id or a text.
//!
//! Code that measures uses the `metrics` facade with a name from here. Until [`install`] was called that costs next to
//! nothing.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start of the host.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often a value was up to so much.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name; the end says the unit: `_total` is a count, `_seconds` a time.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// One line for people.
    pub about: &'static str,
}

macro_rules! metrics {
    ($( #[doc = $about:literal] $kind:ident $name:ident = $text:literal [$($label:literal),*]; )*) => {
        $( #[doc = $about] pub const $name: &str = $text; )*

        /// All of them.
        pub const ALL: &[Metric] = &[
            $( Metric { name: $text, kind: Kind::$kind, labels: &[$($label),*], about: $about.trim_ascii_start() } ),*
        ];
    };
}

metrics! {
    /// Always 1; says which host this is.
    Gauge INFO = "sidetone_info" ["node", "version"];
    /// Requests that were answered, or not; `code` is `ok` or the kind of the error.
    Counter REQUESTS = "sidetone_requests_total" ["verb", "code"];
    /// Requests that were refused before any work; `reason` is `busy` (all slots taken) or `stopping`.
    Counter REFUSED = "sidetone_requests_refused_total" ["capability", "reason"];
    /// Requests being worked on.
    Gauge IN_FLIGHT = "sidetone_requests_in_flight" ["capability"];
    /// Requests that can be worked on at once.
    Gauge SLOTS = "sidetone_slots" ["capability"];
    /// From a request's arrival to its last reply.
    Histogram REQUEST_TIME = "sidetone_request_duration_seconds" ["verb"];
    /// Chunks of streams that were sent.
    Counter CHUNKS = "sidetone_stream_chunks_total" ["verb"];
    /// Turns of this host's listeners that are over; `outcome` is `answered`, `nothing`, `stopped`, `interrupted` or `failed`.
    Counter TURNS = "sidetone_turns_total" ["outcome"];
    /// The stages of a spoken turn: `endpoint`, `stt`, `first_sentence` (agent), `first_audio` (tts), `first_sample`, `total` (from the end of speech to the first sample), `spoken`.
    Histogram TURN_STAGE = "sidetone_turn_stage_seconds" ["stage"];
    /// What the agent takes: `first_text` (to the first text of its answer) and `total`.
    Histogram AGENT = "sidetone_agent_seconds" ["stage"];
    /// What an engine takes: `first` (to the first of its output, tts and llm) and `total`.
    Histogram ENGINE = "sidetone_engine_seconds" ["role", "stage"];
    /// 1 while the listener's JACK client runs.
    Gauge JACK_UP = "sidetone_jack_up" ["listener"];
    /// Periods that JACK missed (xruns).
    Counter XRUNS = "sidetone_jack_xruns_total" ["listener"];
    /// Audible gaps: speech was not there in time.
    Counter UNDERRUNS = "sidetone_playback_underruns_total" ["listener"];
    /// Frames of the microphone that were lost because no reader took them in time.
    Counter DROPPED = "sidetone_capture_dropped_frames_total" ["listener"];
    /// 1 while the connection to NATS stands; `connection` is `control` or `audio`.
    Gauge NATS_UP = "sidetone_nats_up" ["connection"];
    /// Times that the connection to NATS came back.
    Counter NATS_RECONNECTS = "sidetone_nats_reconnects_total" ["connection"];
    /// Session events that are kept.
    Counter SESSION_EVENTS = "sidetone_session_events_total" [];
    /// Session events that wait to be kept, in memory or on disk.
    Gauge SESSION_WAITING = "sidetone_session_events_waiting" [];
    /// Session events that were given up.
    Counter SESSION_LOST = "sidetone_session_events_lost_total" [];
}

/// Upper bounds of the histograms, in seconds: from a local round trip to a long answer.
const BUCKETS_S: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 120.0];
/// How often samples are taken in between scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Everything measured so far, as Prometheus reads it.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl Exposition {
    /// The text.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Takes in samples now and then, so that they do not grow without a scrape. Never ends.
    pub async fn keep_up(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Begins to measure, for the whole program. What was counted before is lost, so this comes first.
///
/// # Errors
/// Another recorder measures.
pub fn install(node: &str) -> Result<Exposition, String> {
    static INSTALLED: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let handle = INSTALLED.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS_S);
        builder.and_then(PrometheusBuilder::install_recorder).map_err(|e| format!("metrics can't be kept: {e}"))
    });
    let handle = handle.clone()?;
    for Metric { name, kind, about, .. } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *about),
            Kind::Gauge => metrics::describe_gauge!(*name, *about),
            Kind::Histogram => metrics::describe_histogram!(*name, *about),
        }
    }
    metrics::gauge!(INFO, "node" => node.to_owned(), "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Exposition(handle))
}

/// A request is over.
pub fn request(verb: &str, code: &'static str, took: Duration) {
    metrics::counter!(REQUESTS, "verb" => verb.to_owned(), "code" => code).increment(1);
    metrics::histogram!(REQUEST_TIME, "verb" => verb.to_owned()).record(took);
}

/// A turn is over; `stages` are its times in ms, 0 for one that was not come to.
pub fn turn(outcome: &'static str, stages: &[(&'static str, u64)]) {
    metrics::counter!(TURNS, "outcome" => outcome).increment(1);
    for (stage, ms) in stages.iter().filter(|(_, ms)| *ms > 0) {
        metrics::histogram!(TURN_STAGE, "stage" => *stage).record(Duration::from_millis(*ms));
    }
}

/// The agent has answered; times in ms.
pub fn agent(first_text_ms: u64, total_ms: u64) {
    for (stage, ms) in [("first_text", first_text_ms), ("total", total_ms)] {
        metrics::histogram!(AGENT, "stage" => stage).record(Duration::from_millis(ms));
    }
}

/// The engine of `role` has worked; times in ms.
pub fn engine(role: &'static str, first_ms: Option<u64>, total_ms: u64) {
    for (stage, ms) in [("first", first_ms), ("total", Some(total_ms))] {
        if let Some(ms) = ms {
            metrics::histogram!(ENGINE, "role" => role, "stage" => stage).record(Duration::from_millis(ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_their_unit_and_are_there_once() {
        for (at, metric) in ALL.iter().enumerate() {
            let Metric { name, kind, labels, about } = metric;
            assert!(name.starts_with("sidetone_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), *kind == Kind::Histogram, "{name}");
            assert!(ALL.iter().skip(at + 1).all(|other| other.name != *name), "{name} is there twice");
            assert!(about.ends_with('.') && labels.len() <= 2, "{name}");
        }
        assert!(BUCKETS_S.is_sorted());
    }
}
