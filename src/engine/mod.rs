//! What does the work behind a role: speech to text, text to speech, chat.
//!
//! Each kind is a trait and a table of [rows](table), by an engine's name. Adding an engine is a file that submits its row.
//! Engines know nothing of the bus: a role converts between wire messages and these types.

mod auto;
mod chat;
mod check;
#[cfg(feature = "sherpa")]
mod clause;
mod error;
#[cfg(feature = "sherpa")]
mod espeak;
#[cfg(feature = "fake")]
mod fake;
mod llamacpp;
mod ollama;
#[cfg(feature = "sherpa")]
mod onnx;
mod openai;
mod reach;
mod recognize;
#[cfg(feature = "sherpa")]
mod sherpa;
mod spec;
pub mod stream;
mod table;
pub mod wake;
#[cfg(feature = "whisper")]
mod whisper;

use std::ops::ControlFlow;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use check::Finding;
pub use error::EngineError;
pub use llamacpp::LlamaCpp;
pub use ollama::Ollama;
pub use openai::OpenAi;
pub use reach::Reach;
pub use recognize::{RECOGNIZER_RATE_HZ, Recognizer, TranscribeOptions, TranscribedSegment, Transcription};
#[cfg(feature = "sherpa")]
pub use sherpa::Piper;
pub use spec::{ChatSpec, ChatTimeouts, LlamaCppSpec, RecognizerSpec, SynthesizerSpec, default_threads};
pub use table::{
    Building, ChatRow, EngineRow, Needs, RecognizerRow, SynthesizerRow, chat_model, chat_row, recognizer,
    recognizer_row, synthesizer, synthesizer_row,
};
#[cfg(feature = "whisper")]
pub use whisper::Whisper;

/// Options of one synthesis.
#[derive(Debug, Clone)]
pub struct SpeakOptions {
    /// 1.0 is the voice's own pace, 2.0 twice as fast; 0.5 to 2.0.
    pub speed: f32,
}

impl Default for SpeakOptions {
    fn default() -> Self {
        Self { speed: 1.0 }
    }
}

/// Text to speech.
pub trait Synthesizer: Send + Sync {
    /// The voice's name, as in the catalogue.
    fn voice(&self) -> &str;
    /// The language it speaks (BCP 47, such as `en-US`).
    fn language(&self) -> &str;
    /// The sample rate of what it gives, in Hz.
    fn rate_hz(&self) -> u32;
    /// Speaks `text` (a sentence or a few), giving mono samples to `chunk` as they are made. `chunk` stops it by
    /// returning [`ControlFlow::Break`]. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] when `chunk` broke off, [`EngineError::Missing`] when the phonemizer is not
    /// installed, else [`EngineError::Failed`]. Text with nothing to pronounce is no error: it gives no samples.
    fn speak(
        &self,
        text: &str,
        options: &SpeakOptions,
        chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), EngineError>;
}

/// Who says a [`ChatMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatRole {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatMessage {
    /// Who says it.
    pub role: ChatRole,
    /// What is said.
    pub content: String,
}

/// What a chat model is asked.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// The model; `None` takes the provider's default.
    pub model: Option<String>,
    /// The conversation so far, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Sampling temperature; `None` takes the model's own.
    pub temperature: Option<f32>,
    /// The most tokens to write; `None` takes the model's own limit.
    pub max_tokens: Option<u32>,
    /// A JSON Schema that the answer must satisfy.
    pub format: Option<serde_json::Value>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatDelta {
    /// More text.
    Text(String),
    /// The end: always the last item of a stream that did not fail.
    Done(ChatEnd),
}

/// How an answer ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatEnd {
    /// The model that answered.
    pub model: String,
    /// Why it stopped: `stop`, `length`, …
    pub finish: String,
    /// Tokens of the prompt, if the provider says so.
    pub prompt_tokens: Option<u32>,
    /// Those of them that had been read for an earlier request, if the provider says so.
    pub cached_tokens: Option<u32>,
    /// Tokens written, if told.
    pub completion_tokens: Option<u32>,
}

/// A stream of an answer's pieces. Dropping it stops the model.
pub type ChatStream = BoxStream<'static, Result<ChatDelta, EngineError>>;

/// A model that answers in text.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// The provider's name (`ollama`, `llama.cpp`, `openai`), as replies and metadata show it.
    fn provider(&self) -> &str;
    /// The model used when a request names none.
    fn default_model(&self) -> &str;
    /// How far what it is asked travels.
    fn reach(&self) -> Reach;
    /// The models on offer, by name.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] when the provider does not answer in time.
    async fn models(&self) -> Result<Vec<String>, EngineError>;
    /// Loads the default model, so that the first question does not wait for it.
    ///
    /// # Errors
    /// As [`ChatModel::chat`].
    async fn warm(&self) -> Result<(), EngineError>;
    /// Starts an answer.
    ///
    /// # Errors
    /// [`EngineError::Missing`] for an unknown model (naming those on offer), [`EngineError::Unavailable`] when the
    /// provider is down, [`EngineError::TooLarge`] for more than the model holds, [`EngineError::Failed`] for an answer
    /// that makes no sense. The stream gives the same errors.
    async fn chat(&self, request: ChatRequest) -> Result<ChatStream, EngineError>;
    /// Reads the beginning of a conversation that will go on, so that its next answer begins sooner. Gives the counts of
    /// what was read; `None` for a provider that keeps nothing of it, or is paid by what it reads. Dropping the future ends
    /// it.
    ///
    /// # Errors
    /// As [`ChatModel::chat`].
    async fn read_ahead(&self, request: ChatRequest) -> Result<Option<ChatEnd>, EngineError> {
        let _ = request;
        Ok(None)
    }
}
