//! What a turn asks of other roles: the transcript, and the answer with its speech.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::mouth::{Mouth, Spoken, Voice};
use crate::audio::VAD_RATE_HZ;
use crate::bus::message::agent::{Heard, Run, RunEvent};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::stt;
use crate::bus::subject::Capability;
use crate::bus::{BusError, Call};
use crate::fabric::{self, Fabric};
use crate::router::Need;
use crate::sound::to_wire;
use crate::text::finished::joined;
use crate::text::sentence::SentenceSplitter;
use crate::text::speech::SpeechFilter;

/// The first pause before a busy recognizer is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What comes of a turn's work. Each carries its turn: what is late is not for the next one.
#[derive(Debug)]
pub enum Progress {
    /// The transcript.
    Transcribed(Result<String, Fault>, Duration),
    /// More text of the answer.
    Text(String),
    /// The first sample of the answer has left.
    Sounding,
    /// The answer has been spoken to its end.
    Finished(Result<Spoken, Failure>),
}

/// Why a turn can't go on, and in which part of it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The part: `stt`, `agent`, `tts`, `audio`.
    pub stage: &'static str,
    /// Why.
    pub fault: Fault,
    /// Whether the session says so already.
    pub told: bool,
}

impl Failure {
    /// A failure of `stage` that the session does not know of yet.
    pub fn new(stage: &'static str, fault: Fault) -> Self {
        Self { stage, fault, told: false }
    }
}

/// Where progress is told.
pub type Teller = mpsc::Sender<(Ulid, Progress)>;

/// How an utterance is transcribed.
#[derive(Debug, Clone)]
pub struct Transcription {
    /// Who can.
    pub fabric: Fabric,
    /// The turn.
    pub turn: Ulid,
    /// The speaker's; empty: whoever transcribes knows.
    pub language: String,
    /// What is often said here; empty: nothing in particular.
    pub prompt: String,
    /// The time for a clip.
    pub timeout: Duration,
}

/// A part of an utterance that is being transcribed. Aborted when it is dropped.
pub type Part = AbortOnDropHandle<Result<String, Fault>>;

/// Has a part of an utterance transcribed while the rest is said. That it can't be is told at once: nobody should have to
/// speak to the end for nothing.
pub async fn transcribe_part(how: Transcription, samples: Vec<f32>, teller: Teller) -> Result<String, Fault> {
    let (begun, turn) = (Instant::now(), how.turn);
    let text = transcribe(how, samples).await;
    if let Err(fault) = &text {
        tell(&teller, turn, Progress::Transcribed(Err(fault.clone()), begun.elapsed())).await;
    }
    text
}

/// Has the end of an utterance transcribed, if there is any, and tells it behind the parts before it.
pub async fn transcribe_all(how: Transcription, parts: Vec<Option<Part>>, last: Vec<f32>, teller: Teller) {
    let (begun, turn) = (Instant::now(), how.turn);
    let all = async {
        let mut text = String::new();
        for part in parts.into_iter().flatten() {
            let part = part.await.map_err(|e| Fault::failed(format!("a part of the utterance is lost: {e}")))?;
            text = joined(&text, &part?);
        }
        if last.is_empty() { Ok(text) } else { Ok(joined(&text, &transcribe(how, last).await?)) }
    };
    let text = all.await;
    tell(&teller, turn, Progress::Transcribed(text, begun.elapsed())).await;
}

/// Has samples of 16 kHz transcribed by whoever can. While all are busy it is tried again.
///
/// # Errors
/// What the last of those who were asked said.
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
        heard: Heard,
    },
    /// A text to be spoken as it is.
    Say(String),
}

/// Answers a turn and speaks the answer, sentence by sentence, while the rest is being written.
pub async fn answer(task: Task, voice: Voice, teller: Teller) {
    let turn = voice.turn;
    let (first_sound, sounds) = oneshot::channel();
    let (mouth, speech) = Mouth::open(voice.clone(), first_sound);
    let speech = async { speech.await.map_err(|fault| Failure::new("tts", fault)) };
    let writing = async {
        let mut speaker = Speaker::new(mouth);
        let silent = match task {
            Task::Say(text) => {
                speaker.push(&text).await;
                false
            }
            Task::Run { text, session, heard } => run(&voice, text, session, heard, &mut speaker, &teller).await?,
        };
        speaker.finish().await;
        Ok(silent)
    };
    let watching = async {
        // An error means that there was no sound at all.
        if sounds.await.is_ok() {
            tell(&teller, turn, Progress::Sounding).await;
        }
        Ok(())
    };
    let result = match tokio::try_join!(writing, speech, watching) {
        Ok((false, Spoken { first_sample: None, .. }, ())) => {
            let text = "the answer has nothing in it that can be spoken: ask again, or choose another model";
            Err(Failure::new("agent", Fault::failed(text)))
        }
        result => result.map(|(_, spoken, ())| spoken),
    };
    tell(&teller, turn, Progress::Finished(result)).await;
}

/// Runs the turn at the agent, and hands what it writes to the speaker. Gives whether no answer is meant to be heard.
async fn run(
    voice: &Voice,
    text: String,
    session: String,
    heard: Heard,
    speaker: &mut Speaker,
    teller: &Teller,
) -> Result<bool, Failure> {
    let left = voice.until.saturating_duration_since(Instant::now());
    let request = Run {
        text,
        session: Some(session),
        turn: Some(voice.turn.to_string()),
        stream: true,
        heard: Some(heard),
        said: String::new(),
    };
    let call = Call::within(left).of_turn(voice.turn);
    let mut agent_knows = false;
    let failure = |error: BusError, agent_knows: bool| {
        // What the agent itself says of a turn that it has begun it has taken down as well.
        let told = agent_knows && matches!(error, BusError::Fault(_));
        Failure { told, ..Failure::new("agent", error.to_fault()) }
    };
    let need = fabric::need(Capability::Agent);
    let mut events = voice.fabric.open(&need, request.clone(), &call).await.map_err(|e| failure(e, false))?;
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
                tell(teller, voice.turn, Progress::Text(text)).await;
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
    mouth: Mouth,
    splitter: SentenceSplitter,
    filter: SpeechFilter,
}

impl Speaker {
    fn new(mouth: Mouth) -> Self {
        Self { mouth, splitter: SentenceSplitter::default(), filter: SpeechFilter::default() }
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
            self.mouth.say(spoken).await;
        }
    }
}

async fn tell(teller: &Teller, turn: Ulid, progress: Progress) {
    // The listener is gone only when the host ends.
    let _ = teller.send((turn, progress)).await;
}
