//! The contract as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::names::{example_file, example_subject, schema_file};
use super::table::{CANCELLED, EVENTS, HEADERS, MessageRow, On, VERBS, VerbRow};
use crate::wire::message::Replies;
use crate::wire::message::fault::FaultCode;
use crate::wire::storage;
use crate::wire::subject::{JOBS, SESSIONS, STOP, pattern};

/// The whole text; `examples` are the messages' by name.
pub(super) fn render(examples: &BTreeMap<&str, Value>) -> String {
    let requests: String = VERBS.iter().map(verb).collect();
    let events: String = EVENTS
        .iter()
        .map(|row| {
            let kept = row.kept.unwrap_or("nothing");
            format!("| `{}` | {} | {} | {kept} |\n", angled(row.pattern), message(row.message), row.about)
        })
        .collect();
    let cancels = CANCELLED.iter().map(|capability| format!("`{}`", angled(&pattern::cancel(*capability))));
    let cancels = cancels.collect::<Vec<_>>().join(", ");
    let headers: String = HEADERS
        .iter()
        .map(|(name, on, _, about)| {
            let on = match on {
                On::All => "all",
                On::Request => "request",
                On::Reply => "reply",
            };
            format!("| `{name}` | {on} | {about} |\n")
        })
        .collect();
    let codes: String = FaultCode::ALL
        .iter()
        .map(|code| {
            let name = serde_json::to_value(code).ok().and_then(|name| name.as_str().map(str::to_owned));
            let again = if code.can_retry() { "yes" } else { "no" };
            format!("| {} | `{}` | {again} |\n", code.number(), name.unwrap_or_default())
        })
        .collect();
    let commands: String = VERBS.iter().map(|row| command(row, examples)).collect();
    format!(
        "<!-- Written by `make contract` from src/wire. A change here is lost. -->\n\
        # The bus\n\n\
        Everything that Sidetone's hosts say to each other, and that you can say to them. [asyncapi.yaml](asyncapi.yaml) says the \
        same for programs, [schemas/](schemas) has a JSON Schema and [examples/](examples) one of each message. Fields are \
        only ever added, with defaults: every example here will still be read by later versions.\n\n\
        `<node>`, `<model>` and so on are one token each: `[A-Za-z0-9_-]` stay as they are, any other byte is written as `=HH` \
        (`llama3:8b` as `llama3=3A8b`).\n\n\
        ## Requests\n\n\
        The first subject of each asks anyone who can, `.m.<model>` anyone with that model or voice, `.n.<node>` that host. The \
        queue group is the first token, or the host's name where a host is named.\n\n\
        | subject | request | reply | how many | what |\n| --- | --- | --- | --- | --- |\n{requests}\n\
        A stream is chunks on the requester's inbox, numbered by `Seq`, and then an empty message with `Status: 200` and \
        `Chunks`. If that does not come, the answer is not whole. A requester that gives `Credit` gets chunks without headers: \
        the chunk and, behind it, its number from 0, both written as its `Accept` says (in JSON on a line each). The first has a \
        reply subject that ends with its number, and then one in at most half of `Credit`, or after a tenth of a second. Publishing anything there, or with a \
        later number at the end, acknowledges the chunk of that number and all before it; no more than `Credit` are ever on the way. A message with `Status: 100` \
        may come while the credit is used up, or while there is nothing else to send: it only asks the server whether the \
        requester is still there. To a requester that gives `Pack` as well, chunks that are ready at once may come in one message, \
        `Pack` of them at most: an array of them, and behind it the number of the first. The number in a reply subject is that of \
        the last then.\n\n\
        A request is cancelled by publishing anything to {cancels}, where `<request>` is its header `Req-Id`. `{STOP}` stops all.\n\n\
        ## Events\n\n\
        | subject | message | what | kept by |\n| --- | --- | --- | --- |\n{events}\n\
        ## Streams and buckets\n\n\
        | name | subjects | what |\n| --- | --- | --- |\n\
        | {sessions} (stream) | `{SESSIONS}` | sessions; nothing is deleted; an append is fenced by the session's last sequence, and its `Nats-Msg-Id` is the event's `id` |\n\
        | {jobs} (stream) | `{JOBS}` | work that may wait, as a work queue: a message goes when its job is done or given up; at most {queue} |\n\
        | {states} (key-value) | `{state}` | how far jobs are, and their results, for 30 days |\n\
        | {files} (object store) | | the audio of jobs, until they are done |\n\
        | {nodes} (key-value) | `{entry}` | which hosts are there; the key is the host's name as a token |\n\
        | {clips} (object store) | `{objects}` | audio over the server's max_payload, for a day; a message then names the `clip` |\n\n\
        ## Headers\n\n\
        Case matters. None is needed: a request without any is JSON, and so is its reply.\n\n\
        | header | on | what |\n| --- | --- | --- |\n{headers}\n\
        | error | name | can the same request succeed later or elsewhere |\n| --- | --- | --- |\n{codes}\n\
        ## By hand\n\n\
        With the stock `nats` CLI, on a host named `studio`. A stream ends by itself with `--wait-for-empty`; the two \
        time-outs are needed, since the CLI otherwise takes a pause of 300 ms for the end.\n\n\
        ```sh\n{commands}\
        # What was said and done, live, and from the beginning\n\
        nats sub '{SESSIONS}' --translate 'sidetone decode'\n\
        nats stream view {sessions}\n\
        # Everything that sounds or acts stops\n\
        nats pub {STOP} ''\n\
        ```\n",
        sessions = storage::SESSIONS,
        jobs = storage::JOBS,
        queue = storage::MAX_JOBS,
        states = storage::JOB_STATES,
        state = angled(pattern::JOB_STATE),
        files = storage::JOB_FILES,
        nodes = storage::NODES,
        clips = storage::CLIPS,
        entry = angled(pattern::NODE_ENTRY),
        objects = pattern::CLIPS,
    )
}

