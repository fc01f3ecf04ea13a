//! What a listener hears: speech, looks for the wake phrase, and the end of the utterance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::answer::{Failure, transcribe_part};
use super::super::mouth::Output;
use super::super::pipeline::{Command, Heard, Speech, Utterance};
use super::super::turn::{Input, Woken};
use super::super::wake::Look;
use super::{Listener, spawn};
use crate::audio::EndReason;
use crate::bus::message::fault::Fault;
use crate::bus::message::voice::TurnState;
use crate::text::finished::is_finished;

/// How many parts an utterance has at most before its end; with clips of 30 s that is four to five minutes.
const PARTS_MAX: usize = 9;
/// Speech after the wake phrase that is no more than its end, and a breath.
const PHRASE_REST_MS: u32 = 150;

impl Listener {
    pub(super) async fn take_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Up { playback, rate_hz } => {
                self.control = Some(playback.control());
                let shared = Arc::new(AtomicU32::new(rate_hz));
                self.rate_hz = Arc::clone(&shared);
                *self.output.lock().await = Some(Output { playback, rate_hz: shared });
                "JACK is there".clone_into(&mut self.why);
                tracing::info!(listener = self.config.name, rate_hz, "JACK is there");
                self.show(self.turn.state()).await;
            }
            Heard::Rate(rate_hz) => self.rate_hz.store(rate_hz, Ordering::Relaxed),
            Heard::Down(reason) => {
                tracing::warn!(listener = self.config.name, reason, "no JACK");
                self.control = None;
                self.speaking = false;
                // After this nobody holds the output: its lock is free.
                if self.open.is_some() {
                    let fault = Fault::unavailable(format!("JACK went away in mid-turn: {reason}"));
                    if let Some(open) = &mut self.open {
                        open.failure = Some(Failure::new("audio", fault));
                    }
                    self.step(Input::AudioLost, "JACK is gone").await;
                }
                *self.output.lock().await = None;
                format!("no JACK: {reason}").clone_into(&mut self.why);
                self.show(self.turn.state()).await;
            }
            Heard::Started => {
                self.speaking = true;
                self.step(Input::SpeechStarted, "speech").await;
            }
            Heard::Partial(partial) => {
                if let Some(wake) = self.wake.as_mut().filter(|_| self.turn.wants_wake()) {
                    wake.partial(partial);
                }
            }
            Heard::Ended(utterance) if self.turn.is_listening() => {
                self.speaking = false;
                self.take_utterance(utterance).await;
            }
            // Whoever held the pedal has a turn no more.
            Heard::Ended(utterance) if utterance.reason == EndReason::Part => self.pipeline.tell(Command::Drop),
            Heard::Ended(utterance) => {
                self.speaking = false;
                self.overhear(utterance);
            }
        }
    }

    /// An utterance that nobody listened to: there may be a wake phrase in it, or it goes on with what is being transcribed.
    fn overhear(&mut self, utterance: Utterance) {
        self.went_on = (self.turn.state() == TurnState::Processing).then(|| utterance.clone());
        let wants_wake = self.turn.wants_wake() && utterance.speech.speech_ms > 0;
        let Some(wake) = self.wake.as_mut().filter(|_| wants_wake) else { return };
        if wake.is_busy() {
            self.waiting = Some(utterance);
        } else {
            wake.look_at(utterance);
        }
    }

    /// A part of what is being said while the pedal is held, too long for one clip: it is transcribed while the rest is said.
    fn take_part(&mut self, utterance: Utterance) {
        self.listen_until = Some(self.no_end_by());
        let how = self.transcription().filter(|_| utterance.speech.speech_ms > 0);
        let (teller, samples) = (self.teller.clone(), utterance.samples.len());
        let Some(open) = &mut self.open else { return };
        let part = how.map(|how| spawn(open.trace.run(transcribe_part(how, utterance.samples, teller))));
        open.note_part(part, samples);
    }

    /// The end of the utterance that was listened to, or a part of it.
    async fn take_utterance(&mut self, utterance: Utterance) {
        let parts = self.open.as_ref().map_or(0, |open| open.parts.len());
        // One that silence has ended was on its way as the pedal went down.
        let is_part = utterance.reason == EndReason::Part || self.held && utterance.reason != EndReason::Forced;
        if is_part && parts < PARTS_MAX {
            return self.take_part(utterance);
        }
        let heard = utterance.speech;
        let is_phrase = self.phrase.take().is_some_and(|phrase| {
            phrase.start_sample == heard.start_sample && heard.speech_ms <= phrase.speech_ms + PHRASE_REST_MS
        });
        if is_phrase {
            return self.step(Input::PhraseEnded, "only the wake phrase").await;
        }
        let before = self.open.as_ref().is_some_and(|open| open.parts.iter().any(Option::is_some));
        let (spoken, paused) = (heard.speech_ms > 0 || before, utterance.reason == EndReason::Silence);
        let why = match utterance.reason {
            _ if !spoken => "nothing was said",
            EndReason::Silence => "silence",
            EndReason::MaxLength => "voice.max_utterance_ms",
            EndReason::Part => {
                // The pedal is held still: what follows is for nobody.
                self.pipeline.tell(Command::Drop);
                "push to talk was held for too long"
            }
            EndReason::Forced => "push to talk",
        };
        if let Some(open) = &mut self.open {
            open.note_utterance(utterance);
        }
        self.step(Input::SpeechEnded { spoken, paused }, why).await;
    }

    /// Whether a request looks whole, as far as anybody waits for more.
    pub(super) fn is_finished(&self, text: &str) -> bool {
        let language = match self.config.language.as_str() {
            "" => self.context.config.stt.language.as_str(),
            language => language,
        };
        self.voice().unfinished_silence_ms == 0 || is_finished(text, language)
    }

    /// Waits whether the speaker goes on.
    pub(super) fn wait(&mut self) {
        let patience = Duration::from_millis(u64::from(self.voice().unfinished_silence_ms));
        let spoken_until = self.open.as_ref().and_then(|open| Some(open.utterance.as_ref()?.spoken_until));
        self.answer_at = Some(spoken_until.unwrap_or_else(Instant::now) + patience);
    }

    /// Takes what is being said for more of the utterance.
    pub(super) fn resume(&mut self) {
        if let Some(open) = &mut self.open {
            open.resume();
        }
    }

    /// If the speaker of an unfinished request has gone on meanwhile, that belongs to it.
    pub(super) async fn go_on(&mut self) {
        let next = self.went_on.take();
        if !self.turn.is_waiting() || !(self.speaking || next.is_some()) {
            return;
        }
        self.step(Input::SpeechStarted, "the speaker goes on").await;
        if let Some(next) = next {
            self.take_utterance(next).await;
        }
    }

    pub(super) async fn take_look(&mut self, look: Look) {
        if !self.wake.as_mut().is_some_and(|wake| wake.done(&look)) {
            return;
        }
        let waiting = self.waiting.take();
        if !self.turn.wants_wake() {
            return;
        }
        let found = look.found.filter(|found| !self.is_own_voice(&found.phrase, &look.speech));
        let Some(found) = found else {
            if let Some((next, wake)) = waiting.zip(self.wake.as_mut()) {
                wake.look_at(next);
            }
            return;
        };
        let why = format!("wake phrase {:?}", found.phrase);
        let alone = look.alone;
        match (look.utterance, waiting) {
            // The speaker goes on; or has said the phrase, and what follows is over as well.
            (None, _) => {
                self.step(Input::Wake(Woken::Running), &why).await;
                self.phrase = Some(look.speech).filter(|_| alone);
            }
            (Some(_), Some(next)) if alone => {
                self.step(Input::Wake(Woken::Running), &why).await;
                self.take_utterance(next).await;
            }
            (Some(_), None) if alone => self.step(Input::Wake(Woken::Alone), &why).await,
            (Some(utterance), next) if look.whole && self.is_own_stt() => {
                let finished = self.is_finished(&found.rest);
                self.heard = Some((utterance, found.rest, look.took));
                self.step(Input::Wake(Woken::WithRequest { finished }), &why).await;
                next.into_iter().for_each(|next| self.overhear(next));
                self.go_on().await;
            }
            (Some(utterance), next) => {
                self.step(Input::Wake(Woken::Running), &why).await;
                self.take_utterance(utterance).await;
                next.into_iter().for_each(|next| self.overhear(next));
            }
        }
    }

    /// Whether what looks for the phrase is what would transcribe the request as well, in the same way: then all of it has
    /// been heard.
    fn is_own_stt(&self) -> bool {
        let (host, language) = (&self.context.config, &self.config.language);
        let here = host.node.roles.iter().any(|role| role == "stt") && !host.route.contains_key("stt");
        here && self.config.prompt.is_empty()
            && host.stt.has_only(&host.voice.wake_model)
            && (language.is_empty() || *language == host.stt.language)
    }

    /// Whether the phrase is in what was being spoken as the speech began: then the microphone has heard the loudspeaker.
    fn is_own_voice(&self, phrase: &str, speech: &Speech) -> bool {
        let phrase = phrase.to_lowercase();
        let began = speech.began + Duration::from_millis(u64::from(self.voice().pre_roll_ms));
        let now = self.open.as_ref().filter(|_| self.turn.state() == TurnState::Speaking);
        now.is_some_and(|open| open.reply.to_lowercase().contains(&phrase))
            || self.own.as_ref().is_some_and(|(reply, until)| began < *until && reply.contains(&phrase))
    }
}
