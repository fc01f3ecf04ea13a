//! Role `osc`.

use serde::{Deserialize, Serialize};

/// Role `osc`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OscConfig {}
