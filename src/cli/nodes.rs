//! `sidetone nodes`: who is there.

use console::Term;

use super::globals::Globals;
use super::{client, print};
use crate::bus::message::node::{NodeInfo, Offer};
use crate::bus::roster;
use crate::fabric::Fabric;

/// List the hosts on the bus and what they offer
#[derive(Debug, clap::Args)]
pub struct NodesArgs {
    /// Print a JSON array instead of a table; with --watch one a line
    #[arg(long)]
    json: bool,
    /// Go on showing every change, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

/// Runs it.
///
/// # Errors
/// The bus can't be reached or read.
pub async fn run(args: NodesArgs, globals: &Globals) -> anyhow::Result<()> {
    if args.watch {
        let (fabric, _) = client::fabric(globals).await?;
        return watch(&fabric, args.json).await;
    }
    let (bus, config) = client::connect(globals).await?;
    // A fixed list of hosts is asked one by one; the bucket NODES knows without asking.
    let nodes = if config.bus.hosts.is_empty() {
        roster::nodes(&bus).await?
    } else {
        Fabric::start(&bus, &config.node_name(), &config).nodes().await
    };
    if args.json {
        return print::json(&nodes);
    }
    if nodes.is_empty() {
        return print::lines(&["no host is up on this bus: start one with `sidetone run`"]);
    }
    print::text(&table(&nodes))
}

async fn watch(fabric: &Fabric, json: bool) -> anyhow::Result<()> {
    let (mut changes, term) = (fabric.changes(), Term::stdout());
    let mut shown = None;
    loop {
        let nodes = fabric.nodes().await;
        if shown.as_ref() != Some(&nodes) {
            if json {
                print::text(&format!("{}\n", serde_json::to_string(&nodes)?))?;
            } else {
                if term.is_term() {
                    term.clear_screen()?;
                }
                print::text(&table(&nodes))?;
            }
            shown = Some(nodes);
        }
        changes.changed().await?;
    }
}

/// The hosts as a table; a line a role.
fn table(nodes: &[NodeInfo]) -> String {
    let rows = nodes.iter().flat_map(|node| {
        // A host that starts has no role up yet, and has its name already.
        let starting = node.offers.is_empty().then(|| Offer { role: "(starting)".to_owned(), ..Offer::default() });
        let offers: Vec<Offer> = node.offers.iter().cloned().chain(starting).collect();
        offers.into_iter().enumerate().map(move |(at, offer)| {
            let once = |text: String| if at == 0 { text } else { String::new() };
            let name = if node.draining { format!("{} (draining)", node.node) } else { node.node.clone() };
            [
                once(name),
                once(node.addresses.join(" ")),
                once(node.tags.join(" ")),
                offer.role.clone(),
                if offer.cloud { format!("{} (outside)", offer.engine) } else { offer.engine.clone() },
                models(&offer),
                offer.languages.join(" "),
                if offer.slots == 0 { String::new() } else { format!("{}/{}", offer.in_flight, offer.slots) },
                if offer.usual_ms == 0 { String::new() } else { format!("{} ms", offer.usual_ms) },
            ]
        })
    });
    let header = ["host", "addresses", "tags", "role", "engine", "models", "languages", "busy", "usual"];
    print::rendered(&header, rows)
}

/// The models, those that are not loaded in brackets.
fn models(offer: &Offer) -> String {
    let model = |name: &String| if offer.warm.contains(name) { name.clone() } else { format!("({name})") };
    offer.models.iter().map(model).collect::<Vec<_>>().join(", ")
}
