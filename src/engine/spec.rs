//! What an engine is built from. A role fills these from its configuration.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// Threads used where a configuration says nothing: half of the cores, at least one and at most four. whisper.cpp,
/// llama.cpp and the ONNX runtime spin while they wait for their own threads. Where other work takes a core from one of
/// them, all of them wait: with two threads on two busy cores a transcription took 25 times as long as with one.
#[must_use]
pub fn default_threads() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 4)
}

/// How to build a [`super::Recognizer`].
#[derive(Debug, Clone)]
pub struct RecognizerSpec {
    /// The model's name, as in the catalogue.
    pub model: String,
    /// The model's file, or the folder that holds it as `model.bin`.
    pub path: PathBuf,
    /// The language assumed when a request names none (BCP 47); `None` lets the model decide.
    pub language: Option<String>,
    /// Threads for one transcription; 0 takes [`default_threads`].
    pub threads: usize,
    /// How many transcriptions may run at once; at least 1. More wait for a free one.
    pub slots: usize,
}

/// How to build a [`super::Synthesizer`].
#[derive(Debug, Clone)]
pub struct SynthesizerSpec {
    /// The voice's name, as in the catalogue.
    pub voice: String,
    /// The folder with `model.onnx`, `tokens.txt` and `voice.json`.
    pub path: PathBuf,
    /// Threads; 0 takes [`default_threads`].
    pub threads: usize,
}

/// How long a chat provider may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatTimeouts {
    /// To accept a connection.
    pub connect: Duration,
    /// From the request to the first piece of the answer. A model may have to be loaded first.
    pub first_token: Duration,
    /// Between two pieces of an answer.
    pub token: Duration,
}

impl Default for ChatTimeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), first_token: Duration::from_secs(60), token: Duration::from_secs(15) }
    }
}

/// The embedded llama.cpp server.
#[derive(Debug, Clone)]
pub struct LlamaCppSpec {
    /// The model's name, as in the catalogue.
    pub model: String,
    /// The model's file (GGUF), or the folder that holds it as `model.gguf`.
    pub path: PathBuf,
    /// Threads; 0 takes [`default_threads`].
    pub threads: usize,
    /// The context, in tokens: what is asked and answered must fit.
    pub context_tokens: u32,
    /// How long the model may take to load.
    pub load_timeout: Duration,
}

/// How to build a [`super::ChatModel`].
#[derive(Debug, Clone)]
pub struct ChatSpec {
    /// The row of [`super::CHAT_MODELS`].
    pub engine: String,
    /// Where the provider is; `None` takes the engine's usual address.
    pub url: Option<String>,
    /// The default model; `None` takes the first one on offer.
    pub model: Option<String>,
    /// The provider's key, if it wants one.
    pub key: Option<Secret>,
    /// How long the provider may take.
    pub timeouts: ChatTimeouts,
    /// The server that `llamacpp` starts, and `auto` when it finds no Ollama.
    pub llamacpp: LlamaCppSpec,
}
