//! Where spans go.

/// A collector, and who sends to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The collector's address for OTLP over HTTP, such as `http://127.0.0.1:4318`.
    pub url: String,
    /// The name of this host.
    pub node: String,
}
