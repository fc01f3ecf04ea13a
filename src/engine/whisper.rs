//! Speech to text by [whisper.cpp](https://github.com/ggml-org/whisper.cpp).

mod file;
mod text;

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperState};

use super::stream::{ClipRecognizer, RecognizerStream, StreamOptions, Windows};
use super::table::load;
use super::{EngineError, Needs, RECOGNIZER_RATE_HZ, Recognizer, RecognizerRow, RecognizerSpec, TranscribeOptions};
use super::{TranscribedSegment, Transcription, default_threads};
use crate::models::ModelKind;

/// Whisper hears in windows of 30 s.
const WINDOW_SAMPLES: usize = 30 * RECOGNIZER_RATE_HZ as usize;
/// From this length on (15 s) a clip is heard without timestamps.
const LONG_SAMPLES: usize = 15 * RECOGNIZER_RATE_HZ as usize;
/// whisper.cpp refuses clips under 1 s; shorter ones get silence appended up to this.
const MIN_SAMPLES: usize = RECOGNIZER_RATE_HZ as usize * 11 / 10;
/// Samples per position of the encoder's context: 20 ms.
const SAMPLES_PER_POSITION: usize = 320;
/// The encoder's context for a clip is cut to what the clip needs, which saves most of its time. With fewer positions
/// than this the decoder loops.
const MIN_POSITIONS: usize = 512;
/// Silence behind the clip, by which the decoder knows where to stop; whisper.cpp's own advice. Without any tiny.en said 2
/// of 50 spoken texts of 2 to 29 s twice, with 64 or more none.
const END_POSITIONS: usize = 128;
/// The most text tokens a window gives, and how fast speech can be: tokens for a clip are `base + rate × seconds`.
const MAX_TOKENS: usize = 224;
const TOKENS_BASE: usize = 24;
const TOKENS_PER_S: usize = 8;
/// The most tokens of a prompt; whisper.cpp keeps half of its text context for it.
const PROMPT_TOKENS: usize = 200;
/// A clip that is nowhere louder than this (−60 dBFS) is silence.
const SILENCE_PEAK: f32 = 0.001;
/// A stretch is taken for noise when the model is more certain than this that there is no speech …
const NO_SPEECH: f32 = 0.6;
/// … and less certain than this, as a mean probability of its tokens, of what it wrote. (tiny.en hears "you" in a 50 Hz
/// hum with 0.97 and 0.55; faint short words give 0.1 to 0.5 for the first.)
const DOUBT: f32 = 0.65;
/// How often a caller that waits for a free slot looks whether it was cancelled.
const SLOT_POLL: Duration = Duration::from_millis(20);

inventory::submit! {
    RecognizerRow {
        name: "whisper",
        about: "Whisper by whisper.cpp",
        needs: Needs { model: Some(ModelKind::Whisper), ..Needs::NOTHING },
        build: |spec, _| load(spec, |spec| Ok(Arc::new(Whisper::load(spec)?) as Arc<dyn Recognizer>)),
        check: None,
    }
}

/// A Whisper model in memory.
pub struct Whisper(Arc<Loaded>);

struct Loaded {
    model: String,
    context: WhisperContext,
    multilingual: bool,
    language: Option<&'static str>,
    threads: c_int,
    /// Parameters made once per language: whisper-rs leaks the language's name each time it is set.
    params: Mutex<HashMap<Option<&'static str>, FullParams<'static, 'static>>>,
    slots: Mutex<Slots>,
    freed: Condvar,
}

/// The states (working memory) of a model; each serves one transcription at a time.
struct Slots {
    idle: Vec<WhisperState>,
    made: usize,
    limit: usize,
}

impl Whisper {
    /// Loads a model and prepares the first slot.
    ///
    /// # Errors
    /// [`EngineError::Missing`] when there is no model at the path, [`EngineError::Invalid`] for a language that the model
    /// does not know, [`EngineError::Failed`] when the file is no model or is damaged.
    pub fn load(spec: &RecognizerSpec) -> Result<Self, EngineError> {
        Loaded::load(spec).map(|loaded| Self(Arc::new(loaded)))
    }
}

impl Recognizer for Whisper {
    fn model(&self) -> &str {
        &self.0.model
    }

