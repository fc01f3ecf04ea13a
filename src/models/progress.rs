//! Who is shown how far a fetch is.

/// Shown to who waits for a fetch.
pub trait Progress: Send + Sync {
    /// A stage of the work begins: `what` in a word or two; `total_bytes` if it is known what it will come to.
    fn stage(&self, what: &str, total_bytes: Option<u64>);
    /// The stage has come to `bytes`.
    fn at(&self, bytes: u64);
}

/// Shows nothing.
impl Progress for () {
    fn stage(&self, _what: &str, _total_bytes: Option<u64>) {}
    fn at(&self, _bytes: u64) {}
}
