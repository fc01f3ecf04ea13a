//! Role `audio`.

use serde::{Deserialize, Serialize};

/// Role `audio`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudioConfig {}
