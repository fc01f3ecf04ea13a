//! The talk itself: takes what happened, and gives what to do.

use std::mem;

use super::effect::{Effect, Failure, Outcome, Phase, Refusal};
use super::finished::{is_finished, joined};
use super::input::{AnswerTimes, Input, Now, OpensOn, Pedal, Settings};
use super::own_words::OwnWords;
use super::stage::{Listening, Microphone, Stage, Step, Turn, WakeSearch, Why};

/// How often a speaker may pause in a request that looks unfinished.
const RESUMES_MAX: u8 = 3;

/// Whether the host goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Runs,
    /// It ends when nothing is being answered.
    Stops,
    /// The driver was told to leave.
    Left,
}

/// The session of the last turn.
#[derive(Debug, Clone, Copy)]
struct Session {
    number: u64,
    /// When a turn of it opened or closed last, in ms.
    used_ms: u64,
}

/// A listener's talk. `C` is the sound of an utterance, `F` says why work failed; neither is looked at.
#[derive(Debug)]
pub struct Talk<C, F> {
    pub(super) settings: Settings,
    pub(super) opens_on: OpensOn,
    pub(super) muted: bool,
    pub(super) microphone: Microphone,
    pub(super) search: WakeSearch<C>,
    pub(super) stage: Stage<C>,
    pub(super) own_words: OwnWords,
    host: Host,
    /// How many turns there were.
    turns: u64,
    session: Option<Session>,
    /// What brought the last change about.
    pub(super) why: Why,
    /// When the input that is being taken in happened.
    pub(super) now: Now,
    effects: Vec<Effect<C, F>>,
}

