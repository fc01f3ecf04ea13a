//! `sidetone transcribe --live`: live speech is printed as it is recognized.
//!
//! Settled text goes to standard output, a line each; the running text is a line on standard error that grows and
//! changes, where that is a terminal.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use console::{Term, measure_text_width};
use tokio::sync::mpsc;

use super::args::TranscribeArgs;
use crate::audio::{ClipError, ClipReader, PcmFormat, mono_to_pcm};
use crate::bus::Call;
use crate::bus::contract::rights::ANSWER_WITHIN;
use crate::bus::message::stt::{Segment, Stream, StreamEvent};
use crate::cli::print;
use crate::fabric::{Fabric, SpeechIn, Texts, Whom};

/// The time that one stream has: later text does not arrive where the bus has users.
const STREAM_DEADLINE: Duration = ANSWER_WITHIN;
/// How long the text of the last audio may take.
const LAST_TEXT_TIMEOUT: Duration = Duration::from_secs(3 * 60);
/// How long audio is sent; then the next stream takes its place.
const STREAM_MAX: Duration = STREAM_DEADLINE.saturating_sub(LAST_TEXT_TIMEOUT);
/// Blocks of audio that wait to be sent, of a tenth of a second. When there are so many the reader waits.
const QUEUE: usize = 64;
const BLOCK_MS: u32 = 100;

/// Transcribes `file`, or standard input if it is `-`, until its end or Ctrl-C.
pub async fn transcribe(fabric: &Fabric, args: &TranscribeArgs, file: &Path) -> anyhow::Result<()> {
    let mut source = Source::open(file, args.raw).await?;
    let start = Stream {
        rate_hz: source.rate_hz,
        language: args.language.clone(),
        model: args.model.clone(),
        ..Stream::default()
    };
    let (need, mut page) = (args.need(), Page::new(args.json));
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let (mut from_ms, mut ended) = (0, false);
    while !ended {
        let call = Call::within(STREAM_DEADLINE);
        let whom = args.node.as_deref().map_or(Whom::Need(&need), Whom::Host);
        let (speech, mut heard) = fabric.listen(whom, start.clone(), &call).await?;
        let until = Instant::now() + STREAM_MAX;
        let feed = async { anyhow::Ok(feed(&mut source, speech, until, &mut stop).await) };
        let show = show(&mut heard, &mut page, from_ms);
        // When the text breaks off, no more audio is waited for.
        let (over, audio_ms) = tokio::try_join!(feed, show)?;
        (ended, from_ms) = (over, from_ms + audio_ms);
    }
    source.ended().await
}

/// Sends what there is until it ends, Ctrl-C, or `until`. `true` if that was all.
async fn feed(
    source: &mut Source,
    speech: SpeechIn,
    until: Instant,
    stop: &mut (impl Future<Output = std::io::Result<()>> + Unpin),
) -> bool {
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(until.into()) => return false,
            _ = &mut *stop => {
                source.stopped = true;
                // The last text is waited for, unless a second Ctrl-C says that it takes too long.
                tokio::spawn(async {
                    if tokio::signal::ctrl_c().await.is_ok() {
                        std::process::exit(1);
                    }
                });
                return true;
            }
            block = source.blocks.recv() => match block {
                // The texts end with the reason.
                Some(block) => if !speech.send(block).await {
                    return true;
                },
                None => return true,
            },
        }
    }
}

/// Prints what is heard to the end; gives how long the audio was, in ms.
async fn show(heard: &mut Texts, page: &mut Page, from_ms: u64) -> anyhow::Result<u64> {
    while let Some(event) = heard.next().await {
        let event = later(event?, from_ms);
        page.show(&event)?;
        if let StreamEvent::Done(done) = event {
            return Ok(done.audio_ms);
        }
    }
    anyhow::bail!("the text ended without its end");
}

/// The same event with times from the beginning of the recording.
fn later(event: StreamEvent, from_ms: u64) -> StreamEvent {
    match event {
        StreamEvent::Partial { start_ms, text } => StreamEvent::Partial { start_ms: from_ms + start_ms, text },
        StreamEvent::Final { text, language, segments } => {
            let later = |segment: Segment| Segment {
                start_ms: from_ms + segment.start_ms,
                end_ms: from_ms + segment.end_ms,
                ..segment
            };
            StreamEvent::Final { text, language, segments: segments.into_iter().map(later).collect() }
        }
        event => event,
    }
}

/// Where the text is shown.
struct Page {
    json: bool,
    /// Standard error, if it is a terminal.
    term: Option<Term>,
}

impl Page {
    fn new(json: bool) -> Self {
        let term = Term::stderr();
        Self { json, term: (!json && term.is_term()).then_some(term) }
    }

    fn show(&mut self, event: &StreamEvent) -> anyhow::Result<()> {
        if self.json {
            return print::json(event);
        }
        self.clear()?;
        match event {
            StreamEvent::Final { text, .. } => print::lines(&[text]),
            StreamEvent::Partial { text, .. } => {
                if let Some(term) = &self.term {
                    let width = usize::from(term.size().1).saturating_sub(1);
                    term.write_str(tail(text, width))?;
                }
                Ok(())
            }
            StreamEvent::Started(_) | StreamEvent::Done(_) => Ok(()),
        }
    }

    fn clear(&self) -> anyhow::Result<()> {
        Ok(self.term.as_ref().map_or(Ok(()), Term::clear_line)?)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The terminal has gone if this can't be written.
        let _ = self.clear();
    }
}

