//! `sidetone links`: the audio links between hosts, and how they are doing.

use std::time::Duration;

use futures::future::join_all;

use super::globals::Globals;
use super::{client, print};
use crate::bus::Call;
use crate::bus::message::audio::{Link, LinkOrder, LinkState};
use crate::bus::subject::Target;

/// How long a host may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// List the audio links of all hosts, with their state, round trip and loss
#[derive(Debug, clap::Args)]
pub struct LinksArgs {
    /// Only those of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// The bus can't be reached, or a host does not answer.
pub async fn run(args: LinksArgs, globals: &Globals) -> anyhow::Result<()> {
    let (fabric, _) = client::fabric(globals).await?;
    let hosts: Vec<String> = match args.host {
        Some(host) => vec![host],
        None => {
            let nodes = fabric.nodes().await;
            let has_audio =
                |info: &crate::bus::message::node::NodeInfo| info.offers.iter().any(|offer| offer.audio.is_some());
            nodes.into_iter().filter(has_audio).map(|info| info.node).collect()
        }
    };
    let bus = fabric.bus();
    let call = Call::within(ASK_TIMEOUT);
    let asked = join_all(hosts.iter().map(|host| bus.ask(Target::Node(host), &LinkOrder::List, &call))).await;
    let (mut links, mut failed) = (Vec::new(), None);
    for (host, answer) in hosts.iter().zip(asked) {
        match answer {
            Ok(list) => links.extend(list.links),
            Err(error) => {
                failed = Some(anyhow::Error::from(error).context(format!("host '{host}' does not tell its links")))
            }
        }
    }
    if args.json {
        print::json(&links)?;
    } else if links.is_empty() && failed.is_none() {
        print::lines(&["there are no audio links: `sidetone link ONE OTHER` sets one up"])?;
    } else {
        print::text(&table(&links))?;
    }
    failed.map_or(Ok(()), Err)
}

fn table(links: &[Link]) -> String {
    let rows = links.iter().map(|link| {
        let spec = &link.spec;
        let ms = |us: Option<u64>| us.map(|us| format!("{:.1} ms", us as f64 / 1_000.0)).unwrap_or_default();
        [
            link.node.clone(),
            spec.name.clone(),
            spec.mode.clone(),
            spec.peer.clone(),
            spec.port.to_string(),
            spec.channels.to_string(),
            link.state.name().to_owned(),
            ms(link.round_trip_us),
            if link.state == LinkState::Up { ms(link.buffered_us) } else { String::new() },
            link.loss.map(|loss| format!("{:.1} %", loss * 100.0)).unwrap_or_default(),
            if link.restarts == 0 { String::new() } else { link.restarts.to_string() },
            link.why.clone(),
        ]
    });
    let header = [
        "host",
        "link",
        "mode",
        "peer",
        "port",
        "channels",
        "state",
        "round trip",
        "buffered",
        "loss",
        "restarts",
        "why",
    ];
    print::rendered(&header, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Message as _;

    #[test]
    fn a_link_is_a_line_with_what_was_measured() {
        let lost = Link { state: LinkState::Lost, why: "nothing comes".to_owned(), loss: None, ..Link::example() };
        let text = table(&[Link::example(), lost]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("0.4 ms") && lines[1].contains("26.7 ms") && lines[1].contains("0.0 %"), "{text}");
        assert!(lines[2].contains("lost") && lines[2].ends_with("nothing comes"), "{text}");
    }
}
