//! Work that may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use sidetone::bus::batch::BatchJob;
use sidetone::bus::jobs::{Jobs, MAX_ATTEMPTS};
use sidetone::bus::message::Message as _;
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::job::{JobState, JobStatus};
use sidetone::bus::message::stt::{Request, Transcript};
use sidetone::bus::service::Server;
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, BusError};
use tokio::sync::{Semaphore, mpsc};

use super::{call, code, serve_stt};
use crate::support::nats::{Nats, eventually, within};

fn said(text: &str) -> Transcript {
    Transcript { text: text.to_owned(), ..Transcript::example() }
}

/// Serves `stt.request`, and does jobs by saying how long their file is and which host it was.
async fn host(nats: &Nats, name: &str) -> (Bus, Server) {
    let bus = nats.host(name).await;
    let (server, node) = (serve_stt(&bus, 1).await, name.to_owned());
    server.take_jobs(move |job: Arc<BatchJob<Request>>| {
        let node = node.clone();
        async move {
            let file = job.file(1 << 20).await?.map_or(0, |file| file.len());
            job.step(|_| async { Ok(said(&format!("{file} bytes on {node}"))) }).await
        }
    });
    (bus, server)
}

/// A job that can be watched: each beginning of its work is told, and it ends when it is let go.
fn watched(server: &Server) -> (mpsc::UnboundedReceiver<usize>, Arc<Semaphore>) {
    let (begun, begins) = mpsc::unbounded_channel();
    let (go, count) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::clone(&go);
    server.take_jobs(move |job: Arc<BatchJob<Request>>| {
        let (begun, gate, count) = (begun.clone(), Arc::clone(&gate), Arc::clone(&count));
        async move {
            job.step(|_| async {
                begun.send(count.fetch_add(1, Ordering::SeqCst)).unwrap();
                gate.acquire().await.unwrap().forget();
                Ok(said("done"))
            })
            .await
        }
    });
    (begins, go)
}

async fn submit(jobs: &Jobs, target: Target<'_>, file: Option<&[u8]>) -> String {
    within(jobs.submit(target, "talk.flac", &Request::default(), file)).await.unwrap()
}

fn text(state: &JobState) -> Option<&str> {
    state.result.as_ref()?["text"].as_str()
}

