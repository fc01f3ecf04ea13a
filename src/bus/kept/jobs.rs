//! Work that may wait: the work queue JOBS, and how far each job is. Here is the side of the client that wants a job done;
//! [`batch`](crate::bus::batch) is that of the host that does it.
//!
//! ```text
//!            claimed            result
//! waiting ──────────▶ running ──────────▶ done
//!    ▲                  │ │ fifth failure, or one that no retry can mend
//!    └──────────────────┘ └─────────────▶ failed ── retry ──▶ waiting
//!      made room, host died, failed
//! ```
//!
//! A job is a message in JOBS until it is over, and an entry in the bucket JOB_STATES from when a host has seen it. A
//! change of an entry names the revision that it was made from: of two hosts that do one job, since one was taken for dead, one
//! is believed. A host that is gone is noticed after [`ACK_WAIT`].

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::kv::{self, Operation, Store};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::Value;
use ulid::Ulid;

use super::clips::Bucket;
use super::copies;
use super::session::now;
use crate::bus::connect::{Bus, BusError};
use crate::wire::codec::{self, Format, header};
use crate::wire::contract::table::CANCELLED;
use crate::wire::message::fault::{Fault, FaultCode};
use crate::wire::message::job::{Job, JobState, JobStatus};
use crate::wire::message::{Ask, Message as _};
use crate::wire::storage;
use crate::wire::subject::{self, Capability, Target, token};

/// How often a job is begun, but for the times when it makes room.
pub const MAX_ATTEMPTS: u32 = 5;
/// A host that says nothing of its job for so long is taken for dead.
pub const ACK_WAIT: Duration = Duration::from_secs(10);
/// How long states, and files whose job never ended, are kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to read all jobs of 30 days.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// A result up to this size stands in the state itself.
const MAX_RESULT_BYTES: usize = 256 << 10;
/// The largest result that is fetched.
const MAX_FETCH_BYTES: usize = 64 << 20;
/// How long a client that waits for a job waits until it asks the server again.
const WATCH_FOR: Duration = Duration::from_secs(30);

const FILE_BUCKET: Bucket = Bucket {
    name: storage::JOB_FILES,
    about: "the audio of jobs, until they are done",
    what: "file",
    max_age: KEPT,
    // Setting room aside would take it from all else; jobs are bounded by their number.
    max_bytes: -1,
};

/// An entry, and what it takes to change it.
#[derive(Debug, Clone)]
pub(in crate::bus) struct JobEntry {
    pub(in crate::bus) state: JobState,
    pub(in crate::bus) revision: u64,
}

/// The jobs of a bus.
#[derive(Debug, Clone)]
pub struct Jobs {
    pub(in crate::bus) bus: Bus,
    pub(in crate::bus) stream: Stream,
    states: Store,
}

fn failed(what: impl Into<String>) -> impl Fn(&dyn std::fmt::Display) -> BusError {
    let what = what.into();
    move |error| BusError::jetstream(what.as_str(), error)
}

/// Works with the stream or bucket `place`.
async fn within<T>(
    bus: &Bus,
    place: &str,
    what: &str,
    work: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    within_time(bus, place, what, TIMEOUT, work).await
}

async fn within_time<T>(
    bus: &Bus,
    place: &str,
    what: &str,
    time: Duration,
    work: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    let late = || Err(BusError::jetstream(what, format!("not done within {} s", time.as_secs())));
    tokio::time::timeout(time, bus.inner.control.keep(place, work)).await.unwrap_or_else(|_| late())
}

/// A new id, after those that this process has given: jobs are listed in the order of their ids.
fn next_id() -> Ulid {
    static IDS: Mutex<ulid::Generator> = Mutex::new(ulid::Generator::new());
    let mut ids = IDS.lock().unwrap_or_else(PoisonError::into_inner);
    // More than a millisecond can have: then the order is that of the next.
    ids.generate().unwrap_or_else(|_| Ulid::generate())
}

