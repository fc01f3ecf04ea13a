//! The subcommands, a file each, named as the subcommand.

pub mod ask;
pub mod client;
pub mod completions;
pub mod contract;
pub mod decode;
pub mod deploy;
pub mod doctor;
pub mod drain;
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

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::bus::BusError;
use crate::bus::message::fault::FaultCode;
use crate::config::{self, Config, ConfigError};
use crate::home::Home;
use crate::node::NodeError;
use crate::telemetry::{Export, LogFormat};

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
    /// As [`Config::load`].
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

/// What the exit code of `sidetone` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// The command line or a setting is wrong; nothing was tried.
    Usage = 2,
    /// The bus can't be reached, or nobody there offers it.
    Nobody = 3,
    /// No answer in time.
    Deadline = 4,
}

impl Exit {
    const HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong command line or setting, 3 no bus or nobody offers it, 4 no answer in time";

    /// The exit code of an error.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        if error.is::<ConfigError>() || error.is::<deploy::PlanError>() {
            return Self::Usage;
        }
        let bus = match error.downcast_ref::<NodeError>() {
            Some(NodeError::Setting(_)) => return Self::Usage,
            Some(NodeError::Bus(error)) => Some(error),
            _ => error.downcast_ref::<BusError>(),
        };
        match bus {
            Some(BusError::Connect { .. } | BusError::Disconnected { .. } | BusError::Nobody { .. }) => Self::Nobody,
            Some(BusError::Deadline { .. }) => Self::Deadline,
            Some(BusError::Fault(fault)) if fault.code == FaultCode::Deadline => Self::Deadline,
            Some(BusError::Fault(fault)) if fault.code == FaultCode::NotFound => Self::Nobody,
            _ => Self::Failed,
        }
    }

    /// Says what went wrong on standard error; gives the code.
    #[must_use]
    pub fn report(self, why: &str) -> ExitCode {
        // If standard error is closed too there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "sidetone: {why}");
        ExitCode::from(self as u8)
    }
}

/// What every subcommand takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Globals {
    /// Folder for models and state [default: .sidetone at or above the working directory, else ~/.local/share/sidetone]
    #[arg(long, global = true, env = "SIDETONE_HOME", value_name = "FOLDER")]
    pub home: Option<PathBuf>,
    /// Configuration file; can be given more than once, later ones win [default: config.toml in the home folder]
    #[arg(long, short, global = true, env = "SIDETONE_CONFIG", value_name = "FILE", value_delimiter = ':')]
    pub config: Vec<PathBuf>,
    /// One setting, such as llm.engine=ollama; wins over the files
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Address of the NATS server, or `embedded` (bus.url)
    #[arg(long, global = true, env = "SIDETONE_BUS", value_name = "URL")]
    pub bus: Option<String>,
    /// Name of the host (node.name)
    #[arg(long, global = true, env = "SIDETONE_NAME", value_name = "NAME")]
    pub name: Option<String>,
}

impl Globals {
    /// The home folder.
    #[must_use]
    pub fn home(&self) -> Home {
        Home::find(self.home.as_deref())
    }

    /// The settings.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(&config::files(&self.config, self.home().path()), &self.sets)?;
        if let Some(url) = &self.bus {
            config.bus.url.clone_from(url);
        }
        if let Some(name) = &self.name {
            config.node.name.clone_from(name);
        }
        Ok(config)
    }
}
