//! What goes wrong, as the bus says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a request was not, or not wholly, answered. The numbers are those of HTTP where it has one that means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The request makes no sense; no retry can help.
    Invalid,
    /// What it names (model, voice, clip, session) is not here.
    NotFound,
    /// Its deadline passed while it was worked on.
    Deadline,
    /// It is bigger or longer than is taken.
    TooLarge,
    /// Its content type is not understood.
    Unsupported,
    /// All slots are taken; asking elsewhere or later can help.
    Busy,
    /// The caller cancelled it, or a stop did.
    Cancelled,
    /// The work broke.
    Failed,
    /// Something that the work needs is down; asking elsewhere or later can help.
    Unavailable,
}

impl FaultCode {
    /// Every code.
    pub const ALL: [Self; 9] = [
        Self::Invalid,
        Self::NotFound,
        Self::Deadline,
        Self::TooLarge,
        Self::Unsupported,
        Self::Busy,
        Self::Cancelled,
        Self::Failed,
        Self::Unavailable,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Deadline => "deadline",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Busy => "busy",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
        }
    }

    /// The number in the header `Nats-Service-Error-Code`.
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::Deadline => 408,
            Self::TooLarge => 413,
            Self::Unsupported => 415,
            Self::Busy => 429,
            Self::Cancelled => 499,
            Self::Failed => 500,
            Self::Unavailable => 503,
        }
    }

    /// The code of a number; [`FaultCode::Failed`] for one that is not ours.
    #[must_use]
    pub fn from_number(number: usize) -> Self {
        Self::ALL.into_iter().find(|code| code.number() == number).unwrap_or(Self::Failed)
    }

    /// Whether the same request, later or elsewhere, can succeed.
    #[must_use]
    pub const fn can_retry(self) -> bool {
        matches!(self, Self::NotFound | Self::Busy | Self::Failed | Self::Unavailable)
    }
}

/// An error as it crosses the bus: in the service API's error headers of a reply, or as the body of `event.<node>.fault`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("{message}")]
pub struct Fault {
    /// What kind of thing went wrong.
    pub code: FaultCode,
    /// What was tried, on what, and what to do about it.
    pub message: String,
}

impl Fault {
    /// A fault of kind `code`.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FaultCode::Invalid, message)
    }

    /// The work broke.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FaultCode::Failed, message)
    }

    /// What it names is not here.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(FaultCode::NotFound, message)
    }

    /// Something that the work needs is down.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(FaultCode::Unavailable, message)
    }

    /// The caller cancelled it, or a stop did.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(FaultCode::Cancelled, "cancelled")
    }
}
