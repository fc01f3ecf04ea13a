//! `sidetone transcribe`: recordings of any length in, text out, beside a running host.

mod batch;
mod live;
mod recording;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Globals, client, print};
use crate::audio::{ClipError, Piece, TRUNCATED, VAD_RATE_HZ};
use crate::bus::message::fault::FaultCode;
use crate::bus::message::stt::{Request, Segment, Transcript};
use crate::bus::subject::{Capability, Target};
use crate::bus::{BusError, Call};
use crate::fabric::{self, Fabric};
use crate::home::Home;
use crate::router::Need;
use crate::sound::to_wire;
pub use batch::nobody;
use recording::Recording;

/// How long one piece may take, once it is worked on.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a piece is tried again while all slots are taken or the bus is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Transcribe recordings of any length (WAV, FLAC, Ogg Vorbis, MP3) by a running host
#[derive(Debug, clap::Args)]
pub struct TranscribeArgs {
    /// The recordings; - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object a file, with the time of each segment, instead of the text as it comes
    #[arg(long)]
    json: bool,
    /// The language that is spoken, such as en [default: the host's setting]
    #[arg(long, value_name = "TAG")]
    language: Option<String>,
    /// The model [default: the host's setting]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The host that is to do it [default: anyone who can]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Print what is said while it is said: for what is being recorded, as in `arecord -q -f S16_LE -r 16000 | sidetone
    /// transcribe --live -`. Ctrl-C ends it
    #[arg(long)]
    live: bool,
    /// Put the recordings into the queue of work that may wait, and print their jobs' ids: hosts do it when they have
    /// nothing better to do. `sidetone jobs` shows how far they are, and prints the text
    #[arg(long, conflicts_with = "live")]
    batch: bool,
    /// With --live: the input is raw 16-bit mono PCM of this rate, without a header
    #[arg(long, value_name = "HZ", requires = "live")]
    raw: Option<u32>,
}

impl TranscribeArgs {
    fn need(&self) -> Need {
        Need {
            model: self.model.clone().unwrap_or_default(),
            language: self.language.clone().unwrap_or_default(),
            ..fabric::need(Capability::Stt)
        }
    }
}

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
    notes: Vec<&'static str>,
}

/// Runs it. A file that can't be read does not keep the others from being transcribed.
///
/// # Errors
/// The bus can't be reached, nobody there transcribes, or a file can't be read.
pub async fn run(args: TranscribeArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.batch {
        let (bus, config) = client::connect(globals).await?;
        return batch::submit(&bus, &config, &args).await;
    }
    let (fabric, _) = client::fabric(globals).await?;
    let (home, many, mut failed) = (globals.home(), args.files.len() > 1, 0);
    for file in &args.files {
        if many && !args.json {
            print::lines(&[format!("==> {} <==", file.display())])?;
        }
        let done = if args.live {
            live::transcribe(&fabric, &args, file).await
        } else {
            transcribe(&fabric, &args, file, &home).await
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

/// The error with the file's name, unless it has it.
fn named(error: anyhow::Error, file: &Path) -> anyhow::Error {
    let has_it = matches!(error.downcast_ref::<ClipError>(), Some(ClipError::Io { .. }));
    if has_it { error } else { error.context(file.display().to_string()) }
}

/// Whether the next file may do better.
fn is_of_the_file(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<BusError>() {
        None => true,
        Some(BusError::Fault(fault)) => matches!(fault.code, FaultCode::Invalid | FaultCode::Failed),
        Some(_) => false,
    }
}

async fn transcribe(fabric: &Fabric, args: &TranscribeArgs, file: &Path, home: &Home) -> anyhow::Result<()> {
    let mut recording = Recording::open(file, home).await?;
    let progress = Progress::new(recording.expected_ms);
    let mut document = Document {
        file: file.display().to_string(),
        audio_ms: 0,
        model: args.model.clone().unwrap_or_default(),
        language: args.language.clone(),
        text: String::new(),
        segments: Vec::new(),
        notes: Vec::new(),
    };
    let mut heard_before = false;
    while let Some(piece) = recording.next().await {
        let transcript = ask(fabric, args, &piece, heard_before).await?;
        heard_before = true;
        progress.at(piece.end_ms());
        if !args.json && !transcript.text.is_empty() {
            progress.aside(|| print::lines(&[&transcript.text]))?;
        }
        document.add(piece.start_ms(), transcript);
    }
    let ended = recording.ended().await?;
    progress.finish();
    document.audio_ms = ended.audio_ms;
    if ended.audio_ms == 0 {
        anyhow::bail!("it has a header and no sample; record it again");
    }
    if ended.truncated {
        document.notes.push(TRUNCATED);
    }
    if document.text.is_empty() {
        document.notes.push("nobody speaks in it");
    }
    for note in &document.notes {
        print::note(&format!("{}: {note}", document.file));
    }
    if args.json { print::json(&document) } else { Ok(()) }
}

impl Document {
    /// Adds what was heard in a piece that starts at `start_ms`.
    fn add(&mut self, start_ms: u64, transcript: Transcript) {
        let Transcript { text, language, segments, model, .. } = transcript;
        if !self.text.is_empty() && !text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(&text);
        self.segments.extend(segments.into_iter().map(|segment| Segment {
            start_ms: start_ms + segment.start_ms,
            end_ms: start_ms + segment.end_ms,
            text: segment.text,
        }));
        self.model = model;
        self.language = language.or(self.language.take());
    }
}

/// Has a piece transcribed; tries again for a while when that can help. That nobody is there to do it is told at once,
/// unless somebody was `heard_before`: then the host may be restarting.
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
    let call = Call::within(PIECE_TIMEOUT);
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(3))
        .with_total_delay(Some(PATIENCE))
        .without_max_times();
    let ask = || async {
        match &args.node {
            Some(node) => fabric.bus().ask(Target::Node(node), &request, &call).await,
            None => fabric.ask(&need, &request, &call).await,
        }
    };
    ask.retry(backoff)
        .when(|error| match error {
            BusError::Disconnected { .. } => true,
            BusError::Nobody { .. } => heard_before,
            BusError::Fault(fault) if fault.code == FaultCode::NotFound => heard_before,
            BusError::Fault(fault) => matches!(fault.code, FaultCode::Busy | FaultCode::Unavailable),
            _ => false,
        })
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

    #[test]
    fn times_are_written_as_on_a_clock() {
        assert_eq!([0, 59_999, 185_000, 3_785_000].map(clock), ["0:00", "0:59", "3:05", "1:03:05"]);
    }

    #[test]
    fn segments_are_placed_in_the_whole_file() {
        let heard = |text: &str| Transcript {
            text: text.to_owned(),
            language: Some("en".to_owned()),
            segments: vec![Segment { start_ms: 100, end_ms: 900, text: text.to_owned() }],
            audio_ms: 1_000,
            engine_ms: 1,
            model: "tiny".to_owned(),
            note: None,
        };
        let mut document = Document {
            file: "a.wav".to_owned(),
            audio_ms: 0,
            model: String::new(),
            language: None,
            text: String::new(),
            segments: Vec::new(),
            notes: Vec::new(),
        };
        document.add(0, heard("One."));
        document.add(20_000, Transcript { segments: Vec::new(), ..heard("") });
        document.add(40_000, heard("Two."));
        assert_eq!(document.text, "One. Two.");
        let times: Vec<_> = document.segments.iter().map(|segment| (segment.start_ms, segment.end_ms)).collect();
        assert_eq!(times, [(100, 900), (40_100, 40_900)]);
        assert_eq!((document.model.as_str(), document.language.as_deref()), ("tiny", Some("en")));
    }
}
