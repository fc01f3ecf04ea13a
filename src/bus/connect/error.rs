//! What can go wrong with a call, seen from the caller.

use crate::wire::message::fault::{Fault, FaultCode};

/// Why the bus did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// No server could be reached.
    #[error("can't reach NATS at {url}: {why}; start one, or set bus.url = \"embedded\"")]
    Connect {
        /// The address that was tried.
        url: String,
        /// What the connection said.
        why: String,
    },
    /// The connection dropped, before or while the call was under way.
    #[error("the connection to NATS is down: {what} was not done; it works again when the server is back")]
    Disconnected {
        /// What was to be done.
        what: String,
    },
    /// A file of the way onto the bus will not do.
    #[error("{what}: {why}")]
    Access {
        /// The setting and the file.
        what: String,
        /// The mistake in it.
        why: String,
    },
    /// The server does not let this user in.
    #[error(
        "the NATS server at {url} does not know this login ({why}); bus.nkey_file, bus.creds or the address must say who this is, and the server's configuration must have that user"
    )]
    Login {
        /// The address that was tried.
        url: String,
        /// What the server said.
        why: String,
    },
    /// The server knows this user by another name.
    #[error(
        "the NATS server knows the login of {user:?} by another name: it may hear no answers as {user:?}; node.name (--name) must be the name that the server's permissions are for"
    )]
    Name {
        /// The name that was given.
        user: String,
    },
    /// The server's permissions forbid the request.
    #[error(
        "this NATS user may not publish on {subject}: allow it in the NATS server's permissions for this user (`sidetone deploy nats` writes them for the roles of each host)"
    )]
    Denied {
        /// The subject that was asked.
        subject: String,
    },
    /// The server's permissions forbid to hear a subject.
    #[error(
        "the NATS user of {user} may not subscribe to {subject}: allow it in the server's permissions (`sidetone deploy nats` writes them for the roles of each host), or leave the role to another host"
    )]
    DeniedHearing {
        /// The user.
        user: String,
        /// The subject.
        subject: String,
    },
    /// No host serves the subject.
    #[error("nobody offers {subject}: start a host with that role (`sidetone nodes` shows who is there)")]
    Nobody {
        /// The subject that was asked.
        subject: String,
    },
    /// No answer came in time.
    #[error("no answer from {subject} within {ms} ms")]
    Deadline {
        /// The subject that was asked.
        subject: String,
        /// The time that was given.
        ms: u128,
    },
    /// A stream ended early or lost a chunk.
    #[error("the answer of {subject} is not whole: {why}")]
    Cut {
        /// The subject that was asked.
        subject: String,
        /// The part that lacks.
        why: String,
    },
    /// The body is bigger than the server takes.
    #[error("{what} is {bytes} bytes, and the server takes {max} in one message (max_payload)")]
    TooLarge {
        /// What was to be sent.
        what: String,
        /// Its size with headers.
        bytes: usize,
        /// The server's limit.
        max: usize,
    },
    /// The host that was asked says why not.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// JetStream refused.
    #[error("JetStream: {what}: {why}")]
    JetStream {
        /// What was tried.
        what: String,
        /// What it said.
        why: String,
    },
    /// The client itself failed.
    #[error("NATS: {what}: {why}")]
    Client {
        /// What was tried.
        what: String,
        /// What it said.
        why: String,
    },
}

impl BusError {
    /// Whether the same call, later or to another host, can succeed.
    #[must_use]
    pub const fn can_retry(&self) -> bool {
        match self {
            Self::Fault(fault) => fault.code.can_retry(),
            Self::TooLarge { .. } | Self::Denied { .. } | Self::DeniedHearing { .. } => false,
            Self::Access { .. } | Self::Login { .. } | Self::Name { .. } => false,
            _ => true,
        }
    }

    /// The same as this host answers it to its own caller.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let code = match self {
            Self::Fault(fault) => return fault.clone(),
            Self::TooLarge { .. } => FaultCode::TooLarge,
            Self::Deadline { .. } => FaultCode::Deadline,
            Self::Cut { .. } => FaultCode::Failed,
            _ => FaultCode::Unavailable,
        };
        Fault::new(code, self.to_string())
    }

    pub(in crate::bus) fn client(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Client { what: what.into(), why: why.to_string() }
    }

    pub(in crate::bus) fn jetstream(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::JetStream { what: what.into(), why: why.to_string() }
    }
}
