//! The command line: which subcommand. Each has a file, named as the subcommand; it imports `client`, `print` and `globals`, and
//! nothing above itself.

pub mod ask;
pub mod client;
pub mod completions;
pub mod contract;
pub mod decode;
pub mod deploy;
pub mod doctor;
pub mod drain;
mod exit;
mod globals;
pub mod jobs;
pub mod link;
pub mod links;
pub mod midi;
pub mod models;
pub mod nodes;
pub mod osc;
pub mod patch;
pub mod play;
pub mod print;
pub mod route;
pub mod run;
pub mod say;
pub mod session;
pub mod stop;
pub mod transcribe;
pub mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};

pub use exit::Exit;
use globals::Globals;

use crate::config::ConfigError;
use crate::telemetry::{self, Export, LogFormat};

/// How long work that blocks may take to end.
const LAST_WORK_TIMEOUT: Duration = Duration::from_millis(300);

/// One voice and agent system out of a handful of Linux hosts
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120, after_help = Exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    globals: Globals,
    /// What to log beyond the default, such as debug or sidetone::bus=trace
    #[arg(long, global = true, env = "SIDETONE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines are written
    #[arg(long, global = true, env = "SIDETONE_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Ask(ask::AskArgs),
    Say(say::SayArgs),
    Transcribe(transcribe::TranscribeArgs),
    Jobs(jobs::JobsArgs),
    Nodes(nodes::NodesArgs),
    Osc(osc::OscArgs),
    Route(route::RouteArgs),
    Watch(watch::WatchArgs),
    Stop(stop::StopArgs),
    Drain(drain::DrainArgs),
    Patch(patch::PatchArgs),
    Link(link::LinkArgs),
    Links(links::LinksArgs),
    Session(session::SessionArgs),
    Models(models::ModelsArgs),
    Doctor(doctor::DoctorArgs),
    Play(play::PlayArgs),
    Midi(midi::MidiArgs),
    Decode(decode::DecodeArgs),
    Deploy(deploy::DeployArgs),
    Contract(contract::ContractArgs),
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Where spans go: a host's settings say so.
    ///
    /// # Errors
    /// As [`Config::load`](crate::config::Config::load).
    pub fn export(&self) -> Result<Option<Export>, ConfigError> {
        match &self.command {
            Command::Run(args) if args.is_host() => {
                let config = self.globals.config()?;
                let url = config.telemetry.otlp_url.clone();
                Ok((!url.is_empty()).then(|| Export { url, node: config.node_name() }))
            }
            _ => Ok(None),
        }
    }
}

/// The whole program: command line → settings → logging → subcommand → exit code.
///
/// It stands in the library, since what a crate awaits is compiled with that crate: a `main.rs` that awaited the subcommands
/// would have most of the library compiled a second time.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS for every client; set once, before the first of them is made.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Exit::Failed.report("TLS can't be set up");
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failed.report(&format!("can't start threads: {error}")),
    };
    let export = match cli.export() {
        Ok(export) => export,
        Err(error) => return Exit::Usage.report(&error.to_string()),
    };
    let started = {
        let _within = runtime.enter();
        telemetry::start(cli.log.as_deref(), cli.log_format, export.as_ref())
    };
    let telemetry = match started {
        Ok(telemetry) => telemetry,
        Err(why) => return Exit::Usage.report(&why),
    };
    let result = runtime.block_on(run(cli, Cli::command()));
    telemetry.finish();
    // A thread that goes on while the process is taken apart runs into what is gone, so threads are waited for; but not
    // long for work that blocks, which serves no one any more.
    runtime.shutdown_timeout(LAST_WORK_TIMEOUT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Exit::of(&error).report(&format!("{error:#}")),
    }
}

/// Runs the subcommand; `command` is the whole command line's definition.
///
/// # Errors
/// What [`Exit::of`] makes an exit code of.
pub async fn run(cli: Cli, mut command: clap::Command) -> anyhow::Result<()> {
    let globals = &cli.globals;
    match cli.command {
        Command::Run(args) => run::run(args, globals).await,
        Command::Ask(args) => ask::run(args, globals).await,
        Command::Say(args) => say::run(args, globals).await,
        Command::Transcribe(args) => transcribe::run(args, globals).await,
        Command::Jobs(args) => jobs::run(args, globals).await,
        Command::Nodes(args) => nodes::run(args, globals).await,
        Command::Osc(args) => osc::run(args, globals).await,
        Command::Route(args) => route::run(args, globals).await,
        Command::Watch(args) => watch::run(args, globals).await,
        Command::Stop(args) => stop::run(args, globals).await,
        Command::Drain(args) => drain::run(args, globals).await,
        Command::Patch(args) => patch::run(args, globals).await,
        Command::Link(args) => link::run(args, globals).await,
        Command::Links(args) => links::run(args, globals).await,
        Command::Session(args) => session::run(args, globals).await,
        Command::Models(args) => models::run(args, &globals.home()).await,
        Command::Doctor(args) => doctor::run(args, globals).await,
        Command::Play(args) => play::run(args, globals).await,
        Command::Midi(args) => midi::run(args, globals).await,
        Command::Decode(args) => decode::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Contract(args) => contract::run(&args),
        Command::Completions(args) => completions::run(&args, &mut command),
    }
}
