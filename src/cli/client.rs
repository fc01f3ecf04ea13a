//! How the subcommands that talk to a running host reach the bus.

use anyhow::Context as _;

use super::globals::Globals;
use crate::bus::{Bus, BusError};
use crate::config::Config;
use crate::fabric::Fabric;
use crate::node;

/// The same, with the way to the hosts that can.
///
/// # Errors
/// As [`connect`].
pub async fn fabric(globals: &Globals) -> anyhow::Result<(Fabric, Config)> {
    let (bus, config) = connect(globals).await?;
    Ok((Fabric::start(&bus, &config.node_name(), &config), config))
}

/// The listener that is meant: that of the command line, else the first of the settings.
///
/// # Errors
/// The settings have none; `otherwise` says what else would do.
pub fn listener(named: Option<String>, config: &Config, otherwise: &str) -> anyhow::Result<String> {
    let first = || config.voice.listeners.first().map(|listener| listener.name.clone());
    named.or_else(first).with_context(|| format!("no listener is set up: name one with --listener{otherwise}"))
}

/// Connects to the bus of the settings, once: a person waits.
///
/// # Errors
/// The settings are wrong, or nothing listens there.
pub async fn connect(globals: &Globals) -> anyhow::Result<(Bus, Config)> {
    let config = globals.config()?;
    let hint = if config.bus.is_embedded() {
        "is a host running? start one with `sidetone run`"
    } else {
        "check --bus, $SIDETONE_BUS and bus.url"
    };
    let bus = match Bus::connect(node::access(&config)?, "cli").await {
        // The others say themselves what to do.
        Err(error @ BusError::Connect { .. }) => return Err(error).context(hint),
        result => result?,
    };
    bus.set_replicas(config.bus.replicas);
    Ok((bus, config))
}
