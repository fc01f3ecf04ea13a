//! Plays a timeline to a talk, and compares what comes of it with what is written.
//!
//! What a writer need not say is derived: an utterance begins where `speech starts` was written, or where listening began,
//! and ends 500 ms before silence ends it; its words are its sound, so that a file shows what is transcribed. A look is at
//! what was to be looked at last. The first sentence is there with the first text.

use std::collections::BTreeMap;

use sidetone::turn::{
    AnswerTimes, Effect, Failure, Input, LookResult, Now, Outcome, Refusal, SpeechSpan, Talk, Utterance, UtteranceEnd,
};

use super::read::{Event, Moment, Timeline, Wrong, written};

/// Silence that ends an utterance.
const END_SILENCE_MS: u64 = 500;
/// Silence that an utterance keeps.
const KEEP_SILENCE_MS: u64 = 200;

type Clip = String;

/// What a look is at.
enum LookAt {
    Beginning(SpeechSpan),
    Whole(Utterance<Clip>),
}

/// A talk and its surroundings.
struct Stage {
    talk: Talk<Clip, String>,
    pre_roll_ms: u64,
    playback_latency_ms: u64,
    /// When the speech under way started.
    started_ms: Option<u64>,
    look: Option<LookAt>,
    /// Every utterance by its words, until it is looked at.
    utterances: BTreeMap<Clip, Utterance<Clip>>,
    /// The last turn that was opened.
    turn: u64,
    first_text_ms: Option<u64>,
    first_sound_ms: Option<u64>,
    /// When the last moment was.
    last_ms: u64,
}

impl Stage {
    fn new(timeline: &Timeline) -> Self {
        Self {
            talk: Talk::new(timeline.settings.clone()),
            pre_roll_ms: timeline.settings.pre_roll_ms,
            playback_latency_ms: timeline.playback_latency_ms,
            started_ms: None,
            look: None,
            utterances: BTreeMap::new(),
            turn: 0,
            first_text_ms: None,
            first_sound_ms: None,
            last_ms: 0,
        }
    }

    /// Plays a moment; gives what comes of it, a line an effect.
    fn play(&mut self, moment: &Moment) -> Result<Vec<String>, String> {
        let now_ms = moment.at_ms;
        // A time that is over means at once.
        let due_ms = self.talk.deadline_ms().map(|deadline_ms| deadline_ms.max(self.last_ms));
        self.last_ms = now_ms;
        if let Some(due_ms) = due_ms.filter(|due_ms| *due_ms < now_ms) {
            let deadline = written(due_ms);
            return Err(format!(
                "the talk wants to be called at {deadline}, before this: write `{deadline} due` above, and what comes of it"
            ));
        }
        if moment.event == Event::EarlyLook {
            let Some(started_ms) = self.started_ms else {
                return Err("nothing is being said that could be looked at: write `speech starts` above".to_owned());
            };
            if !self.talk.wants_early_look() {
                return Ok(vec!["nothing".to_owned()]);
            }
            let span = self.span(started_ms, now_ms.saturating_sub(started_ms));
            self.look.get_or_insert(LookAt::Beginning(span));
            return Ok(vec!["look at the beginning".to_owned()]);
        }
        let input = self.input(&moment.event, now_ms)?;
        let now = Now { ms: now_ms, playback_latency_ms: self.playback_latency_ms };
        let effects = match self.talk.step(now, input) {
            Ok(effects) => effects,
            Err(refusal) => return Ok(vec![format!("refused: {}", refused(refusal))]),
        };
        for effect in &effects {
            self.note(effect, now_ms);
        }
        let mut lines: Vec<String> = effects.iter().map(line).collect();
        if lines.is_empty() {
            lines.push("nothing".to_owned());
        }
        Ok(lines)
    }

    fn span(&self, started_ms: u64, speech_ms: u64) -> SpeechSpan {
        SpeechSpan { start_sample: started_ms * 16, began_ms: started_ms.saturating_sub(self.pre_roll_ms), speech_ms }
    }