    fn languages(&self) -> Vec<String> {
        if self.0.multilingual { vec![] } else { vec!["en".into()] }
    }

    fn open(&self, options: StreamOptions) -> Result<Box<dyn RecognizerStream>, EngineError> {
        let model: Arc<dyn ClipRecognizer> = Arc::clone(&self.0) as _;
        Windows::open(model, options)
    }

    fn transcribe(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        cancel: &CancellationToken,
    ) -> Result<Transcription, EngineError> {
        self.0.recognize(samples, options, cancel)
    }
}

impl Loaded {
    fn load(spec: &RecognizerSpec) -> Result<Self, EngineError> {
        whisper_rs::install_logging_hooks();
        let file = file::model_file(&spec.model, &spec.path)?;
        let mut parameters = WhisperContextParameters::default();
        parameters.use_gpu(false);
        let damaged = |why: String| {
            EngineError::Failed(format!(
                "the speech model {} at {} does not load ({why}); fetch it again by `sidetone models fetch {}`",
                spec.model,
                file.display(),
                spec.model
            ))
        };
        let context = WhisperContext::new_with_params(&file, parameters).map_err(|error| damaged(error.to_string()))?;
        let state = context.create_state().map_err(|error| damaged(error.to_string()))?;
        let threads = if spec.threads == 0 { default_threads() } else { spec.threads };
        let mut loaded = Self {
            model: spec.model.clone(),
            multilingual: context.is_multilingual(),
            context,
            language: None,
            threads: c_int::try_from(threads).unwrap_or(1),
            params: Mutex::default(),
            slots: Mutex::new(Slots { idle: vec![state], made: 1, limit: spec.slots.max(1) }),
            freed: Condvar::new(),
        };
        loaded.language = loaded.language(spec.language.as_deref())?;
        Ok(loaded)
    }

    /// The language to listen for, as whisper.cpp names it; `None` lets the model decide.
    fn language(&self, asked: Option<&str>) -> Result<Option<&'static str>, EngineError> {
        let Some(tag) = asked else {
            return Ok(if self.multilingual { self.language } else { Some("en") });
        };
        let primary = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        if !self.multilingual && primary != "en" {
            return Err(EngineError::Invalid(format!(
                "the speech model {} understands only English, not {tag:?}; choose one without `.en`",
                self.model
            )));
        }
        // whisper-rs panics over a NUL, and whisper.cpp takes a language's English name as well.
        let is_tag = primary.bytes().all(|byte| byte.is_ascii_lowercase());
        let known = whisper_rs::get_lang_id(if is_tag { &primary } else { "" }).and_then(whisper_rs::get_lang_str);
        let unknown =
            || EngineError::Invalid(format!("{tag:?} is no language that Whisper knows; give a tag such as `en`"));
        known.map(Some).ok_or_else(unknown)
    }

    /// Parameters that depend on the language alone.
    fn params(&self, language: Option<&'static str>) -> FullParams<'static, 'static> {
        let mut cache = self.params.lock().unwrap_or_else(PoisonError::into_inner);
        let made = cache.entry(language).or_insert_with(|| {
            let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 1 });
            params.set_language(language);
            params.set_n_threads(self.threads);
            // A slot served another request before: what was said there must not steer, let alone enter, this text.
            params.set_no_context(true);
            params.set_suppress_blank(true);
            params.set_suppress_nst(true);
            params.set_no_speech_thold(NO_SPEECH);
            params.set_print_progress(false);
            params.set_print_realtime(false);
            params.set_print_special(false);
            params.set_print_timestamps(false);
            params
        });
        made.clone()
    }

    /// A free slot; waits for one while all are taken.
    fn slot(&self, cancel: &CancellationToken) -> Result<Slot<'_>, EngineError> {
        let mut slots = self.lock_slots();
        loop {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            if let Some(state) = slots.idle.pop() {
                return Ok(Slot { model: self, state: Some(state) });
            }
            if slots.made < slots.limit {
                slots.made += 1;
                drop(slots);
                // From here on the slot counts as taken, and is given back when dropped.
                let mut slot = Slot { model: self, state: None };
                let made = self.context.create_state();
                slot.state = Some(made.map_err(|error| self.failed(&format!("no memory for one more slot: {error}")))?);
                return Ok(slot);
            }
            slots = self.freed.wait_timeout(slots, SLOT_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock_slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, why: &str) -> EngineError {
        EngineError::Failed(format!("the speech model {} failed ({why})", self.model))
    }

    /// The prompt as tokens: unlike whisper-rs's `set_initial_prompt`, this leaks nothing.
    fn prompt(&self, options: &TranscribeOptions) -> Result<Vec<c_int>, EngineError> {
        let text = options.prompt.as_deref().map_or("", str::trim);
        if text.is_empty() {
            return Ok(vec![]);
        }
        if text.contains('\0') {
            return Err(EngineError::Invalid("the prompt has a NUL character in it".into()));
        }
        // A token is at least one byte, so this is always room enough.
        let tokens = self.context.tokenize(&format!(" {text}"), text.len() + 1);
        let mut tokens = tokens.map_err(|error| EngineError::Invalid(format!("the prompt can't be used ({error})")))?;
        tokens.drain(..tokens.len().saturating_sub(PROMPT_TOKENS));
        Ok(tokens)
    }
}

