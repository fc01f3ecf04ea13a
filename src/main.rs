//! The command `sidetone`: command line → settings → logging → subcommand → exit code.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use sidetone::cli::{Cli, Exit};
use sidetone::telemetry;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(why) = telemetry::start(cli.log.as_deref(), cli.log_format) {
        return Exit::Usage.report(&why);
    }
    // One TLS for every client; set once, before the first of them is made.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Exit::Failed.report("TLS can't be set up");
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failed.report(&format!("can't start threads: {error}")),
    };
    let result = runtime.block_on(sidetone::cli::run(cli, Cli::command()));
    // Engine work that blocks may be under way; nobody waits for it any more.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Exit::of(&error).report(&format!("{error:#}")),
    }
}
