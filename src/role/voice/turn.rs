//! A listener's turn: a pure state machine. It takes what happened and gives what to do; no clock, no I/O.
//!
//! ```text
//!            wake phrase                    speech goes on, or is awaited
//!   ┌──────┐────────────▶┌───────────────┐────────────▶┌───────────┐
//!   │ idle │             │ wake_detected │             │ listening │◀─ only the wake phrase was said
//!   └──────┘──push to talk, or any speech in mode open─▶└───────────┘
//!    ▲ ▲ ▲                                                 │     │ utterance over
//!    │ │ └──────────── nothing said ───────────────────────┘     ▼
//!    │ │                                                  ┌────────────┐
//!    │ └─ nothing in the transcript, failed, no sound ────│ processing │
//!    │                                                    └────────────┘
//!    │                          ┌──────────┐                    │ first sound
//!    └─ last sound, failed ─────│ speaking │◀───────────────────┘
//!                               └──────────┘◀── say; a text to be answered leads to processing
//! ```
//!
//! A transcript that looks unfinished is not answered at once: for a while its speaker may go on, which leads from
//! processing back to listening. A stop leads from everywhere to idle. A wake phrase, push to talk or say during
//! processing or speaking breaks the turn off and opens the next (barge-in).

use crate::bus::message::voice::{Mode, TurnState};

/// Where the speech with the wake phrase in it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The speaker goes on.
    Running,
    /// It is over, and there is a request after the phrase.
    WithRequest {
        /// Whether the request looks whole.
        finished: bool,
    },
    /// It is over, and there is nothing after the phrase.
    Alone,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Somebody began to speak.
    SpeechStarted,
    /// The wake phrase was heard.
    Wake(Woken),
    /// The pedal: `None` is a tap, `Some` whether it is held.
    PushToTalk(Option<bool>),
    /// The speech that was listened to is over; whether there was any.
    SpeechEnded {
        /// Whether somebody spoke.
        spoken: bool,
        /// Whether silence has ended it, so that it may have been a pause.
        paused: bool,
    },
    /// The speech that was listened to is over, and was only the wake phrase.
    PhraseEnded,
    /// The transcript is there.
    Transcribed {
        /// Whether it has words beside the wake phrase.
        words: bool,
        /// Whether it looks whole.
        finished: bool,
    },
    /// The speaker of an unfinished request has not gone on.
    Waited,
    /// The first sample of the answer has left.
    FirstSound,
    /// The answer is whole, and its last sample has left.
    Finished,
    /// The turn can't go on.
    Failed,
    /// Somebody wants a text spoken.
    Say,
    /// Somebody wants a text answered as if it had been spoken.
    Asked,
    /// Stop it.
    Stop,
    /// Hear nothing, or hear again.
    Mute(bool),
    /// What opens a turn from now on.
    Mode(Mode),
    /// JACK is gone.
    AudioLost,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// Nothing was said.
    Nothing,
    /// It was stopped.
    Stopped,
    /// The next one interrupted it.
    Interrupted,
    /// It failed.
    Failed,
}

impl Outcome {
    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Nothing => "nothing",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A new turn begins.
    Open,
    /// Take down an utterance from now on; silence ends it unless it is held.
    Listen {
        /// Whether only [`Action::EndListening`] ends it.
        held: bool,
    },
    /// The utterance is over now.
    EndListening,
    /// What is being said is not for us.
    DropSpeech,
    /// What was said so far is not for us, but for a pre-roll.
    TrimSpeech,
    /// Have the utterance transcribed.
    Transcribe,
    /// See whether the speaker goes on.
    Wait,
    /// What is being said now belongs to the utterance.
    Resume,
    /// Have the transcript answered and the answer spoken.
    Answer,
    /// Speak the text that was given.
    Speak,
    /// Break off all work of the turn and discard what is queued for playback.
    Silence,
    /// The turn is over.
    Close(Outcome),
    /// The state is this now; to be published.
    Show(TurnState),
}

/// How often a speaker may pause in a request that looks unfinished.
const RESUMES: u8 = 3;

/// A listener's turn.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    state: TurnState,
    mode: Mode,
    muted: bool,
    /// Whether this turn has waited for a request after the bare wake phrase before.
    asked_again: bool,
    /// Whether the utterance may have ended by a pause.
    paused: bool,
    /// Whether the speaker of an unfinished request is awaited.
    waiting: bool,
    /// How often the speaker has gone on.
    resumes: u8,
}

