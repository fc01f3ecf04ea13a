//! What a turn asks of other roles: the transcript, and the answer with its speech.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use ulid::Ulid;

use super::mouth::{Mouth, Spoken, Voice};
use crate::audio::VAD_RATE_HZ;
use crate::bus::message::agent::{Heard, Run, RunEvent};
use crate::bus::message::fault::Fault;
use crate::bus::message::stt;
use crate::bus::subject::Target;
use crate::bus::{Bus, Call};
use crate::sound::to_wire;
use crate::text::sentence::SentenceSplitter;
use crate::text::speech::SpeechFilter;

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
}

impl Failure {
    /// A failure of `stage`.
    pub fn new(stage: &'static str, fault: Fault) -> Self {
        Self { stage, fault }
    }
}

/// Where progress is told.
pub type Teller = mpsc::Sender<(Ulid, Progress)>;

/// Has an utterance transcribed by whoever can.
pub async fn transcribe(bus: Bus, turn: Ulid, samples: Vec<f32>, timeout: Duration, teller: Teller) {
    let begun = Instant::now();
    let request = stt::Request { pcm: Some(to_wire(&samples, VAD_RATE_HZ)), ..stt::Request::default() };
    let call = Call::within(timeout).of_turn(turn);
    let result = bus.ask(Target::Any, &request, &call).await;
    let text = result.map(|transcript| transcript.text).map_err(|e| e.to_fault());
    tell(&teller, turn, Progress::Transcribed(text, begun.elapsed())).await;
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
    let mouth = Mouth::open(voice.clone());
    let mut sounding = mouth.sounding();
    let first = teller.clone();
    let watcher = tokio::spawn(async move {
        if sounding.wait_for(|sounds| *sounds).await.is_ok() {
            tell(&first, turn, Progress::Sounding).await;
        }
    });
    // The end must not be told before the first sound.
    let watcher = tokio_util::task::AbortOnDropHandle::new(watcher);
    let written = match task {
        Task::Say(text) => {
            let mut speaker = Speaker::default();
            speaker.push(&mouth, &text).await;
            speaker.finish(&mouth).await;
            Ok(())
        }
        Task::Run { text, session, heard } => run(&voice, text, session, heard, &mouth, &teller).await,
    };
    let result = match written {
        Err(fault) => Err(Failure::new("agent", fault)),
        Ok(()) => mouth.finish().await.map_err(|fault| Failure::new("tts", fault)),
    };
    if result.as_ref().is_ok_and(|spoken| spoken.first_sample.is_some()) {
        let _ = tokio::time::timeout(Duration::from_secs(1), watcher).await;
    }
    tell(&teller, turn, Progress::Finished(result)).await;
}

/// Runs the turn at the agent, and hands what it writes to the mouth.
async fn run(
    voice: &Voice,
    text: String,
    session: String,
    heard: Heard,
    mouth: &Mouth,
    teller: &Teller,
) -> Result<(), Fault> {
    let left = voice.until.saturating_duration_since(Instant::now());
    let request =
        Run { text, session: Some(session), turn: Some(voice.turn.to_string()), stream: true, heard: Some(heard) };
    let call = Call::within(left).of_turn(voice.turn);
    let mut events = voice.bus.open(Target::Any, &request, &call).await.map_err(|e| e.to_fault())?;
    let mut speaker = Speaker::default();
    while let Some(event) = events.next().await {
        if let RunEvent::Text { text } = event.map_err(|e| e.to_fault())? {
            speaker.push(mouth, &text).await;
            tell(teller, voice.turn, Progress::Text(text)).await;
        }
    }
    speaker.finish(mouth).await;
    Ok(())
}

/// From written text to sentences that can be spoken.
#[derive(Default)]
struct Speaker {
    splitter: SentenceSplitter,
    filter: SpeechFilter,
}

impl Speaker {
    async fn push(&mut self, mouth: &Mouth, text: &str) {
        for sentence in self.splitter.push(text) {
            self.say(mouth, &sentence).await;
        }
    }

    async fn finish(&mut self, mouth: &Mouth) {
        if let Some(sentence) = self.splitter.finish() {
            self.say(mouth, &sentence).await;
        }
    }

    async fn say(&mut self, mouth: &Mouth, sentence: &str) {
        let spoken = self.filter.speakable(sentence);
        if !spoken.is_empty() {
            mouth.say(spoken).await;
        }
    }
}

async fn tell(teller: &Teller, turn: Ulid, progress: Progress) {
    // The listener is gone only when the host ends.
    let _ = teller.send((turn, progress)).await;
}
