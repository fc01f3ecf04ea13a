//! What a turn asks of other roles: the transcript, and the answer with its speech.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::speech_output::{SpeechJob, SpeechOutput, SpeechTimes};
use crate::audio::VAD_RATE_HZ;
use crate::bus::message::agent::{self, Run, RunEvent};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::stt;
use crate::bus::subject::Capability;
use crate::bus::{BusError, Call};
use crate::fabric::{self, Fabric};
use crate::router::Need;
use crate::sound::to_wire;
use crate::text::sentence::SentenceSplitter;
use crate::text::speech::SpeechFilter;
use crate::turn::Work;
use crate::turn::finished::joined;

/// The first pause before a busy recognizer is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What comes of a turn's work.
#[derive(Debug)]
pub enum Progress {
    /// The transcript.
    Transcribed(Result<String, Fault>, Duration),
    /// More text of the answer.
    Text(String),
    /// The first sample of the answer has left.
    Sounding,
    /// The answer has been spoken to its end.
    Finished(Result<SpeechTimes, Failure>),
}

/// Why a turn can't go on, and in which part of it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The part.
    pub work: Work,
    /// Why.
    pub fault: Fault,
    /// Whether the session has it already.
    pub kept: bool,
}

impl Failure {
    /// A failure that the session does not have yet.
    pub fn new(work: Work, fault: Fault) -> Self {
        Self { work, fault, kept: false }
    }
}

/// Reports the progress of one turn's work to its listener.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The turn's number in the talk: what is late is not for the next one.
    pub turn: u64,
    /// The listener's queue. When it is full the work waits.
    pub progress: mpsc::Sender<(u64, Progress)>,
}

impl Reporter {
    async fn report(&self, progress: Progress) {
        // The listener is gone only when the host ends.
        let _ = self.progress.send((self.turn, progress)).await;
    }
}

/// How an utterance is transcribed.
#[derive(Debug, Clone)]
pub struct Transcription {
    /// The way to `stt`.
    pub fabric: Fabric,
    /// The turn.
    pub turn: Ulid,
    /// The speaker's; empty: the host that transcribes knows.
    pub language: String,
    /// What is often said here; empty: nothing in particular.
    pub prompt: String,
    /// The time for a clip.
    pub timeout: Duration,
}

/// A part of an utterance that is being transcribed. Aborted when it is dropped.
pub type Part = AbortOnDropHandle<Result<String, Fault>>;

/// Has a part of an utterance transcribed while the rest is said. A failure is reported at once, so that its speaker need
/// not speak to the end for nothing.
pub async fn transcribe_part(how: Transcription, samples: Vec<f32>, reporter: Reporter) -> Result<String, Fault> {
    let begun = Instant::now();
    let text = transcribe(how, samples).await;
    if let Err(fault) = &text {
        reporter.report(Progress::Transcribed(Err(fault.clone()), begun.elapsed())).await;
    }
    text
}

/// Has the end of an utterance transcribed, if there is any, and reports it behind the parts before it.
pub async fn transcribe_all(how: Transcription, parts: Vec<Part>, last: Vec<f32>, reporter: Reporter) {
    let begun = Instant::now();
    let all = async {
        let mut text = String::new();
        for part in parts {
            let part = part.await.map_err(|e| Fault::failed(format!("a part of the utterance is lost: {e}")))?;
            text = joined(&text, &part?);
        }
        if last.is_empty() { Ok(text) } else { Ok(joined(&text, &transcribe(how, last).await?)) }
    };
    let text = all.await;
    reporter.report(Progress::Transcribed(text, begun.elapsed())).await;
}

/// Has samples of 16 kHz transcribed by a host that offers `stt`. While all are busy it is tried again.
///
/// # Errors
/// What the last host that was asked said.
async fn transcribe(how: Transcription, samples: Vec<f32>) -> Result<String, Fault> {
    let Transcription { fabric, turn, language, prompt, timeout } = how;
    let begun = Instant::now();
    let patience = ExponentialBuilder::default()
        .with_min_delay(BUSY_PAUSE)
        .with_max_delay(BUSY_PAUSE * 8)
        .with_total_delay(Some(timeout))
        .without_max_times();
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let pcm = Some(to_wire(&samples, VAD_RATE_HZ));
    let request = stt::Request { pcm, language: given(&language), prompt: given(&prompt), ..stt::Request::default() };
    let need = Need { language, ..fabric::need(Capability::Stt) };
    let ask = || async {
        let call = Call::within(timeout.saturating_sub(begun.elapsed())).of_turn(turn);
        fabric.ask(&need, &request, &call).await
    };
    let busy = |error: &BusError| matches!(error, BusError::Fault(fault) if fault.code == FaultCode::Busy);
    let result = ask.retry(patience).when(busy).await;
    result.map(|transcript| transcript.text).map_err(|e| e.to_fault())
}

