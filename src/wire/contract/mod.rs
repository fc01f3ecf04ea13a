//! Renders `subjects/`, the contract of the bus, from the wire types and the subjects.
//!
//! | file | what |
//! | --- | --- |
//! | `README.md` | a table for people: every subject, its messages, its headers, how to ask with the stock CLI |
//! | `asyncapi.yaml` | the same as AsyncAPI 3.0 |
//! | `schemas/<message>.json` | a JSON Schema (draft 2020-12) a message |
//! | `examples/<message>.json` | one of each message |
//!
//! [`table`] lists what there is, and [`rights`] makes of it who may do what. A committed example is a promise: it must be read for ever.

mod asyncapi;
pub mod capability;
mod names;
mod readme;
pub mod rights;
pub mod table;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::message::fault::Fault;
pub use names::{example_file, schema_file};

/// The table for people; a folder that has it is ours to write.
pub const README: &str = "README.md";

/// Why the contract can't be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The example of a message can't be written as JSON.
    #[error("the example of {schema} can't be written as JSON: {why}")]
    Example {
        /// The message.
        schema: &'static str,
        /// What the codec said.
        why: Fault,
    },
    /// A document can't be written.
    #[error("{file} can't be written: {why}")]
    Document {
        /// The file.
        file: String,
        /// What the writer said.
        why: String,
    },
}

/// Every file of the contract: its path in `subjects/` and its text. The same every time.
///
/// # Errors
/// [`ContractError`] when a message can't be written, which is a mistake in its type.
pub fn render() -> Result<BTreeMap<String, String>, ContractError> {
    let mut files = BTreeMap::new();
    let mut examples = BTreeMap::new();
    for message in table::messages() {
        let body = (message.example)().map_err(|why| ContractError::Example { schema: message.schema, why })?;
        let example: Value = serde_json::from_slice(&body)
            .map_err(|e| ContractError::Example { schema: message.schema, why: Fault::failed(e.to_string()) })?;
        let schema = titled((message.json_schema)(), message.schema);
        let (schema_file, example_file) = (schema_file(message.name()), example_file(message.name()));
        files.insert(schema_file.clone(), pretty(&schema_file, &schema)?);
        files.insert(example_file.clone(), pretty(&example_file, &example)?);
        examples.insert(message.name(), example);
    }
    files.insert(README.to_owned(), readme::render(&examples));
    let file = "asyncapi.yaml";
    let yaml = serde_saphyr::to_string(&asyncapi::document(&examples))
        .map_err(|e| ContractError::Document { file: file.to_owned(), why: e.to_string() })?;
    files.insert(file.to_owned(), yaml);
    Ok(files)
}

/// A schema with what it is about first.
fn titled(schema: schemars::Schema, name: &str) -> Value {
    let mut rest = schema;
    let mut fields = Map::new();
    fields.extend(rest.remove("$schema").map(|uri| ("$schema".to_owned(), uri)));
    fields.insert("$comment".to_owned(), format!("the message with the header Schema: {name}").into());
    for key in ["title", "description"] {
        fields.extend(rest.remove(key).map(|value| (key.to_owned(), value)));
    }
    if let Some(rest) = rest.as_object() {
        fields.extend(rest.clone());
    }
    fields.into()
}

fn pretty(file: &str, value: &Value) -> Result<String, ContractError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| ContractError::Document { file: file.to_owned(), why: e.to_string() })?;
    Ok(text + "\n")
}
