//! How the subcommands that talk to a running host reach the bus.

use anyhow::Context as _;

use super::Globals;
use crate::bus::{Bus, embedded};
use crate::config::Config;
use crate::fabric::Fabric;

/// The same, with the way to whoever can.
///
/// # Errors
/// As [`connect`].
pub async fn fabric(globals: &Globals) -> anyhow::Result<(Fabric, Config)> {
    let (bus, config) = connect(globals).await?;
    Ok((Fabric::start(&bus, &config.node_name(), &config), config))
}

/// Connects to the bus of the settings, once: a person waits.
///
/// # Errors
/// The settings are wrong, or nothing listens there.
pub async fn connect(globals: &Globals) -> anyhow::Result<(Bus, Config)> {
    let config = globals.config()?;
    let (url, hint) = if config.bus.is_embedded() {
        (embedded::url(config.bus.port), "is a host running? start one with `sidetone run`")
    } else {
        (config.bus.url.clone(), "check --bus, $SIDETONE_BUS and bus.url")
    };
    let bus = Bus::connect(&url, "cli").await.context(hint)?;
    bus.set_replicas(config.bus.replicas);
    Ok((bus, config))
}
