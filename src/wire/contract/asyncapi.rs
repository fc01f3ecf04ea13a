//! The contract as an AsyncAPI 3.0 document, from Sidetone's side: what is asked is received, what is told is sent.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::names::{parameter, schema_file};
use super::table::{self, By, CANCELLED, EVENTS, HEADERS, MessageRow, On, VERBS, VerbRow};
use crate::wire::codec::{Format, header};
use crate::wire::message::Replies;
use crate::wire::subject::pattern;

/// The content type of a bare audio file.
const WAV: &str = "audio/wav";

/// The whole document; `examples` are the messages' by name.
pub(super) fn document(examples: &BTreeMap<&str, Value>) -> Value {
    let mut document = Document::default();
    for row in VERBS {
        document.verb(row);
    }
    for row in EVENTS {
        let action = if matches!(row.by, By::Anyone | By::Giver) { "receive" } else { "send" };
        let name = row.pattern.replace(['{', '}'], "");
        document.channel(&name, row.pattern, row.about, &[row.message.name().to_owned()]);
        document.operation(&name, action, row.about, &[row.message.name().to_owned()], json!({}));
    }
    for capability in CANCELLED {
        let (address, about) = (pattern::cancel(*capability), "work on the request stops; the body is empty");
        let name = address.replace(['{', '}'], "");
        document.channel(&name, &address, about, &["cancel".to_owned()]);
        document.operation(&name, "receive", about, &["cancel".to_owned()], json!({}));
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sidetone",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What can be asked and heard on the bus of a Sidetone installation. README.md beside this file says \
                the same for people, with commands to paste.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": Format::Json.content_type(),
        "servers": {
            "embedded": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "The server that the first host starts when it is given none.",
            },
        },
        "channels": document.channels,
        "operations": document.operations,
        "components": {
            "parameters": document.parameters(),
            "messageTraits": {
                "request": { "headers": headers(On::Request) },
                "reply": { "headers": headers(On::Reply) },
                "event": { "headers": headers(On::All) },
            },
            "messages": messages(examples),
        },
    })
}

#[derive(Default)]
struct Document {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    varying: BTreeSet<String>,
}

impl Document {
    fn verb(&mut self, row: &VerbRow) {
        let verb = row.verb.to_string();
        let mut asked = vec![row.request.name().to_owned()];
        if (row.request.is_audio)() {
            asked.push(wav(row.request));
        }
        let mut answered = vec![row.reply.name().to_owned()];
        if (row.reply.is_audio)() {
            answered.push(wav(row.reply));
        }
        if row.replies != Replies::One {
            answered.push("end".to_owned());
        }
        answered.push("error".to_owned());
        let replies = format!("{verb}.replies");
        for address in row.addresses() {
            let name = format!("{verb}{}", address.suffix);
            let about = format!("{}: {}", address.who, row.about);
            self.channel(&name, &address.pattern, &about, &asked);
            let reply = json!({
                "channel": reference(&["channels", &replies]),
                "messages": references(&replies, &answered),
            });
            let queue = address.queue.replace(['{', '}'], "");
            let more = json!({ "bindings": { "nats": { "queue": queue } }, "reply": reply });
            self.operation(&name, "receive", row.about, &asked, more);
        }
        let about = match row.replies {
            Replies::One => "the requester's inbox: one reply, or an error",
            Replies::Stream => {
                "the requester's inbox: replies, the last with the summary, and an end; with \"stream\": false the summary alone"
            }
            Replies::Talk => {
                "the requester's inbox: where the audio goes, what is heard while it comes, the summary, and an end"
            }
            Replies::Audio => "the requester's inbox: chunks of audio, the last with the summary, and an end",
        };
        self.channel(&replies, "", about, &answered);
    }

    /// Adds a channel; an empty address is only known at run time.
    fn channel(&mut self, name: &str, address: &str, about: &str, messages: &[String]) {
        let names: Vec<_> = pattern::names(address).collect();
        let parameters: Map<_, _> =
            names.iter().map(|name| ((*name).to_owned(), reference(&["components", "parameters", name]))).collect();
        self.varying.extend(names.into_iter().map(str::to_owned));
        let messages: Map<_, _> =
            messages.iter().map(|name| (name.clone(), reference(&["components", "messages", name]))).collect();
        let address = if address.is_empty() { Value::Null } else { address.into() };
        let mut channel = json!({ "address": address, "summary": about });
        if let Some(channel) = channel.as_object_mut() {
            if !parameters.is_empty() {
                channel.insert("parameters".to_owned(), parameters.into());
            }
            channel.insert("messages".to_owned(), messages.into());
        }
        self.channels.insert(name.to_owned(), channel);
    }

