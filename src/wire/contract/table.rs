//! The table of the contract: every verb, every event, every header. Adding one is a row.

use bytes::Bytes;
use schemars::Schema;
use schemars::generate::SchemaSettings;

use crate::wire::codec::{self, Format, header};
use crate::wire::message::fault::Fault;
use crate::wire::message::{
    Ask, Message, Replies, agent, audio, fault, job, llm, midi, node, osc, session, stt, tts, voice,
};
use crate::wire::subject::{Capability, STOP, Verb, pattern};

/// Everything that can be asked.
pub const VERBS: &[VerbRow] = &[
    VerbRow::of::<stt::Request>(Forms::Models),
    VerbRow::of::<stt::Stream>(Forms::Models),
    VerbRow::of::<tts::Request>(Forms::Models),
    VerbRow::of::<tts::Stream>(Forms::Models),
    VerbRow::of::<llm::Chat>(Forms::Models),
    VerbRow::of::<llm::ListModels>(Forms::Models),
    VerbRow::of::<agent::Run>(Forms::Hosts),
    VerbRow::of::<agent::Commands>(Forms::Hosts),
    VerbRow::of::<voice::Control>(Forms::Listener),
    VerbRow::of::<osc::Out>(Forms::Models),
    VerbRow::of::<midi::Out>(Forms::Models),
    VerbRow::of::<audio::AskGraph>(Forms::Host),
    VerbRow::of::<audio::Apply>(Forms::Host),
    VerbRow::of::<audio::LinkOrder>(Forms::Host),
    VerbRow::of::<midi::StateQuery>(Forms::Models),
    VerbRow::of::<node::AskInfo>(Forms::Hosts),
    VerbRow::of::<node::Drain>(Forms::Host),
];

/// Everything that is published without being asked for.
pub const EVENTS: &[EventRow] = &[
    EventRow {
        pattern: pattern::VOICE_STATE,
        by: By::Role(Capability::Voice),
        message: MessageRow::of::<voice::State>(),
        about: "a listener's state has changed",
        kept: None,
    },
    EventRow {
        pattern: pattern::VOICE_LEVEL,
        by: By::Role(Capability::Voice),
        message: MessageRow::of::<voice::Level>(),
        about: "how loud a listener's microphone is; only while somebody has asked for it by `meter`",
        kept: None,
    },
    EventRow {
        pattern: pattern::OSC_IN,
        by: By::Role(Capability::Osc),
        message: MessageRow::of::<osc::In>(),
        about: "an OSC message has come that no handler takes; the parts of its address are the tokens",
        kept: None,
    },
    EventRow {
        pattern: pattern::MIDI_IN,
        by: By::Role(Capability::Midi),
        message: MessageRow::of::<midi::In>(),
        about: "a MIDI message came in; `midi.publish` says which kinds are told",
        kept: None,
    },
    EventRow {
        pattern: pattern::SESSION,
        by: By::Log,
        message: MessageRow::of::<session::SessionEvent>(),
        about: "something was said or done",
        kept: Some("the stream SESSIONS"),
    },
    EventRow {
        pattern: pattern::UP,
        by: By::Host,
        message: MessageRow::of::<node::NodeInfo>(),
        about: "a host is up, and everything it offers is served",
        kept: None,
    },
    EventRow {
        pattern: pattern::DOWN,
        by: By::Host,
        message: MessageRow::of::<node::NodeInfo>(),
        about: "a host takes no new work and ends",
        kept: None,
    },
    EventRow {
        pattern: pattern::CHANGED,
        by: By::Host,
        message: MessageRow::of::<node::NodeInfo>(),
        about: "a host offers something else than before",
        kept: None,
    },
    EventRow {
        pattern: pattern::LOST,
        by: By::Peer,
        message: MessageRow::of::<node::NodeInfo>(),
        about: "a host is gone without a word; told by one that sees it",
        kept: None,
    },
    EventRow {
        pattern: pattern::BACK,
        by: By::Host,
        message: MessageRow::of::<node::NodeInfo>(),
        about: "a host that was lost to the others is there again",
        kept: None,
    },
    EventRow {
        pattern: pattern::ROUTED,
        by: By::Asker,
        message: MessageRow::of::<node::Routed>(),
        about: "a host has chosen another for a request, and why",
        kept: None,
    },
    EventRow {
        pattern: pattern::FAULT,
        by: By::Host,
        message: MessageRow::of::<fault::Fault>(),
        about: "something went wrong that no caller hears of, such as a published command that can't be read",
        kept: None,
    },
    EventRow {
        pattern: pattern::LINK,
        by: By::Role(Capability::Audio),
        message: MessageRow::of::<audio::Link>(),
        about: "an audio link to another host is up, lost, or can't be",
        kept: None,
    },
    EventRow {
        pattern: pattern::NODE_ENTRY,
        by: By::Host,
        message: MessageRow::of::<node::NodeInfo>(),
        about: "a host is there, and what it offers; renewed every 3 s, gone 10 s after the last time",
        kept: Some("the bucket NODES"),
    },
    EventRow {
        pattern: pattern::JOB,
        by: By::Giver,
        message: MessageRow::of::<job::Job>(),
        about: "work that may wait: done by a host with an idle slot; for one with a model or for one host, \
            `.m.<model>` or `.n.<node>` stands for `.any`",
        kept: Some("the stream JOBS"),
    },
    EventRow {
        pattern: pattern::JOB_STATE,
        by: By::Worker,
        message: MessageRow::of::<job::JobState>(),
        about: "how far a job is, and at last its result or error",
        kept: Some("the bucket JOB_STATES"),
    },
    EventRow {
        pattern: STOP,
        by: By::Anyone,
        message: MessageRow::of::<node::Stop>(),
        about: "everything that sounds or acts stops, everywhere; an empty body will do",
        kept: None,
    },
];

