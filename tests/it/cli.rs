//! The command line as a user meets it: the real program, a real host, real models.

mod completions;
#[cfg(all(feature = "whisper", feature = "sherpa"))]
mod host;
#[cfg(all(feature = "whisper", feature = "sherpa"))]
mod hosts;
#[cfg(all(feature = "whisper", feature = "sherpa"))]
mod jobs;
#[cfg(all(feature = "whisper", feature = "sherpa"))]
mod talk;
#[cfg(all(feature = "whisper", feature = "sherpa"))]
mod transcribe;
