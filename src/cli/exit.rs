//! What went wrong, as an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use super::deploy::PlanError;
use crate::bus::BusError;
use crate::bus::message::fault::FaultCode;
use crate::config::ConfigError;
use crate::node::NodeError;

/// What the exit code of `sidetone` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// The command line or a setting is wrong; nothing was tried.
    Usage = 2,
    /// The bus can't be reached, or nobody there offers it.
    Nobody = 3,
    /// No answer in time.
    Deadline = 4,
}

impl Exit {
    pub(super) const HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong command line or setting, 3 no bus or nobody offers it, 4 no answer in time";

    /// The exit code of an error.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        if error.is::<ConfigError>() || error.is::<PlanError>() {
            return Self::Usage;
        }
        let bus = match error.downcast_ref::<NodeError>() {
            Some(NodeError::Setting(_)) => return Self::Usage,
            Some(NodeError::Bus(error)) => Some(error),
            _ => error.downcast_ref::<BusError>(),
        };
        match bus {
            Some(BusError::Connect { .. } | BusError::Disconnected { .. } | BusError::Nobody { .. }) => Self::Nobody,
            Some(BusError::Deadline { .. }) => Self::Deadline,
            Some(BusError::Fault(fault)) if fault.code == FaultCode::Deadline => Self::Deadline,
            Some(BusError::Fault(fault)) if fault.code == FaultCode::NotFound => Self::Nobody,
            _ => Self::Failed,
        }
    }

    /// Says what went wrong on standard error; gives the code.
    #[must_use]
    pub fn report(self, why: &str) -> ExitCode {
        // If standard error is closed too, no reader is left.
        let _ = writeln!(std::io::stderr(), "sidetone: {why}");
        ExitCode::from(self as u8)
    }
}
