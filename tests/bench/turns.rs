//! Spoken turns through real JACK: a question is played into the listener's microphone, and what comes out is recorded
//! beside it, so that the time between is known to the sample.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use sidetone::audio::{Clip, resample};
use sidetone::bus::message::fault::Fault;
use sidetone::bus::message::session::{SessionEvent, Times, What};
use sidetone::bus::message::voice::{Control, TurnState};
use sidetone::bus::{Bus, Call, subject};
use sidetone::config::Config;
use sidetone::engine::SpeakOptions;
use sidetone::home::Home;
use sidetone::role::model_cache::{ModelCache, synthesizer_spec};

use crate::jack::Peer;
use crate::observe::{Observer, Work};
use crate::running::NODE;
use crate::support::fixture;

/// The rate of the JACK server.
pub const RATE_HZ: u32 = 48_000;
/// The listener that is spoken to.
pub const LISTENER: &str = "main";
/// The client that speaks and records.
pub const PEER: &str = "bench";
/// How long a turn may take.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take until a wake word opens a turn, the question included.
const WAKE_TIMEOUT: Duration = Duration::from_secs(12);
/// How often the recording is taken from its ring, which holds 4 s.
const POLL: Duration = Duration::from_millis(20);
/// Quieter than this (−50 dBFS) is silence.
const SILENCE: f32 = 0.003;
/// Between the wake word and the question, in ms: no pause that ends an utterance.
const BREATH_MS: usize = 150;

/// Who answers a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A command, after push to talk.
    Command,
    /// The chat model, after push to talk.
    Model,
    /// A command, after a wake word in a person's voice.
    Wake,
}

/// A spoken question.
#[derive(Debug)]
pub struct Question {
    /// Who answers it.
    pub kind: Kind,
    samples: Vec<f32>,
    /// Up to here somebody speaks.
    spoken: usize,
}

impl Question {
    fn new(kind: Kind, samples: Vec<f32>) -> Self {
        let spoken = samples.iter().rposition(|sample| sample.abs() > SILENCE).map_or(0, |last| last + 1);
        Self { kind, samples, spoken }
    }
}

/// The questions: spoken by the configured voice, the wake word by a person.
pub async fn questions(home: &Home, config: &Config) -> anyhow::Result<Vec<Question>> {
    let provider = config.tts.providers.first().context("no synthesizer is set")?;
    let voice = provider.voices.first().context("no voice is set")?;
    let spec = synthesizer_spec(&config.tts, provider, voice);
    let voice = ModelCache::new(home)?.synthesizer(&provider.engine, spec).await?;
    let say = |text: &str| -> anyhow::Result<Vec<f32>> {
        let mut samples = Vec::new();
        voice.speak(text, &SpeakOptions::default(), &mut |piece| {
            samples.extend_from_slice(piece);
            ControlFlow::Continue(())
        })?;
        Ok(resample(&samples, voice.rate_hz(), RATE_HZ)?)
    };
    let command = say("What time is it?")?;
    let clip = Clip::decode(&fixture("computer-01.wav")?)?;
    let mut wake = resample(&clip.samples, clip.rate_hz, RATE_HZ)?;
    let spoken = wake.iter().rposition(|sample| sample.abs() > SILENCE * 3.0).map_or(0, |last| last + 1);
    wake.truncate(spoken);
    wake.resize(spoken + BREATH_MS * RATE_HZ as usize / 1_000, 0.0);
    wake.extend_from_slice(&command);
    Ok(vec![
        Question::new(Kind::Command, command),
        Question::new(Kind::Model, say("Where is the city of Paris?")?),
        Question::new(Kind::Wake, wake),
    ])
}

/// What came of a turn.
#[derive(Debug)]
pub struct Turn {
    /// Who answered.
    pub kind: Kind,
    /// What the host says of it.
    pub times: Times,
    /// What the engines say of it.
    pub work: Work,
    /// From the last sound of the question to the first of the answer, both in JACK, in ms.
    pub heard_ms: f64,
}

/// A subject, and what came on it.
type Heard = (String, Result<SessionEvent, Fault>);

/// Somebody in front of a listener.
pub struct Speaker {
    bus: Bus,
    observer: Observer,
    events: futures::stream::BoxStream<'static, Heard>,
    peer: Peer,
}

impl Speaker {
    /// Speaks by `peer` to the host whose bus is at `url`, and records what both say.
    pub async fn new(url: &str, peer: Peer) -> anyhow::Result<Self> {
        let bus = Bus::connect(url, "bench-speaker").await?;
        let events = bus.subscribe::<SessionEvent>(subject::SESSIONS).await?;
        // The recording has both voices, in step.
        peer.connect(&format!("{PEER}:mouth"), &format!("{PEER}:ear"));
        Ok(Self { events: events.boxed(), observer: Observer::start(url).await?, bus, peer })
    }

    /// Periods that the server has missed.
    pub fn xruns(&self) -> u64 {
        self.peer.xruns()
    }

    /// Asks, and waits until the answer has been spoken; `None` if the wake word was not heard.
    pub async fn ask(&mut self, question: &Question) -> anyhow::Result<Option<Turn>> {
        let mut recorded = Vec::new();
        self.peer.ear.read_into(&mut recorded);
        recorded.clear();
        self.observer.take();
        if question.kind != Kind::Wake {
            let call = Call::within(Duration::from_secs(10));
            self.bus.control(NODE, LISTENER, &Control::PushToTalk { held: None }, &call).await?;
        }
        let mut left = question.samples.as_slice();
        let begun = Instant::now();
        let mut heard = question.kind != Kind::Wake;
        let mut poll = tokio::time::interval(POLL);
        let times = loop {
            tokio::select! {
                event = self.events.next() => match event.context("the bus is gone")?.1?.what {
                    What::Times(times) => break times,
                    What::State { state, .. } if state != TurnState::Idle => heard = true,
                    What::Error { message, stage, .. } => bail!("a {:?} turn failed at {stage}: {message}", question.kind),
                    _ => {}
                },
                _ = poll.tick() => {
                    left = left.get(self.peer.mouth.write(left)..).unwrap_or_default();
                    if left.is_empty() {
                        self.peer.mouth.end();
                    }
                    self.peer.ear.read_into(&mut recorded);
                    if !heard && begun.elapsed() > WAKE_TIMEOUT {
                        return Ok(None);
                    }
                    anyhow::ensure!(begun.elapsed() < TURN_TIMEOUT, "a {:?} turn has no end", question.kind);
                }
            }
        };
        self.peer.ear.read_into(&mut recorded);
        let heard_ms = pause_ms(&recorded, question).context("the answer is not in the recording")?;
        Ok(Some(Turn { kind: question.kind, times, work: self.observer.take(), heard_ms }))
    }
}

/// From the last sound of the question to the first of the answer.
fn pause_ms(recorded: &[f32], question: &Question) -> Option<f64> {
    // The question is in the recording as it was written, but for the zeros that it may begin with.
    let zeros = question.samples.iter().position(|sample| *sample != 0.0)?;
    let start = recorded.iter().position(|sample| *sample != 0.0)?.checked_sub(zeros)?;
    let end = start + question.spoken;
    let after = recorded.get(start + question.samples.len()..)?;
    let answer = start + question.samples.len() + after.iter().position(|sample| sample.abs() > SILENCE)?;
    Some((answer - end) as f64 * 1_000.0 / f64::from(RATE_HZ))
}
