//! Raw samples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::blob::Blob;

/// How samples are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampleFormat {
    /// Signed 16-bit, little endian.
    #[default]
    S16le,
    /// 32-bit float, little endian, −1…1.
    F32le,
}

/// Raw samples, interleaved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pcm {
    /// How samples are written.
    #[serde(default)]
    pub format: SampleFormat,
    /// Frames a second.
    pub rate_hz: u32,
    /// Samples a frame.
    #[serde(default = "one")]
    pub channels: u16,
    /// The samples.
    pub data: Blob,
}

/// One channel.
pub(super) const fn one() -> u16 {
    1
}
