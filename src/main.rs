//! The command `sidetone`: command line → settings → logging → subcommand → exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use sidetone::cli::{Cli, Exit};
use sidetone::telemetry;

/// Chunks of audio are made on one thread and dropped on another, which the C library's allocator takes long for.
#[cfg(not(feature = "rt-check"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long work that blocks may take to end.
const LAST_WORK_TIMEOUT: Duration = Duration::from_millis(300);

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
    // A thread that goes on while the process is taken apart runs into what is gone, so threads are waited for; but not
    // long for work that blocks: its result is of no use any more.
    runtime.shutdown_timeout(LAST_WORK_TIMEOUT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Exit::of(&error).report(&format!("{error:#}")),
    }
}