/// A slot in use. Given back when dropped; a slot without a state makes room for a new one.
struct Slot<'a> {
    model: &'a Loaded,
    state: Option<WhisperState>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut slots = self.model.lock_slots();
        match self.state.take() {
            Some(state) => slots.idle.push(state),
            None => slots.made -= 1,
        }
        drop(slots);
        self.model.freed.notify_one();
    }
}

/// whisper.cpp asks this between steps of its work.
unsafe extern "C" fn is_cancelled(token: *mut c_void) -> bool {
    // SAFETY: `hear` passes a reference that outlives the call into whisper.cpp.
    unsafe { &*token.cast::<CancellationToken>() }.is_cancelled()
}

impl ClipRecognizer for Loaded {
    fn recognize(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        cancel: &CancellationToken,
    ) -> Result<Transcription, EngineError> {
        if samples.is_empty() {
            return Err(EngineError::Invalid("there is no audio to transcribe: the clip is empty".into()));
        }
        let language = self.language(options.language.as_deref())?;
        let prompt = self.prompt(options)?;
        // A sample that is no number would spread through the whole spectrogram.
        if samples.iter().all(|sample| sample.abs() < SILENCE_PEAK || !sample.is_finite()) {
            return Ok(Transcription { language: language.map(str::to_owned), ..Transcription::default() });
        }
        let mut slot = self.slot(cancel)?;
        let mut padded = vec![];
        let clip = if samples.len() < MIN_SAMPLES || samples.iter().any(|sample| !sample.is_finite()) {
            padded.extend(samples.iter().map(|sample| if sample.is_finite() { *sample } else { 0.0 }));
            padded.resize(samples.len().max(MIN_SAMPLES), 0.0);
            &padded
        } else {
            samples
        };

        let mut heard = self.hear(&mut slot, clip, language, &prompt, Window::Cut, cancel)?;
        // A loop is what the small window and the one try are to blame for: that is how the model was not trained.
        if heard.is_loop && clip.len() <= WINDOW_SAMPLES {
            let again = self.hear(&mut slot, clip, language, &prompt, Window::Whole, cancel)?;
            if !again.is_loop {
                heard = again;
            }
        }
        let clip_ms = samples.len() as u64 * 1000 / u64::from(RECOGNIZER_RATE_HZ);
        let segments: Vec<_> = heard.stretches.into_iter().filter_map(|stretch| stretch.segment(clip_ms)).collect();
        let text = segments.iter().map(|segment| segment.text.as_str()).collect::<Vec<_>>().join(" ");
        Ok(Transcription { text, language: language.or(heard.language).map(str::to_owned), segments })
    }
}

/// How much of its window the model is given for a short clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// What the clip needs, and one try: quick.
    Cut,
    /// All of it, and more tries where the model doubts itself: as it was trained, and slow.
    Whole,
}

/// What one run of the model gave.
struct Run {
    stretches: Vec<Stretch>,
    language: Option<&'static str>,
    /// Whether it says the same over and over at its end.
    is_loop: bool,
}

/// A segment as the model gave it.
struct Stretch {
    text: String,
    start: i64,
    end: i64,
}

