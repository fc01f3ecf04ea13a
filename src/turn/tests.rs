use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// A sound, and how many hold it.
type Clip = Rc<()>;
type Effects = Vec<Effect<Clip, &'static str>>;

/// How many sounds a talk holds at most: one that waits to be looked at, one that was said while another is transcribed.
const CLIPS_MAX: usize = 2;

fn settings() -> Settings {
    Settings {
        opens_on: OpensOn::WakePhrase,
        finds_wake_phrases: true,
        look_is_transcript: true,
        language: "en".to_owned(),
        unfinished_silence_ms: 1_500,
        pre_roll_ms: 300,
        listen_limit_ms: 40_000,
        session_idle_ms: 600_000,
    }
}

/// What a test has happen. Work is of the open turn, or of the one before it.
#[derive(Debug, Clone)]
enum Act {
    AudioUp,
    AudioLost,
    SpeechStarted,
    SpeechEnded { end: UtteranceEnd, speech_ms: u64 },
    Looked { found: Option<AfterPhrase>, over: bool, whole: bool },
    Transcribed { late: bool, text: &'static str },
    Wrote { late: bool },
    FirstSound { late: bool },
    Finished { late: bool },
    Failed { late: bool },
    Pedal(Pedal),
    Mute(Option<bool>),
    Mode(OpensOn),
    Say(&'static str),
    Ask(&'static str),
    Stop,
    Due,
}

fn ends() -> impl Strategy<Value = UtteranceEnd> {
    use UtteranceEnd::{MaxLength, Part, Pedal, Silence};
    prop_oneof![4 => Just(Silence), 1 => Just(MaxLength), 1 => Just(Part), 2 => Just(Pedal)]
}

fn acts() -> impl Strategy<Value = Act> {
    let texts = prop_oneof![Just("Tell me more."), Just("Tell me about the"), Just(""), Just("...")];
    let words = |words: &str| Just(Some(AfterPhrase::Words(words.to_owned())));
    let found = prop_oneof![
        Just(None),
        Just(Some(AfterPhrase::Nothing)),
        Just(Some(AfterPhrase::Unheard)),
        words("what time is it?"),
        words("tell me about the"),
    ];
    let pedal = prop_oneof![Just(Pedal::Tap), Just(Pedal::Down), Just(Pedal::Up)];
    let mode = prop_oneof![Just(OpensOn::WakePhrase), Just(OpensOn::Speech), Just(OpensOn::Pedal)];
    let late = || prop::bool::weighted(0.15);
    let text = || prop_oneof![5 => Just("Hello."), 1 => Just(" ")];
    prop_oneof![
        1 => Just(Act::AudioUp),
        1 => Just(Act::AudioLost),
        6 => Just(Act::SpeechStarted),
        8 => (ends(), 0..2_000_u64).prop_map(|(end, ms)| Act::SpeechEnded { end, speech_ms: ms.saturating_sub(300) }),
        6 => (found, any::<bool>(), any::<bool>())
            .prop_map(|(found, over, whole)| Act::Looked { found, over, whole }),
        8 => (late(), texts).prop_map(|(late, text)| Act::Transcribed { late, text }),
        2 => late().prop_map(|late| Act::Wrote { late }),
        4 => late().prop_map(|late| Act::FirstSound { late }),
        4 => late().prop_map(|late| Act::Finished { late }),
        2 => late().prop_map(|late| Act::Failed { late }),
        4 => pedal.prop_map(Act::Pedal),
        1 => any::<Option<bool>>().prop_map(Act::Mute),
        2 => mode.prop_map(Act::Mode),
        2 => text().prop_map(Act::Say),
        2 => text().prop_map(Act::Ask),
        1 => Just(Act::Stop),
        6 => Just(Act::Due),
    ]
}

/// A talk, and what its effects have said of it so far.
struct World {
    talk: Talk<Clip, &'static str>,
    clip: Clip,
    now_ms: u64,
    /// The utterance that is being looked at.
    looked_at: Option<Utterance<Clip>>,
    last: Option<Utterance<Clip>>,
    open: Option<u64>,
    turns: u64,
    session: u64,
    shown: Phase,
}

impl World {
    fn new() -> Self {
        Self {
            talk: Talk::new(settings()),
            clip: Rc::new(()),
            now_ms: 0,
            looked_at: None,
            last: None,
            open: None,
            turns: 0,
            session: 0,
            shown: Phase::Idle,
        }
    }

    fn input(&mut self, act: &Act) -> Input<Clip, &'static str> {
        let turn = |late: &bool| if *late { self.turns.saturating_sub(1) } else { self.turns };
        let began_ms = self.now_ms.saturating_sub(1_000);
        match act {
            Act::AudioUp => Input::AudioUp,
            Act::AudioLost => Input::AudioLost { reason: "it was killed".to_owned() },
            Act::SpeechStarted => Input::SpeechStarted,
            Act::SpeechEnded { end, speech_ms } => {
                let utterance = Utterance {
                    span: SpeechSpan { start_sample: self.now_ms * 16, began_ms, speech_ms: *speech_ms },
                    end: *end,
                    audio_ms: speech_ms + 500,
                    endpoint_ms: 500,
                    spoken_until_ms: self.now_ms.saturating_sub(500),
                    clip: Rc::clone(&self.clip),
                };
                self.last = Some(Utterance { clip: Rc::new(()), ..utterance.clone() });
                Input::SpeechEnded(utterance)
            }
            Act::Looked { found, over, whole } => {
                let found = found.clone().map(|after| Found { phrase: "Computer".to_owned(), after });
                let span = SpeechSpan { start_sample: self.now_ms * 16, began_ms, speech_ms: 700 };
                let utterance = if *over { self.looked_at.take() } else { None };
                Input::Looked(LookResult { found, span, utterance, whole: *whole, took_ms: 200 })
            }
            Act::Transcribed { late, text } => {
                let (turn, text) = (turn(late), (*text).to_owned());
                Input::Transcribed { turn, text, after_phrase: None, took_ms: 300 }
            }
            Act::Wrote { late } => Input::Wrote { turn: turn(late), text: "I am the computer. ".to_owned() },
            Act::FirstSound { late } => Input::FirstSound { turn: turn(late) },
            Act::Finished { late } => Input::Finished { turn: turn(late), times: AnswerTimes::default() },
            Act::Failed { late } => Input::Failed { turn: turn(late), work: Work::Tts, fault: "it broke" },
            Act::Pedal(pedal) => Input::PushToTalk(*pedal),
            Act::Mute(on) => Input::Mute(*on),
            Act::Mode(mode) => Input::Mode(*mode),
            Act::Say(text) => Input::Say((*text).to_owned()),
            Act::Ask(text) => Input::Ask((*text).to_owned()),
            Act::Stop => Input::Stop { why: "stop".into() },
            Act::Due => Input::Due,
        }
    }

    /// Takes an input in; checks that each effect may come where it comes.
    fn take(&mut self, input: Input<Clip, &'static str>) -> Result<Effects, TestCaseError> {
        let before = (self.talk.phase(), self.talk.deadline_ms());
        let now = Now { ms: self.now_ms, playback_latency_ms: 20 };
        let effects = match self.talk.step(now, input) {
            Ok(effects) => effects,
            Err(refusal) => {
                prop_assert_eq!(before, (self.talk.phase(), self.talk.deadline_ms()), "{} changed something", refusal);
                return Ok(Vec::new());
            }
        };
        for effect in &effects {
            self.check(effect)?;
        }
        prop_assert_eq!(self.shown, self.talk.phase(), "the state is another than was shown");
        prop_assert_eq!(self.open.is_some(), self.talk.phase() != Phase::Idle);
        Ok(effects)
    }

    fn check(&mut self, effect: &Effect<Clip, &'static str>) -> Result<(), TestCaseError> {
        match effect {
            Effect::Open { turn, session } => {
                prop_assert!(self.open.is_none(), "a turn opens while one is open");
                prop_assert_eq!(*turn, self.turns + 1);
                prop_assert!(*session == self.session || *session == self.session + 1);
                (self.open, self.turns, self.session) = (Some(*turn), *turn, *session);
            }
            Effect::Close { turn, .. } => {
                prop_assert_eq!(self.open, Some(*turn), "a turn closes that is not open");
                prop_assert_eq!(self.shown, Phase::Idle);
                self.open = None;
            }
            Effect::Show { phase, .. } => {
                let legal = match phase {
                    Phase::Idle => true,
                    Phase::WakeDetected => self.open.is_some() && self.shown == Phase::Idle,
                    Phase::Listening => self.open.is_some(),
                    Phase::Processing => self.open.is_some() && self.shown != Phase::Speaking,
                    Phase::Speaking => self.open.is_some() && self.shown != Phase::Listening,
                };
                prop_assert!(legal, "{:?} → {phase:?}", self.shown);
                self.shown = *phase;
            }
            Effect::TranscribePart { turn, .. } => {
                prop_assert_eq!((self.open, self.shown), (Some(*turn), Phase::Listening));
            }
            Effect::Transcribe { turn, .. } | Effect::Answer { turn, .. } => {
                prop_assert_eq!((self.open, self.shown), (Some(*turn), Phase::Processing));
            }
            Effect::Speak { turn, .. } => {
                prop_assert_eq!((self.open, self.shown), (Some(*turn), Phase::Speaking));
            }
            Effect::Listen { .. } | Effect::EndListening => prop_assert_eq!(self.shown, Phase::Listening),
            Effect::Look(_) => {
                prop_assert!(self.looked_at.is_none(), "two utterances are looked at at once");
                self.looked_at = self.last.clone();
            }
            Effect::SignalFailure => prop_assert!(self.open.is_none() && self.talk.has_audio()),
            Effect::DropSpeech | Effect::TrimSpeech | Effect::Mute(_) | Effect::Silence | Effect::Leave => {}
        }
        Ok(())
    }

    /// Lets time pass until the talk wants nothing more.
    fn quiesce(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..3 {
            let Some(deadline_ms) = self.talk.deadline_ms() else { return Ok(()) };
            self.now_ms = self.now_ms.max(deadline_ms);
            let _ = self.take(Input::Due)?;
            let later = self.talk.deadline_ms().is_none_or(|next_ms| next_ms > self.now_ms);
            prop_assert!(later, "it was called at its time, and wants to be called in the past");
        }
        prop_assert_eq!(self.talk.deadline_ms(), None, "it does not come to rest");
        Ok(())
    }
}

fn story() -> impl Strategy<Value = Vec<(u64, Act)>> {
    let gap_ms = prop_oneof![3 => 0..700_u64, 1 => 0..50_000_u64, 1 => Just(700_000)];
    proptest::collection::vec((gap_ms, acts()), 0..80)
}

proptest! {
    #[test]
    fn whatever_happens_turns_open_and_close_in_order_and_the_talk_comes_to_rest(story in story()) {
        let mut world = World::new();
        let _ = world.take(Input::AudioUp)?;
        for (gap_ms, act) in story {
            world.now_ms += gap_ms;
            let input = world.input(&act);
            // What is late does nothing.
            let old = match &input {
                Input::Transcribed { turn, .. } | Input::Wrote { turn, .. } | Input::FirstSound { turn }
                | Input::Finished { turn, .. } | Input::Failed { turn, .. } => Some(*turn) != world.open,
                _ => false,
            };
            let effects = world.take(input)?;
            prop_assert!(!old || effects.is_empty(), "{act:?} of a turn that is over gives {effects:?}");
            drop(effects);
            let held = Rc::strong_count(&world.clip) - 1;
            prop_assert!(held <= CLIPS_MAX, "{held} sounds are held");
        }
        world.quiesce()?;
        let _ = world.take(Input::Stop { why: "stop".into() })?;
        prop_assert_eq!(world.talk.phase(), Phase::Idle);
        prop_assert_eq!(world.talk.deadline_ms(), None);
    }

    #[test]
    fn a_host_that_stops_is_left_when_nothing_is_answered_and_nothing_comes_after(story in story(), at in 0..80_usize) {
        let mut world = World::new();
        let _ = world.take(Input::AudioUp)?;
        let mut left = false;
        for (n, (gap_ms, act)) in story.into_iter().enumerate() {
            world.now_ms += gap_ms;
            if n == at {
                left |= world.take(Input::HostStops)?.contains(&Effect::Leave);
            }
            let input = world.input(&act);
            let effects = world.take(input)?;
            prop_assert!(!left || effects.is_empty(), "{act:?} after the end gives {effects:?}");
            left |= effects.contains(&Effect::Leave);
            let rests = matches!(world.talk.phase(), Phase::Idle | Phase::Listening);
            prop_assert!(left || n < at || !rests, "it goes on");
        }
        let _ = world.take(Input::HostStops)?;
        world.quiesce()?;
        if let Some(turn) = world.open {
            let _ = world.take(Input::Failed { turn, work: Work::Stt, fault: "it broke" })?;
        }
        prop_assert_eq!(world.talk.phase(), Phase::Idle);
    }
}

/// A talk that has heard a request end, and is at `step` of it.
fn spoken_turn() -> (Talk<u8, &'static str>, impl FnMut(u64) -> Now) {
    let at = |ms| Now { ms, playback_latency_ms: 20 };
    let mut talk = Talk::new(Settings { opens_on: OpensOn::Pedal, ..settings() });
    let mut take = |ms, input| talk.step(at(ms), input).unwrap();
    take(0, Input::AudioUp);
    take(1_000, Input::PushToTalk(Pedal::Tap));
    let span = SpeechSpan { start_sample: 16_000, began_ms: 1_000, speech_ms: 900 };
    let utterance = Utterance {
        span,
        end: UtteranceEnd::Silence,
        audio_ms: 1_400,
        endpoint_ms: 500,
        spoken_until_ms: 2_000,
        clip: 7,
    };
    let effects = take(2_500, Input::SpeechEnded(utterance));
    assert!(effects.contains(&Effect::Transcribe { turn: 1, clip: Some(7) }), "{effects:?}");
    (talk, at)
}

#[test]
fn the_stages_of_a_turn_add_up() {
    let (mut talk, mut at) = spoken_turn();
    let text = "Tell me more.".to_owned();
    let _ = talk.step(at(2_800), Input::Transcribed { turn: 1, text, after_phrase: None, took_ms: 290 }).unwrap();
    let _ = talk.step(at(3_600), Input::FirstSound { turn: 1 }).unwrap();
    let times = AnswerTimes {
        first_sentence_ms: Some(3_100),
        first_audio_ms: Some(3_400),
        first_sample_ms: Some(3_600),
        spoken_ms: 1_200,
    };
    let effects = talk.step(at(5_000), Input::Finished { turn: 1, times }).unwrap();
    let wanted = StageTimes {
        endpoint_ms: 500,
        stt_ms: 290,
        first_sentence_ms: 300,
        first_audio_ms: 300,
        first_sample_ms: 200,
        total_ms: 1_600,
        spoken_ms: 1_200,
    };
    let closed = Effect::Close { turn: 1, outcome: Outcome::Answered, times: wanted };
    assert_eq!(effects.last(), Some(&closed), "{effects:?}");
}

#[test]
fn a_turn_without_an_answer_says_how_far_it_came() {
    let (mut talk, mut at) = spoken_turn();
    let effects = talk.step(at(2_800), Input::Stop { why: "stop".into() }).unwrap();
    let times = StageTimes { endpoint_ms: 500, ..StageTimes::default() };
    let closed = Effect::Close { turn: 1, outcome: Outcome::Stopped, times };
    assert_eq!(effects.last(), Some(&closed), "{effects:?}");
}
