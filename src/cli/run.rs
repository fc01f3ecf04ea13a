//! `sidetone run`: the host itself.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::globals::Globals;
use super::print;
use crate::bus::embedded;
use crate::bus::message::node::NodeInfo;
use crate::node;
use crate::role::ROLES;

/// Run a host with its roles until it is stopped
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Roles to switch on (node.roles)
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',')]
    roles: Vec<String>,
    /// List the roles there are, and end
    #[arg(long)]
    list_roles: bool,
}

impl RunArgs {
    /// Whether a host is to be run, and not only talked about.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        !self.list_roles
    }
}

/// Runs it.
///
/// # Errors
/// The host can't start, or loses its name.
pub async fn run(args: RunArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.list_roles {
        return print::table(
            &["role", "what it does"],
            ROLES.iter().map(|row| [row.name.to_owned(), row.about.to_owned()]),
        );
    }
    let mut config = globals.config()?;
    if !args.roles.is_empty() {
        config.node.roles = args.roles;
    }
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("can't hear SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't hear Ctrl-C")?;
    let url = if config.bus.is_embedded() { embedded::url(config.bus.port) } else { config.bus.url.clone() };
    let work = node::run(config, globals.home(), stop.clone(), |info| greet(info, &url));
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => return Ok(result?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    // A second signal ends it at once.
    tokio::select! {
        result = &mut work => Ok(result?),
        _ = terminate.recv() => anyhow::bail!("ended at once by a second SIGTERM; work may have been cut off"),
        _ = interrupt.recv() => anyhow::bail!("ended at once by a second Ctrl-C; work may have been cut off"),
    }
}

/// Says what the host serves, and how to watch it.
fn greet(info: &NodeInfo, url: &str) {
    let mut lines = vec![format!("{} is up on {url}", info.node)];
    for offer in &info.offers {
        let with = if offer.engine.is_empty() { String::new() } else { format!(" ({})", offer.engine) };
        lines.push(format!("  {:6} {}{with}", offer.role, offer.models.join(", ")));
    }
    lines.push("`sidetone watch` shows what happens; Ctrl-C ends it.".to_owned());
    // A closed standard output must not end the host.
    let _ = print::lines(&lines);
}
