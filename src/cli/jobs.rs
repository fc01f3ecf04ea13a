//! `sidetone jobs`: work that may wait, and what has come of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::Value;

use super::globals::Globals;
use super::transcribe::nobody;
use super::{client, print};
use crate::bus::jobs::{Jobs, MAX_ATTEMPTS, capability_of};
use crate::bus::message::job::{JobState, JobStatus};
use crate::bus::subject::Target;
use crate::bus::{Bus, BusError};

/// Show the work that may wait, wait for it, or call it off
#[derive(Debug, clap::Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List the jobs: those that wait or run, and those that were over in the last 30 days
    List {
        /// Print a JSON array instead of a table
        #[arg(long)]
        json: bool,
        /// Only those that are not over
        #[arg(long)]
        open: bool,
    },
    /// Show a job, with its result or error
    Show {
        /// The job's id
        id: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Wait for jobs and print what came of them
    Wait {
        /// The jobs' ids [default: all that are not over]
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Give up after so many seconds
        #[arg(long, value_name = "S")]
        timeout: Option<u64>,
        /// Print a JSON object a job
        #[arg(long)]
        json: bool,
    },
    /// Call jobs off
    Cancel {
        /// The jobs' ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Try jobs again that have failed
    Retry {
        /// The jobs' ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Runs it.
///
/// # Errors
/// The bus can't be reached, there is no such job, or one that was waited for has failed.
pub async fn run(args: JobsArgs, globals: &Globals) -> anyhow::Result<()> {
    let (bus, _) = client::connect(globals).await?;
    let jobs = Jobs::open(&bus).await?;
    match args.command {
        JobsCommand::List { json, open } => list(&bus, &jobs, json, open).await,
        JobsCommand::Show { id, json } => show(&jobs, &id, json).await,
        JobsCommand::Wait { ids, timeout, json } => {
            let wait = wait(&jobs, ids, json);
            let Some(seconds) = timeout else { return wait.await };
            let time = Duration::from_secs(seconds);
            tokio::time::timeout(time, wait).await.unwrap_or_else(|_| {
                let error = BusError::Deadline { subject: "the jobs".to_owned(), ms: time.as_millis() };
                Err(anyhow::Error::from(error))
            })
        }
        JobsCommand::Cancel { ids } => {
            for id in ids {
                jobs.cancel(&id).await?;
            }
            Ok(())
        }
        JobsCommand::Retry { ids } => {
            for id in ids {
                jobs.retry(&id).await?;
            }
            Ok(())
        }
    }
}

async fn list(bus: &Bus, jobs: &Jobs, json: bool, open: bool) -> anyhow::Result<()> {
    let all: Vec<JobState> = jobs.list().await?.into_iter().filter(|job| !open || !job.status.is_over()).collect();
    if json {
        return print::json(&all);
    }
    if all.is_empty() {
        return print::lines(&["no job is known: `sidetone transcribe --batch FILE` makes one"]);
    }
    let mut offered = HashMap::new();
    let mut rows = Vec::new();
    for job in &all {
        let capability = capability_of(job);
        if let Some(capability) = capability.filter(|_| job.status == JobStatus::Waiting)
            && let Entry::Vacant(entry) = offered.entry(capability)
        {
            entry.insert(nobody(bus, capability, Target::Any).await);
        }
        let nobody = capability.and_then(|capability| offered.get(&capability)?.clone());
        let node = job.node.clone().unwrap_or_default();
        let tries = if job.attempts == 0 { String::new() } else { format!("{}/{MAX_ATTEMPTS}", job.attempts) };
        let (id, name, status) = (job.id.clone(), job.job.name.clone(), job.status.name().to_owned());
        rows.push([id, name, status, node, tries, age(job), note(job, nobody)]);
    }
    print::table(&["id", "name", "status", "host", "tries", "since", "note"], rows)
}

/// Why it failed, or why it can't be begun; `nobody`: nobody who could is there.
fn note(job: &JobState, nobody: Option<String>) -> String {
    match &job.error {
        Some(error) => error.clone(),
        None if job.status != JobStatus::Waiting => String::new(),
        None if capability_of(job).is_none() => {
            format!("nobody can do {}: `sidetone jobs cancel` takes it away", job.subject)
        }
        None => nobody.unwrap_or_default(),
    }
}

/// How long ago it changed.
fn age(job: &JobState) -> String {
    let Ok(at) = job.changed.parse::<Timestamp>() else { return String::new() };
    let seconds = (Timestamp::now().as_second() - at.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

async fn show(jobs: &Jobs, id: &str, json: bool) -> anyhow::Result<()> {
    let mut job = jobs.get(id).await?;
    let result = jobs.result(&job).await?;
    if json {
        job.result = result;
        return print::json(&job);
    }
    let mut lines = vec![format!("id:       {}", job.id)];
    let mut add = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("{:9} {text}", format!("{name}:")));
        }
    };
    add("name", &job.job.name);
    add("subject", &job.subject);
    add("status", job.status.name());
    add("host", job.node.as_deref().unwrap_or_default());
    add("tries", &format!("{} of {MAX_ATTEMPTS}", job.attempts));
    add("begun", &job.job.at);
    add("changed", &job.changed);
    add("error", job.error.as_deref().unwrap_or_default());
    if let Some(result) = result {
        lines.push(String::new());
        lines.push(text(&result));
    }
    print::lines(&lines)
}

/// Waits for jobs in their order, and prints each.
async fn wait(jobs: &Jobs, ids: Vec<String>, json: bool) -> anyhow::Result<()> {
    let ids = if ids.is_empty() {
        jobs.list().await?.into_iter().filter(|job| !job.status.is_over()).map(|job| job.id).collect()
    } else {
        ids
    };
    let (many, mut failed) = (ids.len() > 1, Vec::new());
    for id in &ids {
        let mut job = jobs.wait(id).await.with_context(|| format!("job {id}"))?;
        let result = jobs.result(&job).await?;
        if job.status != JobStatus::Done {
            failed.push(format!("{} ({}) {}", job.id, job.job.name, job.status.name()));
        }
        if json {
            job.result = result;
            print::json(&job)?;
            continue;
        }
        if many {
            print::lines(&[format!("==> {} <==", if job.job.name.is_empty() { &job.id } else { &job.job.name })])?;
        }
        match (&result, &job.error) {
            (Some(result), _) => print::lines(&[text(result)])?,
            (None, Some(error)) => print::note(&format!("{}: {error}", job.job.name)),
            (None, None) => print::note(&format!("{}: {}", job.job.name, job.status.name())),
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => anyhow::bail!("not done: {}", failed.join("; ")),
    }
}

/// A result for people: its text, if it has one.
fn text(result: &Value) -> String {
    match result.get("text").and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => serde_json::to_string_pretty(result).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_shown_by_its_text() {
        assert_eq!(text(&serde_json::json!({ "text": "Hello.", "segments": [] })), "Hello.");
        assert_eq!(text(&serde_json::json!([1])), "[\n  1\n]");
    }

    #[test]
    fn ages_are_rounded_down() {
        let ago = |seconds: i64| {
            let at = Timestamp::from_second(Timestamp::now().as_second() - seconds).unwrap();
            age(&JobState { changed: at.to_string(), ..JobState::default() })
        };
        assert_eq!([ago(61), ago(3_700), ago(90_000)], ["1 min", "1 h", "1 d"]);
        assert_eq!(age(&JobState::default()), "");
    }
}
