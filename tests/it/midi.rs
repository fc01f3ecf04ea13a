//! Role `midi` on a real JACK server, with a device that is a client of its own.

mod faults;
mod play;
mod table;

use std::time::Duration;

use sidetone::bus::BusError;
use sidetone::bus::Call;
use sidetone::bus::message::midi::{Out, Sent, State, StateQuery};
use sidetone::bus::subject::Target;

use crate::support::host::{Host, HostSpec};
use crate::support::jack::JackServer;

/// A host with the role alone, on a server of its own, with a port `pad` for the device `pad`.
fn spec(jack: &JackServer, roles: &str, more: &str) -> HostSpec {
    let spec = HostSpec::new("stage", roles);
    let file = spec.home().join("midi.toml");
    let text = format!("[jack]\nserver = {:?}\n[midi.ports.pad]\nmatch = \"pad:*\"\n{more}\n", jack.name());
    std::fs::write(&file, text).unwrap();
    spec.argument(&["--config", file.to_str().unwrap()])
}

/// Asks the host to send something.
async fn send(host: &Host, json: &str) -> Result<Sent, BusError> {
    let out: Out = serde_json::from_str(json).unwrap();
    host.bus().ask(Target::Any, &out, &Call::within(Duration::from_secs(10))).await
}

/// What the host says of its MIDI.
async fn state(host: &Host) -> State {
    host.bus().ask(Target::Any, &StateQuery::default(), &Call::within(Duration::from_secs(10))).await.unwrap()
}
