//! What a host tells of itself: log lines, traces, metrics, health.
//!
//! | module | what |
//! | --- | --- |
//! | [`trace`] | the turn and the session that work belongs to, within a host and over hosts |
//! | [`metrics`] | every metric there is: names, units, labels |
//! | [`health`] | the parts of this host, and which of them is down |
//! | `otlp` | spans to an OpenTelemetry collector |
//!
//! What was said stays out of message texts, labels and spans, so that all of this can be shared.

mod export;
pub mod health;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
pub mod parent;
pub mod trace;

use std::io::IsTerminal as _;

use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use export::Export;

/// What is logged unless `SIDETONE_LOG` or `--log` says otherwise. The NATS client, the decoders and Whisper are quiet: `bus`,
/// `audio` and `engine` say what matters (Whisper takes a transcription that was cancelled for an error).
const DEFAULT: &str = "info,async_nats=error,whisper_rs=off,jack_sys=warn,symphonia=off";

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What runs until the program ends.
#[derive(Debug)]
#[must_use = "spans that wait are lost without `finish`"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    exporter: Option<otlp::Exporter>,
}

impl Telemetry {
    /// Hands over the last spans, within 3 s. Blocks; to be called outside of the runtime, while that still runs.
    pub fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter {
            exporter.finish();
        }
    }
}

/// Starts logging; `filter` is in the form of `RUST_LOG`, such as `debug` or `sidetone::bus=trace`. To be called within a
/// runtime, which then also sends spans to `export`.
///
/// # Errors
/// The mistake in `filter` or in `export`.
pub fn start(filter: Option<&str>, format: LogFormat, export: Option<&Export>) -> Result<Telemetry, String> {
    let text = filter.map_or_else(|| DEFAULT.to_owned(), |filter| format!("{DEFAULT},{filter}"));
    let filter = EnvFilter::try_new(&text)
        .map_err(|e| format!("the log filter {text:?} can't be read: {e}; an example is sidetone::bus=debug"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_span_events(FmtSpan::NONE);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    let failed = |e: tracing_subscriber::util::TryInitError| format!("logging can't be started: {e}");
    #[cfg(feature = "otlp")]
    {
        let (exporter, spans) = export.map(otlp::start).transpose()?.unzip();
        subscriber.with(spans).try_init().map_err(failed)?;
        Ok(Telemetry { exporter })
    }
    #[cfg(not(feature = "otlp"))]
    {
        if let Some(Export { url, .. }) = export {
            return Err(format!(
                "telemetry.otlp_url is {url:?}, but this program was built without the feature otlp: empty the setting, or build with it"
            ));
        }
        subscriber.try_init().map_err(failed)?;
        Ok(Telemetry {})
    }
}