impl Jobs {
    /// Makes sure of the queue and the bucket.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] while the connection is down, [`BusError::JetStream`] when the server has none.
    pub async fn open(bus: &Bus) -> Result<Self, BusError> {
        bus.inner.control.check("opening the jobs")?;
        let context = bus.inner.control.jetstream();
        let missing = |place: &str, error: &dyn std::fmt::Display| BusError::jetstream(place, bus.no_jetstream(error));
        let what = "opening the jobs";
        let stream = within(bus, storage::JOBS, what, async {
            let config = Config {
                name: storage::JOBS.to_owned(),
                description: Some("work that may wait".to_owned()),
                subjects: vec![subject::JOBS.to_owned()],
                retention: RetentionPolicy::WorkQueue,
                storage: StorageType::File,
                // One job too many is refused; none that waits is dropped.
                discard: DiscardPolicy::New,
                max_messages: storage::MAX_JOBS,
                num_replicas: bus.replicas(),
                ..Config::default()
            };
            context.get_or_create_stream(config).await.map_err(|e| missing(storage::JOBS, &e))
        });
        let stream = stream.await?;
        let states = async { states(&context, bus.replicas()).await.map_err(|e| missing(storage::JOB_STATES, &e)) };
        let states = within(bus, storage::JOB_STATES, what, states).await?;
        copies::try_raise(bus, &stream).await;
        copies::try_raise(bus, &states.stream).await;
        Ok(Self { states, bus: bus.clone(), stream })
    }

    /// Makes sure of the store of audio, for callers who may not make it.
    pub(in crate::bus) async fn make_files(&self) -> Result<(), BusError> {
        self.bus.make_objects(&FILE_BUCKET).await
    }

    /// Puts a request into the queue, for anyone, anyone with a model, or a host; `file` is audio that it is about. Gives
    /// the job's id.
    ///
    /// # Errors
    /// The queue is full, or JetStream refuses.
    pub async fn submit<A: Ask>(
        &self,
        target: Target<'_>,
        name: &str,
        request: &A,
        file: Option<&[u8]>,
    ) -> Result<String, BusError> {
        let id = next_id().to_string();
        let unreadable = |e: serde_json::Error| Fault::failed(format!("can't write {}: {e}", A::SCHEMA));
        let request = serde_json::to_value(request).map_err(unreadable)?;
        let file = match file {
            Some(bytes) => {
                self.bus.put_object(&FILE_BUCKET, &id, bytes).await?;
                Some(id.clone())
            }
            None => None,
        };
        let job = Job { name: name.to_owned(), at: now(), request, file };
        let state = JobState { subject: subject::job(&A::VERB, target, &id), id: id.clone(), ..waiting(job) };
        // First the queue: a job that is there is done, be its state written or not.
        if let Err(error) = self.publish(&state, &id).await {
            self.delete_file(&state).await;
            return Err(error);
        }
        // A host may have been quicker; then there is one.
        if let Err(error) = self.create(&state).await {
            tracing::debug!(%error, id, "the job's state was not written");
        }
        Ok(id)
    }

    async fn publish(&self, state: &JobState, message: &str) -> Result<(), BusError> {
        let body = codec::encode(&state.job, Format::Json)?;
        self.bus.inner.control.check("putting a job into the queue")?;
        self.bus.inner.control.check_size("the job", body.len())?;
        let message = PublishMessage::build()
            .header(header::CONTENT_TYPE, Format::Json.content_type())
            .header(header::SCHEMA, Job::SCHEMA)
            .message_id(message)
            .payload(body);
        let what = "putting a job into JOBS";
        let failed = failed(what);
        let mut watch = self.bus.inner.control.watch(&state.subject)?;
        let put = within(&self.bus, storage::JOBS, what, async {
            let ack = self
                .bus
                .inner
                .control
                .jetstream()
                .send_publish(state.subject.clone(), message)
                .await
                .map_err(|e| failed(&e))?;
            ack.await.map_err(|e| match e.to_string() {
                why if why.contains("maximum messages exceeded") => {
                    let max = storage::MAX_JOBS;
                    let text = format!("{max} jobs wait already: `sidetone jobs list` shows them");
                    Fault::new(FaultCode::Busy, text).into()
                }
                why => failed(&why),
            })
        });
        tokio::select! {
            biased;
            put = put => put.map(drop),
            error = watch.broken(&state.subject) => Err(error),
        }
    }