async fn queued(jobs: &Jobs) -> Vec<String> {
    let open = within(jobs.list()).await.unwrap().into_iter().filter(|job| !job.status.is_over());
    open.map(|job| job.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_whoever_it_is_for_and_is_done_once() {
    let Some(nats) = Nats::start().await else { return };
    let jobs = Jobs::open(&nats.host("desk").await).await.unwrap();
    let file = vec![7; 300_000];
    let any = submit(&jobs, Target::Any, Some(&file)).await;
    let of_model = submit(&jobs, Target::Model("small:1b"), None).await;
    let of_rack = submit(&jobs, Target::Node("rack"), None).await;
    assert_eq!(queued(&jobs).await, [any.clone(), of_model.clone(), of_rack.clone()]);

    let _studio = host(&nats, "studio").await;
    let done = within(jobs.wait(&any)).await.unwrap();
    assert_eq!((done.status, done.attempts, text(&done)), (JobStatus::Done, 1, Some("300000 bytes on studio")));
    assert_eq!(text(&within(jobs.wait(&of_model)).await.unwrap()), Some("0 bytes on studio"));
    assert_eq!(within(jobs.get(&of_rack)).await.unwrap().status, JobStatus::Waiting);
    assert_eq!(queued(&jobs).await, [of_rack.as_str()]);
    let _rack = host(&nats, "rack").await;
    assert_eq!(text(&within(jobs.wait(&of_rack)).await.unwrap()), Some("0 bytes on rack"));
    assert!(queued(&jobs).await.is_empty());
    assert_eq!(within(jobs.list()).await.unwrap().len(), 3);

    let error = within(jobs.get("nonsense")).await;
    assert_eq!(code(error), FaultCode::NotFound);
    assert_eq!(code(within(jobs.cancel(&any)).await), FaultCode::Invalid);
    assert_eq!(code(within(jobs.retry(&any)).await), FaultCode::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_goes_before_a_job_which_goes_on_afterwards() {
    let Some(nats) = Nats::start().await else { return };
    let (bus, other) = (nats.host("studio").await, nats.host("other").await);
    let server = serve_stt(&bus, 1).await;
    let (mut begins, go) = watched(&server);
    let jobs = Jobs::open(&other).await.unwrap();
    let id = submit(&jobs, Target::Any, None).await;
    for round in 0..3 {
        assert_eq!(within(begins.recv()).await, Some(round));
        assert_eq!(server.load().in_flight(), 0, "a job is in nobody's way");
        // The one slot is taken by the job.
        within(other.ask(Target::Any, &Request::default(), &call())).await.unwrap();
    }
    assert_eq!(within(begins.recv()).await, Some(3));
    go.add_permits(1);
    let done = within(jobs.wait(&id)).await.unwrap();
    assert_eq!((done.status, done.attempts), (JobStatus::Done, 1), "to make room is no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_not_taken_while_all_slots_are_busy() {
    let Some(nats) = Nats::start().await else { return };
    let (bus, other) = (nats.host("studio").await, nats.host("other").await);
    let server = serve_stt(&bus, 1).await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    server
        .serve_at("hold", "hold.it".to_owned(), move |_: sidetone::bus::service::Incoming<Request>| {
            let held = Arc::clone(&held);
            async move {
                held.acquire().await.unwrap().forget();
                Ok(said("held"))
            }
        })
        .await
        .unwrap();
    within(server.ready()).await.unwrap();
    let raw = nats.raw().await;
    let holding = tokio::spawn(async move { raw.request("hold.it", "{}".into()).await.map(drop) });
    eventually(|| async { (server.load().in_flight() == 1).then_some(()) }).await;
    let (mut begins, go) = watched(&server);
    let jobs = Jobs::open(&other).await.unwrap();
    let id = submit(&jobs, Target::Any, None).await;
    // Another host has room.
    let (_rack, rack) = host(&nats, "rack").await;
    assert_eq!(text(&within(jobs.wait(&id)).await.unwrap()), Some("0 bytes on rack"));
    drop(rack);
    assert!(begins.try_recv().is_err());
    let id = submit(&jobs, Target::Node("studio"), None).await;
    gate.add_permits(1);
    within(begins.recv()).await.unwrap();
    go.add_permits(1);
    assert_eq!(within(jobs.wait(&id)).await.unwrap().status, JobStatus::Done);
    within(holding).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_tried_five_times_and_kept_with_its_error() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("studio").await;
    let server = serve_stt(&bus, 2).await;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    server.take_jobs(move |job: Arc<BatchJob<Request>>| {
        let count = Arc::clone(&counted);
        async move {
            match job.request.language.as_deref() {
                Some("xx") => Err(Fault::invalid("no such language")),
                _ if count.fetch_add(1, Ordering::SeqCst) < MAX_ATTEMPTS as usize => panic!("the engine fell over"),
                _ => Ok(said("at last")),
            }
        }
    });
    let jobs = Jobs::open(&bus).await.unwrap();
    let request = Request { language: Some("xx".to_owned()), ..Request::default() };
    let hopeless = within(jobs.submit(Target::Any, "a", &request, Some(b"audio"))).await.unwrap();
    let failed = within(jobs.wait(&hopeless)).await.unwrap();
    assert_eq!((failed.status, failed.attempts), (JobStatus::Failed, 1));
    assert_eq!(failed.error.as_deref(), Some("no such language"));

    let id = submit(&jobs, Target::Any, None).await;
    let failed = within(jobs.wait(&id)).await.unwrap();
    assert_eq!((failed.status, failed.attempts), (JobStatus::Failed, MAX_ATTEMPTS));
    assert!(failed.error.unwrap().contains("the handler broke"));
    assert_eq!(count.load(Ordering::SeqCst), MAX_ATTEMPTS as usize);
    assert!(queued(&jobs).await.is_empty());
    within(jobs.retry(&id)).await.unwrap();
    let done = within(jobs.wait(&id)).await.unwrap();
    assert_eq!((done.status, done.attempts, text(&done), &done.error), (JobStatus::Done, 1, Some("at last"), &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_called_off_whether_it_waits_or_runs() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("studio").await;
    let jobs = Jobs::open(&bus).await.unwrap();
    let waits = submit(&jobs, Target::Any, Some(b"audio")).await;
    within(jobs.cancel(&waits)).await.unwrap();
    assert_eq!(within(jobs.wait(&waits)).await.unwrap().status, JobStatus::Cancelled);
    let server = serve_stt(&bus, 1).await;
    let (mut begins, go) = watched(&server);
    let runs = submit(&jobs, Target::Any, None).await;
    assert_eq!(within(begins.recv()).await, Some(0));
    within(jobs.cancel(&runs)).await.unwrap();
    assert_eq!(within(jobs.wait(&runs)).await.unwrap().status, JobStatus::Cancelled);
    // The next one gets the slot, and nothing of the others comes again.
    let next = submit(&jobs, Target::Any, None).await;
    assert_eq!(within(begins.recv()).await, Some(1));
    go.add_permits(1);
    assert_eq!(within(jobs.wait(&next)).await.unwrap().status, JobStatus::Done);
    assert!(queued(&jobs).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_gives_its_job_back_at_once() {
    let Some(nats) = Nats::start().await else { return };
    let (bus, other) = (nats.host("studio").await, nats.host("other").await);
    let server = serve_stt(&bus, 1).await;
    let (mut begins, _go) = watched(&server);
    let jobs = Jobs::open(&other).await.unwrap();
    let id = submit(&jobs, Target::Any, None).await;
    within(begins.recv()).await.unwrap();
    assert_eq!(within(jobs.get(&id)).await.unwrap().node.as_deref(), Some("studio"));
    let (_rack, _server) = host(&nats, "rack").await;
    assert!(within(server.stop(super::LONG)).await, "it does not wait for the job to be done");
    let done = within(jobs.wait(&id)).await.unwrap();
    assert_eq!((text(&done), done.attempts), (Some("0 bytes on rack"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_into_the_queue_is_done_or_listed() {
    let Some(nats) = Nats::start().await else { return };
    let bus = nats.host("studio").await;
    let (jobs, raw) = (Jobs::open(&bus).await.unwrap(), nats.raw().await);
    let publish = async |subject: &'static str, body: String| {
        // As `nats pub` does; the stream answers.
        raw.request(subject, body.into()).await.unwrap();
    };
    publish("job.stt.request.any.by-hand", json!({ "request": { "language": "en" } }).to_string()).await;
    publish("job.stt.request.any.no-json", "what?".to_owned()).await;
    publish("job.dance.request.any.odd", "{}".to_owned()).await;
    let listed = within(jobs.list()).await.unwrap();
    assert_eq!(listed.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["by-hand", "no-json", "odd"]);
    let _server = host(&nats, "rack").await;
    assert_eq!(text(&within(jobs.wait("by-hand")).await.unwrap()), Some("0 bytes on rack"));
    let failed = within(jobs.wait("no-json")).await.unwrap();
    assert_eq!(failed.status, JobStatus::Failed);
    assert!(failed.error.as_deref().unwrap().contains("stt.request"), "{failed:?}");
    assert_eq!(queued(&jobs).await, ["odd"]);
    within(jobs.cancel("odd")).await.unwrap();
    assert!(queued(&jobs).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_after_the_server_was_restarted() {
    let Some(mut nats) = Nats::start().await else { return };
    let (bus, _server) = host(&nats, "studio").await;
    let jobs = Jobs::open(&bus).await.unwrap();
    let first = submit(&jobs, Target::Any, None).await;
    within(jobs.wait(&first)).await.unwrap();
    let rack = submit(&jobs, Target::Node("rack"), None).await;
    nats.kill().await;
    nats.restart().await;
    within(bus.until_up()).await;
    let id = eventually(|| async {
        match jobs.submit(Target::Any, "again", &Request::default(), None).await {
            Ok(id) => Some(id),
            Err(BusError::Fault(fault)) => panic!("{fault}"),
            Err(_) => None,
        }
    })
    .await;
    let done = eventually(|| async { jobs.wait(&id).await.ok() }).await;
    assert_eq!(text(&done), Some("0 bytes on studio"));
    let _rack = host(&nats, "rack").await;
    let done = eventually(|| async { jobs.wait(&rack).await.ok() }).await;
    assert_eq!(text(&done), Some("0 bytes on rack"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_does_not_get_into_the_queue_can_be_tried_again() {
    let Some(nats) = Nats::start().await else { return };
    let (bus, desk) = (nats.host("studio").await, nats.host("desk").await);
    let server = serve_stt(&bus, 1).await;
    server.take_jobs(|job: Arc<BatchJob<Request>>| async move {
        job.step(|_| async { Err::<Transcript, _>(Fault::invalid("it makes no sense")) }).await
    });
    let jobs = Jobs::open(&desk).await.unwrap();
    let id = submit(&jobs, Target::Any, None).await;
    assert_eq!(within(jobs.wait(&id)).await.unwrap().status, JobStatus::Failed);
    drop(server);
    let context = async_nats::jetstream::new(nats.raw().await);
    within(context.delete_stream("JOBS")).await.unwrap();
    within(jobs.retry(&id)).await.unwrap_err();
    assert_eq!(within(jobs.get(&id)).await.unwrap().status, JobStatus::Failed);
    let jobs = Jobs::open(&desk).await.unwrap();
    within(jobs.retry(&id)).await.unwrap();
    assert_eq!(queued(&jobs).await, [id]);
}
