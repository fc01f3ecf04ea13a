//! `sidetone patch`: the JACK graph of a host: shown, saved, restored.

mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::globals::Globals;
use super::{client, print};
use crate::audio::GraphReport;
use crate::audio::jack::GraphClient;
use crate::audio::patcher::restore;
use crate::bus::message::audio::{Applied, Apply, AskGraph, Graph};
use crate::bus::subject::Target;
use crate::bus::{Bus, Call};
use crate::config::{ConfigError, ConnectConfig};
use crate::role::audio::convert;

/// How long a host may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Show, save or restore the JACK connections of a host
#[derive(Debug, clap::Args)]
pub struct PatchArgs {
    #[command(subcommand)]
    action: Action,
    /// The host, by the bus; it needs role audio [default: the JACK server of this machine]
    #[arg(long, global = true, value_name = "NAME")]
    host: Option<String>,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List ports, what they are connected to, and how long audio takes to and from the outside
    Show(ShowArgs),
    /// Write all connections to a file, as [[audio.connect]]
    Save(SaveArgs),
    /// Make the connections of a file; says what could not be, and why
    Apply(ApplyArgs),
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Only ports whose name has this in it
    filter: Option<String>,
}

#[derive(Debug, clap::Args)]
struct SaveArgs {
    /// The file; - or nothing: standard output
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ApplyArgs {
    /// The file: what `sidetone patch save` wrote, or any settings with [[audio.connect]]
    file: PathBuf,
    /// Part all other connections
    #[arg(long)]
    exact: bool,
}

/// What stands in a file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    #[serde(default)]
    audio: SavedAudio,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct SavedAudio {
    /// `None`: nothing stands there, not even that there is no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect: Option<Vec<ConnectConfig>>,
}

/// Runs it.
///
/// # Errors
/// There is no such host or no JACK server, the file can't be read, or not everything could be restored.
pub async fn run(args: PatchArgs, globals: &Globals) -> anyhow::Result<()> {
    let PatchArgs { action, host, json } = args;
    match action {
        Action::Show(show) => {
            let graph = graph(host.as_deref(), globals).await?;
            if json { print::json(&graph) } else { print::text(&table::ports(&graph, show.filter.as_deref())) }
        }
        Action::Save(save) => {
            let graph = graph(host.as_deref(), globals).await?;
            let text = if json { serde_json::to_string_pretty(&saved(&graph))? + "\n" } else { written(&graph)? };
            match save.file.filter(|file| file != Path::new("-")) {
                None => print::text(&text),
                Some(file) => {
                    std::fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
                    print::lines(&[format!("{} connections are in {}", graph.connections.len(), file.display())])
                }
            }
        }
        Action::Apply(apply) => {
            let connect = read(&apply.file)?;
            let applied = make(host.as_deref(), globals, &connect, apply.exact).await?;
            if json {
                print::json(&applied)?;
            } else {
                print::lines(&table::applied(&applied))?;
            }
            match applied.missing.len() {
                0 => Ok(()),
                1 => anyhow::bail!("1 connection could not be restored"),
                missing => anyhow::bail!("{missing} connections could not be restored"),
            }
        }
    }
}

/// The graph of a host, or of this machine.
async fn graph(host: Option<&str>, globals: &Globals) -> anyhow::Result<Graph> {
    if let Some(host) = host {
        let (bus, _) = client::connect(globals).await?;
        let graph = ask(&bus, host, &AskGraph {}).await?;
        if let Some(down) = &graph.down {
            anyhow::bail!("{host} has no JACK graph: {down}");
        }
        return Ok(graph);
    }
    let config = globals.config()?;
    let server = Some(config.jack.server.clone()).filter(|name| !name.is_empty());
    let report = blocking(move || look(server.as_deref())).await?;
    Ok(convert::graph(&config.node_name(), &report))
}

async fn make(
    host: Option<&str>,
    globals: &Globals,
    connect: &[ConnectConfig],
    exact: bool,
) -> anyhow::Result<Applied> {
    if let Some(host) = host {
        let (bus, _) = client::connect(globals).await?;
        let connect = connect.iter().map(convert::to_wire_rule).collect();
        return ask(&bus, host, &Apply { connect, exact }).await;
    }
    let config = globals.config()?;
    let rules = connect.iter().map(convert::connect_rule).collect::<Result<Vec<_>, _>>().map_err(wrong("the file"))?;
    let server = Some(config.jack.server.clone()).filter(|name| !name.is_empty());
    let plan = blocking(move || {
        let client = open(server.as_deref())?;
        Ok(restore(client.patchbay(), &rules, exact))
    })
    .await?;
    Ok(convert::applied(&config.node_name(), &plan))
}

/// libjack blocks, and may hang with its server.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    let done = tokio::time::timeout(ASK_TIMEOUT, tokio::task::spawn_blocking(work)).await;
    done.context("the JACK server does not answer; see its log")??
}