/// Who works on requests that can be cancelled.
pub const CANCELLED: &[Capability] = &[Capability::Stt, Capability::Tts, Capability::Llm, Capability::Agent];

/// What hosts do as jobs as well.
pub const WAITING: &[Verb] = &[stt::Request::VERB];

/// Where a header stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// On requests and replies and events.
    All,
    /// On requests.
    Request,
    /// On replies.
    Reply,
}

/// A header: its name, where it stands, whether it is a number, and what for.
pub type HeaderRow = (&'static str, On, bool, &'static str);

/// Every header that Sidetone writes or reads.
pub const HEADERS: &[HeaderRow] = &[
    (
        header::CONTENT_TYPE,
        On::All,
        false,
        "how the body is written: `application/json` or `application/msgpack`, where named also `audio/…`; absent means JSON",
    ),
    (header::SCHEMA, On::All, false, "the message's name and version, such as `llm.chat/1`"),
    (header::ACCEPT, On::Request, false, "how the reply is to be written; absent means as the request is"),
    (header::REQ_ID, On::Request, false, "the request's id, by which it is cancelled"),
    (header::DEADLINE_MS, On::Request, true, "the time that is left for the request, in ms; absent means 120000"),
    (
        header::CREDIT,
        On::Request,
        true,
        "how many chunks may be on the way; the caller acknowledges them, see above; absent means no limit",
    ),
    (header::PACK, On::Request, true, "how many chunks the caller reads in one message; absent means one"),
    (header::TRACEPARENT, On::Request, false, "W3C trace context; the trace id is the turn's ULID as a number"),
    (header::SESSION, On::Request, false, "the session that the turn belongs to, for logs and traces"),
    (header::NODE, On::Reply, false, "the host that answers, on the last reply"),
    (header::ROUTE, On::All, false, "why that host: the caller says it, and the reply gives it back"),
    (
        header::ENGINE,
        On::Request,
        false,
        "which engine of the host is asked, by the `name` in its offer; absent means one that fits the request",
    ),
    (
        header::PRIVACY,
        On::Request,
        false,
        "how far it may travel: `host`, `lan` or `any`; absent means any. An engine whose provider is outside, or on another host, refuses what may not get there",
    ),
    (header::SEQ, On::Reply, true, "the number of a chunk in its stream, from 0; without `Credit` alone"),
    (
        header::STATUS,
        On::Reply,
        true,
        "`200` on the empty message that ends a stream, `100` on one that is to be ignored, whatever its body",
    ),
    (header::CHUNKS, On::Reply, true, "how many chunks the stream had, on its end; fewer that arrived means a loss"),
    (header::ERROR, On::Reply, false, "an error's text; the body is empty then"),
    (header::ERROR_CODE, On::Reply, true, "an error's number, see below"),
];

/// How a verb is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    /// Anyone, anyone with a model, or a host.
    Models,
    /// Anyone, or a host: models play no part.
    Hosts,
    /// A host alone: nobody is to answer for another.
    Host,
    /// A listener of a host.
    Listener,
}

/// One subject that a verb is asked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The subject's pattern.
    pub pattern: String,
    /// Who answers.
    pub who: &'static str,
    /// The pattern of the queue group.
    pub queue: &'static str,
    /// What tells the verb's addresses apart; empty for the plain one.
    pub suffix: &'static str,
}

/// A verb.
#[derive(Debug, Clone, Copy)]
pub struct VerbRow {
    /// Its name.
    pub verb: Verb,
    /// How it is addressed.
    pub forms: Forms,
    /// One line for people.
    pub about: &'static str,
    /// How it is answered.
    pub replies: Replies,
    /// What asks.
    pub request: MessageRow,
    /// What answers.
    pub reply: MessageRow,
}

