//! Every subject of the bus: build and parse. Nothing else in the tree spells one.
//!
//! A capability is a first token (`stt`, `llm`, …). Each verb of it can be asked three ways:
//!
//! ```text
//! llm.chat               anyone who can         queue group llm
//! llm.chat.m.<model>     anyone with the model  queue group llm
//! llm.chat.n.<node>      that host              queue group <node>
//! ```

pub mod reserved;

use std::fmt;

/// Everything that sounds or acts stops, everywhere.
pub const STOP: &str = "control.stop";
/// All session events of all sessions; the subjects of the stream SESSIONS.
pub const SESSIONS: &str = "session.>";
/// All states of all listeners.
pub const VOICE_STATES: &str = "voice.*.*.state";
/// All levels of all listeners.
pub const VOICE_LEVELS: &str = "voice.*.*.level";
/// All events of all hosts.
pub const EVENTS: &str = "event.>";

/// What programs on one host say to each other: a host with a NATS server of its own keeps it there.
pub const LOCAL: &str = "local.>";

/// Everything that waits in the work queue JOBS. No request has a subject under it: the stream would answer it itself.
pub const JOBS: &str = "job.>";

/// What a host can do for others: the first token of its subjects and the name of its NATS service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// Speech to text.
    Stt,
    /// Text to speech.
    Tts,
    /// Chat models.
    Llm,
    /// Runs a person's turn to its end.
    Agent,
    /// A host's microphones and loudspeakers.
    Voice,
    /// Sends and hears OSC.
    Osc,
    /// Sends and hears MIDI.
    Midi,
    /// A host's JACK graph, and its links to other hosts.
    Audio,
    /// A host itself.
    Node,
}

impl Capability {
    /// Each of them.
    pub const ALL: [Self; 9] =
        [Self::Stt, Self::Tts, Self::Llm, Self::Agent, Self::Voice, Self::Osc, Self::Midi, Self::Audio, Self::Node];

    /// The one with this token.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.token() == token)
    }

    /// The subject token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Stt => "stt",
            Self::Tts => "tts",
            Self::Llm => "llm",
            Self::Agent => "agent",
            Self::Voice => "voice",
            Self::Osc => "osc",
            Self::Midi => "midi",
            Self::Audio => "audio",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// One thing that a capability can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verb {
    /// Whose verb it is.
    pub capability: Capability,
    /// The second token.
    pub name: &'static str,
}

impl Verb {
    /// A verb of `capability`.
    #[must_use]
    pub const fn new(capability: Capability, name: &'static str) -> Self {
        Self { capability, name }
    }

