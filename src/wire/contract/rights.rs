//! Who may publish and hear what, derived from the tables of the [contract](super::table) and from what a host does.
//!
//! A host hears what it serves, under its own name and in the queue group alone, so that it gets its share of the
//! requests and no copy of the others'. It publishes what its roles ask, its own events, and its own entry in NODES. It
//! may answer whoever asks it, and hears no answers but its own.
//!
//! Whoever may make a stream or a bucket says which subjects it keeps, and could have it keep what it must not hear. So
//! only hosts that hear what people say anyhow make them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::capability::{self, Hears};
use super::table::{By, CANCELLED, EVENTS, VERBS, VerbRow, WAITING};
use crate::wire::message::node::AskInfo;
use crate::wire::message::{Ask as _, Replies};
use crate::wire::storage;
use crate::wire::subject::{
    CREDITS, Capability, EVENTS as ALL_EVENTS, SESSIONS, STOP, VOICE_LEVELS, VOICE_STATES, Verb, inbox, jobs_of,
    lies_within, pattern, reserved, token,
};

/// How long after a request it may be answered, in whole minutes; the server keeps a note of each for so long. What is
/// answered later is refused, of a stream as well.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(15 * 60);

/// What a role does with sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Sessions {
    /// Nothing.
    #[default]
    None,
    /// Takes down what is said and done.
    Writes,
    /// The same, and reads what was before.
    Reads,
}

/// What a host does, as far as its rights go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duties {
    /// What its roles serve.
    pub serves: Vec<Capability>,
    /// What they ask.
    pub asks: Vec<Verb>,
    /// Of what of that they give jobs, and so see all jobs with their recordings.
    pub gives: Vec<Verb>,
    /// What they do with sessions.
    pub sessions: Sessions,
}

/// A subject that may be heard; with a queue group, only as a member of that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hearing {
    /// The subject.
    pub subject: String,
    /// The queue group.
    pub queue: Option<String>,
}

/// What a user of the NATS server may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Where it may publish.
    pub publish: BTreeSet<String>,
    /// What it may hear.
    pub hear: BTreeSet<Hearing>,
    /// Whether it may answer requests.
    pub answers: bool,
}

/// Every verb of `capabilities`, for whoever may ask all of it.
#[must_use]
pub fn verbs_of(capabilities: &[Capability]) -> Vec<Verb> {
    VERBS.iter().map(|row| row.verb).filter(|verb| capabilities.contains(&verb.capability)).collect()
}

impl Rights {
    /// Those of a host.
    #[must_use]
    pub fn of_host(name: &str, duties: &Duties) -> Self {
        let mut rights = Self::of_asker(name, &duties.asks);
        rights.give(&duties.gives);
        rights.serve(name, Capability::Node);
        for capability in &duties.serves {
            rights.serve(name, *capability);
        }
        for row in EVENTS {
            match row.by {
                By::Role(capability) if !duties.serves.contains(&capability) => {}
                By::Log if duties.sessions == Sessions::None => {}
                By::Anyone | By::Asker | By::Giver | By::Worker => {}
                // As the stream has it: a leaf is told of the stream only if it may publish all that it keeps.
                By::Log => rights.publish(SESSIONS),
                By::Peer => rights.publish(pattern::filter(row.pattern, None)),
                By::Host | By::Role(_) => rights.publish(pattern::filter(row.pattern, Some(name))),
            }
        }
        let rows = || duties.serves.iter().map(|capability| capability::row(*capability));
        let hears_people = rows().any(|row| row.hears_people);
        for hears in rows().flat_map(|row| row.hears) {
            match hears {
                Hears::Own(pattern) => rights.hear(&pattern::filter(pattern, Some(name)), None),
                Hears::All(pattern) => rights.hear(&pattern::filter(pattern, None), None),
                Hears::Overheard(pattern) if hears_people => rights.hear(&pattern::filter(pattern, None), None),
                Hears::Overheard(_) => {}
            }
        }
        // Gear and commands may be set to ask tools.
        if rows().any(|row| row.asks_tools) {
            rights.publish(pattern::filter(pattern::TOOL, None));
        }
        // Every host sees to it that the stream is there before its roles start.
        rights.publish(reserved::look(storage::SESSIONS));
        if duties.sessions != Sessions::None {
            // A writer reads the end of its session, to fence what it appends.
            rights.publish.extend(reserved::read(storage::SESSIONS));
        }
        if hears_people {
            rights.publish.extend(streams().iter().map(|stream| reserved::make(stream)));
            rights.publish(reserved::JETSTREAM);
        }
        rights
    }

