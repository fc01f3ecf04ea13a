//! `sidetone nodes`: who is there.

use console::Term;

use super::globals::Globals;
use super::{client, print};
use crate::bus::message::node::{NodeInfo, Offer, Privacy};
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

/// The hosts as a table; a line an engine of a role.
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
                engine(&offer),
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

/// What does the work, by its name on the host if it has one of its own, and where that is if it is not the host.
fn engine(offer: &Offer) -> String {
    let Offer { name, engine, .. } = offer;
    let shown = if name.is_empty() || name == engine { engine.clone() } else { format!("{name}: {engine}") };
    match offer.reach() {
        Privacy::Host => shown,
        Privacy::Lan => format!("{shown} (lan)"),
        Privacy::Any => format!("{shown} (outside)"),
    }
}

/// The models, those that are not loaded in brackets; and those of another kind, by what they do.
fn models(offer: &Offer) -> String {
    let model = |name: &String| if offer.warm.contains(name) { name.clone() } else { format!("({name})") };
    let of_kinds = offer.kinds.iter().map(|(kind, models)| format!("{kind}: {}", models.join(", ")));
    let of_kinds = of_kinds.collect::<Vec<_>>();
    let usual = offer.models.iter().map(model).collect::<Vec<_>>().join(", ");
    std::iter::once(usual).filter(|usual| !usual.is_empty()).chain(of_kinds).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_engine_says_its_name_where_it_is_and_what_it_has() {
        let small = vec!["smol".to_owned()];
        let near = Offer { engine: "ollama".to_owned(), name: "ollama".to_owned(), ..Offer::default() };
        assert_eq!(engine(&near), "ollama");
        let far = Offer { name: "big".to_owned(), models: small.clone(), warm: small, ..near }.reaching(Privacy::Any);
        assert_eq!((engine(&far), models(&far)), ("big: ollama (outside)".to_owned(), "smol".to_owned()));
        let kinds = BTreeMap::from([("embed".to_owned(), vec!["nomic".to_owned()])]);
        assert_eq!(models(&Offer { warm: Vec::new(), kinds, ..far }), "(smol); embed: nomic");
    }
}
