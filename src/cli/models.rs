//! `sidetone models`: what models there are, fetching and checking them.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use crate::home::Home;
use crate::models::{Catalogue, Model, ModelState, Outcome, Progress, fetch, state, verify};

/// Models: what there is, fetching and checking them.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List the models of the catalogue and whether they are on this host
    List {
        /// Print a JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Fetch models that are not on this host yet
    Fetch {
        /// The models, by name
        #[arg(value_name = "NAME", required_unless_present = "all")]
        names: Vec<String>,
        /// All models of the catalogue
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
    /// Check the files of models against the catalogue's hashes
    Verify {
        /// The models, by name; all that are on this host if none is given
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Does what `args` say with the models in `home`.
///
/// # Errors
/// Any [`crate::models::ModelError`], and that standard output can't be written to.
pub async fn run(args: ModelsArgs, home: &Home) -> anyhow::Result<()> {
    let catalogue = Catalogue::load(home)?;
    match args.command {
        ModelsCommand::List { json } => list(&catalogue, home, json),
        ModelsCommand::Fetch { names, all } => {
            let models = if all { catalogue.models().collect() } else { chosen(&catalogue, &names)? };
            for model in models {
                fetch_one(model, home).await?;
            }
            Ok(())
        }
        ModelsCommand::Verify { names } => {
            let models = if names.is_empty() {
                catalogue.models().filter(|model| state(home, model) != ModelState::Missing).collect()
            } else {
                chosen(&catalogue, &names)?
            };
            verify_all(&models, home)
        }
    }
}

fn chosen<'a>(catalogue: &'a Catalogue, names: &[String]) -> anyhow::Result<Vec<&'a Model>> {
    Ok(names.iter().map(|name| catalogue.find(name)).collect::<Result<_, _>>()?)
}

fn list(catalogue: &Catalogue, home: &Home, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let models = catalogue.models().map(|model| {
            json!({
                "name": model.name, "kind": model.kind, "description": model.description, "licence": model.licence,
                "languages": model.languages, "size_bytes": model.size_bytes, "origin": model.origin(),
                "state": state(home, model), "folder": model.dir(home),
            })
        });
        serde_json::to_writer_pretty(&mut out, &models.collect::<Vec<_>>())?;
        writeln!(out)?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["NAME", "KIND", "SIZE", "LANGUAGE", "LICENCE", "STATE", "DESCRIPTION"]);
    for model in catalogue.models() {
        let languages = if model.languages.is_empty() { "any".to_owned() } else { model.languages.join(", ") };
        let size = DecimalBytes(model.size_bytes).to_string();
        let here = match state(home, model) {
            ModelState::Ready => "ready",
            ModelState::Unverified => "unverified",
            ModelState::Missing => "missing",
        };
        table.add_row([
            &model.name,
            &model.kind.to_string(),
            &size,
            &languages,
            &model.licence,
            here,
            &model.description,
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

async fn fetch_one(model: &Model, home: &Home) -> anyhow::Result<()> {
    let bar = Bar::new(&model.name);
    let outcome = fetch(home, model, &bar).await;
    let elapsed_s = bar.0.elapsed().as_secs_f32();
    bar.0.finish_and_clear();
    let mut out = io::stdout().lock();
    match outcome? {
        Outcome::AlreadyHere => writeln!(out, "{}: is here", model.name)?,
        Outcome::Fetched => {
            let size = DecimalBytes(model.size_bytes);
            writeln!(out, "{}: fetched {size} in {elapsed_s:.1} s from {}", model.name, model.origin())?;
        }
    }
    Ok(())
}

fn verify_all(models: &[&Model], home: &Home) -> anyhow::Result<()> {
    let mut first_error = None;
    for model in models {
        let result = verify(home, model);
        let verdict = if result.is_ok() { "is as the catalogue says" } else { "is not what the catalogue says" };
        writeln!(io::stdout().lock(), "{}: {verdict}", model.name)?;
        first_error = first_error.or(result.err());
    }
    first_error.map_or(Ok(()), |error| Err(error.into()))
}

/// A progress bar on standard error; nothing where that is no terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(name: &str) -> Self {
        let bar = ProgressBar::no_length().with_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
}

impl Progress for Bar {
    fn stage(&self, what: &str, total_bytes: Option<u64>) {
        let template = match total_bytes {
            Some(_) => {
                "{prefix}: {msg} {bar:30} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left"
            }
            None => "{spinner} {prefix}: {msg} ({elapsed})",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        match total_bytes {
            Some(total) => self.0.set_length(total),
            None => self.0.unset_length(),
        }
        self.0.set_position(0);
        self.0.set_message(what.to_owned());
    }

    fn at(&self, bytes: u64) {
        if self.0.length().is_none() {
            self.0.set_message(format!("{} arrived", DecimalBytes(bytes)));
        }
        self.0.set_position(bytes);
    }
}