    fn input(&mut self, event: &Event, now_ms: u64) -> Result<Input<Clip, String>, String> {
        let turn_of = |turn: &Option<u64>| match *turn {
            None if self.turn == 0 => Err("no turn was opened so far that this could be of".to_owned()),
            Some(turn) if turn > self.turn => Err(format!("there is no turn {turn}: {} were opened so far", self.turn)),
            turn => Ok(turn.unwrap_or(self.turn)),
        };
        Ok(match event {
            Event::AudioUp => Input::AudioUp,
            Event::AudioLost(reason) => {
                self.started_ms = None;
                Input::AudioLost { reason: reason.clone() }
            }
            Event::SpeechStarts => {
                self.started_ms = Some(now_ms);
                Input::SpeechStarted
            }
            Event::SpeechEnds { words, end, speech_ms } => {
                Input::SpeechEnded(self.utterance(words.as_deref(), *end, *speech_ms, now_ms)?)
            }
            Event::EarlyLook => return Err("an early look is no input".to_owned()),
            Event::Found { found, cut } => {
                let Some(look) = self.look.take() else {
                    return Err(
                        "no look is under way: write `early look` above, or end speech while a wake phrase is wanted"
                            .to_owned(),
                    );
                };
                let (span, utterance) = match look {
                    LookAt::Beginning(span) => (span, None),
                    LookAt::Whole(utterance) => (utterance.span, Some(utterance)),
                };
                let whole = utterance.is_some() && !cut;
                Input::Looked(LookResult { found: found.clone(), span, utterance, whole, took_ms: 300 })
            }
            Event::Transcript { words, after_phrase, turn } => {
                let (text, after_phrase, turn) = (words.clone(), after_phrase.clone(), turn_of(turn)?);
                Input::Transcribed { turn, text, after_phrase, took_ms: 300 }
            }
            Event::Fails { work, why, turn } => Input::Failed { turn: turn_of(turn)?, work: *work, fault: why.clone() },
            Event::Text { words, turn } => {
                let turn = turn_of(turn)?;
                self.first_text_ms.get_or_insert(now_ms);
                Input::Wrote { turn, text: words.clone() }
            }
            Event::FirstSound { turn } => {
                let turn = turn_of(turn)?;
                self.first_sound_ms.get_or_insert(now_ms);
                Input::FirstSound { turn }
            }
            Event::Spoken { turn } => {
                let times = AnswerTimes {
                    first_sentence_ms: self.first_text_ms.or(self.first_sound_ms),
                    first_audio_ms: self.first_sound_ms,
                    first_sample_ms: self.first_sound_ms,
                    spoken_ms: self.first_sound_ms.map_or(0, |first_ms| now_ms.saturating_sub(first_ms)),
                };
                Input::Finished { turn: turn_of(turn)?, times }
            }
            Event::Pedal(pedal) => Input::PushToTalk(*pedal),
            Event::Mute(on) => Input::Mute(*on),
            Event::Mode(mode) => Input::Mode(*mode),
            Event::Say(text) => Input::Say(text.clone()),
            Event::Ask(text) => Input::Ask(text.clone()),
            Event::Stop(why) => Input::Stop { why: why.clone().into() },
            Event::HostStops => Input::HostStops,
            Event::Due => Input::Due,
        })
    }

    fn utterance(
        &mut self,
        words: Option<&str>,
        end: UtteranceEnd,
        speech_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Utterance<Clip>, String> {
        let Some(started_ms) = self.started_ms.take() else {
            return Err("nothing is being said that could end: write `speech starts` above".to_owned());
        };
        let endpoint_ms = if end == UtteranceEnd::Silence { END_SILENCE_MS } else { 0 };
        let spoken_until_ms = now_ms.saturating_sub(endpoint_ms).max(started_ms);
        let speech_ms = speech_ms.unwrap_or(spoken_until_ms - started_ms);
        let clip = words.unwrap_or("(silence)").to_owned();
        if end == UtteranceEnd::Part {
            self.started_ms = Some(now_ms);
        }
        let utterance = Utterance {
            span: self.span(started_ms, speech_ms),
            end,
            audio_ms: self.pre_roll_ms + (spoken_until_ms - started_ms) + endpoint_ms.min(KEEP_SILENCE_MS),
            endpoint_ms,
            spoken_until_ms,
            clip: clip.clone(),
        };
        self.utterances.insert(clip, utterance.clone());
        Ok(utterance)
    }

    /// What an effect does to the surroundings.
    fn note(&mut self, effect: &Effect<Clip, String>, now_ms: u64) {
        match effect {
            Effect::Open { turn, .. } => {
                self.turn = *turn;
                (self.first_text_ms, self.first_sound_ms) = (None, None);
            }
            Effect::Listen { .. } => {
                self.started_ms.get_or_insert(now_ms);
            }
            Effect::DropSpeech | Effect::TrimSpeech | Effect::Mute(_) => self.started_ms = None,
            Effect::Look(clip) => self.look = self.utterances.get(clip).cloned().map(LookAt::Whole),
            _ => {}
        }
    }

    /// Whether a line that says when the talk is due holds; `None` for other lines.
    fn is_due(&self, expected: &str) -> Option<bool> {
        let due = self.talk.deadline_ms().map_or_else(|| "not due".to_owned(), |ms| format!("due at {}", written(ms)));
        (expected == "not due" || expected.starts_with("due at ")).then(|| expected == due)
    }
}

fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoAudio => "no audio",
        Refusal::Muted => "muted",
        Refusal::NothingToSay => "nothing to say",
        Refusal::NothingToAnswer => "nothing to answer",
        Refusal::NoWakeModel => "no wake model",
    }
}

