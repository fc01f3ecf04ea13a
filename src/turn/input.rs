//! What can happen in a talk. Times are in ms of one monotonic clock, whose zero is the driver's choice.

use std::borrow::Cow;

/// What a listener's talk goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What opens a turn at first; [`Input::Mode`] changes it.
    pub opens_on: OpensOn,
    /// Whether this host can look for a wake phrase.
    pub finds_wake_phrases: bool,
    /// Whether a look for the wake phrase hears what `stt` would hear: then the words after the phrase are the transcript.
    pub look_is_transcript: bool,
    /// The language that is spoken, such as `en`; empty: unknown.
    pub language: String,
    /// Silence after which a request is answered that looks unfinished by its last words; 0: all requests are whole.
    pub unfinished_silence_ms: u64,
    /// Audio from before the speech that an utterance begins with.
    pub pre_roll_ms: u64,
    /// How long an utterance, or a part of one, may take until its end comes; then audio counts as failed.
    pub listen_limit_ms: u64,
    /// Silence after which the next turn begins a new session.
    pub session_idle_ms: u64,
}

/// What opens a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OpensOn {
    /// A wake phrase, or push to talk.
    #[default]
    WakePhrase,
    /// Any speech.
    Speech,
    /// Push to talk only.
    Pedal,
}

/// When an input is taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// The time, in ms.
    pub ms: u64,
    /// How long after JACK was given it a sample is heard, in ms.
    pub playback_latency_ms: u64,
}

/// What was done to the pedal of push to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pedal {
    /// Tapped: silence ends the utterance, or a second tap.
    Tap,
    /// Pressed, to be held while one speaks.
    Down,
    /// Released.
    Up,
}

/// A piece of speech, whether it is over or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeechSpan {
    /// The number of its first sample: tells it from others.
    pub start_sample: u64,
    /// When that sample was heard, in ms; the pre-roll is before the speech.
    pub began_ms: u64,
    /// Speech in it so far, in ms.
    pub speech_ms: u64,
}

/// What ended an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UtteranceEnd {
    /// Silence, so it may have been a pause.
    Silence,
    /// It was as long as one may be.
    MaxLength,
    /// It is as long as one clip may be, and goes on: the pedal is held.
    Part,
    /// The pedal was released, or tapped again.
    Pedal,
}

/// An utterance that is over, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utterance<C> {
    /// Which speech it is.
    pub span: SpeechSpan,
    /// What ended it.
    pub end: UtteranceEnd,
    /// How long its audio is, silence included, in ms.
    pub audio_ms: u64,
    /// From its last sample of speech to the decision that it has ended, in ms.
    pub endpoint_ms: u64,
    /// When its last sample of speech was heard, in ms.
    pub spoken_until_ms: u64,
    /// Its sound.
    pub clip: C,
}

/// A wake phrase at the beginning of what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The phrase.
    pub phrase: String,
    /// What was said after it.
    pub after: AfterPhrase,
}

/// What was said after a wake phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterPhrase {
    /// Nothing.
    Nothing,
    /// These words, or more of them.
    Words(String),
    /// Something that the look can't tell.
    Unheard,
}

/// What a look for the wake phrase came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookResult<C> {
    /// What was found.
    pub found: Option<Found>,
    /// The speech that was looked at, as it was then.
    pub span: SpeechSpan,
    /// The utterance, if it was over; `None` if its speaker went on.
    pub utterance: Option<Utterance<C>>,
    /// Whether all of it was looked at.
    pub whole: bool,
    /// How long the look took, in ms.
    pub took_ms: u64,
}

/// When an answer was spoken; times in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerTimes {
    /// When its first sentence was there.
    pub first_sentence_ms: Option<u64>,
    /// When the first audio of that was there.
    pub first_audio_ms: Option<u64>,
    /// When JACK was given the first sample; `None` if there was nothing to be heard.
    pub first_sample_ms: Option<u64>,
    /// How long it sounded.
    pub spoken_ms: u64,
}

/// The part of a turn's work that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The transcript.
    Stt,
    /// The answer.
    Agent,
    /// Its speech.
    Tts,
    /// The microphone or the loudspeaker.
    Audio,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stt, Self::Agent, Self::Tts, Self::Audio];

    /// Its name in session events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stt => "stt",
            Self::Agent => "agent",
            Self::Tts => "tts",
            Self::Audio => "audio",
        }
    }
}

/// What happened. `turn` is the number that [`Effect::Open`](super::Effect::Open) gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<C, F> {
    /// JACK is there.
    AudioUp,
    /// JACK is gone.
    AudioLost {
        /// Why.
        reason: String,
    },
    /// Speech began.
    SpeechStarted,
    /// An utterance is over, or a part of one that is held.
    SpeechEnded(Utterance<C>),
    /// A look for the wake phrase has ended.
    Looked(LookResult<C>),
    /// The transcript of a turn's utterance is there, all parts of it.
    Transcribed {
        /// The turn.
        turn: u64,
        /// The words.
        text: String,
        /// The words after the wake phrase, if the transcript begins with one.
        after_phrase: Option<String>,
        /// How long it took, in ms.
        took_ms: u64,
    },
    /// The answer has more words.
    Wrote {
        /// The turn.
        turn: u64,
        /// The words.
        text: String,
    },
    /// The first sample of the answer has left.
    FirstSound {
        /// The turn.
        turn: u64,
    },
    /// The answer is whole, and its last sample was heard.
    Finished {
        /// The turn.
        turn: u64,
        /// When it was spoken.
        times: AnswerTimes,
    },
    /// Work of the turn failed.
    Failed {
        /// The turn.
        turn: u64,
        /// Which part of it.
        work: Work,
        /// Why.
        fault: F,
    },
    /// Push to talk.
    PushToTalk(Pedal),
    /// Hear nothing, or hear again; `None`: the other of what it is.
    Mute(Option<bool>),
    /// What opens a turn from now on.
    Mode(OpensOn),
    /// Speak a text.
    Say(String),
    /// Answer a text as if it had been spoken.
    Ask(String),
    /// Drop the turn and be silent.
    Stop {
        /// Who says so, as it is published.
        why: Cow<'static, str>,
    },
    /// The host ends: an answer is finished, all else is dropped.
    HostStops,
    /// The time that [`Talk::deadline_ms`](super::Talk::deadline_ms) gave has come.
    Due,
}
