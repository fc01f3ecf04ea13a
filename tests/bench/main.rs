//! Compares Sidetone with its bare parts, in the same run: `make bench`.
//!
//! A missed target is printed, not asserted: the machine may be busy with other things. The exit code tells only whether
//! something broke.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a bench fails by saying why, and prints what it found"
)]

/// As the program has it.
#[cfg(not(feature = "rt-check"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod audio;
mod bus;
mod chat;
mod fabric;
mod host;
#[path = "../it/support/jack.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod jack;
mod observe;
mod rig;
mod running;
mod speech;
mod streams;
mod support;
mod turns;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use support::{Row, Scope, table};

/// Compare Sidetone with its bare parts
#[derive(Debug, Parser)]
struct Options {
    /// What to measure; all of it if absent
    #[arg(value_enum)]
    sections: Vec<Section>,
    /// Few rounds and short stretches: to see whether everything works
    #[arg(long, env = "SIDETONE_BENCH_QUICK")]
    quick: bool,
    /// Print the rows as JSON
    #[arg(long)]
    json: bool,
    /// What cargo says to a bench
    #[arg(long, hide = true)]
    bench: bool,
    /// A part of a bench that needs a process of its own
    #[arg(long, hide = true, num_args = 1..)]
    part: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Bus,
    Fabric,
    Audio,
    Speech,
    Chat,
    Host,
    Rig,
}

impl Section {
    fn run(self, scope: Scope) -> anyhow::Result<Vec<Row>> {
        match self {
            Self::Bus => bus::run(scope),
            Self::Fabric => fabric::run(scope),
            Self::Audio => audio::run(scope),
            Self::Speech => speech::run(scope),
            Self::Chat => chat::run(scope),
            Self::Host => host::run(scope),
            Self::Rig => rig::run(scope),
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    // One TLS for every client, as in the program itself.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match options.part.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["load", home] => return host::load_part(home).map(|()| ExitCode::SUCCESS),
        ["copy", server] => return host::copy_part(server).map(|()| ExitCode::SUCCESS),
        ["control"] => return audio::control().map(|()| ExitCode::SUCCESS),
        _ => anyhow::bail!("no such part: {:?}", options.part),
    }
    let scope = Scope { quick: options.quick };
    let sections = if options.sections.is_empty() { Section::value_variants() } else { &options.sections };
    let (mut rows, mut code) = (Vec::new(), ExitCode::SUCCESS);
    for section in sections {
        // What one section can't say must not take the others' word away.
        match section.run(scope) {
            Ok(more) => rows.extend(more),
            Err(error) => {
                eprintln!("{section:?} broke: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table(&rows));
    }
    Ok(code)
}
