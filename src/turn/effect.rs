//! What a talk has its driver do.

use std::borrow::Cow;

use super::input::Work;

/// Where a listener is in its turn, as it is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// No turn is open.
    #[default]
    Idle,
    /// The wake phrase was heard.
    WakeDetected,
    /// An utterance is taken down.
    Listening,
    /// The utterance is transcribed, awaited to go on, or answered.
    Processing,
    /// The answer sounds.
    Speaking,
}

impl Phase {
    /// Its name, as on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::WakeDetected => "wake_detected",
            Self::Listening => "listening",
            Self::Processing => "processing",
            Self::Speaking => "speaking",
        }
    }
}

/// Why a turn failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure<F> {
    /// Work that the driver did for the turn failed.
    Work {
        /// Which part.
        work: Work,
        /// Why.
        fault: F,
    },
    /// No end of the utterance came: JACK gives no audio.
    NoEnd,
    /// JACK went away.
    AudioLost {
        /// Why.
        reason: String,
    },
}

impl<F> Failure<F> {
    /// The part of the work that failed.
    #[must_use]
    pub const fn work(&self) -> Work {
        match self {
            Self::Work { work, .. } => *work,
            Self::NoEnd | Self::AudioLost { .. } => Work::Audio,
        }
    }
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<F> {
    /// It was answered.
    Answered,
    /// Nothing was said.
    Nothing,
    /// It was stopped.
    Stopped,
    /// The next one interrupted it.
    Interrupted,
    /// It failed.
    Failed(Failure<F>),
}

impl<F> Outcome<F> {
    /// Its name in metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Nothing => "nothing",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
        }
    }
}

/// How long each stage of a turn took, in ms; 0 for one that was not come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// From the last sample of speech to the decision that it has ended.
    pub endpoint_ms: u64,
    /// The transcript.
    pub stt_ms: u64,
    /// From the transcript to the first sentence of the answer.
    pub first_sentence_ms: u64,
    /// From the first sentence to its first audio.
    pub first_audio_ms: u64,
    /// From the first audio to the first sample in JACK.
    pub first_sample_ms: u64,
    /// From the last sample of speech to the first sample out.
    pub total_ms: u64,
    /// How long the answer sounded.
    pub spoken_ms: u64,
}

/// Why an order was refused. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no JACK.
    #[error("JACK is not there, so nothing can be heard or spoken; `sidetone doctor` says what to do")]
    NoAudio,
    /// The listener hears nothing.
    #[error("the listener is muted: send {{\"do\":\"mute\",\"on\":false}} first")]
    Muted,
    /// There is nothing to say.
    #[error("text is empty: say what is to be spoken")]
    NothingToSay,
    /// There is nothing to answer.
    #[error("text is empty: say what is to be answered")]
    NothingToAnswer,
    /// Nothing looks for wake phrases on this host.
    #[error(
        "no wake model is loaded: set the listener's mode to wake or open in the settings and start the host again"
    )]
    NoWakeModel,
}

/// What to do, in this order. `turn` is the turn's number; turns are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<C, F> {
    /// A turn begins. The one before has been closed.
    Open {
        /// The turn.
        turn: u64,
        /// Its session; another number than that of the turn before is a new session.
        session: u64,
    },
    /// Publish the state, and keep it with the turn if one is open.
    Show {
        /// The state.
        phase: Phase,
        /// What brought it about.
        why: Cow<'static, str>,
    },
    /// Take an utterance down from now on.
    Listen {
        /// Whether only [`Effect::EndListening`] ends it; else silence does.
        held: bool,
    },
    /// The utterance is over now.
    EndListening,
    /// Forget what is being said, and what was said and is on its way.
    DropSpeech,
    /// The same, but for a pre-roll.
    TrimSpeech,
    /// Hear nothing, or hear again. What was said before and is on its way is forgotten.
    Mute(bool),
    /// Look for the wake phrase in an utterance. One such look is under way at most; one at a beginning is broken off.
    Look(C),
    /// Have a part of the turn's utterance transcribed while the rest is said.
    TranscribePart {
        /// The turn.
        turn: u64,
        /// Its sound; `None` where nothing was said.
        clip: Option<C>,
    },
    /// Have the end of the turn's utterance transcribed, and give all of it, the parts first.
    Transcribe {
        /// The turn.
        turn: u64,
        /// Its sound; `None` where nothing was said after the parts.
        clip: Option<C>,
    },
    /// Have the words answered, and the answer spoken.
    Answer {
        /// The turn.
        turn: u64,
        /// The words.
        text: String,
        /// How long they were, in ms; 0 for words that were written.
        audio_ms: u64,
    },
    /// Speak the text as it is.
    Speak {
        /// The turn.
        turn: u64,
        /// The text.
        text: String,
    },
    /// Break off all work of the turn, and discard what is queued for playback.
    Silence,
    /// The turn is over.
    Close {
        /// The turn.
        turn: u64,
        /// How it ended.
        outcome: Outcome<F>,
        /// How long its stages took.
        times: StageTimes,
    },
    /// Sound the signal that a turn has failed.
    SignalFailure,
    /// The driver's work is over: the host stops.
    Leave,
}