impl Loaded {
    /// Runs the model once.
    fn hear(
        &self,
        slot: &mut Slot<'_>,
        clip: &[f32],
        language: Option<&'static str>,
        prompt: &[c_int],
        window: Window,
        cancel: &CancellationToken,
    ) -> Result<Run, EngineError> {
        let mut params: FullParams<'_, '_> = self.params(language);
        params.set_tokens(prompt);
        if clip.len() <= WINDOW_SAMPLES {
            let (positions, tokens) = budget(clip.len());
            params.set_max_tokens(tokens);
            params.set_single_segment(true);
            // Of one segment they would tell nothing, and looking for them makes tiny.en end clips of 20 s and more before
            // their last words. Of short clips they help to tell a noise from a word.
            params.set_no_timestamps(clip.len() > LONG_SAMPLES);
            if window == Window::Cut {
                params.set_audio_ctx(positions);
                // No second try at a higher temperature: it doubles the time and seldom helps a short clip.
                params.set_temperature_inc(0.0);
            }
        }
        // SAFETY: the callback only reads the token, which outlives the call below.
        unsafe {
            params.set_abort_callback(Some(is_cancelled));
            params.set_abort_callback_user_data(std::ptr::from_ref(cancel).cast_mut().cast());
        }
        let state = slot.state.as_mut().ok_or_else(|| self.failed("a slot without memory"))?;
        let done = state.full(params, clip);
        if cancel.is_cancelled() {
            // What an aborted run leaves behind is not worth trusting.
            slot.state = None;
            return Err(EngineError::Cancelled);
        }
        if let Err(error) = done {
            slot.state = None;
            return Err(self.failed(&error.to_string()));
        }
        let stretches: Vec<_> = state.as_iter().filter_map(|segment| stretch(&segment)).collect();
        let is_loop = stretches.iter().any(|stretch| text::loop_at_end(&stretch.text).is_some());
        Ok(Run { stretches, language: whisper_rs::get_lang_str(state.full_lang_id_from_state()), is_loop })
    }
}

/// A segment; `None` when there is no speech in it.
fn stretch(segment: &whisper_rs::WhisperSegment<'_>) -> Option<Stretch> {
    let probabilities: Vec<f32> = (0..segment.n_tokens())
        .filter_map(|token| segment.get_token(token))
        .map(|token| token.token_probability())
        .collect();
    let certainty = probabilities.iter().sum::<f32>() / probabilities.len().max(1) as f32;
    if segment.no_speech_probability() > NO_SPEECH && certainty < DOUBT {
        return None;
    }
    let text = text::without_noises(&segment.to_str_lossy().ok()?);
    Some(Stretch { text, start: segment.start_timestamp(), end: segment.end_timestamp() })
}

impl Stretch {
    /// As ours; `None` if there are no words in it.
    fn segment(self, clip_ms: u64) -> Option<TranscribedSegment> {
        // Timestamps are in hundredths of a second.
        let ms = |hundredths: i64| (u64::try_from(hundredths).unwrap_or(0) * 10).min(clip_ms);
        let start_ms = ms(self.start);
        let end_ms = ms(self.end).max(start_ms);
        let text = text::without_loops(&self.text, end_ms - start_ms);
        (!text.is_empty()).then_some(TranscribedSegment { start_ms, end_ms, text })
    }
}

/// The encoder positions and text tokens that a clip of at most one window needs.
fn budget(samples: usize) -> (c_int, c_int) {
    let needed = samples.div_ceil(SAMPLES_PER_POSITION) + END_POSITIONS;
    let positions = needed.next_multiple_of(64).clamp(MIN_POSITIONS, 1500);
    let tokens = (TOKENS_BASE + TOKENS_PER_S * samples.div_ceil(RECOGNIZER_RATE_HZ as usize)).min(MAX_TOKENS);
    (c_int::try_from(positions).unwrap_or(0), c_int::try_from(tokens).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_budget_suits_the_clip(samples in MIN_SAMPLES..=WINDOW_SAMPLES) {
            let (positions, tokens) = budget(samples);
            prop_assert!(positions as usize >= samples / SAMPLES_PER_POSITION);
            prop_assert!((512..=1500).contains(&positions));
            prop_assert!((1..=224).contains(&tokens));
        }
    }
}
