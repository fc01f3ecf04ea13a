//! Diagnostics: log lines with the fields of their spans, to standard error.
//!
//! What was said stays out of message texts, so that a log can be shared.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

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

/// Starts logging; `filter` is in the form of `RUST_LOG`, such as `debug` or `sidetone::bus=trace`.
///
/// # Errors
/// What is wrong with `filter`.
pub fn start(filter: Option<&str>, format: LogFormat) -> Result<(), String> {
    let text = filter.map_or_else(|| DEFAULT.to_owned(), |filter| format!("{DEFAULT},{filter}"));
    let filter = EnvFilter::try_new(&text)
        .map_err(|e| format!("the log filter {text:?} can't be read: {e}; an example is sidetone::bus=debug"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_span_events(FmtSpan::NONE);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|e| format!("logging can't be started: {e}"))
}
