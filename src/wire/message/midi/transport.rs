//! Words of the transport.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A word of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Play from the beginning.
    Start,
    /// Halt.
    Stop,
    /// Play on.
    Continue,
}