    /// The state of a job that waits and has none.
    pub(in crate::bus) async fn create(&self, state: &JobState) -> Result<Option<u64>, BusError> {
        let body = codec::encode(state, Format::Json)?;
        let what = "keeping a job's state";
        within(&self.bus, storage::JOB_STATES, what, async {
            match self.states.create(token(&state.id), body).await {
                Ok(revision) => Ok(Some(revision)),
                Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => Ok(None),
                Err(error) => Err(failed(what)(&error)),
            }
        })
        .await
    }

    /// A job's state.
    pub(in crate::bus) async fn entry(&self, id: &str) -> Result<Option<JobEntry>, BusError> {
        let what = "reading a job's state";
        self.bus.inner.control.check(what)?;
        let failed = failed(what);
        let entry = async { self.states.entry(token(id)).await.map_err(|e| failed(&e)) };
        let entry = within(&self.bus, storage::JOB_STATES, what, entry)
            .await?
            .filter(|entry| entry.operation == Operation::Put);
        entry
            .map(|entry| {
                let state = codec::decode("", &entry.value)?;
                Ok(JobEntry { state, revision: entry.revision })
            })
            .transpose()
    }

    /// Changes a state; `None` if it has changed meanwhile.
    pub(in crate::bus) async fn update(&self, entry: &JobEntry) -> Result<Option<u64>, BusError> {
        let state = JobState { changed: now(), ..entry.state.clone() };
        let body = codec::encode(&state, Format::Json)?;
        self.bus.inner.control.check_size("a job's state", body.len())?;
        within(&self.bus, storage::JOB_STATES, "keeping a job's state", async {
            match self.states.update(token(&state.id), body, entry.revision).await {
                Ok(revision) => Ok(Some(revision)),
                Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(None),
                Err(error) => Err(failed("keeping a job's state")(&error)),
            }
        })
        .await
    }

    /// All jobs that are known, oldest first: those that wait, and those that were over in the last 30 days.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] while the connection is down, [`BusError::JetStream`] when they can't be read in time.
    pub async fn list(&self) -> Result<Vec<JobState>, BusError> {
        self.bus.inner.control.check("reading the jobs")?;
        let failed = failed("reading the jobs");
        let read = async {
            let mut jobs = self.all_states().await.map_err(|e| failed(&e))?;
            let known: HashSet<String> = jobs.iter().map(|job| job.id.clone()).collect();
            // What others put into the queue has no state until a host has seen it.
            let mut subjects = self.stream.info_with_subjects(subject::JOBS).await.map_err(|e| failed(&e))?;
            while let Some(subject) = subjects.next().await {
                let (subject, _) = subject.map_err(|e| failed(&e))?;
                let id = subject::parse_job(&subject).map_or_else(|| subject.clone(), |(.., id)| id);
                if !known.contains(&id) {
                    jobs.push(JobState { id, subject, ..JobState::default() });
                }
            }
            jobs.sort_by(|a, b| (&a.job.at, &a.id).cmp(&(&b.job.at, &b.id)));
            Ok(jobs)
        };
        // Both are read: a refusal about either ends it.
        let read = self.bus.inner.control.keep(storage::JOB_STATES, read);
        within_time(&self.bus, storage::JOBS, "reading the jobs", LIST_TIMEOUT, read).await
    }

