//! What NATS itself answers: JetStream for what is kept, and services about themselves.

use super::Capability;

/// Everything that can be asked about services.
pub const SERVICES: &str = "$SRV.>";
/// Where it is asked whether anybody offers something.
pub const PINGS: &str = "$SRV.PING.*";
/// Whether there is JetStream, and of which version; asked before a bucket is made.
pub const JETSTREAM: &str = "$JS.API.INFO";
/// The same, and the names of what it keeps.
pub const OVERVIEW: &[&str] = &[JETSTREAM, "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"];

/// Where a service of `capability` is asked about itself.
#[must_use]
pub fn service(capability: Capability) -> [String; 3] {
    ["$SRV.*".to_owned(), format!("$SRV.*.{capability}"), format!("$SRV.*.{capability}.*")]
}

/// The stream behind a key-value bucket.
#[must_use]
pub fn of_bucket(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The stream behind an object store.
#[must_use]
pub fn of_store(store: &str) -> String {
    format!("OBJ_{store}")
}

/// To see whether a stream is there.
#[must_use]
pub fn look(stream: &str) -> String {
    format!("$JS.API.STREAM.INFO.{stream}")
}

/// To make a stream.
#[must_use]
pub fn make(stream: &str) -> String {
    format!("$JS.API.STREAM.CREATE.{stream}")
}

/// Whether something is asked only to make a stream or bucket that is not there.
#[must_use]
pub fn is_to_make(subject: &str) -> bool {
    subject == JETSTREAM || subject.starts_with(&make(""))
}

/// To take messages out of a stream, which an object store needs to let one of its objects go.
#[must_use]
pub fn purge(stream: &str) -> String {
    format!("$JS.API.STREAM.PURGE.{stream}")
}

/// To read a stream: single messages, and by consumers.
#[must_use]
pub fn read(stream: &str) -> Vec<String> {
    let api = |what: &str| format!("$JS.API.{what}");
    vec![
        look(stream),
        api(&format!("STREAM.MSG.GET.{stream}")),
        api(&format!("DIRECT.GET.{stream}")),
        api(&format!("DIRECT.GET.{stream}.>")),
        api(&format!("CONSUMER.CREATE.{stream}")),
        api(&format!("CONSUMER.CREATE.{stream}.>")),
        api(&format!("CONSUMER.INFO.{stream}.*")),
        api(&format!("CONSUMER.MSG.NEXT.{stream}.*")),
        api(&format!("CONSUMER.DELETE.{stream}.*")),
        format!("$JS.ACK.{stream}.>"),
        format!("$JS.FC.{stream}.>"),
    ]
}
