//! `sidetone play`: a file into a JACK port, and what another says into a file, to try a listener without a microphone.

mod tape;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::globals::Globals;
use crate::audio::jack::PortKind;
use crate::audio::patcher::restore;
use crate::audio::{Capture, ClipReader, JackClient, JackSettings, Patch, Playback, Resampler, wav_bytes};
use tape::Tape;

/// How often the rings are looked after; JACK's callback can wake no thread. Far less than the rings hold.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long JACK may take to play what is queued, beyond its length.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Play a file into a JACK port, and record another, to try a listener without a microphone
///
/// The recording ends with silence, or with Ctrl-C; the silence around it is cut off.
#[derive(Debug, clap::Args)]
pub struct PlayArgs {
    /// What to play (WAV, FLAC, Ogg Vorbis, MP3)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The ports to play into, by name or pattern [default: voice_in of the first listener of the settings]
    #[arg(long, value_name = "PORT")]
    to: Option<String>,
    /// Record into this WAV file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The ports to record, by name or pattern [default: voice_out of the first listener of the settings]
    #[arg(long, value_name = "PORT", requires = "record")]
    from: Option<String>,
    /// Silence that ends the recording, after something has sounded
    #[arg(long, value_name = "SECONDS", requires = "record", default_value_t = 2.0)]
    until_silent_s: f32,
    /// How long to wait for the first sound
    #[arg(long, value_name = "SECONDS", requires = "record", default_value_t = 60)]
    timeout_s: u64,
}

/// Runs it.
///
/// # Errors
/// The file can't be read, JACK can't be reached, it has no such port, or nothing sounds in time.
pub async fn run(args: PlayArgs, globals: &Globals) -> anyhow::Result<()> {
    let config = globals.config()?;
    let own = |port: &str| config.voice.listeners.first().map(|listener| format!("sidetone-{}:{port}", listener.name));
    let to = args.to.or_else(|| own("voice_in")).context("no listener is set up: say where to play with --to")?;
    let from = match &args.record {
        None => None,
        Some(_) => Some(
            args.from.or_else(|| own("voice_out")).context("no listener is set up: say what to record with --from")?,
        ),
    };
    let server = (!config.jack.server.is_empty()).then_some(config.jack.server);
    let stop = CancellationToken::new();
    let session = Session {
        file: args.file,
        record: args.record,
        until_silent_s: args.until_silent_s,
        timeout: Duration::from_secs(args.timeout_s),
        patch: Patch::new(from.as_slice(), std::slice::from_ref(&to))?,
        server,
        stop: stop.clone(),
    };
    let mut terminate = signal(SignalKind::terminate()).context("can't hear SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't hear Ctrl-C")?;
    // libjack and the decoders block.
    let work = tokio::task::spawn_blocking(move || session.run());
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => return result?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    work.await?
}

struct Session {
    file: PathBuf,
    record: Option<PathBuf>,
    until_silent_s: f32,
    timeout: Duration,
    patch: Patch,
    server: Option<String>,
    stop: CancellationToken,
}

impl Session {
    fn run(self) -> anyhow::Result<()> {
        let reader = ClipReader::open(&self.file).with_context(|| self.file.display().to_string())?;
        let settings = JackSettings {
            client_name: "sidetone-play".to_owned(),
            server: self.server.clone(),
            ..JackSettings::for_listener("play")
        };
        let (client, capture, playback) = JackClient::open(&settings)?;
        self.connect(&client)?;
        let rate_hz = client.watch().rate_hz();
        let mut tape = Tape::new(rate_hz, self.until_silent_s);
        let bar = Bar::new(reader.duration_ms());
        let resampler = Resampler::new(reader.rate_hz(), rate_hz)?;
        let source = Source { reader, resampler, ready: Vec::new(), at: 0, ended: false };
        let result = self.work(&client, source, capture, playback, &mut tape, &bar);
        bar.0.finish_and_clear();
        // What was recorded until something broke is worth having.
        if let Some(path) = self.record.as_deref().filter(|_| tape.has_sound()) {
            write(path, &tape, rate_hz)?;
        }
        result
    }

