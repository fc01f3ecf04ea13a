//! The turn under way: what it knows, and how long its stages took.

use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::answer::Failure;
use super::mouth::Spoken;
use super::pipeline::Utterance;
use crate::bus::message::session::Times;
use crate::role::millis;
use crate::telemetry::trace::Trace;

/// The turn under way.
pub struct OpenTurn {
    pub id: Ulid,
    pub session: String,
    pub trace: Trace,
    /// What was said before a pause, if the speaker went on: 16 kHz mono.
    pub earlier: Vec<f32>,
    /// Whether the speaker went on after a pause.
    pub went_on: bool,
    pub utterance: Option<Utterance>,
    /// When the transcript was there.
    pub transcribed: Option<Instant>,
    pub text: String,
    pub reply: String,
    pub times: Times,
    pub failure: Option<Failure>,
    /// Aborted when it is dropped.
    pub work: Option<AbortOnDropHandle<()>>,
}

impl OpenTurn {
    /// Takes an utterance down, behind what was said before it.
    pub fn note_utterance(&mut self, mut utterance: Utterance) {
        if !self.earlier.is_empty() {
            self.earlier.append(&mut utterance.samples);
            utterance.samples = std::mem::take(&mut self.earlier);
        }
        self.times.endpoint_ms = utterance.endpoint_ms;
        self.utterance = Some(utterance);
    }

    /// Breaks the work on the utterance off, since it goes on.
    pub fn resume(&mut self) {
        (self.work, self.transcribed, self.went_on) = (None, None, true);
        self.earlier = self.utterance.take().map(|utterance| utterance.samples).unwrap_or_default();
    }

    /// Takes down the times of the stages, if the turn was spoken and has been answered.
    pub fn note_times(&mut self, spoken: &Spoken) {
        let (Some(utterance), Some(transcribed)) = (&self.utterance, self.transcribed) else { return };
        let Spoken { first_sentence: Some(sentence), first_audio: Some(audio), first_sample: Some(sample), .. } =
            *spoken
        else {
            return;
        };
        let between = |from: Instant, to: Instant| millis(to.saturating_duration_since(from));
        self.times = Times {
            first_sentence_ms: between(transcribed, sentence),
            first_audio_ms: between(sentence, audio),
            first_sample_ms: between(audio, sample),
            total_ms: between(utterance.spoken_until, sample),
            spoken_ms: millis(spoken.spoken),
            ..self.times
        };
    }
}
