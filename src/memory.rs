//! Gives memory that the engines have freed back to the system.
//!
//! A transcription or a synthesis takes tens of megabytes for a second and frees them, on threads that come and go; glibc
//! keeps what was freed in an arena a thread, and a host would grow by it.

use std::time::Duration;

/// How often freed memory is given back.
const EVERY: Duration = Duration::from_secs(10);

/// Gives freed memory back now and then. Never ends.
pub async fn tidy() {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        // It walks through every arena, which takes a millisecond or more.
        if let Err(error) = tokio::task::spawn_blocking(trim).await {
            tracing::debug!(%error, "freed memory was not given back");
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: it takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