    /// Every state, in one go.
    async fn all_states(&self) -> Result<Vec<JobState>, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let about = self.states.stream.get_info().await.map_err(|e| text(&e))?;
        // What changes meanwhile comes again.
        let mut states = BTreeMap::new();
        if about.state.messages == 0 {
            return Ok(Vec::new());
        }
        let mut entries = self.states.watch_with_history(">").await.map_err(|e| text(&e))?;
        while let Some(entry) = entries.next().await {
            let entry = entry.map_err(|e| text(&e))?;
            match codec::decode::<JobState>("", &entry.value) {
                Ok(state) if entry.operation == Operation::Put => states.insert(entry.key, state),
                _ => states.remove(&entry.key),
            };
            if entry.delta == 0 {
                break;
            }
        }
        Ok(states.into_values().collect())
    }

    /// One job.
    ///
    /// # Errors
    /// [`BusError::Fault`] with [`FaultCode::NotFound`] if there is none, else as [`Jobs::list`].
    pub async fn get(&self, id: &str) -> Result<JobState, BusError> {
        if let Some(entry) = self.entry(id).await? {
            return Ok(entry.state);
        }
        self.list().await?.into_iter().find(|job| job.id == id).ok_or_else(|| unknown(id))
    }

    /// Waits until a job is over.
    ///
    /// # Errors
    /// As [`Jobs::get`]; [`BusError::Disconnected`] when the connection drops.
    pub async fn wait(&self, id: &str) -> Result<JobState, BusError> {
        let mut watch = self.bus.inner.control.watch("waiting for a job")?;
        loop {
            // Watched before it is read, so that no change falls in between.
            let changes = async { self.states.watch(token(id)).await.map_err(|e| failed("watching a job")(&e)) };
            let mut changes = within(&self.bus, storage::JOB_STATES, "watching a job", changes).await?;
            let state = self.get(id).await?;
            if state.status.is_over() {
                return Ok(state);
            }
            tokio::select! {
                _ = changes.next() => {}
                error = watch.broken("waiting for a job") => return Err(error),
                () = tokio::time::sleep(WATCH_FOR) => {}
            }
        }
    }

    /// Cancels a job, be it waiting, running or failed; its file goes as well.
    ///
    /// # Errors
    /// As [`Jobs::get`]; [`FaultCode::Invalid`] for one that is done or cancelled.
    pub async fn cancel(&self, id: &str) -> Result<(), BusError> {
        loop {
            let entry = self.entry(id).await?;
            let state = match &entry {
                Some(entry) => entry.state.clone(),
                None => self.get(id).await?,
            };
            if matches!(state.status, JobStatus::Done | JobStatus::Cancelled) {
                return Err(Fault::invalid(format!("the job {id} is {} already", state.status.name())).into());
            }
            let cancelled = JobState { status: JobStatus::Cancelled, ..state };
            let written = match entry {
                Some(entry) => self.update(&JobEntry { state: cancelled.clone(), ..entry }).await?,
                None => self.create(&cancelled).await?,
            };
            // It has changed meanwhile.
            if written.is_none() {
                continue;
            }
            let what = "taking a job out of JOBS";
            let failed = failed(what);
            let purged = within(&self.bus, storage::JOBS, what, async {
                self.stream.purge().filter(cancelled.subject.as_str()).await.map_err(|e| failed(&e))
            });
            let is_out = match purged.await {
                Ok(_) => true,
                // Who may take out this one may take out all. Then the host that comes to it does that, and sees to its file.
                Err(BusError::Denied { .. }) => false,
                Err(error) => return Err(error),
            };
            if let Some(capability) = capability_of(&cancelled) {
                let subject = subject::cancel(capability, &token(id));
                self.bus.inner.control.publish(&subject.into(), None, None, Bytes::new()).await?;
            }
            if is_out {
                self.delete_file(&cancelled).await;
            }
            return Ok(());
        }
    }

    /// Has a failed job tried again, with all its attempts.
    ///
    /// # Errors
    /// As [`Jobs::get`]; [`FaultCode::Invalid`] for one that has not failed.
    pub async fn retry(&self, id: &str) -> Result<(), BusError> {
        let entry = self.entry(id).await?.ok_or_else(|| unknown(id))?;
        if entry.state.status != JobStatus::Failed {
            let text =
                format!("the job {id} is {}: only one that has failed can be tried again", entry.state.status.name());
            return Err(Fault::invalid(text).into());
        }
        let state = JobState { status: JobStatus::Waiting, attempts: 0, ..entry.state.clone() };
        let changed = JobEntry { state: state.clone(), revision: entry.revision };
        let Some(revision) = self.update(&changed).await? else {
            return Err(Fault::invalid(format!("the job {id} was just tried again")).into());
        };
        let put = self.publish(&state, &format!("{id}-{revision}")).await;
        if put.is_err() {
            // Without a message no host would ever do it, and one that waits can't be tried again.
            let failed = JobEntry { revision, ..entry };
            match self.update(&failed).await {
                Ok(Some(_)) => {}
                // The message has come nevertheless, and a host is at it.
                Ok(None) => tracing::debug!(id, "the job was taken up, though the queue did not acknowledge it"),
                Err(error) => tracing::warn!(%error, id, "the job says that it waits, but is not in the queue"),
            }
        }
        put
    }

    /// What came of a job, if anything has.
    ///
    /// # Errors
    /// [`BusError::Fault`] when it can't be read as what the verb answers, else as [`Bus::get_clip`].
    pub async fn result(&self, state: &JobState) -> Result<Option<Value>, BusError> {
        let Some(file) = &state.result_file else { return Ok(state.result.clone()) };
        let body = self.bus.get_object(&FILE_BUCKET, file, MAX_FETCH_BYTES).await?;
        let value = serde_json::from_slice(&body);
        Ok(Some(value.map_err(|e| Fault::failed(format!("the result of the job {} can't be read: {e}", state.id)))?))
    }

    /// Puts a result where it fits.
    pub(in crate::bus) async fn keep_result(&self, state: &mut JobState, result: Value) -> Result<(), BusError> {
        let body = result.to_string();
        if body.len() <= MAX_RESULT_BYTES {
            state.result = Some(result);
        } else {
            let name = format!("{}.result", state.id);
            self.bus.put_object(&FILE_BUCKET, &name, body.as_bytes()).await?;
            state.result_file = Some(name);
        }
        Ok(())
    }

    /// The audio of a job.
    pub(in crate::bus) async fn file(&self, name: &str, max_bytes: usize) -> Result<Bytes, BusError> {
        self.bus.get_object(&FILE_BUCKET, name, max_bytes).await
    }

    pub(in crate::bus) async fn delete_file(&self, state: &JobState) {
        let Some(file) = &state.job.file else { return };
        if let Err(error) = self.bus.delete_object(&FILE_BUCKET, file).await {
            tracing::warn!(%error, id = state.id, "the audio of a job stays until it expires");
        }
    }
}

async fn states(context: &Context, replicas: usize) -> Result<Store, String> {
    if let Ok(store) = context.get_key_value(storage::JOB_STATES).await {
        return Ok(store);
    }
    let config = kv::Config {
        bucket: storage::JOB_STATES.to_owned(),
        description: "how far jobs are".to_owned(),
        history: 1,
        max_age: KEPT,
        storage: StorageType::File,
        num_replicas: replicas,
        ..kv::Config::default()
    };
    context.create_key_value(config).await.map_err(|e| e.to_string())
}

/// A job that no host has begun.
pub(in crate::bus) fn waiting(job: Job) -> JobState {
    JobState { job, changed: now(), ..JobState::default() }
}

fn unknown(id: &str) -> BusError {
    Fault::not_found(format!("there is no job {id:?}; `sidetone jobs list` shows those there are")).into()
}

/// The capability that does a job; `None` for one that no host can do.
#[must_use]
pub fn capability_of(state: &JobState) -> Option<Capability> {
    let (capability, ..) = subject::parse_job(&state.subject)?;
    Capability::of(&capability).filter(|capability| CANCELLED.contains(capability))
}
