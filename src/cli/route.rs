//! `sidetone route`: which engine of which host would be asked, and why.

use serde::Serialize;

use super::globals::Globals;
use super::{client, print};
use crate::config::Config;
use crate::router::{Latency, Need, Privacy, Verdict};

/// Show which engines of which hosts would be asked for something, in their order, and why
#[derive(Debug, clap::Args)]
pub struct RouteArgs {
    /// What is needed: stt, tts, llm, agent
    #[arg(value_name = "CAPABILITY")]
    capability: String,
    /// What its models are asked for, such as embed, if that is not what the capability is for as a rule
    #[arg(long, value_name = "KIND", default_value = "")]
    kind: String,
    /// An engine, by its name on the host or by that of what does the work
    #[arg(long, value_name = "NAME", default_value = "")]
    engine: String,
    /// A model, or a class of models such as planner
    #[arg(long, value_name = "NAME", default_value = "")]
    model: String,
    /// A language, such as en or de-AT
    #[arg(long, alias = "language", value_name = "TAG", default_value = "")]
    lang: String,
    /// A voice
    #[arg(long, value_name = "NAME", default_value = "")]
    voice: String,
    /// What the host must have, such as gpu; can be given more than once
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Work that may wait: it only takes slots that are idle
    #[arg(long)]
    batch: bool,
    /// How far it may travel: host, lan or any [default: node.privacy]
    #[arg(long, value_name = "HOW_FAR", value_parser = privacy)]
    privacy: Option<Privacy>,
    /// Tell of those that would not be asked as well
    #[arg(long)]
    explain: bool,
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

fn privacy(text: &str) -> Result<Privacy, String> {
    match text {
        "host" => Ok(Privacy::Host),
        "lan" => Ok(Privacy::Lan),
        "any" => Ok(Privacy::Any),
        _ => Err("it is host, lan or any".to_owned()),
    }
}

/// An engine, as it is printed.
#[derive(Debug, Serialize)]
struct Line {
    /// Its place in the order, from 1; absent if it would not be asked.
    rank: Option<usize>,
    host: String,
    /// Its name on the host; empty where that has but one.
    engine: String,
    why: String,
}

/// Runs it. Ends with an error if nobody would be asked.
///
/// # Errors
/// The bus can't be reached, or nobody offers it.
pub async fn run(args: RouteArgs, globals: &Globals) -> anyhow::Result<()> {
    let (fabric, config) = client::fabric(globals).await?;
    let need = Need {
        capability: args.capability.clone(),
        kind: args.kind.clone(),
        engine: args.engine.clone(),
        model: args.model.clone(),
        language: args.lang.clone(),
        voice: args.voice.clone(),
        tags: args.tags.clone(),
        latency: if args.batch { Latency::Batch } else { Latency::Interactive },
        privacy: args.privacy.unwrap_or(config.node.privacy),
    };
    let lines = lines(&fabric.explain(&need).await);
    let nobody = lines.iter().all(|line| line.rank.is_none());
    let shown: Vec<_> = lines.into_iter().filter(|line| args.explain || nobody || line.rank.is_some()).collect();
    if args.json {
        print::json(&shown)?;
    } else if !shown.is_empty() {
        let rank = |line: &Line| line.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
        print::table(
            &["#", "host", "engine", "why"],
            shown.iter().map(|line| [rank(line), line.host.clone(), line.engine.clone(), line.why.clone()]),
        )?;
    }
    if nobody {
        return Err(fabric.nobody(&need).await.into());
    }
    if !args.json {
        print::note(&asked_from(&config));
    }
    Ok(())
}

fn rank_of(verdict: &Verdict) -> Option<usize> {
    match verdict {
        Verdict::Taken { rank, .. } => Some(*rank),
        _ => None,
    }
}

fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Taken { reason, .. } => reason.to_string(),
        other => other.to_string(),
    }
}

fn asked_from(config: &Config) -> String {
    format!("as asked from {}; two that do equally well are drawn by lot", config.node_name())
}

fn lines(lines: &[crate::router::Line]) -> Vec<Line> {
    let mut lines: Vec<Line> = lines
        .iter()
        .map(|line| Line {
            rank: rank_of(&line.verdict),
            host: line.id.host.clone(),
            engine: line.id.engine.clone(),
            why: why(&line.verdict),
        })
        .collect();
    lines.sort_by_key(|line| (line.rank.is_none(), line.rank));
    lines
}
