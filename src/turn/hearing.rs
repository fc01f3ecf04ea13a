//! What a talk makes of speech: the utterance that it listens to, parts of it, what goes on after a pause, and looks for the
//! wake phrase in speech that it does not listen to.

use std::mem;

use super::effect::{Effect, Outcome};
use super::input::{AfterPhrase, LookResult, OpensOn, SpeechSpan, Utterance, UtteranceEnd};
use super::own_words;
use super::stage::{Microphone, Stage, Step, Transcribing, WakeSearch, Why};
use super::talk::Talk;

/// How many parts an utterance has at most before its end; with clips of 30 s that is four to five minutes.
const PARTS_MAX: usize = 9;
/// Speech after the wake phrase that is no more than its end, and a breath, in ms.
const PHRASE_REST_MS: u64 = 150;

impl<C: Clone, F> Talk<C, F> {
    /// Whether the wake phrase means anything now.
    #[must_use]
    pub(super) fn wants_wake(&self) -> bool {
        self.settings.finds_wake_phrases
            && self.has_audio()
            && self.opens_on != OpensOn::Pedal
            && !self.muted
            && !self.stage.is_listening()
    }

    /// Whether to look for the wake phrase at the beginning of what is being said.
    #[must_use]
    pub fn wants_early_look(&self) -> bool {
        self.wants_wake() && matches!(self.search, WakeSearch::Free)
    }

    fn now_quiet(&mut self) {
        if self.microphone == Microphone::Voiced {
            self.microphone = Microphone::Quiet;
        }
    }

    pub(super) fn drop_speech(&mut self) {
        self.now_quiet();
        self.emit(Effect::DropSpeech);
    }

    pub(super) fn trim_speech(&mut self) {
        self.now_quiet();
        self.emit(Effect::TrimSpeech);
    }

    pub(super) fn speech_started(&mut self) {
        if self.microphone == Microphone::Quiet {
            self.microphone = Microphone::Voiced;
        }
        self.why = Why::Borrowed("speech");
        match self.stage {
            Stage::Idle if self.opens_on == OpensOn::Speech && !self.muted && self.has_audio() => {
                self.open();
                self.listen();
            }
            Stage::Open { step: Step::Waiting { .. }, .. } => self.resume(),
            _ => {}
        }
    }

    pub(super) fn speech_ended(&mut self, utterance: Utterance<C>) {
        if self.stage.is_listening() {
            self.now_quiet();
            self.take_utterance(utterance);
        } else if utterance.end == UtteranceEnd::Part {
            // The pedal is held, but its turn is over.
            self.drop_speech();
        } else {
            self.now_quiet();
            self.overhear(utterance);
        }
    }

    /// The end of the utterance that is listened to, or a part of it.
    fn take_utterance(&mut self, utterance: Utterance<C>) {
        let until_ms = self.listen_until_ms();
        let Stage::Open { turn, step: Step::Listening(listening) } = &mut self.stage else { return };
        let Utterance { span, end, audio_ms, .. } = utterance;
        // One that silence has ended was on its way as the pedal went down.
        let is_part = end == UtteranceEnd::Part || listening.held && end != UtteranceEnd::Pedal;
        if is_part && listening.parts < PARTS_MAX {
            let spoken = span.speech_ms > 0;
            listening.until_ms = until_ms;
            listening.parts += 1;
            listening.spoken |= spoken;
            turn.said_ms += audio_ms;
            let effect = Effect::TranscribePart { turn: turn.number, clip: spoken.then_some(utterance.clip) };
            return self.emit(effect);
        }
        if listening.phrase.take().is_some_and(|phrase| is_rest_of(&phrase, &span)) {
            self.why = Why::Borrowed("only the wake phrase");
            return self.emit(Effect::Listen { held: false });
        }
        let spoken = span.speech_ms > 0 || listening.spoken;
        self.why = Why::Borrowed(match end {
            _ if !spoken => "nothing was said",
            UtteranceEnd::Silence => "silence",
            UtteranceEnd::MaxLength => "voice.max_utterance_ms",
            UtteranceEnd::Part => "push to talk was held for too long",
            UtteranceEnd::Pedal => "push to talk",
        });
        turn.note_utterance(&utterance);
        // Of a request that went on there are words already.
        let has_words = spoken || turn.resumes > 0;
        // After parts, there may be nothing but silence.
        let clip_wanted = span.speech_ms > 0 || listening.parts == 0;
        let number = turn.number;
        if end == UtteranceEnd::Part {
            // The pedal is held still, but what follows belongs to no turn.
            self.drop_speech();
        }
        if !has_words {
            return self.close(Outcome::Nothing);
        }
        let paused = end == UtteranceEnd::Silence;
        let silent_since_ms = paused.then_some(utterance.spoken_until_ms);
        self.go_to(Step::Transcribing(Transcribing { audio_ms, silent_since_ms, went_on: None }));
        self.show();
        self.emit(Effect::Transcribe { turn: number, clip: clip_wanted.then_some(utterance.clip) });
    }