fn open(server: Option<&str>) -> anyhow::Result<GraphClient> {
    // Two people may look at once.
    Ok(GraphClient::open(&format!("sidetone-patch-{}", std::process::id()), server)?)
}

fn look(server: Option<&str>) -> anyhow::Result<GraphReport> {
    let client = open(server)?;
    Ok(GraphReport::of(client.watch(), client.state()))
}

async fn ask<A: crate::bus::message::Ask>(bus: &Bus, host: &str, request: &A) -> anyhow::Result<A::Reply> {
    let asked = bus.ask(Target::Node(host), request, &Call::within(ASK_TIMEOUT)).await;
    asked
        .with_context(|| format!("host '{host}' was asked; it needs role audio, and `sidetone nodes` lists who has it"))
}

/// The connections as rules.
fn saved(graph: &Graph) -> Saved {
    let connect = graph.connections.iter().map(|connection| ConnectConfig {
        from: exactly(&connection.from),
        to: exactly(&connection.to),
        ..ConnectConfig::default()
    });
    Saved { audio: SavedAudio { connect: Some(connect.collect()) } }
}

/// A port's name as a pattern: it would be a regular expression between slashes.
fn exactly(name: &str) -> String {
    match name.strip_prefix('/') {
        Some(rest) if rest.ends_with('/') => format!("[/]{rest}"),
        _ => name.to_owned(),
    }
}

/// The file.
fn written(graph: &Graph) -> anyhow::Result<String> {
    let at = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    let node = graph.node.escape_debug();
    let head = format!(
        "# JACK connections of {node}, {at}. `sidetone patch apply FILE` makes them again; pasted into the settings,\n# a host keeps them.\n"
    );
    Ok(head + "\n" + &toml::to_string(&saved(graph))?)
}

fn read(file: &Path) -> anyhow::Result<Vec<ConnectConfig>> {
    let text = std::fs::read_to_string(file).map_err(|why| ConfigError::Read { path: file.to_owned(), why })?;
    let place = file.display().to_string();
    let saved: Saved = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(wrong(&place))?
    } else {
        toml::from_str(&text).map_err(wrong(&place))?
    };
    let Some(connect) = saved.audio.connect else {
        return Err(
            wrong(&place)("there is no [[audio.connect]] in it; `sidetone patch save` writes such a file").into()
        );
    };
    for rule in &connect {
        convert::connect_rule(rule).map_err(wrong(&place))?;
    }
    Ok(connect)
}

fn wrong<E: std::fmt::Display>(place: &str) -> impl Fn(E) -> ConfigError {
    move |why| ConfigError::Wrong { place: place.to_owned(), why: why.to_string().trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Message as _;
    use crate::bus::message::audio::Connection;
    use crate::config::Config;

    #[test]
    fn what_is_saved_is_read_again_here_and_as_settings() {
        let odd = [("a2j:USB [24] (capture): out \"1\"", "in:1"), ("/x:y/", "in:2"), ("é:ü", "a:*")];
        let connections =
            odd.iter().map(|(from, to)| Connection { from: (*from).to_owned(), to: (*to).to_owned() }).collect();
        let graph = Graph { connections, ..Graph::example() };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patch.toml");
        std::fs::write(&file, written(&graph).unwrap()).unwrap();
        let read = read(&file).unwrap();
        for (rule, (from, to)) in read.iter().zip(odd) {
            let rule = convert::connect_rule(rule).unwrap();
            assert!(rule.from.matches_name(from) && rule.to.matches_name(to), "{rule:?}");
        }
        let config = Config::load(&[file], &[]).unwrap();
        assert_eq!(config.audio.connect, read);
    }

    #[test]
    fn a_graph_without_connections_is_saved_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patch.toml");
        let graph = Graph { connections: Vec::new(), ..Graph::example() };
        std::fs::write(&file, written(&graph).unwrap()).unwrap();
        assert_eq!(read(&file).unwrap(), []);
        assert_eq!(Config::load(&[file], &[]).unwrap().audio.connect, []);
    }

    #[test]
    fn a_file_without_sense_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patch.toml");
        for (text, says) in [
            ("", "no [[audio.connect]]"),
            ("[[audio.connect]]\nfrom = 1\n", "line 2"),
            ("[[audio.connect]]\nfrom = \"a\"\n", "to"),
            ("{\"audio\":", "EOF"),
            ("[[audio.connect]]\nfrom = \"/(/\"\nto = \"b\"\n", "/(/"),
            ("[[audio.connect]]\nfrom = \"a\"\nto = \"b\"\nchannels = \"x\"\n", "1-2 2-1"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("patch.toml"), "{text}: {error}");
        }
        assert!(read(Path::new("/nowhere/x.toml")).unwrap_err().to_string().contains("/nowhere/x.toml"));
    }
}
