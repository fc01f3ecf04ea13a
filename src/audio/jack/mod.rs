//! The clients of JACK that this process has. The sole user of the `jack` crate.
//!
//! | module | what |
//! | --- | --- |
//! | `listener` | [`JackClient`]: a listener's, with the ports `voice_in` and `voice_out` |
//! | `graph` | [`GraphClient`]: one without ports, that sees all others' and connects them |
//! | `patchbay` | [`Patchbay`]: what a client sees of the graph, and how it changes it |
//! | `table` | who has a client open, and who may open one |
//! | [`alive`] | keeps a client open while its server comes and goes |
//! | `watch` | [`Watch`]: what JACK reports, as atomics |
//! | `open` | the call that opens a client on a server of a name |
//!
//! libjack is loaded at run time: a host without it starts, and opening a client says what to install. libjack keeps one
//! server's shared memory for the whole process, which gives two rules that the table enforces: all clients of a process
//! belong to one server, and after that server has died every one of them is closed before the first is opened again.
//!
//! What JACK reports (death, rate, period, xruns, changes of the graph) arrives in [`Watch`] as atomics; the thread that
//! opened the client is unparked. Nothing in a callback waits for anybody.

pub mod alive;
mod graph;
mod listener;
mod midi;
mod open;
mod patchbay;
mod table;
mod watch;

pub use graph::GraphClient;
pub use listener::{JackClient, JackSettings, PORT_IN, PORT_OUT};
pub use midi::{MidiClient, MidiSettings};
pub(in crate::audio) use patchbay::client_of;
pub use patchbay::{ConnectError, GraphPort, GraphState, Latency, Patchbay, PortFlow, PortKind};
pub use watch::Watch;

/// The server that is meant: the one named, else `$JACK_DEFAULT_SERVER`, else `default`.
#[must_use]
pub fn server_name(named: Option<&str>) -> String {
    named
        .map(str::to_owned)
        .or_else(|| std::env::var("JACK_DEFAULT_SERVER").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "default".to_owned())
}

/// Why a client can't be had. Trying again can help with all but [`JackError::Name`] and [`JackError::OtherServer`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JackError {
    /// libjack is not installed.
    #[error(
        "the JACK library can't be loaded ({0}); install it: 'apt install libjack-jackd2-0', or PipeWire's 'pipewire-jack'"
    )]
    NoLibrary(String),
    /// No server of that name runs, or it belongs to another user.
    #[error(
        "no JACK server '{server}' answers; start one as this user, such as 'jackd -R -d alsa', or name the right one in jack.server or $JACK_DEFAULT_SERVER"
    )]
    NoServer {
        /// The server that was asked.
        server: String,
    },
    /// Another client has the name.
    #[error("JACK server '{server}' already has a client '{name}'; stop the other one, or give this one another name")]
    NameTaken {
        /// The server that was asked.
        server: String,
        /// The name that is taken.
        name: String,
    },
    /// The name can't be a client's.
    #[error("'{0}' can't be the name of a JACK client; use 1 to 63 bytes without ':'")]
    Name(String),
    /// This process already has clients of another server.
    #[error(
        "a client can't use JACK server '{server}' while another uses '{current}': libjack serves one server a process; run a second sidetone for it"
    )]
    OtherServer {
        /// The server that was asked for.
        server: String,
        /// The one that is in use.
        current: String,
    },
    /// A client of the server that died, or one that closes, is not gone yet.
    #[error(
        "another JACK client of this process has not been closed yet; if that lasts, libjack hangs: restart sidetone"
    )]
    Closing,
    /// JACK refused for another reason.
    #[error("JACK server '{server}' refused client '{name}': {reason}; see the server's own log")]
    Refused {
        /// The server that was asked.
        server: String,
        /// The client's name.
        name: String,
        /// What libjack said.
        reason: String,
    },
}
