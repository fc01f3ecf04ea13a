//! Speech that is transcribed while it is spoken, by a host that can.
//!
//! ```text
//! SpeechIn ─▶ kept ─▶ host 1: refuses, or dies before it has taken anything
//!               └───▶ host 2: takes it ─▶ Texts
//! ```
//!
//! What was sent is kept until a host has acknowledged some of it or has said what it heard. Up to then the next host is
//! asked, and gets all of it. A host that breaks off later is an error: the caller knows what it has of the text.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::route::{Attempt, Route, outcome};
use super::state::Fabric;
use crate::bus::listen::AudioSender;
use crate::bus::message::stt::{self, StreamEvent};
use crate::bus::subject::Target;
use crate::bus::{BusError, Call};
use crate::router::{Need, Outcome};

/// Blocks of audio that wait to be sent; when there are so many the speaker's side waits.
const AUDIO: usize = 8;
/// Texts that wait to be read; when there are so many no audio is sent either.
const TEXTS: usize = 16;

/// Who is to listen.
#[derive(Debug, Clone, Copy)]
pub enum Whom<'a> {
    /// A host that meets a need.
    Need(&'a Need),
    /// This host and no other.
    Host(&'a str),
}

/// Where the audio of a stream goes in. Dropping it says that this was all.
#[derive(Debug)]
pub struct SpeechIn(mpsc::Sender<Bytes>);

impl SpeechIn {
    /// Sends samples as the request describes them: whole frames. Waits while the host is behind. `false` when no
    /// more is taken: [`Texts::next`] tells why.
    pub async fn send(&self, audio: Bytes) -> bool {
        audio.is_empty() || self.0.send(audio).await.is_ok()
    }
}

/// What is heard. It must be read while audio is sent. Dropping it before its end cancels the stream.
#[derive(Debug)]
pub struct Texts {
    events: mpsc::Receiver<Result<StreamEvent, BusError>>,
    _task: AbortOnDropHandle<()>,
}

impl Texts {
    /// What is heard next; `None` after [`StreamEvent::Done`] or an error. Safe to drop and call again.
    ///
    /// # Errors
    /// No host listens, and why; or the one that did has gone, or says what is wrong.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, BusError>> {
        self.events.recv().await
    }
}

impl Fabric {
    /// Has speech transcribed while it is spoken, within the call's deadline. A host is looked for while the first audio
    /// is sent already.
    ///
    /// # Errors
    /// No host can, and why.
    pub async fn listen(&self, whom: Whom<'_>, start: stt::Stream, call: &Call) -> Result<(SpeechIn, Texts), BusError> {
        let way = match whom {
            Whom::Need(need) => Way::Route { route: Box::new(self.route(need, call).await?), need: need.clone() },
            Whom::Host(host) => Way::Host { host: host.to_owned(), call: call.clone() },
        };
        let (audio, chunks) = mpsc::channel(AUDIO);
        let (out, events) = mpsc::channel(TEXTS);
        let speech = Speech { fabric: self.clone(), start, chunks, out, kept: Vec::new(), has_ended: false };
        let task = AbortOnDropHandle::new(tokio::spawn(speech.run(way)));
        Ok((SpeechIn(audio), Texts { events, _task: task }))
    }
}

/// The hosts that are asked.
enum Way {
    Route { route: Box<Route>, need: Need },
    Host { host: String, call: Call },
}

/// One stream, on its way to a host.
struct Speech {
    fabric: Fabric,
    start: stt::Stream,
    chunks: mpsc::Receiver<Bytes>,
    out: mpsc::Sender<Result<StreamEvent, BusError>>,
    /// What was sent, while no host has taken any of it. The credit of a stream bounds it.
    kept: Vec<Bytes>,
    /// Whether all audio has come.
    has_ended: bool,
}

/// How an attempt has gone so far.
#[derive(Debug, Default)]
struct Progress {
    /// Whether some of the audio was taken.
    is_taken: AtomicBool,
    /// Events that came.
    events: AtomicU64,
}

impl Speech {
    async fn run(mut self, way: Way) {
        let result = match way {
            Way::Route { mut route, need } => self.by_route(&mut route, &need).await,
            Way::Host { host, call } => {
                let progress = Progress::default();
                self.attempt(Target::Node(&host), &call, (&host, ""), &progress).await
            }
        };
        if let Err(error) = result {
            // The reader may have gone, and then needs no reason.
            let _ = self.out.send(Err(error)).await;
        }
    }

    async fn by_route(&mut self, route: &mut Route, need: &Need) -> Result<(), BusError> {
        loop {
            let mut attempt: Attempt = route.next().await?;
            let progress = Progress::default();
            let (target, call) = (attempt.target(need), attempt.call.clone());
            let result = self.attempt(target, &call, (attempt.host(), attempt.instance()), &progress).await;
            match result {
                Err(error) if progress.is_taken.load(Relaxed) => {
                    attempt.settle(outcome(&error));
                    return Err(error);
                }
                result => {
                    if result.is_ok() {
                        attempt.settle(Outcome::Answered);
                    }
                    if let Some(result) = route.ended(attempt, result) {
                        return result;
                    }
                }
            }
        }
    }

    /// Lets a run of a host listen to the end.
    async fn attempt(
        &mut self,
        target: Target<'_>,
        call: &Call,
        (host, instance): (&str, &str),
        progress: &Progress,
    ) -> Result<(), BusError> {
        let Self { fabric, start, chunks, out, kept, has_ended } = self;
        let dies = fabric.dies(host, instance, || progress.events.load(Relaxed));
        let mut dies = std::pin::pin!(dies);
        let opened = tokio::select! {
            biased;
            opened = fabric.bus().listen(target, start, call) => opened,
            error = &mut dies => Err(error),
        };
        let (sender, mut texts) = opened?;
        tracing::debug!(node = texts.started().node, model = texts.started().model, "a host listens");
        let mut feed = std::pin::pin!(feed(sender, chunks, kept, has_ended, &progress.is_taken));
        let mut is_fed = false;
        loop {
            let event = tokio::select! {
                biased;
                event = texts.next() => event,
                fed = &mut feed, if !is_fed => {
                    is_fed = true;
                    // The texts end with the reason.
                    if let Err(error) = fed {
                        tracing::debug!(%error, "the audio was not taken to its end");
                    }
                    continue;
                }
                error = &mut dies => Some(Err(error)),
            };
            let Some(event) = event.transpose()? else {
                let (subject, why) = (host.to_owned(), "the text ended without its end".to_owned());
                return Err(BusError::Cut { subject, why });
            };
            progress.events.fetch_add(1, Relaxed);
            progress.is_taken.store(true, Relaxed);
            let is_done = matches!(event, StreamEvent::Done(_));
            // Without a reader the stream is cancelled by dropping it.
            if out.send(Ok(event)).await.is_err() || is_done {
                return Ok(());
            }
        }
    }
}

/// Sends what was kept, and then what comes, to its end.
async fn feed(
    mut sender: AudioSender,
    chunks: &mut mpsc::Receiver<Bytes>,
    kept: &mut Vec<Bytes>,
    has_ended: &mut bool,
    is_taken: &AtomicBool,
) -> Result<(), BusError> {
    for chunk in kept.clone() {
        sender.send(chunk).await?;
    }
    while !*has_ended {
        let Some(chunk) = chunks.recv().await else {
            *has_ended = true;
            break;
        };
        if is_taken.load(Relaxed) || sender.taken() > 0 {
            is_taken.store(true, Relaxed);
            kept.clear();
        } else {
            kept.push(chunk.clone());
        }
        sender.send(chunk).await?;
    }
    sender.end().await
}