    /// The subject on which to ask `target` for it.
    #[must_use]
    pub fn subject(&self, target: Target<'_>) -> String {
        match target {
            Target::Any => format!("{self}"),
            Target::Model(model) => format!("{self}.m.{}", token(model)),
            Target::Node(node) => format!("{self}.n.{}", token(node)),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.capability, self.name)
    }
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Anyone who can.
    Any,
    /// Anyone with this model or voice.
    Model(&'a str),
    /// This host.
    Node(&'a str),
}

/// The subjects as documents show them: each token that varies is a name in braces.
pub mod pattern {
    use super::{Capability, Verb};

    /// Commands to a listener.
    pub const VOICE_CONTROL: &str = "voice.{node}.{listener}.control";
    /// Every change of a listener's state.
    pub const VOICE_STATE: &str = "voice.{node}.{listener}.state";
    /// What came in by MIDI.
    pub const MIDI_IN: &str = "midi.in.{node}.{port}.{kind}";
    /// How loud a listener's microphone is.
    pub const VOICE_LEVEL: &str = "voice.{node}.{listener}.level";
    /// What has come by OSC, by the parts of its address.
    pub const OSC_IN: &str = "osc.in.{node}.>";
    /// What was said and done.
    pub const SESSION: &str = "session.{session}.{kind}";
    /// A host is up and serves.
    pub const UP: &str = "event.{node}.up";
    /// A host goes.
    pub const DOWN: &str = "event.{node}.down";
    /// A host offers something else than before.
    pub const CHANGED: &str = "event.{node}.changed";
    /// A host is gone without a word.
    pub const LOST: &str = "event.{node}.lost";
    /// A host that was lost to the others is there again.
    pub const BACK: &str = "event.{node}.back";
    /// A host has chosen another for a request.
    pub const ROUTED: &str = "event.{node}.routed";
    /// Something went wrong that no caller hears of.
    pub const FAULT: &str = "event.{node}.fault";
    /// A link to another host has changed its state.
    pub const LINK: &str = "event.{node}.link";
    /// A host's entry in the bucket NODES, as the bucket's stream has it.
    pub const NODE_ENTRY: &str = "$KV.NODES.{node}";
    /// Work that may wait.
    pub const JOB: &str = "job.{capability}.{verb}.any.{job}";
    /// All that the bucket JOB_FILES keeps: chunks of recordings, and what is known about them.
    pub const JOB_FILES: &str = "$O.JOB_FILES.>";
    /// How far a job is, as the bucket's stream has it.
    pub const JOB_STATE: &str = "$KV.JOB_STATES.{job}";
    /// All that the bucket CLIPS keeps: chunks of clips, and what is known about them.
    pub const CLIPS: &str = "$O.CLIPS.>";

    /// A tool, which is nobody's of Sidetone: whoever offers it answers.
    pub const TOOL: &str = "tool.{tool}";

    /// Where anyone who can is asked.
    #[must_use]
    pub fn any(verb: &Verb) -> String {
        verb.to_string()
    }

    /// Where anyone with a model is asked.
    #[must_use]
    pub fn model(verb: &Verb) -> String {
        format!("{verb}.m.{{model}}")
    }

    /// Where a host is asked.
    #[must_use]
    pub fn node(verb: &Verb) -> String {
        format!("{verb}.n.{{node}}")
    }

    /// Where a request is cancelled.
    #[must_use]
    pub fn cancel(capability: Capability) -> String {
        super::cancel(capability, "{request}")
    }

    /// The names that vary in a pattern, in their order.
    pub fn names(pattern: &str) -> impl Iterator<Item = &str> {
        pattern.split('.').filter_map(|token| token.strip_prefix('{')?.strip_suffix('}'))
    }

    /// The pattern as one subscribes to it: for one host if there is one in it, for any value of all other names.
    #[must_use]
    pub fn filter(pattern: &str, node: Option<&str>) -> String {
        let token = |token: &str| match (names(token).next(), node) {
            (Some("node"), Some(node)) => super::token(node),
            (Some(_), _) => "*".to_owned(),
            (None, _) => token.to_owned(),
        };
        pattern.split('.').map(token).collect::<Vec<_>>().join(".")
    }

    /// A subject that fits the pattern; names that `value` does not know stay as they are.
    #[must_use]
    pub fn fill<'a>(pattern: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
        let mut subject = pattern.to_owned();
        for name in names(pattern) {
            if let Some(value) = value(name) {
                subject = subject.replace(&format!("{{{name}}}"), &super::token(value));
            }
        }
        subject
    }
}

/// A name as one subject token: `[A-Za-z0-9_-]` stay, any other byte becomes `=HH`. Also valid as a KV key.
///
/// The NATS client refuses neither `*` nor `>` in a subject, so every name that comes from outside goes through here.
#[must_use]
pub fn token(name: &str) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "={byte:02X}");
        }
    }
    if out.is_empty() { "=".to_owned() } else { out }
}

