//! `sidetone stop`: stops everything that sounds or acts, on every host.

use std::time::Duration;

use serde_json::json;
use ulid::Ulid;

use super::globals::Globals;
use super::{client, print};
use crate::bus::message::node::Stop;
use crate::bus::{Bus, subject};

/// How long the message may take to leave.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Stop everything that sounds or acts, on every host
///
/// Speech, answers, timers, OSC and MIDI that wait, notes that sound. The same as saying 'stop', OSC /assistant/stop, a
/// mapped pedal, or an empty message on the subject control.stop.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// Who wants it, for the hosts' logs
    #[arg(long, value_name = "TEXT", default_value = "sidetone stop")]
    by: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it. The stop leaves first; only then it is looked who has heard it.
///
/// # Errors
/// The bus can't be reached, or does not let this user stop anything.
pub async fn run(args: StopArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, config) = client::connect(globals).await?;
    tell(&bus, args.by).await?;
    let fabric = crate::fabric::Fabric::start(&bus, &config.node_name(), &config);
    let hosts: Vec<String> = fabric.nodes().await.into_iter().map(|info| info.node).collect();
    if args.json {
        return print::json(&json!({ "stopped": hosts }));
    }
    print::lines(&[match hosts.as_slice() {
        [] => "asked to stop; no host is there".to_owned(),
        hosts => format!("asked to stop: {}", hosts.join(", ")),
    }])
}

async fn tell(bus: &Bus, by: String) -> anyhow::Result<()> {
    let stop = Stop { by, id: Ulid::generate().to_string() };
    tokio::time::timeout(TIMEOUT, bus.tell(subject::STOP.to_owned(), &stop)).await??;
    Ok(())
}
