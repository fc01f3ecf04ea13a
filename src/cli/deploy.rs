//! `sidetone deploy`: what a lasting installation needs around the program: NATS servers with users, and systemd units.

mod folder;
mod nats;
mod pki;
mod plan;
mod systemd;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::print;
use folder::{Folder, drift_error};
pub use plan::PlanError;

/// Write the configuration of NATS servers with users and TLS, or of systemd
#[derive(Debug, Args)]
pub struct DeployArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Nats(NatsArgs),
    Systemd(SystemdArgs),
}

/// Write nats-server configurations with a user a host, whose permissions follow from its roles
///
/// Writes a folder a machine: what each server, host and client needs. Keys and certificates are made once and kept:
/// add a host to the list and run it again.
#[derive(Debug, Args)]
struct NatsArgs {
    /// The servers, hosts and clients; deploy/nats has commented examples
    #[arg(long, value_name = "FILE", default_value = "hosts.toml")]
    hosts: PathBuf,
    /// Where to write; a new or empty folder, or one that this command has written
    #[arg(long, value_name = "FOLDER", default_value = "nats")]
    out: PathBuf,
    /// Make new keys and certificates for all: every machine needs its folder again then
    #[arg(long, conflicts_with = "check")]
    new_keys: bool,
    /// Write nothing; fail if the configurations in the folder are not those of the hosts and this program
    #[arg(long)]
    check: bool,
}

/// Write systemd units for a host and for nats-server
#[derive(Debug, Args)]
struct SystemdArgs {
    /// Where to write; files of the same name there are replaced if this command has written them
    #[arg(long, value_name = "FOLDER", default_value = "systemd")]
    out: PathBuf,
    /// Write nothing; fail if the units in the folder are not those of this program
    #[arg(long)]
    check: bool,
}

/// Writes or checks.
///
/// # Errors
/// The list of hosts is wrong, the folder is not ours, or a file can't be read or written.
pub fn run(args: &DeployArgs) -> anyhow::Result<()> {
    match &args.what {
        What::Nats(args) => print::lines(&write_nats(args)?),
        What::Systemd(args) => print::lines(&write_systemd(args)?),
    }
}

fn write_nats(args: &NatsArgs) -> anyhow::Result<Vec<String>> {
    let plan = plan::Plan::read(&args.hosts)?;
    let folder = Folder::open(&args.out, nats::README, nats::MARK)?;
    let mut keys = pki::Keys::new(&folder, args.new_keys, args.check);
    let users = nats::users(&plan, |file, given| keys.of_user(file, given))?;
    let texts = nats::render(&plan, &users);
    if args.check {
        return drift_error(&folder, &texts, "run `sidetone deploy nats` again, or `make contract` for the examples");
    }
    if plan.makes_certificates() {
        keys.certificates(&plan)?;
    }
    let mut notes = folder.write(&texts, &keys.into_files())?;
    notes.push(format!("{}/{} says which machine needs which folder", args.out.display(), nats::README));
    Ok(notes)
}

fn write_systemd(args: &SystemdArgs) -> anyhow::Result<Vec<String>> {
    let texts = systemd::render();
    let folder = Folder::open(&args.out, systemd::README, systemd::MARK)?;
    if args.check {
        return drift_error(
            &folder,
            &texts,
            "run `sidetone deploy systemd` again, or `make contract` for deploy/systemd",
        );
    }
    folder.write(&texts, &[])
}
