//! `sidetone completions`: what a shell needs to complete Sidetone's commands.

use clap::{Args, Command};
use clap_complete::Shell;

use super::print;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell; for bash: sidetone completions bash > ~/.local/share/bash-completion/completions/sidetone
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script for `command`, which is the whole command line.
///
/// # Errors
/// Standard output can't be written to.
pub fn run(args: &CompletionsArgs, command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    // Into memory first: the generator panics where it can't write.
    clap_complete::generate(args.shell, command, name, &mut script);
    print::bytes(&script)
}