    /// An utterance that is not listened to: there may be a wake phrase in it, or it goes on with what is being transcribed.
    fn overhear(&mut self, utterance: Utterance<C>) {
        if let Stage::Open { step: Step::Transcribing(transcribing), .. } = &mut self.stage {
            transcribing.went_on = Some(utterance.clone());
        }
        if !self.wants_wake() || utterance.span.speech_ms == 0 {
            return;
        }
        match &mut self.search {
            WakeSearch::Busy { next } => *next = Some(utterance),
            WakeSearch::Free => self.look_at(utterance),
        }
    }

    fn look_at(&mut self, utterance: Utterance<C>) {
        self.search = WakeSearch::Busy { next: None };
        self.emit(Effect::Look(utterance.clip));
    }

    /// The speaker of an unfinished request goes on: what is said now belongs to it.
    fn resume(&mut self) {
        if let Stage::Open { turn, .. } = &mut self.stage {
            turn.resumes += 1;
        }
        self.listen();
    }

    /// If the speaker of an unfinished request has gone on meanwhile, that belongs to it.
    pub(super) fn go_on(&mut self, next: Option<Utterance<C>>) {
        let waits = matches!(self.stage, Stage::Open { step: Step::Waiting { .. }, .. });
        if !waits || !(self.microphone == Microphone::Voiced || next.is_some()) {
            return;
        }
        self.why = Why::Borrowed("the speaker goes on");
        self.resume();
        if let Some(next) = next {
            self.take_utterance(next);
        }
    }

    pub(super) fn looked(&mut self, look: LookResult<C>) {
        let LookResult { found, span, utterance, whole, took_ms } = look;
        let next = match (&utterance, &self.search) {
            // The look at the whole was begun meanwhile, and tells more.
            (None, WakeSearch::Busy { .. }) => return,
            (None, WakeSearch::Free) => None,
            (Some(_), _) => match mem::replace(&mut self.search, WakeSearch::Free) {
                WakeSearch::Busy { next } => next,
                WakeSearch::Free => None,
            },
        };
        if !self.wants_wake() {
            return;
        }
        let found = found.filter(|found| !self.is_own_voice(&found.phrase, &span));
        let Some(found) = found else {
            if let Some(next) = next {
                self.look_at(next);
            }
            return;
        };
        self.wake(&found.phrase);
        let alone = found.after == AfterPhrase::Nothing;
        match (utterance, next, found.after) {
            // The speaker goes on.
            (None, ..) => {
                if let Stage::Open { step: Step::Listening(listening), .. } = &mut self.stage {
                    listening.phrase = alone.then_some(span);
                }
            }
            // What follows the phrase is over as well.
            (Some(_), Some(next), AfterPhrase::Nothing) => self.take_utterance(next),
            (Some(_), None, AfterPhrase::Nothing) => self.emit(Effect::Listen { held: false }),
            (Some(utterance), next, AfterPhrase::Words(words)) if whole && self.settings.look_is_transcript => {
                self.take_request(&utterance, words, took_ms);
                if let Some(next) = next {
                    self.overhear(next.clone());
                    self.go_on(Some(next));
                } else {
                    self.go_on(None);
                }
            }
            (Some(utterance), next, _) => {
                self.take_utterance(utterance);
                if let Some(next) = next {
                    self.overhear(next);
                }
            }
        }
    }

    /// The request that came in one breath with the wake phrase, whose words the look has heard.
    fn take_request(&mut self, utterance: &Utterance<C>, words: String, took_ms: u64) {
        let Stage::Open { turn, .. } = &mut self.stage else { return };
        turn.note_utterance(utterance);
        turn.note_transcript(self.now.ms, took_ms);
        turn.said = words;
        turn.said_ms = utterance.audio_ms;
        self.go_to(Step::Answering);
        self.show();
        let why = self.why.clone();
        self.take_words(Some(utterance.spoken_until_ms), Some(why));
    }

    /// Whether the phrase is in what was being spoken as the speech began: then the microphone has heard the loudspeaker.
    fn is_own_voice(&self, phrase: &str, span: &SpeechSpan) -> bool {
        if let Stage::Open { turn, step: Step::Speaking } = &self.stage
            && own_words::contains(&turn.reply, phrase)
        {
            return true;
        }
        self.own_words.may_be(phrase, span.began_ms.saturating_add(self.settings.pre_roll_ms))
    }
}

/// Whether `span` is the speech in which all that was heard was a wake phrase, and has no more than its end beyond it.
const fn is_rest_of(phrase: &SpeechSpan, span: &SpeechSpan) -> bool {
    phrase.start_sample == span.start_sample && span.speech_ms <= phrase.speech_ms + PHRASE_REST_MS
}