fn verb(row: &VerbRow) -> String {
    let subjects: Vec<_> = row.addresses().iter().map(|address| format!("`{}`", angled(&address.pattern))).collect();
    let many = match row.replies {
        Replies::One => "one",
        Replies::Stream => "a stream, or one",
        Replies::Audio | Replies::Talk => "a stream",
    };
    let (request, reply) = (message(row.request), message(row.reply));
    format!("| {} | {request} | {reply} | {many} | {} |\n", subjects.join("<br>"), row.about)
}

fn message(row: MessageRow) -> String {
    let (schema, example) = (schema_file(row.name()), example_file(row.name()));
    format!("[{}]({schema}) ([example]({example}))", row.schema)
}

/// How to ask a verb with its message's own example.
fn command(row: &VerbRow, examples: &BTreeMap<&str, Value>) -> String {
    let mut text = format!("# {}\n", row.about);
    let subject = row.addresses().first().map(|address| example_subject(&address.pattern)).unwrap_or_default();
    let body = examples.get(row.request.name()).map(Value::to_string).unwrap_or_default().replace('\'', "'\\''");
    let flags = match row.replies {
        Replies::One => "--timeout 30s",
        Replies::Stream | Replies::Talk => "--wait-for-empty --timeout 30s --reply-timeout 30s",
        Replies::Audio => "--wait-for-empty --timeout 30s --reply-timeout 30s --translate 'sidetone decode'",
    };
    let (is_bare, gives_bare) = ((row.request.is_audio)(), (row.reply.is_audio)());
    if is_bare {
        let _ = writeln!(text, "nats req {subject} -H Content-Type:audio/wav {flags} < question.wav");
    }
    let into = if gives_bare { " --raw > answer.wav" } else { "" };
    let _ = writeln!(text, "nats req {subject} '{body}' {flags}{into}");
    text
}

/// `{node}` as `<node>`, which reads better in a table.
fn angled(pattern: &str) -> String {
    pattern.replace('{', "<").replace('}', ">")
}