    /// Connects both ways; a port that is not there, or takes no connection, is an error, since it would be silent.
    fn connect(&self, client: &JackClient) -> anyhow::Result<()> {
        let (state, (own_in, own_out)) = (client.patchbay().state(), client.port_names());
        let (from, to) = self.patch.found(&state);
        if to.is_empty() || (from.is_empty() && self.record.is_some()) {
            let names = state.ports.iter().filter(|port| port.kind == PortKind::Audio).map(|port| port.name.as_str());
            let names = names.filter(|name| ![own_in, own_out].contains(name)).collect::<Vec<_>>().join(", ");
            let what = if to.is_empty() { "--to" } else { "--from" };
            anyhow::bail!("no JACK port matches {what}: is a host with that listener up? There are: {names}");
        }
        let refused = restore(client.patchbay(), &self.patch.rules(own_in, own_out), false).missing;
        if !refused.is_empty() {
            let refused = refused.into_iter().map(|missing| missing.why).collect::<Vec<_>>().join("; ");
            anyhow::bail!("not all is connected: {refused}; try again");
        }
        Ok(())
    }

    /// Plays to the end, and records until silence.
    fn work(
        &self,
        client: &JackClient,
        mut source: Source,
        mut capture: Capture,
        mut playback: Playback,
        tape: &mut Tape,
        bar: &Bar,
    ) -> anyhow::Result<()> {
        let rate_hz = u64::from(client.watch().rate_hz().max(1));
        let mut heard = Vec::new();
        let (mut last_progress, mut frames, mut played) = (Instant::now(), 0, None);
        while !self.stop.is_cancelled() {
            if client.watch().is_down() {
                anyhow::bail!("the JACK server has gone; start it again and repeat");
            }
            source.fill(&mut playback)?;
            heard.clear();
            capture.read_into(&mut heard);
            tape.push(&heard);
            if playback.played_frames() != frames {
                frames = playback.played_frames();
                last_progress = Instant::now();
            }
            bar.0.set_position(frames * 1_000 / rate_hz);
            if source.is_done() && playback.is_drained() {
                tape.played();
                let since = played.get_or_insert_with(Instant::now);
                if self.record.is_none() || tape.is_over() {
                    return Ok(());
                }
                bar.0.set_message("recording");
                if !tape.has_sound() && since.elapsed() > self.timeout {
                    let timeout_s = self.timeout.as_secs();
                    anyhow::bail!(
                        "nothing sounded within {timeout_s} s: `sidetone watch` shows what the listener does"
                    );
                }
            } else if last_progress.elapsed() > DRAIN_TIMEOUT {
                anyhow::bail!("JACK takes no audio; look at its log");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

/// The file, at JACK's rate.
struct Source {
    reader: ClipReader,
    resampler: Resampler,
    ready: Vec<f32>,
    at: usize,
    ended: bool,
}

impl Source {
    /// Queues as much as there is room for.
    fn fill(&mut self, playback: &mut Playback) -> anyhow::Result<()> {
        loop {
            self.at += playback.write(self.ready.get(self.at..).unwrap_or_default());
            if self.at < self.ready.len() || self.ended {
                break;
            }
            self.ready.clear();
            self.at = 0;
            match self.reader.next() {
                Some(block) => self.resampler.push(&block?, &mut self.ready),
                None => {
                    self.resampler.finish(&mut self.ready);
                    self.ended = true;
                }
            }
        }
        if self.is_done() {
            playback.end();
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ended && self.at >= self.ready.len()
    }
}

fn write(path: &Path, tape: &Tape, rate_hz: u32) -> anyhow::Result<()> {
    let failed = || format!("can't write {}", path.display());
    let wav = wav_bytes(tape.kept(), rate_hz).with_context(failed)?;
    std::fs::write(path, wav).with_context(failed)
}

/// How far it is, on standard error; nothing where that is no terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(length_ms: Option<u64>) -> Self {
        let bar = length_ms.map_or_else(ProgressBar::no_length, ProgressBar::new);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message("playing");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
}
