//! Where a turn stands, with its data there; and the microphone and the look for a wake phrase beside it.

use std::borrow::Cow;

use super::effect::{Phase, StageTimes};
use super::input::{AnswerTimes, SpeechSpan, Utterance};

/// What brought a state about.
pub type Why = Cow<'static, str>;

/// Whether the microphone gives anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Microphone {
    /// There is no JACK.
    Gone,
    /// There is no speech.
    Quiet,
    /// There is speech.
    Voiced,
}

/// Whether a whole utterance is being looked at for a wake phrase.
#[derive(Debug, Clone)]
pub enum WakeSearch<C> {
    /// None is.
    Free,
    /// One is. Another that ends meanwhile waits.
    Busy {
        /// The one that waits.
        next: Option<Utterance<C>>,
    },
}

/// Whether a turn is open, and where it stands.
#[derive(Debug, Clone)]
pub enum Stage<C> {
    /// None is.
    Idle,
    /// One is.
    Open {
        /// What is known of it.
        turn: Box<Turn>,
        /// Where it stands.
        step: Step<C>,
    },
}

/// Where an open turn stands.
#[derive(Debug, Clone)]
pub enum Step<C> {
    /// An utterance is taken down.
    Listening(Listening),
    /// The utterance is being transcribed.
    Transcribing(Transcribing<C>),
    /// The speaker of an unfinished request may go on.
    Waiting {
        /// Until then, in ms.
        until_ms: u64,
    },
    /// The words are being answered; nothing sounds.
    Answering,
    /// The answer sounds.
    Speaking,
}

/// An utterance that is taken down.
#[derive(Debug, Clone)]
pub struct Listening {
    /// When its end must have come, in ms.
    pub until_ms: u64,
    /// Whether the pedal is held: then only its release ends the utterance.
    pub held: bool,
    /// How many parts of it were taken.
    pub parts: usize,
    /// Whether something was said in them.
    pub spoken: bool,
    /// The speech under way, if all that was heard of it is the wake phrase.
    pub phrase: Option<SpeechSpan>,
}

impl Listening {
    /// One that begins now.
    pub const fn until(until_ms: u64) -> Self {
        Self { until_ms, held: false, parts: 0, spoken: false, phrase: None }
    }
}

/// An utterance that is being transcribed.
#[derive(Debug, Clone)]
pub struct Transcribing<C> {
    /// How long its end is, without the parts before, in ms.
    pub audio_ms: u64,
    /// When its speaker became silent, in ms, if that is what ended it: it may have been a pause.
    pub silent_since_ms: Option<u64>,
    /// What was said meanwhile.
    pub went_on: Option<Utterance<C>>,
}

/// What is known of an open turn.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Its number.
    pub number: u64,
    /// What was said so far.
    pub said: String,
    /// How long that was, in ms.
    pub said_ms: u64,
    /// The answer so far.
    pub reply: String,
    /// How often its speaker has gone on after a pause.
    pub resumes: u8,
    /// How often it listens again where no words were heard.
    pub retries: u8,
    /// How long its stages took so far.
    pub times: StageTimes,
    /// When the utterance and its transcript were there; `None` before, and for words that were written.
    pub heard: Option<HeardAt>,
}

/// When an utterance was heard, in ms.
#[derive(Debug, Clone, Copy)]
pub struct HeardAt {
    /// Its last sample of speech.
    pub spoken_until_ms: u64,
    /// Its transcript; `None` while there is none.
    pub transcribed_ms: Option<u64>,
}

impl Turn {
    /// One that begins now.
    pub fn new(number: u64) -> Self {
        Self {
            number,
            said: String::new(),
            said_ms: 0,
            reply: String::new(),
            resumes: 0,
            retries: 1,
            times: StageTimes::default(),
            heard: None,
        }
    }

    /// Notes the times of an utterance.
    pub fn note_utterance<C>(&mut self, utterance: &Utterance<C>) {
        self.times.endpoint_ms = utterance.endpoint_ms;
        self.heard = Some(HeardAt { spoken_until_ms: utterance.spoken_until_ms, transcribed_ms: None });
    }

    /// Notes that the transcript was there at `now_ms`, and took `took_ms`.
    pub fn note_transcript(&mut self, now_ms: u64, took_ms: u64) {
        self.times.stt_ms = took_ms;
        if let Some(heard) = &mut self.heard {
            heard.transcribed_ms = Some(now_ms);
        }
    }

    /// Notes when the answer was spoken, if the request was spoken as well.
    pub fn note_answer(&mut self, answer: &AnswerTimes) {
        let Some(HeardAt { spoken_until_ms, transcribed_ms: Some(transcribed) }) = self.heard else { return };
        let AnswerTimes {
            first_sentence_ms: Some(sentence),
            first_audio_ms: Some(audio),
            first_sample_ms: Some(sample),
            spoken_ms,
        } = *answer
        else {
            return;
        };
        self.times = StageTimes {
            first_sentence_ms: sentence.saturating_sub(transcribed),
            first_audio_ms: audio.saturating_sub(sentence),
            first_sample_ms: sample.saturating_sub(audio),
            total_ms: sample.saturating_sub(spoken_until_ms),
            spoken_ms,
            ..self.times
        };
    }
}

impl<C> Stage<C> {
    /// What is published of it.
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Open { step: Step::Listening(_), .. } => Phase::Listening,
            Self::Open { step: Step::Transcribing(_) | Step::Waiting { .. } | Step::Answering, .. } => {
                Phase::Processing
            }
            Self::Open { step: Step::Speaking, .. } => Phase::Speaking,
        }
    }

    /// Whether what is said now is the utterance.
    pub const fn is_listening(&self) -> bool {
        matches!(self, Self::Open { step: Step::Listening(_), .. })
    }

    /// When it goes on by itself, in ms.
    pub const fn deadline_ms(&self) -> Option<u64> {
        match self {
            Self::Open { step: Step::Listening(Listening { until_ms, .. }) | Step::Waiting { until_ms }, .. } => {
                Some(*until_ms)
            }
            _ => None,
        }
    }
}
