//! `sidetone nodes`: who is there.

use super::{Globals, client, print};
use crate::bus::message::node::Offer;
use crate::bus::registry;

/// List the hosts on the bus and what they offer
#[derive(Debug, clap::Args)]
pub struct NodesArgs {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// The bus can't be reached or read.
pub async fn run(args: NodesArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, _) = client::connect(globals).await?;
    let nodes = registry::nodes(&bus).await?;
    if args.json {
        return print::json(&nodes);
    }
    if nodes.is_empty() {
        return print::lines(&["no host is up on this bus: start one with `sidetone run`"]);
    }
    let rows = nodes.iter().flat_map(|node| {
        // A host that starts has no role up yet, and has its name already.
        let starting = node.offers.is_empty().then(|| Offer { role: "(starting)".to_owned(), ..Offer::default() });
        let offers: Vec<Offer> = node.offers.iter().cloned().chain(starting).collect();
        offers.into_iter().enumerate().map(move |(at, offer)| {
            let once = |text: &str| if at == 0 { text.to_owned() } else { String::new() };
            let busy = if offer.slots == 0 { String::new() } else { format!("{}/{}", offer.in_flight, offer.slots) };
            [once(&node.node), once(&node.version), offer.role, offer.engine, offer.models.join(", "), busy]
        })
    });
    print::table(&["host", "version", "role", "engine", "models", "busy"], rows)
}
