//! Child processes that are started, watched and restarted.