/// The name behind a token made by [`token`]; `None` if it is none.
#[must_use]
pub fn name(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'=' {
            let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok())?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = tail.get(2..)?;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Where a request of `capability` is cancelled; `request` may be `*`, to hear of all.
#[must_use]
pub fn cancel(capability: Capability, request: &str) -> String {
    format!("{capability}.cancel.{request}")
}

/// Where the services of a capability say that they are there, as in the NATS service API.
#[must_use]
pub fn ping(capability: &str) -> String {
    format!("$SRV.PING.{}", token(capability))
}

/// The number that a subject ends with, such as that of a chunk.
#[must_use]
pub fn number(subject: &str) -> Option<u64> {
    subject.rsplit('.').next()?.parse().ok()
}

/// Commands to a listener.
#[must_use]
pub fn voice_control(node: &str, listener: &str) -> String {
    format!("voice.{}.{}.control", token(node), token(listener))
}

/// Every change of a listener's state.
#[must_use]
pub fn voice_state(node: &str, listener: &str) -> String {
    format!("voice.{}.{}.state", token(node), token(listener))
}

/// What came in by MIDI.
#[must_use]
pub fn midi_in(node: &str, port: &str, kind: &str) -> String {
    format!("midi.in.{}.{}.{kind}", token(node), token(port))
}

/// How loud a listener's microphone is.
#[must_use]
pub fn voice_level(node: &str, listener: &str) -> String {
    format!("voice.{}.{}.level", token(node), token(listener))
}

/// What has come by OSC at an address: each part of it is a token.
#[must_use]
pub fn osc_in(node: &str, address: &str) -> String {
    let parts: Vec<String> = address.trim_start_matches('/').split('/').map(token).collect();
    format!("osc.in.{}.{}", token(node), parts.join("."))
}

/// One kind of event of a session, kept in the stream SESSIONS.
#[must_use]
pub fn session(id: &str, kind: &str) -> String {
    format!("session.{}.{kind}", token(id))
}

/// All kinds of events of a session.
#[must_use]
pub fn session_all(id: &str) -> String {
    format!("session.{}.>", token(id))
}

/// Where a tool is asked.
#[must_use]
pub fn tool(name: &str) -> String {
    format!("tool.{}", token(name))
}

/// What happens on a host, for whoever watches.
#[must_use]
pub fn event(node: &str, kind: &str) -> String {
    format!("event.{}.{kind}", token(node))
}

/// One kind of event of all hosts.
#[must_use]
pub fn event_of_all(kind: &str) -> String {
    format!("event.*.{kind}")
}

/// Where answers to a user's requests come in. Each user of the server has an own place, so that it can be kept from
/// hearing the answers of others.
#[must_use]
pub fn inbox(user: &str) -> String {
    format!("_INBOX.{}", token(user))
}

/// Where the readers of a worker's streams acknowledge, and where a stream of audio goes in; `id` tells those of one user
/// apart.
///
/// It is told from other inboxes, so that the other end can be given leave to publish on it once and for all: leave that the
/// server gives for each reply subject anew is kept by it for minutes, and streams have a reply subject a chunk.
#[must_use]
pub fn credit(user: &str, id: &str) -> String {
    format!("{}.credit.{id}", inbox(user))
}

/// All inboxes of all users.
pub const INBOXES: &str = "_INBOX.>";

/// All places where readers acknowledge, of all hosts.
pub const CREDITS: &str = "_INBOX.*.credit.>";

/// Whether an answer may go there: not where something is told, asked or kept. Whoever answers may publish wherever it is
/// asked to answer, so that one who may not tell something could have it told.
#[must_use]
pub fn is_for_answers(reply: &str) -> bool {
    let first = reply.split('.').next().unwrap_or_default();
    let events = [STOP, SESSIONS, VOICE_STATES, EVENTS, JOBS, pattern::TOOL]
        .map(|subject| subject.split('.').next().unwrap_or_default());
    !first.is_empty()
        && !first.starts_with('$')
        && !events.contains(&first)
        && !Capability::ALL.iter().any(|capability| capability.token() == first)
}

/// Whether a subject, or all of a wildcard one, lies within `filter`: what a server asks of its permissions.
#[must_use]
pub fn lies_within(subject: &str, filter: &str) -> bool {
    let (mut subject, mut filter) = (subject.split('.'), filter.split('.'));
    loop {
        match (subject.next(), filter.next()) {
            (Some(_), Some(">")) | (None, None) => return true,
            (Some(">"), _) | (Some(_), None) | (None, Some(_)) => return false,
            (Some("*"), Some(wanted)) if wanted != "*" => return false,
            (Some(token), Some(wanted)) if wanted != "*" && token != wanted => return false,
            _ => {}
        }
    }
}

/// Where work that may wait is put: the verb `verb` for `target`, as the job `id`; `*` for any.
#[must_use]
pub fn job(verb: &Verb, target: Target<'_>, id: &str) -> String {
    let id = if id == "*" { id.to_owned() } else { token(id) };
    match target {
        Target::Any => format!("job.{verb}.any.{id}"),
        Target::Model(model) => format!("job.{verb}.m.{}.{id}", token(model)),
        Target::Node(node) => format!("job.{verb}.n.{}.{id}", token(node)),
    }
}

/// Where all work of the verb that may wait is put, for whomever.
#[must_use]
pub fn jobs_of(verb: &Verb) -> [String; 3] {
    [format!("job.{verb}.any.*"), format!("job.{verb}.m.*.*"), format!("job.{verb}.n.*.*")]
}

/// The capability, the verb's name and the id of a job's subject.
#[must_use]
pub fn parse_job(subject: &str) -> Option<(String, String, String)> {
    let tokens: Vec<&str> = subject.split('.').collect();
    match tokens.as_slice() {
        ["job", capability, verb, "any", id] | ["job", capability, verb, "m" | "n", _, id] => {
            Some(((*capability).to_owned(), (*verb).to_owned(), name(id)?))
        }
        _ => None,
    }
}

/// A subject taken apart, as far as people want it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// `voice.<node>.<listener>.state`
    VoiceState {
        /// The host.
        node: String,
        /// The listener on it.
        listener: String,
    },
    /// `session.<id>.<kind>`
    Session {
        /// The session.
        id: String,
        /// The kind of event.
        kind: String,
    },
    /// `event.<node>.<kind>`
    Event {
        /// The host.
        node: String,
        /// The kind of event.
        kind: String,
    },
}

/// Takes a published subject apart; `None` for requests, inboxes and foreign subjects.
#[must_use]
pub fn parse(subject: &str) -> Option<Parsed> {
    let tokens: Vec<&str> = subject.split('.').collect();
    match tokens.as_slice() {
        ["voice", node, listener, "state"] => Some(Parsed::VoiceState { node: name(node)?, listener: name(listener)? }),
        ["session", id, kind] => Some(Parsed::Session { id: name(id)?, kind: (*kind).to_owned() }),
        ["event", node, kind] => Some(Parsed::Event { node: name(node)?, kind: (*kind).to_owned() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
