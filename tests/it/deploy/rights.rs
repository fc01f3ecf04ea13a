//! What a user may not do is refused by the server, and said: which subject, who, what to do.

use futures::StreamExt as _;
use sidetone::bus::jobs::Jobs;
use sidetone::bus::message::agent::Run;
use sidetone::bus::message::fault::Fault;
use sidetone::bus::message::job::JobStatus;
use sidetone::bus::message::llm::Chat;
use sidetone::bus::message::node::NodeInfo;
use sidetone::bus::message::session::SessionEvent;
use sidetone::bus::message::{Message as _, audio, midi, osc, stt};
use sidetone::bus::registry::{Claim, ClaimError};
use sidetone::bus::session::history;
use sidetone::bus::subject::{self, Target};
use sidetone::bus::{Access, Bus, BusError};

use super::site::{Site, call, sidetone};
use crate::support::host::{FAKES, HostSpec};
use crate::support::nats::{eventually, free_port, within};

const USERS: &str = "
[[hosts]]
name = \"brain\"
roles = [\"llm\", \"agent\", \"stt\"]
[[hosts]]
name = \"rack\"
roles = [\"tts\"]
[[hosts]]
name = \"rig\"
roles = [\"osc\", \"midi\", \"audio\"]
[[hosts]]
name = \"stage\"
asks = [\"agent\"]
[[hosts]]
name = \"desk\"
asks = [\"stt\"]
[[clients]]
name = \"op\"
rights = \"admin\"
[[clients]]
name = \"eye\"
rights = \"observer\"
";

fn what_time() -> Run {
    Run {
        text: "what time is it".to_owned(),
        session: None,
        turn: None,
        stream: false,
        heard: None,
        said: String::new(),
    }
}

async fn site() -> Option<Site> {
    let mut site = Site::new(1, USERS)?;
    site.serve("server-n1/nats-server.conf").await;
    Some(site)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_hears_no_microphone_and_no_session_and_is_nobody_else() {
    let Some(site) = site().await else { return };
    let _brain = site.host("brain", "llm,agent,stt").start().await;
    let stage = site.bus("host-stage").await;
    let heard = |subject: &'static str| {
        let stage = stage.clone();
        async move { within(stage.subscribe::<stt::Request>(subject)).await.err() }
    };
    for subject in [
        "stt.request",
        "stt.>",
        ">",
        "session.>",
        "agent.run",
        "voice.*.*.state",
        "_INBOX.>",
        "_INBOX.brain.>",
        "$KV.NODES.>",
    ] {
        let error = heard(subject).await.unwrap_or_else(|| panic!("{subject} may be heard"));
        assert!(
            matches!(&error, BusError::DeniedHearing { user, subject: what } if user == "stage" && what == subject),
            "{error}"
        );
        assert!(!error.can_retry() && error.to_string().contains("sidetone deploy nats"), "{error}");
    }
    let error = within(stage.ask(Target::Any, &stt::Request::default(), &call())).await.unwrap_err();
    assert!(matches!(&error, BusError::Denied { subject } if subject == "stt.request"), "{error}");
    let error = within(history(&stage, "s", 1)).await.unwrap_err();
    assert!(matches!(&error, BusError::Denied { subject } if subject.contains("SESSIONS")), "{error}");
    let error = within(stage.put_clip(&[0; 9])).await.unwrap_err();
    assert!(matches!(&error, BusError::Denied { subject } if subject.contains("CLIPS")), "{error}");
    for other in ["brain", "stage"] {
        let info = NodeInfo { node: other.to_owned(), ..NodeInfo::example() };
        let Err(ClaimError::Bus(BusError::Denied { subject })) = within(Claim::make(&stage, &info)).await else {
            panic!("it may write the entry of {other}");
        };
        assert_eq!(subject, format!("$KV.NODES.{other}"));
    }
    // It still may what it may.
    let run = what_time();
    within(stage.ask(Target::Any, &run, &call())).await.unwrap();

    let eye = site.bus("client-eye").await;
    let error = within(eye.ask(Target::Any, &run, &call())).await.unwrap_err();
    assert!(matches!(&error, BusError::Denied { subject } if subject == "agent.run"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_given_and_called_off_by_those_who_may_ask_and_by_no_others() {
    let Some(site) = site().await else { return };
    let audio = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/jfk.flac")).unwrap();
    let request = stt::Request::default();
    let denied = |result: Result<String, BusError>, part: &str| match result {
        Err(BusError::Denied { subject }) => assert!(subject.contains(part), "{subject}"),
        other => panic!("{other:?}"),
    };
    // Nobody has made the queue yet, and it is not for this user to make it.
    let desk = site.bus("host-desk").await;
    denied(within(Jobs::open(&desk)).await.map(|_| String::new()), "CREATE.JOBS");
    // The first one with a file makes its store.
    let op = site.bus("client-op").await;
    let of_op = within(Jobs::open(&op)).await.unwrap();
    let first = within(of_op.submit(Target::Any, "first", &request, Some(&audio))).await.unwrap();

    let jobs = within(Jobs::open(&desk)).await.unwrap();
    let talk = within(jobs.submit(Target::Any, "talk", &request, Some(&audio))).await.unwrap();
    let dropped = within(jobs.submit(Target::Node("brain"), "dropped", &request, Some(&audio))).await.unwrap();
    within(jobs.cancel(&dropped)).await.unwrap();
    denied(within(jobs.submit(Target::Any, "chat", &Chat::example(), None)).await, "job.llm.chat.any.");
    let stage = site.bus("host-stage").await;
    denied(within(Jobs::open(&stage)).await.map(|_| String::new()), "JOBS");
    let mine = NodeInfo { node: "stage".to_owned(), ..NodeInfo::example() };
    let subject = subject::job(&<stt::Request as sidetone::bus::message::Ask>::VERB, Target::Any, "smuggled");
    within(stage.publish(subject, &mine)).await.unwrap();
    // Asked on the same connection, so that the server has seen the other before.
    within(stage.ask(Target::Any, &what_time(), &call())).await.unwrap_err();

    let brain = site.host("brain", "llm,agent,stt").start().await;
    let done = within(jobs.wait(&talk)).await.unwrap();
    assert_eq!((done.status, done.node.as_deref()), (JobStatus::Done, Some("brain")), "{done:?}");
    assert!(within(jobs.result(&done)).await.unwrap().unwrap()["text"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(within(of_op.wait(&first)).await.unwrap().status, JobStatus::Done);
    assert_eq!(within(jobs.get(&dropped)).await.unwrap().status, JobStatus::Cancelled);
    // Who may not take it out of the queue leaves that, and the recording, to the host.
    let raw = async_nats::jetstream::new(site.raw("client-op", None).await);
    let files = within(raw.get_object_store("JOB_FILES")).await.unwrap();
    for job in [&first, &talk, &dropped] {
        eventually(|| async { files.info(job).await.unwrap().deleted.then_some(()) }).await;
    }
    eventually(|| async { (raw.get_stream("JOBS").await.unwrap().cached_info().state.messages == 0).then_some(()) })
        .await;
    let known = within(of_op.list()).await.unwrap();
    assert_eq!(known.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), [&first, &talk, &dropped]);
    drop(brain);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_others_say_what_he_may_not() {
    let Some(site) = site().await else { return };
    let _brain = site.host("brain", "llm,agent,stt").start().await;
    let op = site.bus("client-op").await;
    let mut told = op.subscribe::<SessionEvent>("session.forged.>").await.unwrap();
    let mut faults = op.subscribe::<Fault>(&subject::event_of_all("fault")).await.unwrap();
    // The agent may publish wherever it is asked to answer: the session of another, here.
    let stage = site.raw("host-stage", None).await;
    let body = r#"{"text":"what time is it","stream":false}"#;
    stage.publish_with_reply("agent.run", "session.forged.reply", body.into()).await.unwrap();
    stage.flush().await.unwrap();
    let (_, fault) = within(faults.next()).await.unwrap();
    assert!(fault.unwrap().message.contains("session.forged.reply"));
    // What comes next on the same connection proves that nothing came before.
    within(op.ask(Target::Any, &what_time(), &call())).await.unwrap();
    assert!(futures::FutureExt::now_or_never(told.next()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_may_not_serve_its_roles_says_so_and_ends() {
    let Some(site) = site().await else { return };
    let (code, why) = site.host("rack", "llm").refused();
    assert_eq!(code, 1, "{why}");
    assert!(why.contains("role llm") && why.contains("rack may not subscribe to llm."), "{why}");
    assert!(why.contains("sidetone deploy nats"), "{why}");
    let (code, why) = site.host("stage", "agent").refused();
    assert!(code == 1 && why.contains("$KV.NODES.stage"), "{why}");

    // Somebody else's name, no key, a key that nobody knows, no trust.
    let settings = site.settings("host-rack");
    let named = HostSpec::new("brain", "tts").argument(&["--config", settings.to_str().unwrap()]).set(FAKES);
    let (code, why) = named.refused();
    assert!(code == 1 && why.contains("\"brain\" by another name") && why.contains("node.name"), "{why}");
    let (code, why) = site.host("rack", "tts").set(&["bus.nkey_file="]).refused();
    assert!(code == 1 && why.contains("does not know this login") && why.contains("bus.nkey_file"), "{why}");
    let (code, why) = site.host("rack", "tts").set(&["bus.nkey_file=/no/such.nk"]).refused();
    assert!(code == 1 && why.contains("bus.nkey_file /no/such.nk: can't read it"), "{why}");
    let stranger = site.folder.path().join("stranger.nk");
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    std::fs::write(&stranger, &seed).unwrap();
    let (code, why) = site.host("rack", "tts").set(&[&format!("bus.nkey_file={}", stranger.display())]).refused();
    assert!(code == 1 && why.contains("does not know this login") && !why.contains(&seed), "{why}");
    let (code, why) = site.host("rack", "tts").set(&["bus.tls_ca=", "bus.connect_timeout_ms=1"]).refused();
    assert!(code == 3 && why.contains("certificate"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_ends_the_host_that_needs_it() {
    let Some(site) = site().await else { return };
    let mut rack = site.host("rack", "tts").start().await;
    site.list(&USERS.replace("roles = [\"tts\"]", "roles = [\"llm\"]"));
    assert_eq!(site.deploy(&[]).0, 0);
    site.reload();
    let (status, log) = (rack.ended(), rack.log());
    assert_eq!(status.code(), Some(1), "{log}");
    let why = log.lines().find(|line| line.starts_with("sidetone: ")).unwrap_or_else(|| panic!("{log}"));
    assert!(why.contains("role tts") && why.contains("rack may not subscribe to tts."), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_not_talked_to() {
    let Some(site) = site().await else { return };
    let Some(plain) = crate::support::nats::Nats::start().await else { return };
    // Somebody who answers at the address of the server, without its certificate.
    let access = Access { url: plain.url(), ..site.access("host-stage") };
    let error = within(Bus::connect(access, "stage")).await.unwrap_err();
    assert!(matches!(&error, BusError::Connect { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_for_gear_serves_what_it_is_for_and_hears_nobody() {
    let Some(site) = site().await else { return };
    let _brain = site.host("brain", "llm,agent,stt").start().await;
    let listen = format!("osc.listen=127.0.0.1:{}", free_port());
    let sets = [listen.as_str(), "osc.query=", "osc.announce=false", "osc.targets={ lights = \"127.0.0.1:9\" }"];
    let host = site.host("rig", "osc,midi,audio").set(&sets).start().await;
    let admin = site.bus("client-op").await;
    let out = osc::Out { target: "lights".to_owned(), address: "/scene".to_owned(), ..osc::Out::default() };
    assert_eq!(within(admin.ask(Target::Model("lights"), &out, &call())).await.unwrap().node, "rig");
    within(admin.ask(Target::Node("rig"), &midi::StateQuery::default(), &call())).await.unwrap();
    within(admin.ask(Target::Node("rig"), &audio::AskGraph {}, &call())).await.unwrap();
    assert!(host.log().contains("surfaces are shown no transcripts and replies"), "{}", host.log());

    let rig = site.bus("host-rig").await;
    for subject in ["session.>", "voice.*.*.level", "stt.request", "agent.run"] {
        let error = within(rig.subscribe::<stt::Request>(subject)).await.err();
        let error = error.unwrap_or_else(|| panic!("{subject} may be heard"));
        assert!(matches!(&error, BusError::DeniedHearing { subject: what, .. } if what == subject), "{error}");
    }
    let error = within(history(&rig, "s", 1)).await.unwrap_err();
    assert!(matches!(&error, BusError::Denied { subject } if subject.contains("SESSIONS")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_end_hosts_need_not_hear_what_they_tell() {
    let users = format!("{USERS}[[clients]]\nname = \"porter\"\nrights = \"caller\"\nasks = [\"node\"]\n");
    let Some(mut site) = Site::new(1, &users) else { return };
    site.serve("server-n1/nats-server.conf").await;
    let mut brain = site.host("brain", "llm").start().await;
    let (folder, settings) = (site.folder.path().to_owned(), site.settings("client-porter"));
    let drain = move || sidetone(&folder, &["drain", "--node", "brain", "--config", settings.to_str().unwrap()]);
    let (code, text) = within(tokio::task::spawn_blocking(drain)).await.unwrap();
    assert!(code == 0 && text.contains("brain is down"), "{code}: {text}");
    assert_eq!(brain.ended().code(), Some(0));
}
