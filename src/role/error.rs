//! Why a role ends, and how an engine's error is said on the bus.

use crate::bus::BusError;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::engine::EngineError;
use crate::models::ModelError;

/// Why a role ended.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A setting that can't be.
    #[error("{0}")]
    Setting(String),
}

impl RoleError {
    /// Whether starting the role again can help.
    #[must_use]
    pub const fn can_retry(&self) -> bool {
        match self {
            Self::Bus(error) => error.can_retry(),
            Self::Engine(error) => matches!(error, EngineError::Unavailable(_) | EngineError::Failed(_)),
            Self::Model(_) | Self::Setting(_) => false,
        }
    }
}

/// An engine's error as the bus says it.
impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Missing(_) => FaultCode::NotFound,
            EngineError::Invalid(_) => FaultCode::Invalid,
            EngineError::TooLarge(_) => FaultCode::TooLarge,
            EngineError::Unavailable(_) => FaultCode::Unavailable,
            EngineError::Failed(_) => FaultCode::Failed,
            EngineError::Cancelled => FaultCode::Cancelled,
        };
        Self::new(code, error.to_string())
    }
}
