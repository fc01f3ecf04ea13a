//! The command `sidetone`: its allocator, and [`sidetone::cli::main`].

use std::process::ExitCode;

/// Chunks of audio are made on one thread and dropped on another, which the C library's allocator takes long for.
#[cfg(not(feature = "rt-check"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sidetone::cli::main()
}