impl<C: Clone, F> Talk<C, F> {
    /// An idle listener without audio.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            opens_on: settings.opens_on,
            settings,
            muted: false,
            microphone: Microphone::Gone,
            search: WakeSearch::Free,
            stage: Stage::Idle,
            own_words: OwnWords::default(),
            host: Host::Runs,
            turns: 0,
            session: None,
            why: Why::Borrowed("started"),
            now: Now::default(),
            effects: Vec::new(),
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.stage.phase()
    }

    /// What brought the last change about.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What opens a turn.
    #[must_use]
    pub const fn opens_on(&self) -> OpensOn {
        self.opens_on
    }

    /// Whether it hears nothing.
    #[must_use]
    pub const fn is_muted(&self) -> bool {
        self.muted
    }

    /// Whether there is JACK.
    #[must_use]
    pub fn has_audio(&self) -> bool {
        self.microphone != Microphone::Gone
    }

    /// When it wants [`Input::Due`], in ms; `None`: not by itself.
    #[must_use]
    pub const fn deadline_ms(&self) -> Option<u64> {
        self.stage.deadline_ms()
    }

    /// Takes in what happened at `now`; gives what to do, in this order.
    ///
    /// # Errors
    /// Why an order is refused. Then nothing has changed.
    pub fn step(&mut self, now: Now, input: Input<C, F>) -> Result<Vec<Effect<C, F>>, Refusal> {
        if self.host == Host::Left {
            return Ok(Vec::new());
        }
        self.now = now;
        self.take(input)?;
        // A host that stops lets the answer be spoken.
        if self.host == Host::Stops && (matches!(self.stage, Stage::Idle) || self.stage.is_listening()) {
            self.stop(Why::Borrowed("the host stops"));
            self.host = Host::Left;
            self.emit(Effect::Leave);
        }
        Ok(mem::take(&mut self.effects))
    }

    fn take(&mut self, input: Input<C, F>) -> Result<(), Refusal> {
        match input {
            Input::AudioUp => {
                self.microphone = Microphone::Quiet;
                self.why = Why::Borrowed("JACK is there");
                self.show();
            }
            Input::AudioLost { reason } => self.audio_lost(reason),
            Input::SpeechStarted => self.speech_started(),
            Input::SpeechEnded(utterance) => self.speech_ended(utterance),
            Input::Looked(look) => self.looked(look),
            Input::Transcribed { turn, text, after_phrase, took_ms } if self.is_open(turn) => {
                self.transcribed(&text, after_phrase, took_ms);
            }
            Input::Wrote { turn, text } if self.is_open(turn) => {
                if let Stage::Open { turn, .. } = &mut self.stage {
                    turn.reply.push_str(&text);
                }
            }
            Input::FirstSound { turn } if self.is_open(turn) => self.first_sound(),
            Input::Finished { turn, times } if self.is_open(turn) => self.finished(&times),
            Input::Failed { turn, work, fault } if self.is_open(turn) => self.fail(Failure::Work { work, fault }),
            // What is late is not for the next turn.
            Input::Transcribed { .. }
            | Input::Wrote { .. }
            | Input::FirstSound { .. }
            | Input::Finished { .. }
            | Input::Failed { .. } => {}
            Input::PushToTalk(pedal) => self.push_to_talk(pedal)?,
            Input::Mute(on) => self.mute(on.unwrap_or(!self.muted)),
            Input::Mode(mode) => {
                if mode != OpensOn::Pedal && !self.settings.finds_wake_phrases {
                    return Err(Refusal::NoWakeModel);
                }
                self.opens_on = mode;
                self.why = Why::Borrowed("mode");
                self.show();
            }
            Input::Say(text) => self.say(text)?,
            Input::Ask(text) => self.ask(text)?,
            Input::Stop { why } => self.stop(why),
            Input::HostStops => self.host = Host::Stops,
            Input::Due => self.due(),
        }
        Ok(())
    }

    fn is_open(&self, number: u64) -> bool {
        matches!(&self.stage, Stage::Open { turn, .. } if turn.number == number)
    }

    pub(super) fn emit(&mut self, effect: Effect<C, F>) {
        self.effects.push(effect);
    }

    /// Publishes where it is.
    pub(super) fn show(&mut self) {
        self.show_as(self.stage.phase());
    }

    fn show_as(&mut self, phase: Phase) {
        let why = self.why.clone();
        self.emit(Effect::Show { phase, why });
    }

    /// Goes on with the open turn at `step`.
    pub(super) fn go_to(&mut self, next: Step<C>) {
        if let Stage::Open { step, .. } = &mut self.stage {
            *step = next;
        }
    }

    /// Takes an utterance down from now on, and shows it.
    pub(super) fn listen(&mut self) {
        let listening = Listening::until(self.listen_until_ms());
        self.go_to(Step::Listening(listening));
        self.show();
    }

    /// By when an utterance that begins now, or goes on as its next part, must have ended.
    pub(super) const fn listen_until_ms(&self) -> u64 {
        self.now.ms.saturating_add(self.settings.listen_limit_ms)
    }

    pub(super) fn open(&mut self) {
        let session = match self.session {
            Some(Session { number, used_ms })
                if self.now.ms.saturating_sub(used_ms) < self.settings.session_idle_ms =>
            {
                number
            }
            last => last.map_or(0, |last| last.number) + 1,
        };
        self.session = Some(Session { number: session, used_ms: self.now.ms });
        self.turns += 1;
        self.stage = Stage::Open { turn: Box::new(Turn::new(self.turns)), step: Step::Answering };
        self.emit(Effect::Open { turn: self.turns, session });
    }

    /// Opens a turn for a wake phrase, and listens.
    pub(super) fn wake(&mut self, phrase: &str) {
        self.why = Why::Owned(format!("wake phrase {phrase:?}"));
        self.interrupt();
        self.open();
        self.show_as(Phase::WakeDetected);
        self.listen();
    }

    /// Closes the open turn for the next one.
    fn interrupt(&mut self) {
        if matches!(self.stage, Stage::Open { .. }) {
            self.emit(Effect::Silence);
            self.close(Outcome::Interrupted);
        }
    }

    pub(super) fn close(&mut self, outcome: Outcome<F>) {
        let Stage::Open { turn, .. } = mem::replace(&mut self.stage, Stage::Idle) else { return };
        self.show();
        if let Some(session) = &mut self.session {
            session.used_ms = self.now.ms;
        }
        self.own_words.note(&turn.reply, self.now.ms.saturating_add(self.now.playback_latency_ms));
        let failed = matches!(outcome, Outcome::Failed(_));
        self.emit(Effect::Close { turn: turn.number, outcome, times: turn.times });
        if failed && self.has_audio() {
            self.emit(Effect::SignalFailure);
        }
    }

    fn fail(&mut self, failure: Failure<F>) {
        self.why = Why::Owned(format!("{} failed", failure.work().name()));
        self.break_off(failure);
    }

    fn break_off(&mut self, failure: Failure<F>) {
        self.emit(Effect::Silence);
        self.drop_speech();
        self.close(Outcome::Failed(failure));
    }

    fn audio_lost(&mut self, reason: String) {
        self.microphone = Microphone::Gone;
        let why = Why::Owned(format!("no JACK: {reason}"));
        if matches!(self.stage, Stage::Open { .. }) {
            self.why = Why::Borrowed("JACK is gone");
            self.break_off(Failure::AudioLost { reason });
        }
        self.why = why;
        self.show();
    }

    fn stop(&mut self, why: Why) {
        self.why = why;
        self.emit(Effect::Silence);
        if matches!(self.stage, Stage::Open { .. }) {
            self.drop_speech();
            self.close(Outcome::Stopped);
        }
    }

    fn mute(&mut self, on: bool) {
        self.muted = on;
        self.why = Why::Borrowed(if on { "muted" } else { "unmuted" });
        self.emit(Effect::Mute(on));
        if on {
            self.drop_speech();
            if self.stage.is_listening() {
                self.close(Outcome::Stopped);
            }
        }
        self.show();
    }

    fn say(&mut self, text: String) -> Result<(), Refusal> {
        if text.trim().is_empty() {
            return Err(Refusal::NothingToSay);
        }
        self.open_for_text("say")?;
        self.go_to(Step::Speaking);
        self.show();
        if let Stage::Open { turn, .. } = &mut self.stage {
            turn.reply.clone_from(&text);
            let turn = turn.number;
            self.emit(Effect::Speak { turn, text });
        }
        Ok(())
    }

    fn ask(&mut self, text: String) -> Result<(), Refusal> {
        if text.trim().is_empty() {
            return Err(Refusal::NothingToAnswer);
        }
        self.open_for_text("ask")?;
        self.show();
        if let Stage::Open { turn, .. } = &mut self.stage {
            turn.said = text;
        }
        self.answer();
        Ok(())
    }

    /// Opens a turn for a text that was written.
    fn open_for_text(&mut self, why: &'static str) -> Result<(), Refusal> {
        if !self.has_audio() {
            return Err(Refusal::NoAudio);
        }
        self.why = Why::Borrowed(why);
        if self.stage.is_listening() {
            self.drop_speech();
        }
        self.interrupt();
        self.open();
        Ok(())
    }

    fn push_to_talk(&mut self, pedal: Pedal) -> Result<(), Refusal> {
        if !self.has_audio() {
            return Err(Refusal::NoAudio);
        }
        if self.muted {
            return Err(Refusal::Muted);
        }
        self.why = Why::Borrowed("push to talk");
        let held = pedal == Pedal::Down;
        match &mut self.stage {
            Stage::Open { step: Step::Listening(listening), .. } => {
                listening.held = held;
                // A second tap, or the release, ends the utterance.
                self.emit(if held { Effect::Listen { held } } else { Effect::EndListening });
            }
            _ if pedal == Pedal::Up => {}
            stage => {
                // What was said before was for others. Of what the microphone has heard of the answer, not even the end
                // belongs to the utterance.
                let speaks = stage.phase() == Phase::Speaking;
                if speaks {
                    self.drop_speech()
                } else {
                    self.trim_speech()
                }
                self.interrupt();
                self.open();
                self.listen();
                if let Stage::Open { turn, step: Step::Listening(listening) } = &mut self.stage {
                    listening.held = held;
                    // Who presses the pedal means it: no second wait.
                    turn.retries = 0;
                }
                self.emit(Effect::Listen { held });
            }
        }
        Ok(())
    }

    fn transcribed(&mut self, text: &str, after_phrase: Option<String>, took_ms: u64) {
        let Stage::Open { turn, step: Step::Transcribing(transcribing) } = &mut self.stage else { return };
        turn.note_transcript(self.now.ms, took_ms);
        let (audio_ms, silent_since_ms) = (transcribing.audio_ms, transcribing.silent_since_ms);
        let went_on = transcribing.went_on.take();
        let text = after_phrase.unwrap_or_else(|| joined(&turn.said, text));
        if text.chars().any(char::is_alphanumeric) {
            turn.said = text;
            turn.said_ms += audio_ms;
            self.take_words(silent_since_ms, None);
            self.go_on(went_on);
            return;
        }
        self.why = Why::Borrowed("no words");
        if turn.retries > 0 {
            turn.retries -= 1;
            self.listen();
            self.emit(Effect::Listen { held: false });
        } else {
            self.close(Outcome::Nothing);
        }
    }

    /// Has the words so far answered, or waits for more of them. A wake phrase says `why` itself.
    pub(super) fn take_words(&mut self, silent_since_ms: Option<u64>, why: Option<Why>) {
        let Stage::Open { turn, .. } = &mut self.stage else { return };
        let patience_ms = self.settings.unfinished_silence_ms;
        let finished = patience_ms == 0 || is_finished(&turn.said, &self.settings.language);
        let may_pause = turn.resumes < RESUMES_MAX;
        self.why = why.unwrap_or(Why::Borrowed(if finished { "transcript" } else { "an unfinished transcript" }));
        match silent_since_ms {
            Some(since_ms) if !finished && may_pause => {
                self.go_to(Step::Waiting { until_ms: since_ms.saturating_add(patience_ms) });
                // So that people see why there is no answer yet.
                self.show();
            }
            _ => self.answer(),
        }
    }

    fn answer(&mut self) {
        self.go_to(Step::Answering);
        if let Stage::Open { turn, .. } = &self.stage {
            let effect = Effect::Answer { turn: turn.number, text: turn.said.clone(), audio_ms: turn.said_ms };
            self.emit(effect);
        }
    }

    fn first_sound(&mut self) {
        self.why = Why::Borrowed("first sound");
        if matches!(self.stage, Stage::Open { step: Step::Answering, .. }) {
            self.go_to(Step::Speaking);
            self.show();
        }
    }

    fn finished(&mut self, times: &AnswerTimes) {
        self.why = Why::Borrowed("answered");
        let Stage::Open { turn, step: step @ (Step::Answering | Step::Speaking) } = &mut self.stage else { return };
        turn.note_answer(times);
        // The microphone may have heard the answer; what is said from now on is a person's.
        if matches!(step, Step::Speaking) && self.opens_on == OpensOn::Speech {
            self.drop_speech();
        }
        self.close(Outcome::Answered);
    }

    fn due(&mut self) {
        if self.deadline_ms().is_none_or(|deadline_ms| deadline_ms > self.now.ms) {
            return;
        }
        if self.stage.is_listening() {
            self.fail(Failure::NoEnd);
        } else {
            self.why = Why::Borrowed("the speaker has finished");
            self.answer();
        }
    }
}
