//! Role `midi`.

use serde::{Deserialize, Serialize};

/// Role `midi`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MidiConfig {}
