//! The turn under way: what it knows, and how long its stages took.

use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::answer::{Failure, Part};
use super::mouth::Spoken;
use super::pipeline::Utterance;
use crate::audio::VAD_RATE_HZ;
use crate::bus::message::session::Times;
use crate::role::millis;
use crate::telemetry::trace::Trace;
use crate::text::finished::joined;

/// The turn under way.
pub struct OpenTurn {
    pub id: Ulid,
    pub session: String,
    pub trace: Trace,
    /// What was said before a pause, if the speaker went on, and how long that was.
    pub earlier: String,
    pub earlier_ms: u64,
    pub utterance: Option<Utterance>,
    /// What was said before it in the same breath, too long for one clip; `None` for silence.
    pub parts: Vec<Option<Part>>,
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
    /// Takes an utterance down.
    pub fn note_utterance(&mut self, utterance: Utterance) {
        self.times.endpoint_ms = utterance.endpoint_ms;
        self.utterance = Some(utterance);
    }

    /// Takes a part of an utterance down, and how long it was; the end is yet to come.
    pub fn note_part(&mut self, part: Option<Part>, samples: usize) {
        self.parts.push(part);
        self.earlier_ms += ms_of(samples);
    }

    /// Takes the words down, behind those before a pause; but `anew` is what followed the wake phrase, if it was said.
    pub fn note_words(&mut self, words: &str, anew: Option<String>) {
        self.text = anew.unwrap_or_else(|| joined(&self.earlier, words));
    }

    /// The speaker goes on: what was said so far is kept.
    pub fn resume(&mut self) {
        self.work = None;
        self.transcribed = None;
        self.earlier = std::mem::take(&mut self.text);
        self.earlier_ms = self.audio_ms();
        self.utterance = None;
    }

    /// How much was said.
    pub fn audio_ms(&self) -> u64 {
        let samples = self.utterance.as_ref().map_or(0, |utterance| utterance.samples.len());
        self.earlier_ms + ms_of(samples)
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

fn ms_of(samples: usize) -> u64 {
    samples as u64 * 1_000 / u64::from(VAD_RATE_HZ)
}
