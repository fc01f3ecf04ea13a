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