    /// Those of somebody who asks, gives jobs and serves nothing: a person at the command line, a device of the stage.
    #[must_use]
    pub fn of_caller(name: &str, asks: &[Verb]) -> Self {
        let mut rights = Self::of_asker(name, asks);
        rights.give(asks);
        rights
    }

    fn of_asker(name: &str, asks: &[Verb]) -> Self {
        let mut rights = Self::of_user(name);
        rights.publish.extend(reserved::read(&reserved::of_bucket(storage::NODES)));
        rights.publish(reserved::PINGS);
        rights.ask(AskInfo::VERB);
        for verb in asks {
            rights.ask(*verb);
        }
        let told = EVENTS.iter().filter(|row| row.by == By::Anyone);
        rights.publish.extend(told.map(|row| pattern::filter(row.pattern, None)));
        let own = EVENTS.iter().filter(|row| row.by == By::Asker);
        rights.publish.extend(own.map(|row| pattern::filter(row.pattern, Some(name))));
        rights
    }

    /// Those of somebody who sees and hears everything that is told, and asks nothing but who is there.
    #[must_use]
    pub fn of_observer(name: &str) -> Self {
        let mut rights = Self::of_user(name);
        let node_entries = pattern::filter(pattern::NODE_ENTRY, None);
        let osc_in = pattern::filter(pattern::OSC_IN, None);
        for subject in [SESSIONS, VOICE_STATES, VOICE_LEVELS, &osc_in, ALL_EVENTS, STOP, &node_entries] {
            rights.hear(subject, None);
        }
        let (nodes, states) = (reserved::of_bucket(storage::NODES), reserved::of_bucket(storage::JOB_STATES));
        for stream in [storage::SESSIONS, &nodes, &states] {
            rights.publish.extend(reserved::read(stream));
        }
        rights.publish(reserved::look(storage::JOBS));
        rights.publish.extend(reserved::OVERVIEW.iter().map(|&subject| subject.to_owned()));
        rights.publish(reserved::SERVICES);
        rights.ask(AskInfo::VERB);
        rights
    }

    /// Everything.
    #[must_use]
    pub fn of_admin() -> Self {
        let mut rights = Self::default();
        rights.publish(">");
        rights.hear(">", None);
        rights
    }

    /// Whether it may publish on `subject`, unasked.
    #[must_use]
    pub fn may_publish(&self, subject: &str) -> bool {
        self.publish.iter().any(|filter| lies_within(subject, filter))
    }

    /// Whether it may hear `subject` as a member of `queue`, or alone.
    #[must_use]
    pub fn may_hear(&self, subject: &str, queue: Option<&str>) -> bool {
        let fits = |hearing: &&Hearing| hearing.queue.is_none() || hearing.queue.as_deref() == queue;
        self.hear.iter().filter(fits).any(|hearing| lies_within(subject, &hearing.subject))
    }

    /// What everybody needs: a place for answers, and a message to itself as a proof that a subscription stands.
    fn of_user(name: &str) -> Self {
        let mut rights = Self::default();
        let inbox = format!("{}.>", inbox(name));
        rights.hear(&inbox, None);
        rights.publish(inbox);
        rights
    }

    fn publish(&mut self, subject: impl Into<String>) {
        self.publish.insert(subject.into());
    }

    fn hear(&mut self, subject: &str, queue: Option<String>) {
        self.hear.insert(Hearing { subject: subject.to_owned(), queue });
    }