impl VerbRow {
    const fn of<A: Ask>(forms: Forms) -> Self {
        let (request, reply) = (MessageRow::of::<A>(), MessageRow::of::<A::Reply>());
        Self { verb: A::VERB, forms, about: A::ABOUT, replies: A::REPLIES, request, reply }
    }

    /// Every subject on which it is asked.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let (verb, queue) = (&self.verb, self.verb.capability.token());
        let any = Address { pattern: pattern::any(verb), who: "anyone who can", queue, suffix: "" };
        let model = Address { pattern: pattern::model(verb), who: "anyone with that model", queue, suffix: ".m" };
        let node = Address { pattern: pattern::node(verb), who: "that host", queue: "{node}", suffix: ".n" };
        match self.forms {
            Forms::Models => vec![any, model, node],
            Forms::Hosts => vec![any, node],
            Forms::Host => vec![Address { suffix: "", ..node }],
            Forms::Listener => vec![Address {
                pattern: pattern::VOICE_CONTROL.to_owned(),
                who: "that listener",
                queue: "{node}",
                suffix: "",
            }],
        }
    }
}

/// Who publishes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Any host of Sidetone.
    Host,
    /// Any host, of another.
    Peer,
    /// A host that serves this.
    Role(Capability),
    /// A host with a role that keeps sessions.
    Log,
    /// Whoever asks others, of itself.
    Asker,
    /// Whoever may ask the verb that is to wait; see [`WAITING`].
    Giver,
    /// The same, and whoever serves it.
    Worker,
    /// Whoever wants to.
    Anyone,
}

/// Something that is published without being asked for.
#[derive(Debug, Clone, Copy)]
pub struct EventRow {
    /// The subject's pattern.
    pub pattern: &'static str,
    /// Who publishes it.
    pub by: By,
    /// What is published.
    pub message: MessageRow,
    /// One line for people.
    pub about: &'static str,
    /// What keeps it, if anything does.
    pub kept: Option<&'static str>,
}

/// A wire type.
#[derive(Debug, Clone, Copy)]
pub struct MessageRow {
    /// Its name and version, as in the header `Schema`.
    pub schema: &'static str,
    /// Its JSON Schema.
    pub json_schema: fn() -> Schema,
    /// One of it, as JSON.
    pub example: fn() -> Result<Bytes, Fault>,
    /// Reads a body of the first format, and writes what was read in the second.
    pub convert: fn(&Bytes, Format, Format) -> Result<Bytes, Fault>,
    /// Whether a bare audio file is read as it.
    pub is_audio: fn() -> bool,
}

impl MessageRow {
    const fn of<M: Message>() -> Self {
        Self {
            schema: M::SCHEMA,
            json_schema: || SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<M>(),
            example: || codec::encode(&M::example(), Format::Json),
            convert: |body, from, to| codec::encode(&codec::decode::<M>(from.content_type(), body)?, to),
            is_audio: || M::from_raw("audio/wav", &Bytes::new()).is_some(),
        }
    }

    /// The name without the version: the name of its files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.schema.split('/').next().unwrap_or_default()
    }
}

/// Every wire type that stands in the tables, by name, once.
#[must_use]
pub fn messages() -> Vec<MessageRow> {
    let asked = VERBS.iter().flat_map(|row| [row.request, row.reply]);
    let mut all: Vec<_> = asked.chain(EVENTS.iter().map(|row| row.message)).collect();
    all.sort_by_key(|row| row.schema);
    all.dedup_by_key(|row| row.schema);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_message_has_files_of_its_own() {
        let names: BTreeSet<_> = messages().iter().map(MessageRow::name).collect();
        assert_eq!(names.len(), messages().len(), "two versions of one message would share their files");
    }

    #[test]
    fn every_header_of_the_codec_stands_in_the_table() {
        let source = include_str!("../codec.rs");
        let declared: BTreeSet<_> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": &str = \""))
            .filter_map(|(_, value)| value.strip_suffix("\";"))
            .collect();
        let told: BTreeSet<_> = HEADERS.iter().map(|row| row.0).collect();
        assert_eq!(told, declared);
    }

    #[test]
    fn a_subject_is_listed_once() {
        let asked = VERBS.iter().flat_map(VerbRow::addresses).map(|address| address.pattern);
        let all: Vec<_> = asked.chain(EVENTS.iter().map(|row| row.pattern.to_owned())).collect();
        let once: BTreeSet<_> = all.iter().collect();
        assert_eq!(once.len(), all.len(), "{all:?}");
    }
}
