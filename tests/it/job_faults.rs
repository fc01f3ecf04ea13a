//! Jobs of hosts that die or stand still: real processes.

use std::time::Duration;

use sidetone::bus::jobs::Jobs;
use sidetone::bus::message::job::{JobState, JobStatus};
use sidetone::bus::message::stt::{self, Request};
use sidetone::bus::message::{Blob, Pcm};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, Call};

use crate::support::host::{FAKES, Host, HostSpec};
use crate::support::nats::{eventually, program, within};

const JFK: &[u8] = include_bytes!("../fixtures/audio/jfk.flac");

/// A host that transcribes by `script`, on the bus of another.
async fn host(name: &str, script: &str, base: &Host) -> Host {
    let model = format!("stt.model={script}");
    let spec = HostSpec::new(name, "stt").set(FAKES).set(&[&model, "stt.slots=1"]);
    spec.argument(&["--bus", &base.spec.url()]).start_on(base.bus()).await
}

/// Submits a job and waits until `node` works on it.
async fn running_on(jobs: &Jobs, node: &str) -> String {
    let id = within(jobs.submit(Target::Any, "jfk.flac", &Request::default(), Some(JFK))).await.unwrap();
    eventually(|| async {
        let state = jobs.get(&id).await.unwrap();
        assert!(!state.status.is_over(), "{state:?}");
        (state.status == JobStatus::Running && state.node.as_deref() == Some(node)).then_some(())
    })
    .await;
    id
}

fn signal(host: &Host, signal: i32) {
    // SAFETY: a plain system call on a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(host.pid(), signal) }, 0);
}

fn result(state: &JobState) -> (JobStatus, u32, Option<&str>, Option<&str>) {
    let text = state.result.as_ref().and_then(|result| result["text"].as_str());
    (state.status, state.attempts, state.node.as_deref(), text)
}

async fn ask(bus: &Bus, node: &str) -> stt::Transcript {
    let pcm = Pcm { rate_hz: 16_000, channels: 1, data: Blob(vec![0; 3_200].into()), ..Pcm::default() };
    let request = Request { pcm: Some(pcm), ..Request::default() };
    within(bus.ask(Target::Node(node), &request, &Call::within(Duration::from_secs(60)))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_host_that_stands_still_or_dies_is_done_by_another_and_counts_once() {
    if program("nats-server").is_none() {
        return;
    }
    let base = HostSpec::new("base", "tts").set(FAKES).start().await;
    let bus = base.bus();
    let jobs = Jobs::open(bus).await.unwrap();
    let mut rack = host("rack", "slow:3000", &base).await;

    // Its job is broken off for somebody who waits, and begun again.
    let id = running_on(&jobs, "rack").await;
    assert_eq!(ask(bus, "rack").await.text, "100 milliseconds");
    signal(&rack, libc::SIGSTOP);
    let stage = host("stage", "say:Heard on stage.", &base).await;
    let done = within(jobs.wait(&id)).await.unwrap();
    let wanted = (JobStatus::Done, 2, Some("stage"), Some("Heard on stage."));
    assert_eq!(result(&done), wanted);
    // It goes on where it stood, and finds that somebody else was quicker.
    signal(&rack, libc::SIGCONT);
    eventually(|| async { rack.log().contains("another host or client has changed the job").then_some(()) }).await;
    assert_eq!(within(jobs.get(&id)).await.unwrap(), done);

    drop(stage);
    let id = running_on(&jobs, "rack").await;
    rack.end(libc::SIGKILL);
    let _stage = host("stage", "say:Heard again.", &base).await;
    let done = within(jobs.wait(&id)).await.unwrap();
    assert_eq!(result(&done), (JobStatus::Done, 2, Some("stage"), Some("Heard again.")));
    let open = within(jobs.list()).await.unwrap().into_iter().filter(|job| !job.status.is_over()).count();
    assert_eq!(open, 0);
}