    fn serve(&mut self, name: &str, capability: Capability) {
        for row in rows(capability) {
            for address in row.addresses() {
                let queue =
                    if pattern::names(address.queue).next().is_some() { token(name) } else { address.queue.to_owned() };
                self.hear(&pattern::filter(&address.pattern, Some(name)), Some(queue));
            }
            self.keep_clips((row.reply.is_audio)(), (row.request.is_audio)());
            if row.replies == Replies::Talk {
                self.publish(CREDITS);
            }
            if WAITING.contains(&row.verb) {
                self.work_with_jobs();
                self.publish.extend(reserved::read(storage::JOBS));
                self.publish(reserved::purge(&reserved::of_store(storage::JOB_FILES)));
            }
        }
        for subject in reserved::service(capability) {
            self.hear(&subject, None);
        }
        self.hear(&pattern::filter(&pattern::cancel(capability), None), None);
        self.hear(STOP, None);
        self.answers = true;
    }

    fn ask(&mut self, verb: Verb) {
        for row in rows(verb.capability).filter(|row| row.verb == verb) {
            self.publish.extend(row.addresses().iter().map(|address| pattern::filter(&address.pattern, None)));
            if row.replies != Replies::One {
                self.publish(CREDITS);
            }
            self.keep_clips((row.request.is_audio)(), (row.reply.is_audio)());
        }
        if CANCELLED.contains(&verb.capability) {
            self.publish(pattern::filter(&pattern::cancel(verb.capability), None));
        }
    }

    fn give(&mut self, verbs: &[Verb]) {
        for verb in verbs.iter().filter(|verb| WAITING.contains(verb)) {
            self.publish.extend(jobs_of(verb));
            self.work_with_jobs();
        }
    }

    /// What is known of jobs, and their recordings: whoever gives a job puts them in, whoever does it what came of it.
    fn work_with_jobs(&mut self) {
        self.publish(reserved::look(storage::JOBS));
        self.publish(pattern::filter(pattern::JOB_STATE, None));
        self.publish(pattern::JOB_FILES);
        self.publish.extend(reserved::read(&reserved::of_bucket(storage::JOB_STATES)));
        self.publish.extend(reserved::read(&reserved::of_store(storage::JOB_FILES)));
    }

    /// Clips that do not fit into a message go through the store CLIPS: whoever sends some puts them in.
    fn keep_clips(&mut self, puts: bool, gets: bool) {
        let stream = reserved::of_store(storage::CLIPS);
        if puts {
            self.publish(pattern::CLIPS);
        }
        if puts || gets {
            // Putting one looks for an earlier one of its name.
            self.publish.extend(reserved::read(&stream));
        }
    }
}

/// Every stream that is kept, those behind buckets too.
fn streams() -> [String; 6] {
    [
        storage::SESSIONS.to_owned(),
        reserved::of_bucket(storage::NODES),
        reserved::of_store(storage::CLIPS),
        storage::JOBS.to_owned(),
        reserved::of_bucket(storage::JOB_STATES),
        reserved::of_store(storage::JOB_FILES),
    ]
}