/// An effect as it is written.
fn line(effect: &Effect<Clip, String>) -> String {
    match effect {
        Effect::Open { turn, session } => format!("open turn {turn} in session {session}"),
        Effect::Show { phase, why } => format!("state {}: {why}", phase.name()),
        Effect::Listen { held: false } => "listen".to_owned(),
        Effect::Listen { held: true } => "listen until released".to_owned(),
        Effect::EndListening => "end listening".to_owned(),
        Effect::DropSpeech => "drop speech".to_owned(),
        Effect::TrimSpeech => "trim speech".to_owned(),
        Effect::Mute(on) => if *on { "mute" } else { "unmute" }.to_owned(),
        Effect::Look(clip) => format!("look at \"{clip}\""),
        Effect::TranscribePart { clip: Some(clip), .. } => format!("transcribe part \"{clip}\""),
        Effect::TranscribePart { clip: None, .. } => "transcribe part without words".to_owned(),
        Effect::Transcribe { clip: Some(clip), .. } => format!("transcribe \"{clip}\""),
        Effect::Transcribe { clip: None, .. } => "transcribe no more".to_owned(),
        Effect::Answer { text, audio_ms: 0, .. } => format!("answer \"{text}\" (written)"),
        Effect::Answer { text, audio_ms, .. } => format!("answer \"{text}\" ({audio_ms} ms)"),
        Effect::Speak { text, .. } => format!("speak \"{text}\""),
        Effect::Silence => "silence".to_owned(),
        Effect::Close { turn, outcome, times } => {
            let how = match outcome {
                Outcome::Failed(Failure::Work { work, fault }) => format!("failed: {}: {fault}", work.name()),
                Outcome::Failed(Failure::NoEnd) => "failed: audio: no end of the utterance came".to_owned(),
                Outcome::Failed(Failure::AudioLost { reason }) => format!("failed: audio: gone: {reason}"),
                Outcome::Answered if times.total_ms > 0 => format!("answered after {} ms", times.total_ms),
                other => other.name().to_owned(),
            };
            format!("close turn {turn}: {how}")
        }
        Effect::SignalFailure => "signal failure".to_owned(),
        Effect::Leave => "leave".to_owned(),
    }
}

/// Plays a file; gives what does not come out as it is written.
pub fn play(timeline: &Timeline) -> Vec<Wrong> {
    let mut stage = Stage::new(timeline);
    let mut wrong = Vec::new();
    for moment in &timeline.moments {
        let got = match stage.play(moment) {
            Ok(got) => got,
            Err(what) => {
                // What follows may be wrong for the same reason.
                wrong.push(Wrong { line: moment.line, what });
                return wrong;
            }
        };
        let mut got_left = got.iter();
        let mut differs = None;
        for (line, expected) in &moment.expected {
            let holds = stage.is_due(expected).unwrap_or_else(|| got_left.next() == Some(expected));
            if !holds {
                differs.get_or_insert(*line);
            }
        }
        if got_left.next().is_some() {
            differs.get_or_insert(moment.line);
        }
        if let Some(line) = differs {
            let list =
                |lines: &mut dyn Iterator<Item = String>| lines.map(|line| format!("\n    {line}")).collect::<String>();
            let due =
                stage.talk.deadline_ms().map_or_else(|| "not due".to_owned(), |ms| format!("due at {}", written(ms)));
            let what = format!(
                "at {} is expected:{}\n  and comes:{}\n    ({due})",
                written(moment.at_ms),
                list(&mut moment.expected.iter().map(|(_, expected)| expected.clone())),
                list(&mut got.iter().cloned()),
            );
            wrong.push(Wrong { line, what });
        }
    }
    wrong
}

/// The file with what comes of its events in the place of what is expected. What can't be played stays as it is.
pub fn blessed(text: &str, timeline: &Timeline) -> String {
    let mut stage = Stage::new(timeline);
    let mut come: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for moment in &timeline.moments {
        let Ok(mut got) = stage.play(moment) else { return text.to_owned() };
        // Whether a line says when the talk is due is the writer's choice.
        if moment.expected.iter().any(|(_, expected)| stage.is_due(expected).is_some()) {
            let due =
                stage.talk.deadline_ms().map_or_else(|| "not due".to_owned(), |ms| format!("due at {}", written(ms)));
            got.push(due);
        }
        come.insert(moment.line, got);
    }
    let replaced: Vec<usize> =
        timeline.moments.iter().flat_map(|moment| &moment.expected).map(|(line, _)| *line).collect();
    let mut blessed = String::new();
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        if replaced.contains(&number) {
            continue;
        }
        blessed.push_str(line);
        blessed.push('\n');
        for effect in come.remove(&number).into_iter().flatten() {
            blessed.push_str(&format!("      {effect}\n"));
        }
    }
    blessed
}
