//! Why a host ends.

use crate::bus::BusError;
use crate::bus::registry::ClaimError;
use crate::http::HttpError;
use crate::models::ModelError;
use crate::role::RoleError;

/// Why a host ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A role can't start.
    #[error("role {role}: {error}")]
    Role {
        /// Its name.
        role: &'static str,
        /// Why.
        error: RoleError,
    },
    /// The settings name something that is not there.
    #[error("{0}")]
    Setting(String),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The host's name.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The HTTP server.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The catalogue of models.
    #[error(transparent)]
    Model(#[from] ModelError),
}