fn rows(capability: Capability) -> impl Iterator<Item = &'static VerbRow> {
    VERBS.iter().filter(move |row| row.verb.capability == capability)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::message::{agent, llm, stt, tts};
    use crate::wire::subject::{self, Target, job};

    const ROLES: [Capability; 8] = [
        Capability::Voice,
        Capability::Stt,
        Capability::Tts,
        Capability::Llm,
        Capability::Agent,
        Capability::Osc,
        Capability::Midi,
        Capability::Audio,
    ];

    fn hears_people(duties: &Duties) -> bool {
        duties.serves.iter().any(|capability| capability::row(*capability).hears_people)
    }

    fn duties() -> impl Strategy<Value = Duties> {
        let verbs: Vec<_> = VERBS.iter().map(|row| row.verb).collect();
        let sessions = prop_oneof![Just(Sessions::None), Just(Sessions::Writes), Just(Sessions::Reads)];
        let (serves, asks) = (
            prop::sample::subsequence(ROLES.to_vec(), 0..=ROLES.len()),
            prop::sample::subsequence(verbs.clone(), 0..=verbs.len()),
        );
        let gives = prop::sample::subsequence(verbs, 0..=VERBS.len());
        (serves, asks, gives, sessions).prop_map(|(serves, asks, gives, sessions)| Duties {
            serves,
            asks,
            gives,
            sessions,
        })
    }

    /// Every subject of the contract, filled for one host.
    fn requests(node: &str) -> Vec<(Verb, String, String)> {
        let fill = |text: &str| pattern::fill(text, |name| Some(if name == "node" { node } else { "x" }));
        let all = VERBS.iter().flat_map(|row| row.addresses().into_iter().map(move |address| (row.verb, address)));
        all.map(|(verb, address)| (verb, fill(&address.pattern), fill(address.queue))).collect()
    }

    proptest! {
        #[test]
        fn a_host_hears_what_it_serves_and_nothing_else(name in "[a-z.]{1,9}", other in "[A-Z]{1,9}", duties in duties()) {
            let rights = Rights::of_host(&name, &duties);
            for (verb, subject, queue) in requests(&name) {
                let serves = verb.capability == Capability::Node || duties.serves.contains(&verb.capability);
                prop_assert_eq!(rights.may_hear(&subject, Some(&queue)), serves, "{}", &subject);
                // Never as a bystander, who would get a copy of what others are asked.
                prop_assert!(!rights.may_hear(&subject, None), "{}", &subject);
                let asks = verb == AskInfo::VERB || duties.asks.contains(&verb);
                prop_assert_eq!(rights.may_publish(&subject), asks, "{}", &subject);
            }
            for (verb, subject, queue) in requests(&other) {
                let of_other = subject.contains(&other);
                prop_assert!(!of_other || !rights.may_hear(&subject, Some(&queue)), "{verb} {subject}");
            }
            for all in [ALL_EVENTS, ">", "*", "_INBOX.>", "$JS.>", "$KV.>", "$O.>"] {
                prop_assert!(!rights.may_hear(all, None), "{all}");
            }
            // What is said, and how loud, is shown on surfaces by a host that hears it anyhow.
            let shows = duties.serves.contains(&Capability::Osc);
            prop_assert_eq!(rights.may_hear(VOICE_STATES, None), shows);
            for all in [SESSIONS, VOICE_LEVELS] {
                prop_assert_eq!(rights.may_hear(all, None), shows && hears_people(&duties), "{}", all);
            }
        }

        #[test]
        fn a_host_speaks_for_itself_alone(name in "[a-z.]{1,9}", other in "[A-Z]{1,9}", duties in duties()) {
            let rights = Rights::of_host(&name, &duties);
            for row in EVENTS.iter().filter(|row| matches!(row.by, By::Host | By::Asker | By::Role(_))) {
                let of = |node| pattern::fill(row.pattern, |name| Some(if name == "node" { node } else { "x" }));
                prop_assert!(!rights.may_publish(&of(other.as_str())), "{}", row.pattern);
                let does = match row.by { By::Role(capability) => duties.serves.contains(&capability), _ => true };
                prop_assert_eq!(rights.may_publish(&of(name.as_str())), does, "{}", row.pattern);
            }
            prop_assert_eq!(rights.may_publish(&subject::session("s", "reply")), duties.sessions != Sessions::None);
            let inbox = |name| format!("{}.x.1", inbox(name));
            prop_assert!(rights.may_hear(&inbox(&name), None) && rights.may_publish(&inbox(&name)));
            prop_assert!(!rights.may_hear(&inbox(&other), None) && !rights.may_publish(&inbox(&other)));
            prop_assert!(rights.answers);
        }

        #[test]
        fn microphones_and_sessions_are_for_those_who_need_them(name in "[a-z.]{1,9}", duties in duties()) {
            let rights = Rights::of_host(&name, &duties);
            let reads = |rights: &Rights, stream: &str| {
                reserved::read(stream).iter().filter(|subject| **subject != reserved::look(stream)).any(|subject| rights.may_publish(subject))
            };
            prop_assert_eq!(reads(&rights, storage::SESSIONS), duties.sessions != Sessions::None);
            // Long recordings are in CLIPS.
            let clips = reserved::of_store(storage::CLIPS);
            let with_audio = |row: &&VerbRow| (row.request.is_audio)() || (row.reply.is_audio)();
            let touches = VERBS.iter().filter(with_audio).any(|row| duties.serves.contains(&row.verb.capability) || duties.asks.contains(&row.verb));
            prop_assert_eq!(reads(&rights, &clips), touches);
            // Who makes a stream says what it keeps.
            let files = reserved::of_store(storage::JOB_FILES);
            for stream in streams().into_iter().chain(["ANY".to_owned()]) {
                let makes = stream != "ANY" && hears_people(&duties);
                prop_assert_eq!(rights.may_publish(&reserved::make(&stream)), makes, "{}", &stream);
                for verb in ["UPDATE", "DELETE", "PURGE"] {
                    let subject = format!("$JS.API.STREAM.{verb}.{stream}");
                    // The recordings of jobs that are done go.
                    let does = verb == "PURGE" && stream == files && duties.serves.contains(&Capability::Stt);
                    prop_assert_eq!(rights.may_publish(&subject), does, "{}", &subject);
                }
            }
            let caller = Rights::of_caller(&name, &duties.asks);
            prop_assert!(!reads(&caller, storage::SESSIONS) && !caller.answers);
            prop_assert!(!caller.publish.iter().any(|subject| reserved::is_to_make(subject)));
            let own = inbox(&name) + ".>";
            prop_assert!(caller.hear.iter().all(|hearing| lies_within(&hearing.subject, &own)));
            prop_assert!(Rights::of_asker(&name, &duties.asks).publish.is_subset(&rights.publish));
        }
    }

    proptest! {
        #[test]
        fn jobs_are_given_by_those_who_may_ask_and_done_by_those_who_serve(name in "[a-z.]{1,9}", duties in duties()) {
            let (host, caller) = (Rights::of_host(&name, &duties), Rights::of_caller(&name, &duties.asks));
            for row in VERBS {
                let waits = WAITING.contains(&row.verb);
                let (gives, asks) = (waits && duties.gives.contains(&row.verb), waits && duties.asks.contains(&row.verb));
                for target in [Target::Any, Target::Model("m:1"), Target::Node("n.1")] {
                    let subject = job(&row.verb, target, "J1");
                    prop_assert_eq!(host.may_publish(&subject), gives, "{}", &subject);
                    prop_assert_eq!(caller.may_publish(&subject), asks, "{}", &subject);
                }
            }
            let does = |verbs: &[Verb]| verbs.contains(&stt::Request::VERB);
            let (serves, gives, asks) = (duties.serves.contains(&Capability::Stt), does(&duties.gives), does(&duties.asks));
            let takes = |rights: &Rights| rights.may_publish("$JS.API.CONSUMER.MSG.NEXT.JOBS.stt-request-any");
            prop_assert_eq!((takes(&host), takes(&caller)), (serves, false));
            let state = pattern::fill(pattern::JOB_STATE, |_| Some("J1"));
            // Whose roles ask for transcripts sees no job.
            prop_assert_eq!((host.may_publish(&state), caller.may_publish(&state)), (serves || gives, asks));
            for rights in [&host, &caller] {
                prop_assert!(!rights.may_hear(subject::JOBS, None) && !rights.may_hear(&state, None));
                prop_assert!(!rights.may_publish(&reserved::purge(storage::JOBS)));
            }
        }
    }

    #[test]
    fn a_device_on_the_stage_asks_the_agent_and_no_more() {
        let stage = Rights::of_caller("stage", &verbs_of(&[Capability::Agent]));
        assert!(stage.may_publish(&agent::Run::VERB.subject(Target::Any)) && stage.may_publish(STOP));
        assert!(stage.may_publish(&agent::Run::VERB.subject(Target::Node("brain"))));
        for verb in [stt::Request::VERB, tts::Stream::VERB, llm::Chat::VERB] {
            assert!(
                !stage.may_publish(&verb.subject(Target::Any)) && !stage.may_hear(&verb.subject(Target::Any), None)
            );
        }
        let observer = Rights::of_observer("eye");
        assert!(observer.may_hear(SESSIONS, None) && observer.may_publish(reserved::SERVICES));
        assert!(!observer.may_publish(STOP) && !observer.may_publish(&agent::Run::VERB.subject(Target::Any)));
        assert!(Rights::of_admin().may_hear(">", None) && Rights::of_admin().may_publish("anything"));
    }
}
