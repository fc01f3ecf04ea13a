//! `sidetone transcribe`: recordings of any length in, text out, beside a running host.

mod args;
mod batch;
mod live;
mod recording;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::globals::Globals;
use super::{client, print};
use crate::audio::{Piece, TRUNCATED, VAD_RATE_HZ};
use crate::bus::message::fault::FaultCode;
use crate::bus::message::stt::{Request, Segment, Transcript};
use crate::bus::subject::Target;
use crate::bus::{BusError, Call};
use crate::fabric::Fabric;
use crate::home::Home;
use crate::sound::to_wire;
pub use args::TranscribeArgs;
use args::named;
pub use batch::nobody;
use recording::{Ended, Recording};

/// How long one piece may take, once it is worked on …
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// … and how long one that took longer may take the second time: a large model on a slow host, or one that had to load.
const LATE_PIECE_TIMEOUT: Duration = Duration::from_secs(240);
/// How long a piece is tried again while all slots are taken or the bus is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was heard in a file, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Document {
    file: String,
    audio_ms: u64,
    model: String,
    language: Option<String>,
    text: String,
    /// Times are from the beginning of the file.
    segments: Vec<Segment>,
    /// What was odd about it.
    notes: Vec<String>,
}

/// Runs it. A file that can't be read does not keep the others from being transcribed.
///
/// # Errors
/// The bus can't be reached, no host there transcribes, or a file can't be read.
pub async fn run(args: TranscribeArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.batch {
        let (bus, config) = client::connect(globals).await?;
        return batch::submit(&bus, &config, &args).await;
    }
    let (fabric, config) = client::fabric(globals).await?;
    let (home, many, mut failed) = (globals.home(), args.files.len() > 1, 0);
    for file in &args.files {
        if many && !args.json {
            print::lines(&[format!("==> {} <==", file.display())])?;
        }
        let done = if args.live {
            live::transcribe(&fabric, &args, file).await
        } else {
            transcribe(&fabric, &args, file, (&config.voice.vad, &home)).await
        };
        match done.map_err(|error| named(error, file)) {
            Err(error) if many && is_of_the_file(&error) => {
                print::note(&format!("{error:#}"));
                failed += 1;
            }
            result => result?,
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} files could not be transcribed", args.files.len());
    }
    Ok(())
}

/// Whether the next file may do better.
fn is_of_the_file(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<BusError>() {
        None => true,
        Some(BusError::Fault(fault)) => matches!(fault.code, FaultCode::Invalid | FaultCode::Failed),
        Some(_) => false,
    }
}

async fn transcribe(
    fabric: &Fabric,
    args: &TranscribeArgs,
    file: &Path,
    (vad, home): (&str, &Home),
) -> anyhow::Result<()> {
    let recording = Recording::open(file, vad, home).await?;
    let progress = Progress::new(recording.expected_ms);
    let mut heard = Transcript {
        model: args.model.clone().unwrap_or_default(),
        language: args.language.clone(),
        ..Transcript::default()
    };
    let ended = hear(fabric, args, recording, &progress, &mut heard).await;
    progress.finish();
    if ended.is_err() && heard.audio_ms == 0 {
        return ended.map(drop);
    }
    let mut notes = Vec::new();
    match &ended {
        Ok(ended) if ended.audio_ms == 0 => anyhow::bail!("it has a header and no sample; record it again"),
        Ok(ended) => {
            heard.audio_ms = ended.audio_ms;
            if ended.truncated {
                notes.push(TRUNCATED.to_owned());
            }
            if heard.text.is_empty() {
                notes.push("nobody speaks in it".to_owned());
            }
        }
        Err(error) => notes.push(format!("what comes after {} is missing: {error:#}", clock(heard.audio_ms))),
    }
    let document = Document::new(file, heard, notes);
    // An error is reported at the end.
    for note in document.notes.iter().filter(|_| ended.is_ok()) {
        print::note(&format!("{}: {note}", document.file));
    }
    if args.json {
        print::json(&document)?;
    }
    ended.map(drop).with_context(|| format!("only the first {} were transcribed", clock(document.audio_ms)))
}

/// Has a recording transcribed piece by piece, and prints the text as it comes unless JSON is wanted. After an error
/// `heard` is what there is.
async fn hear(
    fabric: &Fabric,
    args: &TranscribeArgs,
    mut recording: Recording,
    progress: &Progress,
    heard: &mut Transcript,
) -> anyhow::Result<Ended> {
    let mut heard_before = false;
    while let Some(piece) = recording.next().await {
        let transcript = ask(fabric, args, &piece, heard_before).await?;
        heard_before = true;
        progress.at(piece.end_ms());
        if !args.json && !transcript.text.is_empty() {
            progress.aside(|| print::lines(&[&transcript.text]))?;
        }
        heard.add(piece.start_ms(), transcript);
    }
    recording.ended().await
}