/// What is to be answered or spoken.
#[derive(Debug)]
pub enum Task {
    /// A person's words, for the agent.
    Run {
        /// The words.
        text: String,
        /// The session.
        session: String,
        /// Where they were heard.
        heard: agent::Heard,
    },
    /// A text to be spoken as it is.
    Say(String),
}

/// Answers a turn and speaks the answer, sentence by sentence, while the rest is being written.
pub async fn answer(task: Task, job: SpeechJob, reporter: Reporter) {
    let (first_sound, sounds) = oneshot::channel();
    let (output, speech) = SpeechOutput::open(job.clone(), first_sound);
    let speech = async { speech.await.map_err(|fault| Failure::new(Work::Tts, fault)) };
    let writing = async {
        let mut speaker = Speaker::new(output);
        let silent = match task {
            Task::Say(text) => {
                speaker.push(&text).await;
                false
            }
            Task::Run { text, session, heard } => run(&job, text, session, heard, &mut speaker, &reporter).await?,
        };
        speaker.finish().await;
        Ok(silent)
    };
    let watching = async {
        // An error means that there was no sound at all.
        if sounds.await.is_ok() {
            reporter.report(Progress::Sounding).await;
        }
        Ok(())
    };
    let result = match tokio::try_join!(writing, speech, watching) {
        Ok((false, SpeechTimes { first_sample: None, .. }, ())) => {
            let text = "the answer has nothing in it that can be spoken: ask again, or choose another model";
            Err(Failure::new(Work::Agent, Fault::failed(text)))
        }
        result => result.map(|(_, times, ())| times),
    };
    reporter.report(Progress::Finished(result)).await;
}

/// Runs the turn at the agent, and hands what it writes to the speaker. Gives whether no answer is meant to be heard.
async fn run(
    job: &SpeechJob,
    text: String,
    session: String,
    heard: agent::Heard,
    speaker: &mut Speaker,
    reporter: &Reporter,
) -> Result<bool, Failure> {
    let left = job.until.saturating_duration_since(Instant::now());
    let request = Run {
        text,
        session: Some(session),
        turn: Some(job.turn.to_string()),
        stream: true,
        heard: Some(heard),
        said: String::new(),
    };
    let call = Call::within(left).of_turn(job.turn);
    let mut agent_knows = false;
    let failure = |error: BusError, agent_knows: bool| {
        // What the agent itself says of a turn that it has begun it has taken down as well.
        let kept = agent_knows && matches!(error, BusError::Fault(_));
        Failure { kept, ..Failure::new(Work::Agent, error.to_fault()) }
    };
    let need = fabric::need(Capability::Agent);
    let mut events = job.fabric.open(&need, request.clone(), &call).await.map_err(|e| failure(e, false))?;
    let mut said = String::new();
    let mut silent = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            // Another host takes the turn up where this one left it.
            Err(error) if events.go_on(&error, Run { said: said.clone(), ..request.clone() }) => continue,
            Err(error) => return Err(failure(error, agent_knows)),
        };
        match event {
            RunEvent::Started { .. } => agent_knows = true,
            RunEvent::Text { text } => {
                speaker.push(&text).await;
                said.push_str(&text);
                reporter.report(Progress::Text(text)).await;
            }
            RunEvent::Stop => silent = true,
            // A command that has done its work without a word.
            RunEvent::Done(done) => silent |= done.command.is_some() && done.text.is_empty(),
            RunEvent::Command { .. } => {}
        }
    }
    Ok(silent)
}

/// From written text to sentences that can be spoken.
struct Speaker {
    output: SpeechOutput,
    splitter: SentenceSplitter,
    filter: SpeechFilter,
}

impl Speaker {
    fn new(output: SpeechOutput) -> Self {
        Self { output, splitter: SentenceSplitter::default(), filter: SpeechFilter::default() }
    }

    async fn push(&mut self, text: &str) {
        for sentence in self.splitter.push(text) {
            self.say(&sentence).await;
        }
    }

    /// Says the last sentence.
    async fn finish(mut self) {
        if let Some(sentence) = self.splitter.finish() {
            self.say(&sentence).await;
        }
    }

    async fn say(&mut self, sentence: &str) {
        let spoken = self.filter.speakable(sentence);
        if !spoken.is_empty() {
            self.output.say(spoken).await;
        }
    }
}
