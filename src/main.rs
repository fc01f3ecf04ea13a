//! The command `sidetone`: command line → settings → logging → subcommand → exit code.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use sidetone::cli::{Cli, Exit};
use sidetone::telemetry;

fn main() -> ExitCode {
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
    let result = runtime.block_on(sidetone::cli::run(cli, Cli::command()));
    telemetry.finish();
    // Engine work that blocks may be under way; nobody waits for it any more.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Exit::of(&error).report(&format!("{error:#}")),
    }
}
