//! `sidetone transcribe --batch`: recordings become jobs.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::args::{TranscribeArgs, named};
use crate::audio::{ClipError, ClipReader};
use crate::bus::jobs::Jobs;
use crate::bus::message::node::NodeInfo;
use crate::bus::message::stt::Request;
use crate::bus::subject::{Capability, Target};
use crate::bus::{Bus, roster};
use crate::cli::print;
use crate::config::Config;
use crate::router::Privacy;

/// The largest file that hosts fetch.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A job, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Submitted<'a> {
    id: &'a str,
    file: &'a str,
}

/// Puts each file into the queue. One that can't be read does not keep the others out.
pub async fn submit(bus: &Bus, config: &Config, args: &TranscribeArgs) -> anyhow::Result<()> {
    let jobs = Jobs::open(bus).await?;
    let here = config.node_name();
    let target = match (&args.node, &args.model) {
        (Some(node), _) => Target::Node(node),
        // What may not leave this host waits for this host.
        (None, _) if config.node.privacy == Privacy::Host => Target::Node(&here),
        (None, Some(model)) => Target::Model(model),
        (None, None) => Target::Any,
    };
    let mut failed = 0;
    for file in &args.files {
        let shown = file.display().to_string();
        let bytes = match read(file).await.map_err(|error| named(error, file)) {
            Ok(bytes) => bytes,
            Err(error) if args.files.len() > 1 => {
                print::note(&format!("{error:#}"));
                failed += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        let request = Request { language: args.language.clone(), model: args.model.clone(), ..Request::default() };
        let id = jobs.submit(target, &shown, &request, Some(&bytes)).await?;
        if args.json {
            print::json(&Submitted { id: &id, file: &shown })?;
        } else {
            print::lines(&[format!("{id}  {shown}")])?;
        }
    }
    if let Some(why) = nobody(bus, Capability::Stt, target).await {
        print::note(&format!("{why}: the jobs wait until a host comes that does"));
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} files could not be read", args.files.len());
    }
    Ok(())
}

/// Says so, if no host that is there would take a job; nothing if that is not known.
pub async fn nobody(bus: &Bus, capability: Capability, target: Target<'_>) -> Option<String> {
    let nodes = roster::nodes(bus).await.ok()?;
    let fits = |node: &&NodeInfo| !node.draining && !matches!(target, Target::Node(name) if node.node != name);
    let offers: Vec<_> = nodes.iter().filter(fits).flat_map(|node| &node.offers).collect();
    let offered = offers.iter().any(|offer| {
        offer.role == capability.token()
            && match target {
                Target::Model(model) => offer.models.iter().any(|own| own == model),
                Target::Any | Target::Node(_) => true,
            }
    });
    let whom = match target {
        Target::Any => String::new(),
        Target::Model(model) => format!(" with the model {model}"),
        Target::Node(node) => format!(" on {node}"),
    };
    (!offered).then(|| format!("nobody offers {capability}{whom} at the moment"))
}

/// A whole file, if it is audio.
async fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        if file.as_os_str() == "-" {
            std::io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).context("standard input")?;
        } else {
            let io = |e: std::io::Error| ClipError::Io { path: file.display().to_string(), reason: e.to_string() };
            let opened = std::fs::File::open(&file).map_err(io)?;
            opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        }
        if bytes.len() as u64 > MAX_FILE_BYTES {
            anyhow::bail!("it is over {} MiB, the most for a job: convert it to FLAC or Ogg", MAX_FILE_BYTES >> 20);
        }
        // A file that is no audio is refused now, not after its job has waited.
        ClipReader::from_bytes(bytes.clone())?;
        Ok(bytes)
    })
    .await
    .context("the reader broke")?
}
