//! Between what the listener's thread, the wake engine and the bus say and what the talk takes: types and times, nothing
//! else.

use std::time::{Duration, Instant};

use super::super::answer::{Failure, Progress};
use super::super::pipeline::{Speech, Utterance};
use super::super::speech_output::SpeechTimes;
use super::super::wake::Look;
use crate::audio::EndReason;
use crate::bus::message::fault::Fault;
use crate::bus::message::session::Times;
use crate::bus::message::voice::{Control, Mode, TurnState};
use crate::config::{Config, ListenMode, ListenerConfig};
use crate::role::millis;
use crate::turn::{
    AfterPhrase, AnswerTimes, Found, Input, LookResult, OpensOn, Pedal, Phase, Refusal, Settings, SpeechSpan,
    StageTimes, UtteranceEnd, Work,
};

/// How long a listener may be without an end to its utterance, beyond what the settings allow, in ms.
const LISTEN_GRACE_MS: u64 = 5_000;

/// The talk's clock: ms since it was started.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time of `at`; 0 for what was before.
    pub fn ms(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.0))
    }

    /// When it will be `ms`.
    pub fn at(&self, ms: u64) -> Instant {
        self.0.checked_add(Duration::from_millis(ms)).unwrap_or(self.0)
    }

    fn span(&self, speech: &Speech) -> SpeechSpan {
        SpeechSpan {
            start_sample: speech.start_sample,
            began_ms: self.ms(speech.began),
            speech_ms: u64::from(speech.speech_ms),
        }
    }

    /// An utterance, with its sound as it came.
    pub fn utterance(&self, clip: Utterance) -> crate::turn::Utterance<Utterance> {
        let end = match clip.reason {
            EndReason::Silence => UtteranceEnd::Silence,
            EndReason::MaxLength => UtteranceEnd::MaxLength,
            EndReason::Part => UtteranceEnd::Part,
            EndReason::Forced => UtteranceEnd::Pedal,
        };
        crate::turn::Utterance {
            span: self.span(&clip.speech),
            end,
            audio_ms: clip.samples.len() as u64 * 1_000 / u64::from(crate::audio::VAD_RATE_HZ),
            endpoint_ms: clip.endpoint_ms,
            spoken_until_ms: self.ms(clip.spoken_until),
            clip,
        }
    }

    /// What a look for the wake phrase came to.
    pub fn look(&self, look: Look) -> LookResult<Utterance> {
        LookResult {
            found: look.found.map(|found| Found { phrase: found.phrase, after: after_phrase(look.alone, found.rest) }),
            span: self.span(&look.speech),
            utterance: look.utterance.map(|utterance| self.utterance(utterance)),
            whole: look.whole,
            took_ms: millis(look.took),
        }
    }

    /// Progress of work for `turn`. `after_phrase` finds the words after a wake phrase.
    pub fn progress(
        &self,
        turn: u64,
        progress: Progress,
        after_phrase: impl FnOnce(&str) -> Option<String>,
    ) -> Input<Utterance, Failure> {
        match progress {
            Progress::Transcribed(Ok(text), took) => {
                let after_phrase = after_phrase(&text);
                Input::Transcribed { turn, text, after_phrase, took_ms: millis(took) }
            }
            Progress::Transcribed(Err(fault), _) => failed(turn, Failure::new(Work::Stt, fault)),
            Progress::Text(text) => Input::Wrote { turn, text },
            Progress::Sounding => Input::FirstSound { turn },
            Progress::Finished(Ok(times)) => Input::Finished { turn, times: self.answer_times(&times) },
            Progress::Finished(Err(failure)) => failed(turn, failure),
        }
    }

    fn answer_times(&self, times: &SpeechTimes) -> AnswerTimes {
        let ms = |at: Option<Instant>| at.map(|at| self.ms(at));
        AnswerTimes {
            first_sentence_ms: ms(times.first_sentence),
            first_audio_ms: ms(times.first_audio),
            first_sample_ms: ms(times.first_sample),
            spoken_ms: millis(times.spoken),
        }
    }
}

fn after_phrase(alone: bool, words: String) -> AfterPhrase {
    if alone {
        AfterPhrase::Nothing
    } else if words.is_empty() {
        AfterPhrase::Unheard
    } else {
        AfterPhrase::Words(words)
    }
}

