//! What the server keeps: the names of its streams and buckets, and their bounds.

/// The stream of sessions: what was said and done.
pub const SESSIONS: &str = "SESSIONS";
/// The work queue of what may wait.
pub const JOBS: &str = "JOBS";
/// Jobs that may wait. One more is refused.
pub const MAX_JOBS: i64 = 10_000;
/// The bucket that says how far each job is.
pub const JOB_STATES: &str = "JOB_STATES";
/// The object store of audio that waits.
pub const JOB_FILES: &str = "JOB_FILES";
/// The bucket of hosts that are there.
pub const NODES: &str = "NODES";
/// The object store of audio over the server's max_payload.
pub const CLIPS: &str = "CLIPS";