impl Turn {
    /// An idle listener.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> TurnState {
        self.state
    }

    /// What opens a turn.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether it hears nothing.
    #[must_use]
    pub const fn muted(&self) -> bool {
        self.muted
    }

    /// Whether the wake phrase means anything now.
    #[must_use]
    pub fn wants_wake(&self) -> bool {
        self.mode != Mode::PushToTalk && !self.muted && self.state != TurnState::Listening
    }

    /// Whether what is said now is the utterance.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.state == TurnState::Listening
    }

    /// Whether the speaker of an unfinished request is awaited.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting && self.state == TurnState::Processing
    }

    /// Takes in what happened; gives what to do, in this order.
    #[must_use]
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Mode(mode) => self.mode = mode,
            Input::Mute(on) => {
                self.muted = on;
                if on {
                    actions.push(Action::DropSpeech);
                    if self.is_listening() {
                        self.close(Outcome::Stopped, &mut actions);
                    }
                }
            }
            Input::Stop => {
                actions.push(Action::Silence);
                if self.state != TurnState::Idle {
                    actions.push(Action::DropSpeech);
                    self.close(Outcome::Stopped, &mut actions);
                }
            }
            Input::Say | Input::Asked => {
                if self.is_listening() {
                    actions.push(Action::DropSpeech);
                }
                self.interrupt(&mut actions);
                self.open(&mut actions);
                let (state, action) = match input {
                    Input::Say => (TurnState::Speaking, Action::Speak),
                    _ => (TurnState::Processing, Action::Answer),
                };
                self.show(state, &mut actions);
                actions.push(action);
            }
            Input::Wake(woken) if self.wants_wake() => {
                self.interrupt(&mut actions);
                self.open(&mut actions);
                self.show(TurnState::WakeDetected, &mut actions);
                self.show(TurnState::Listening, &mut actions);
                match woken {
                    Woken::Running => {}
                    Woken::Alone => actions.push(Action::Listen { held: false }),
                    Woken::WithRequest { finished } => {
                        self.show(TurnState::Processing, &mut actions);
                        self.paused = true;
                        self.answer(finished, &mut actions);
                    }
                }
            }
            Input::PushToTalk(held) if !self.muted => self.push_to_talk(held, &mut actions),
            Input::SpeechStarted if self.state == TurnState::Idle && self.mode == Mode::Open && !self.muted => {
                self.open(&mut actions);
                self.show(TurnState::Listening, &mut actions);
            }
            input => self.go_on(input, &mut actions),
        }
        actions
    }

    /// What depends on the state alone.
    fn go_on(&mut self, input: Input, actions: &mut Vec<Action>) {
        use TurnState::{Listening, Processing, Speaking};
        match (self.state, input) {
            // Of a request that went on there are words already.
            (Listening, Input::SpeechEnded { spoken, paused }) if spoken || self.resumes > 0 => {
                self.paused = paused;
                self.show(Processing, actions);
                actions.push(Action::Transcribe);
            }
            (Listening, Input::SpeechEnded { .. }) => self.close(Outcome::Nothing, actions),
            (Listening, Input::PhraseEnded) => actions.push(Action::Listen { held: false }),
            (Processing, Input::Transcribed { words: true, finished }) => self.answer(finished, actions),
            (Processing, Input::Transcribed { words: false, .. }) if !self.asked_again => {
                self.asked_again = true;
                self.show(Listening, actions);
                actions.push(Action::Listen { held: false });
            }
            (Processing, Input::Transcribed { words: false, .. }) => self.close(Outcome::Nothing, actions),
            (Processing, Input::SpeechStarted) if self.waiting => {
                self.waiting = false;
                self.resumes += 1;
                actions.push(Action::Resume);
                self.show(Listening, actions);
            }
            (Processing, Input::Waited) if self.waiting => self.answer(true, actions),
            (Processing, Input::FirstSound) => self.show(Speaking, actions),
            (Processing | Speaking, Input::Finished) => {
                // The microphone may have heard the answer; what is said from now on is somebody's.
                if self.state == Speaking && self.mode == Mode::Open {
                    actions.push(Action::DropSpeech);
                }
                self.close(Outcome::Answered, actions);
            }
            (Listening | Processing | Speaking, Input::Failed | Input::AudioLost) => {
                actions.extend([Action::Silence, Action::DropSpeech]);
                self.close(Outcome::Failed, actions);
            }
            _ => {}
        }
    }

    /// Has the transcript answered, or waits for more of it.
    fn answer(&mut self, finished: bool, actions: &mut Vec<Action>) {
        self.waiting = !finished && self.paused && self.resumes < RESUMES;
        if self.waiting {
            // So that anybody sees why there is no answer yet.
            self.show(TurnState::Processing, actions);
        }
        actions.push(if self.waiting { Action::Wait } else { Action::Answer });
    }

    fn push_to_talk(&mut self, held: Option<bool>, actions: &mut Vec<Action>) {
        match (self.is_listening(), held) {
            // A second tap, or the release, ends the utterance.
            (true, None | Some(false)) => actions.push(Action::EndListening),
            (true, Some(true)) => actions.push(Action::Listen { held: true }),
            (false, Some(false)) => {}
            (false, held) => {
                // What was said before was for others. Of what the microphone has heard of the answer, not even the end
                // belongs to the utterance.
                let speaks = self.state == TurnState::Speaking;
                actions.push(if speaks { Action::DropSpeech } else { Action::TrimSpeech });
                self.interrupt(actions);
                self.open(actions);
                // Whoever presses the pedal means it: no second wait.
                self.asked_again = true;
                self.show(TurnState::Listening, actions);
                actions.push(Action::Listen { held: held == Some(true) });
            }
        }
    }

    fn open(&mut self, actions: &mut Vec<Action>) {
        *self = Self { state: self.state, mode: self.mode, muted: self.muted, ..Self::default() };
        actions.push(Action::Open);
    }

    fn interrupt(&mut self, actions: &mut Vec<Action>) {
        if self.state != TurnState::Idle {
            actions.push(Action::Silence);
            self.close(Outcome::Interrupted, actions);
        }
    }

    fn close(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.show(TurnState::Idle, actions);
        actions.push(Action::Close(outcome));
    }

    fn show(&mut self, state: TurnState, actions: &mut Vec<Action>) {
        self.state = state;
        actions.push(Action::Show(state));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states(actions: &[Action]) -> Vec<TurnState> {
        actions.iter().filter_map(|action| if let Action::Show(state) = action { Some(*state) } else { None }).collect()
    }

    #[test]
    fn a_spoken_turn_goes_round() {
        use TurnState::{Idle, Listening, Processing, Speaking, WakeDetected};
        let mut turn = Turn::new(Mode::Wake);
        assert_eq!(turn.step(Input::SpeechStarted), []);
        assert_eq!(states(&turn.step(Input::Wake(Woken::Running))), [WakeDetected, Listening]);
        assert_eq!(
            turn.step(Input::SpeechEnded { spoken: true, paused: true }),
            [Action::Show(Processing), Action::Transcribe]
        );
        assert_eq!(turn.step(Input::Transcribed { words: true, finished: true }), [Action::Answer]);
        assert_eq!(states(&turn.step(Input::FirstSound)), [Speaking]);
        assert_eq!(turn.step(Input::Finished), [Action::Show(Idle), Action::Close(Outcome::Answered)]);
    }

    #[test]
    fn the_bare_wake_phrase_is_followed_by_one_wait() {
        let mut turn = Turn::new(Mode::Wake);
        let _ = turn.step(Input::Wake(Woken::Running));
        let _ = turn.step(Input::SpeechEnded { spoken: true, paused: true });
        let actions = turn.step(Input::Transcribed { words: false, finished: true });
        assert!(actions.contains(&Action::Listen { held: false }), "{actions:?}");
        let _ = turn.step(Input::SpeechEnded { spoken: true, paused: true });
        assert!(
            turn.step(Input::Transcribed { words: false, finished: true }).contains(&Action::Close(Outcome::Nothing))
        );
    }

    fn unfinished() -> Turn {
        let mut turn = Turn::new(Mode::Wake);
        let _ = turn.step(Input::Wake(Woken::Running));
        let _ = turn.step(Input::SpeechEnded { spoken: true, paused: true });
        let actions = turn.step(Input::Transcribed { words: true, finished: false });
        assert_eq!(actions, [Action::Show(TurnState::Processing), Action::Wait]);
        turn
    }

    #[test]
    fn who_pauses_in_the_middle_may_go_on() {
        use TurnState::{Listening, Processing};
        let mut turn = unfinished();
        assert_eq!(turn.step(Input::SpeechStarted), [Action::Resume, Action::Show(Listening)]);
        let over = Input::SpeechEnded { spoken: true, paused: true };
        assert_eq!(turn.step(over), [Action::Show(Processing), Action::Transcribe]);
        assert_eq!(turn.step(Input::Transcribed { words: true, finished: true }), [Action::Answer]);
        // What is said now is for others.
        assert_eq!(turn.step(Input::SpeechStarted), []);
    }

    #[test]
    fn who_does_not_go_on_is_answered() {
        let mut turn = unfinished();
        assert_eq!(turn.step(Input::Waited), [Action::Answer]);
        assert_eq!(turn.step(Input::Waited), []);
        // Nor is anybody awaited for ever.
        let mut turn = unfinished();
        let mut waits = 1;
        while turn.step(Input::SpeechStarted).contains(&Action::Resume) {
            let _ = turn.step(Input::SpeechEnded { spoken: true, paused: true });
            let actions = turn.step(Input::Transcribed { words: true, finished: false });
            waits += usize::from(actions.contains(&Action::Wait));
        }
        assert_eq!(waits, 3);
    }

    #[test]
    fn who_ends_the_utterance_by_hand_has_finished() {
        let mut turn = Turn::new(Mode::Wake);
        let _ = turn.step(Input::PushToTalk(Some(true)));
        let _ = turn.step(Input::SpeechEnded { spoken: true, paused: false });
        assert_eq!(turn.step(Input::Transcribed { words: true, finished: false }), [Action::Answer]);
    }

    #[test]
    fn the_wake_phrase_barges_in() {
        let mut turn = Turn::new(Mode::Wake);
        let _ = turn.step(Input::Say);
        let actions = turn.step(Input::Wake(Woken::Alone));
        let at = |wanted: Action| actions.iter().position(|action| *action == wanted).unwrap();
        assert!(at(Action::Silence) < at(Action::Close(Outcome::Interrupted)));
        assert!(at(Action::Close(Outcome::Interrupted)) < at(Action::Open));
        assert_eq!(turn.state(), TurnState::Listening);
    }

    #[test]
    fn a_held_pedal_ends_when_released() {
        let mut turn = Turn::new(Mode::PushToTalk);
        assert_eq!(turn.step(Input::Wake(Woken::Running)), []);
        assert!(turn.step(Input::PushToTalk(Some(true))).contains(&Action::Listen { held: true }));
        assert_eq!(turn.step(Input::PushToTalk(Some(false))), [Action::EndListening]);
        assert_eq!(turn.step(Input::PushToTalk(Some(false))), [Action::EndListening]);
    }

    fn inputs() -> impl Strategy<Value = Input> {
        let modes = prop_oneof![Just(Mode::Wake), Just(Mode::Open), Just(Mode::PushToTalk)];
        let with_request = any::<bool>().prop_map(|finished| Woken::WithRequest { finished });
        let woken = prop_oneof![Just(Woken::Running), with_request, Just(Woken::Alone)];
        prop_oneof![
            Just(Input::SpeechStarted),
            woken.prop_map(Input::Wake),
            Just(Input::Waited),
            any::<Option<bool>>().prop_map(Input::PushToTalk),
            any::<(bool, bool)>().prop_map(|(spoken, paused)| Input::SpeechEnded { spoken, paused }),
            any::<(bool, bool)>().prop_map(|(words, finished)| Input::Transcribed { words, finished }),
            Just(Input::PhraseEnded),
            Just(Input::FirstSound),
            Just(Input::Finished),
            Just(Input::Failed),
            Just(Input::Say),
            Just(Input::Asked),
            Just(Input::Stop),
            any::<bool>().prop_map(Input::Mute),
            modes.prop_map(Input::Mode),
            Just(Input::AudioLost),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_turns_are_opened_and_closed_in_order(inputs in proptest::collection::vec(inputs(), 0..60)) {
            let mut turn = Turn::new(Mode::Wake);
            let mut open = false;
            let mut shown = TurnState::Idle;
            for input in inputs {
                for action in turn.step(input) {
                    match action {
                        Action::Open => {
                            prop_assert!(!open, "a turn opens while one is open");
                            open = true;
                        }
                        Action::Close(_) => {
                            prop_assert!(open, "a turn closes that is not open");
                            open = false;
                        }
                        Action::Show(state) => {
                            let legal = match state {
                                TurnState::Idle => true,
                                TurnState::WakeDetected => open && shown == TurnState::Idle,
                                TurnState::Listening => open && shown != TurnState::Speaking,
                                TurnState::Processing => {
                                    let goes_on = matches!(shown, TurnState::Listening | TurnState::Processing);
                                    open && (goes_on || input == Input::Asked)
                                }
                                TurnState::Speaking => open && matches!(shown, TurnState::Idle | TurnState::Processing),
                            };
                            prop_assert!(legal, "{shown:?} → {state:?} by {input:?}");
                            shown = state;
                        }
                        Action::Transcribe | Action::Wait | Action::Resume | Action::Answer => {
                            prop_assert_eq!(shown, TurnState::Processing);
                        }
                        Action::Speak => prop_assert_eq!(shown, TurnState::Speaking),
                        Action::Listen { .. } | Action::EndListening => prop_assert_eq!(shown, TurnState::Listening),
                        Action::Silence | Action::DropSpeech | Action::TrimSpeech => {}
                    }
                }
                prop_assert_eq!(shown, turn.state());
                prop_assert_eq!(open, turn.state() != TurnState::Idle);
            }
            let _ = turn.step(Input::Stop);
            prop_assert_eq!(turn.state(), TurnState::Idle);
        }
    }
}
