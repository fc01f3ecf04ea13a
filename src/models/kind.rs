//! What a model is for, and the files that it consists of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a model is for, which decides the files that it consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Speech to text, in whisper.cpp's ggml format.
    Whisper,
    /// A voice of Piper, with the metadata that sherpa-onnx wants.
    Piper,
    /// A language model for llama.cpp.
    Gguf,
    /// The Silero voice activity detector.
    Silero,
}

impl ModelKind {
    /// The files that a model of this kind must have in its folder. The first is the model proper.
    #[must_use]
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Self::Whisper => &["model.bin"],
            Self::Piper => &["model.onnx", "tokens.txt", "voice.json"],
            Self::Gguf => &["model.gguf"],
            Self::Silero => &["model.onnx"],
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whisper => "whisper",
            Self::Piper => "piper",
            Self::Gguf => "gguf",
            Self::Silero => "silero",
        })
    }
}