    fn operation(&mut self, name: &str, action: &str, about: &str, messages: &[String], more: Value) {
        let mut operation = json!({
            "action": action,
            "channel": reference(&["channels", name]),
            "summary": about,
            "messages": references(name, messages),
        });
        if let (Some(operation), Value::Object(more)) = (operation.as_object_mut(), more) {
            operation.extend(more);
        }
        self.operations.insert(name.to_owned(), operation);
    }

    fn parameters(&self) -> Value {
        let of = |name: &String| {
            let (about, example) = parameter(name);
            let description = format!(
                "{about} As one token: `[A-Za-z0-9_-]` stay, any other byte is written as `=HH`, so `llama3:8b` as `llama3=3A8b`."
            );
            (name.clone(), json!({ "description": description, "examples": [example] }))
        };
        self.varying.iter().map(of).collect::<Map<_, _>>().into()
    }
}

fn messages(examples: &BTreeMap<&str, Value>) -> Value {
    let mut all = BTreeMap::new();
    let requests: BTreeSet<_> = VERBS.iter().map(|row| row.request.schema).collect();
    let replies: BTreeSet<_> = VERBS.iter().map(|row| row.reply.schema).collect();
    for row in table::messages() {
        let (is_request, is_reply) = (requests.contains(row.schema), replies.contains(row.schema));
        let part = if is_request { "request" } else { ["event", "reply"][usize::from(is_reply)] };
        let message = json!({
            "name": row.schema,
            "summary": "JSON, or with Content-Type application/msgpack MessagePack with field names.",
            "contentType": Format::Json.content_type(),
            "traits": [reference(&["components", "messageTraits", part])],
            "payload": { "$ref": format!("./{}", schema_file(row.name())) },
            "examples": [{ "payload": examples.get(row.name()) }],
        });
        all.insert(row.name().to_owned(), message);
        if (row.is_audio)() {
            let bare = json!({
                "name": WAV,
                "summary": if is_request { "A bare audio file instead." } else { "A bare WAV file, unless Accept names another." },
                "contentType": WAV,
                "traits": [reference(&["components", "messageTraits", part])],
                "payload": { "type": "string", "format": "binary" },
            });
            all.insert(wav(row), bare);
        }
    }
    let empty = || json!({ "type": "string", "maxLength": 0 });
    for (name, about) in [
        ("end", "The end of a stream: Status and Chunks in the headers, no body."),
        ("error", "Why there is no answer, or not all of it: in the headers, no body."),
    ] {
        let message = json!({
            "name": name,
            "summary": about,
            "traits": [reference(&["components", "messageTraits", "reply"])],
            "payload": empty(),
        });
        all.insert(name.to_owned(), message);
    }
    all.insert(
        "cancel".to_owned(),
        json!({ "name": "cancel", "summary": "Work on the request stops.", "payload": empty() }),
    );
    all.into_iter().collect::<Map<_, _>>().into()
}

/// The headers that stand on a message of one part, and those that stand on all.
fn headers(part: On) -> Value {
    let rows = HEADERS.iter().filter(|(_, on, ..)| *on == On::All || *on == part);
    let properties: Map<_, _> = rows
        .map(|(name, _, is_number, about)| {
            let mut schema = json!({ "type": "string", "description": about });
            if let (true, Some(schema)) = (*is_number, schema.as_object_mut()) {
                schema.insert("pattern".to_owned(), "^[0-9]+$".into());
            }
            if let (true, Some(schema)) = (*name == header::SCHEMA, schema.as_object_mut()) {
                schema.insert("pattern".to_owned(), "^[a-z.-]+/[0-9]+$".into());
            }
            ((*name).to_owned(), schema)
        })
        .collect();
    json!({ "type": "object", "properties": properties })
}

fn wav(row: MessageRow) -> String {
    format!("{}.wav", row.name())
}

fn reference(path: &[&str]) -> Value {
    json!({ "$ref": format!("#/{}", path.join("/").replace('$', "%24")) })
}

fn references(channel: &str, messages: &[String]) -> Vec<Value> {
    messages.iter().map(|name| reference(&["channels", channel, "messages", name])).collect()
}
