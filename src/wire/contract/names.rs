//! Where a message stands in `subjects/`, and what stands for the tokens of a subject that vary.

use crate::wire::subject::pattern;

/// Where the JSON Schema of a message stands.
#[must_use]
pub fn schema_file(message: &str) -> String {
    format!("schemas/{message}.json")
}

/// Where the example of a message stands.
#[must_use]
pub fn example_file(message: &str) -> String {
    format!("examples/{message}.json")
}

/// What a varying token of a subject is, and one of it.
pub(super) fn parameter(name: &str) -> (&'static str, &'static str) {
    match name {
        "model" => ("A model or voice.", "smollm2-135m-instruct"),
        "node" => ("A host.", "studio"),
        "listener" => ("A listener of the host.", "main"),
        "session" => ("A session.", "main-01KB3Z7D5YAZ9W1N4CV2T8Q6RE"),
        "kind" => ("What kind of event it is, as in its field `kind`.", "utterance"),
        "capability" => ("Who can do it.", "stt"),
        "verb" => ("What is to be done.", "request"),
        "job" => ("A job.", "01KB3Z7D5YAZ9W1N4CV2T8Q6RE"),
        "request" => ("The request's header `Req-Id`.", "uZTd5nB7cW3fQk1L9xYvM2"),
        _ => ("", ""),
    }
}

/// A subject that fits a pattern, such as one would type it.
pub(super) fn example_subject(subject: &str) -> String {
    pattern::fill(subject, |name| Some(parameter(name).1))
}