/// The end of a text that fits into `width` columns.
fn tail(text: &str, width: usize) -> &str {
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.filter_map(|at| text.get(at..)).find(|tail| measure_text_width(tail) <= width).unwrap_or_default()
}

/// Audio that is read on a thread of its own.
struct Source {
    rate_hz: u32,
    /// 16-bit mono PCM.
    blocks: mpsc::Receiver<Bytes>,
    end: tokio::sync::oneshot::Receiver<Result<(), ClipError>>,
    stopped: bool,
}

impl Source {
    async fn open(file: &Path, raw: Option<u32>) -> anyhow::Result<Self> {
        let (out, blocks) = mpsc::channel(QUEUE);
        let (opened_in, opened) = tokio::sync::oneshot::channel();
        let (end_in, end) = tokio::sync::oneshot::channel();
        let file = file.to_owned();
        // Not a blocking task of the runtime, whose end would wait for a read that never ends.
        std::thread::spawn(move || match Reader::open(file, raw) {
            Ok(mut reader) => {
                if opened_in.send(Ok(reader.rate_hz())).is_ok() {
                    // The transcription may have been given up.
                    let _ = end_in.send(reader.read(&out));
                }
            }
            Err(error) => drop(opened_in.send(Err(error))),
        });
        let rate_hz = opened.await.context("the reader broke")??;
        Ok(Self { rate_hz, blocks, end, stopped: false })
    }

    /// Whether it could be read to its end.
    async fn ended(self) -> anyhow::Result<()> {
        if self.stopped {
            return Ok(());
        }
        drop(self.blocks);
        Ok(self.end.await.context("the reader broke")??)
    }
}

/// What is read.
enum Reader {
    Clip(ClipReader),
    Raw(u32, Box<dyn std::io::Read>),
}

impl Reader {
    fn open(path: PathBuf, raw: Option<u32>) -> Result<Self, ClipError> {
        let is_stdin = path.as_os_str() == "-";
        let Some(rate_hz) = raw else {
            let reader = if is_stdin { ClipReader::live(std::io::stdin())? } else { ClipReader::open(&path)? };
            return Ok(Self::Clip(reader));
        };
        if is_stdin {
            return Ok(Self::Raw(rate_hz, Box::new(std::io::stdin())));
        }
        let file = std::fs::File::open(&path);
        let file = file.map_err(|e| ClipError::Io { path: path.display().to_string(), reason: e.to_string() })?;
        Ok(Self::Raw(rate_hz, Box::new(file)))
    }

    fn rate_hz(&self) -> u32 {
        match self {
            Self::Clip(reader) => reader.rate_hz(),
            Self::Raw(rate_hz, _) => *rate_hz,
        }
    }

    /// Reads to the end, or until the blocks are taken no more.
    fn read(&mut self, out: &mpsc::Sender<Bytes>) -> Result<(), ClipError> {
        let block_bytes = (self.rate_hz() * BLOCK_MS / 1_000).max(1) as usize * 2;
        let mut waiting = Vec::with_capacity(2 * block_bytes);
        loop {
            let more = match self {
                Self::Clip(reader) => reader.next().transpose()?.map(|samples| mono_to_pcm(&samples, PcmFormat::S16Le)),
                Self::Raw(_, reader) => raw_block(reader, block_bytes)?,
            };
            let ended = more.is_none();
            waiting.extend(more.unwrap_or_default());
            while waiting.len() >= block_bytes || ended && !waiting.is_empty() {
                let rest = waiting.split_off(waiting.len().min(block_bytes));
                let block = std::mem::replace(&mut waiting, rest);
                if out.blocking_send(block.into()).is_err() {
                    return Ok(());
                }
            }
            if ended {
                return Ok(());
            }
        }
    }
}

/// A block of raw samples; `None` at the end. Half a sample at the end is left out.
fn raw_block(reader: &mut impl std::io::Read, bytes: usize) -> Result<Option<Vec<u8>>, ClipError> {
    let mut block = Vec::with_capacity(bytes);
    let read = reader.take(bytes as u64).read_to_end(&mut block);
    read.map_err(|e| ClipError::Io { path: "the stream".to_owned(), reason: e.to_string() })?;
    block.truncate(block.len() / 2 * 2);
    Ok((!block.is_empty()).then_some(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_running_text_is_shown() {
        assert_eq!(tail("one two three", 5), "three");
        assert_eq!(tail("one", 20), "one");
        assert_eq!(tail("日本語", 4), "本語");
        assert_eq!(tail("one", 0), "");
    }

    #[test]
    fn a_stream_has_told_all_its_text_before_it_may_tell_no_more() {
        assert!(STREAM_DEADLINE <= ANSWER_WITHIN && STREAM_MAX + LAST_TEXT_TIMEOUT <= STREAM_DEADLINE);
        assert!(STREAM_MAX > Duration::from_secs(60));
    }

    #[test]
    fn times_are_those_of_the_recording() {
        let segments = vec![Segment { start_ms: 100, end_ms: 900, text: "One.".to_owned() }];
        let event = StreamEvent::Final { text: "One.".to_owned(), language: None, segments };
        let StreamEvent::Final { segments, .. } = later(event, 5_000) else { panic!("another event") };
        assert_eq!((segments[0].start_ms, segments[0].end_ms), (5_100, 5_900));
    }

    #[test]
    fn raw_samples_are_read_in_whole_ones() {
        let mut reader = &[1_u8, 2, 3, 4, 5][..];
        assert_eq!(raw_block(&mut reader, 4).unwrap().unwrap(), [1, 2, 3, 4]);
        assert_eq!(raw_block(&mut reader, 4).unwrap(), None);
    }
}