fn failed(turn: u64, failure: Failure) -> Input<Utterance, Failure> {
    Input::Failed { turn, work: failure.work, fault: failure }
}

/// What a listener's talk goes by.
pub fn settings(host: &Config, listener: &ListenerConfig, finds_wake_phrases: bool) -> Settings {
    let voice = &host.voice;
    let opens_on = match listener.mode {
        ListenMode::Wake => OpensOn::WakePhrase,
        ListenMode::Open => OpensOn::Speech,
        ListenMode::PushToTalk => OpensOn::Pedal,
    };
    let language = if listener.language.is_empty() { &host.stt.language } else { &listener.language };
    Settings {
        opens_on,
        finds_wake_phrases,
        look_is_transcript: look_is_transcript(host, listener),
        language: language.clone(),
        unfinished_silence_ms: u64::from(voice.unfinished_silence_ms),
        pre_roll_ms: u64::from(voice.pre_roll_ms),
        listen_limit_ms: u64::from(voice.max_utterance_ms) + u64::from(voice.listen_timeout_ms) + LISTEN_GRACE_MS,
        session_idle_ms: voice.session_idle_ms,
    }
}

/// Whether what looks for the phrase is what would transcribe the request as well, in the same way: then all of it has been
/// heard.
fn look_is_transcript(host: &Config, listener: &ListenerConfig) -> bool {
    let here = host.node.roles.iter().any(|role| role == "stt") && !host.route.contains_key("stt");
    here && listener.prompt.is_empty()
        && host.voice.wake_model == host.stt.model
        && (listener.language.is_empty() || listener.language == host.stt.language)
}

/// What a command is to the talk; `None` where it is no concern of the talk.
pub fn order(control: Control) -> Option<Input<Utterance, Failure>> {
    Some(match control {
        Control::PushToTalk { held } => Input::PushToTalk(match held {
            None => Pedal::Tap,
            Some(true) => Pedal::Down,
            Some(false) => Pedal::Up,
        }),
        Control::Mute { on } => Input::Mute(on),
        Control::Say { text } => Input::Say(text),
        Control::Ask { text } => Input::Ask(text),
        Control::Stop => Input::Stop { why: "stop".into() },
        Control::Mode { mode } => Input::Mode(match mode {
            Mode::Wake => OpensOn::WakePhrase,
            Mode::Open => OpensOn::Speech,
            Mode::PushToTalk => OpensOn::Pedal,
        }),
        Control::Meter { .. } => return None,
    })
}

/// A refusal, for the caller.
pub fn refused(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::NoAudio => Fault::unavailable(refusal.to_string()),
        Refusal::Muted | Refusal::NothingToSay | Refusal::NothingToAnswer | Refusal::NoWakeModel => {
            Fault::invalid(refusal.to_string())
        }
    }
}

/// Why a turn failed, for the session and the bus.
pub fn failure(failure: crate::turn::Failure<Failure>) -> Failure {
    use crate::turn::Failure as Of;
    match failure {
        Of::Work { fault, .. } => fault,
        Of::NoEnd => Failure::new(Work::Audio, Fault::failed("no end of the utterance came: JACK gives no audio")),
        Of::AudioLost { reason } => {
            Failure::new(Work::Audio, Fault::unavailable(format!("JACK went away in mid-turn: {reason}")))
        }
    }
}

/// A state, as it is published.
pub const fn turn_state(phase: Phase) -> TurnState {
    match phase {
        Phase::Idle => TurnState::Idle,
        Phase::WakeDetected => TurnState::WakeDetected,
        Phase::Listening => TurnState::Listening,
        Phase::Processing => TurnState::Processing,
        Phase::Speaking => TurnState::Speaking,
    }
}

/// What opens a turn, as it is published.
pub const fn mode(opens_on: OpensOn) -> Mode {
    match opens_on {
        OpensOn::WakePhrase => Mode::Wake,
        OpensOn::Speech => Mode::Open,
        OpensOn::Pedal => Mode::PushToTalk,
    }
}

/// The times of a turn, as they are kept.
pub const fn times(times: StageTimes) -> Times {
    let StageTimes { endpoint_ms, stt_ms, first_sentence_ms, first_audio_ms, first_sample_ms, total_ms, spoken_ms } =
        times;
    Times { endpoint_ms, stt_ms, first_sentence_ms, first_audio_ms, first_sample_ms, total_ms, spoken_ms }
}