impl Document {
    fn new(file: &Path, heard: Transcript, notes: Vec<String>) -> Self {
        let Transcript { text, language, segments, audio_ms, model, .. } = heard;
        Self { file: file.display().to_string(), audio_ms, model, language, text, segments, notes }
    }
}

/// What makes a piece be tried again.
struct Patience {
    heard_before: bool,
    /// How often it was not answered in time.
    late: AtomicU32,
}

impl Patience {
    /// How long it may take this time.
    fn deadline(&self) -> Duration {
        if self.late.load(Relaxed) == 0 { PIECE_TIMEOUT } else { LATE_PIECE_TIMEOUT }
    }

    /// Whether to try again after an error.
    fn bears(&self, error: &BusError) -> bool {
        match error {
            BusError::Disconnected { .. } => true,
            BusError::Nobody { .. } => self.heard_before,
            BusError::Deadline { .. } => self.is_late_once(),
            BusError::Fault(fault) => match fault.code {
                FaultCode::NotFound => self.heard_before,
                FaultCode::Deadline => self.is_late_once(),
                code => matches!(code, FaultCode::Busy | FaultCode::Unavailable),
            },
            _ => false,
        }
    }

    fn is_late_once(&self) -> bool {
        self.late.fetch_add(1, Relaxed) == 0
    }
}

/// Has a piece transcribed; tries again for a while when that can help. That no host can is reported at once,
/// unless one has transcribed before (`heard_before`): then the host may be restarting.
async fn ask(
    fabric: &Fabric,
    args: &TranscribeArgs,
    piece: &Piece,
    heard_before: bool,
) -> Result<Transcript, BusError> {
    let request = Request {
        pcm: Some(to_wire(&piece.samples, VAD_RATE_HZ)),
        language: args.language.clone(),
        model: args.model.clone(),
        ..Request::default()
    };
    let need = args.need();
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(3))
        .with_total_delay(Some(PATIENCE))
        .without_max_times();
    let patience = Patience { heard_before, late: AtomicU32::new(0) };
    let ask = || async {
        let call = Call::within(patience.deadline());
        match &args.node {
            Some(node) => fabric.bus().ask(Target::Node(node), &request, &call).await,
            None => fabric.ask(&need, &request, &call).await,
        }
    };
    ask.retry(backoff)
        .when(|error| patience.bears(error))
        .notify(|error, pause| tracing::info!(%error, retry_ms = pause.as_millis(), "a piece is tried again"))
        .await
}

/// How far it is, on standard error; nothing where that is no terminal.
struct Progress {
    bar: ProgressBar,
    begun: Instant,
}

impl Progress {
    fn new(expected_ms: Option<u64>) -> Self {
        let bar = ProgressBar::no_length();
        let template = if let Some(length_ms) = expected_ms.filter(|&ms| ms > 0) {
            bar.set_length(length_ms);
            "{bar:30} {msg}, {eta} left"
        } else {
            "{spinner} {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        let progress = Self { bar, begun: Instant::now() };
        progress.at(0);
        progress
    }

    fn at(&self, position_ms: u64) {
        self.bar.set_position(position_ms);
        let speed = position_ms as f64 / 1_000.0 / self.begun.elapsed().as_secs_f64().max(0.001);
        let of = self.bar.length().map(|length_ms| format!(" of {}", clock(length_ms))).unwrap_or_default();
        self.bar.set_message(format!("{}{of}, {speed:.1} times real time", clock(position_ms)));
    }

    /// Prints beside the bar.
    fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A time in a recording for people: `3:05`, `1:03:05`.
fn clock(ms: u64) -> String {
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::fault::Fault;

    #[test]
    fn times_are_written_as_on_a_clock() {
        assert_eq!([0, 59_999, 185_000, 3_785_000].map(clock), ["0:00", "0:59", "3:05", "1:03:05"]);
    }

    #[test]
    fn a_piece_that_is_late_is_tried_once_more_with_more_time() {
        let late = || BusError::Deadline { subject: "stt.request".to_owned(), ms: 1 };
        let fault = |code| BusError::Fault(Fault::new(code, "no"));
        for late in [late(), fault(FaultCode::Deadline)] {
            let patience = Patience { heard_before: false, late: AtomicU32::new(0) };
            assert_eq!(patience.deadline(), PIECE_TIMEOUT);
            assert!(patience.bears(&late));
            assert_eq!(patience.deadline(), LATE_PIECE_TIMEOUT);
            assert!(!patience.bears(&late));
        }
        let nobody = || BusError::Nobody { subject: "stt.request".to_owned() };
        for (heard_before, error, again) in [
            (false, fault(FaultCode::Busy), true),
            (false, nobody(), false),
            (true, nobody(), true),
            (true, fault(FaultCode::NotFound), true),
            (true, fault(FaultCode::Failed), false),
        ] {
            let patience = Patience { heard_before, late: AtomicU32::new(0) };
            assert_eq!(patience.bears(&error), again, "{error}");
        }
    }
}
