//! Doing work that may wait: a host takes a job when a slot is idle, and gives the slot back when a caller comes that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, AckKind};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::engines::Engines;
use super::service::Server;
use super::slots::{Slot, Slots};
use super::worker::{CancelEntry, ServiceWorker};
use crate::bus::connect::BusError;
use crate::bus::kept::jobs::{ACK_WAIT, JobEntry, Jobs, MAX_ATTEMPTS, waiting};
use crate::wire::codec;
use crate::wire::contract::table::WAITING;
use crate::wire::message::Ask;
use crate::wire::message::fault::{Fault, FaultCode};
use crate::wire::message::job::{Job, JobState, JobStatus};
use crate::wire::storage;
use crate::wire::subject::{self, Target, token};

/// How often a host says that it still works on a job.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);
/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6 * 3_600);
/// How long a job that made room waits for an idle slot before it is given back, for another host.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long one question for a job stands.
const PULL: Duration = Duration::from_secs(30);
/// The pause before a job is handed out again that another engine of the host is to have.
const FOR_OTHER_AFTER: Duration = Duration::from_millis(50);
/// The first pause before a job that failed is tried again; each next is twice as long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The server forgets a consumer that no host has used for so long; the jobs stay.
const UNUSED: Duration = Duration::from_secs(24 * 3_600);

/// A job that is being done.
pub struct BatchJob<A> {
    /// The request.
    pub request: A,
    file: Option<String>,
    jobs: Jobs,
    slots: Arc<Slots>,
    cancel: CancellationToken,
    /// The slot that it was taken up with.
    slot: Mutex<Option<Slot>>,
    gives_back: AtomicBool,
}

impl<A> BatchJob<A> {
    /// Does a part of the work on an idle slot. When a caller comes that waits, the part is broken off and its token
    /// fires; it is done again from its beginning when a slot is idle. So parts should be of seconds.
    ///
    /// # Errors
    /// What `work` says; that the job is cancelled, or given back.
    pub async fn step<T, R>(&self, work: impl Fn(CancellationToken) -> R) -> Result<T, Fault>
    where
        R: Future<Output = Result<T, Fault>>,
    {
        loop {
            let slot = match self.slot.lock().await.take() {
                Some(slot) => slot,
                None => tokio::select! {
                    slot = self.slots.idle() => slot,
                    () = self.cancel.cancelled() => return Err(Fault::cancelled()),
                    () = tokio::time::sleep(PAUSE_MAX) => {
                        self.gives_back.store(true, Ordering::Release);
                        return Err(Fault::cancelled());
                    }
                },
            };
            let cancel = self.cancel.child_token();
            // Whatever the part has left running stops with it.
            let _over = cancel.clone().drop_guard();
            tokio::select! {
                biased;
                result = work(cancel) => return result,
                () = slot.has_to_yield() => tracing::debug!("a job makes room"),
                () = self.cancel.cancelled() => return Err(Fault::cancelled()),
            }
        }
    }

    /// The audio that the job is about, if it is kept beside it.
    ///
    /// # Errors
    /// It is not there any more, is larger than `max_bytes`, or can't be fetched.
    pub async fn file(&self, max_bytes: usize) -> Result<Option<Bytes>, Fault> {
        let Some(file) = &self.file else { return Ok(None) };
        // It may take long, and needs no slot: a caller that waits would wait for it.
        self.slot.lock().await.take();
        self.jobs.file(file, max_bytes).await.map(Some).map_err(|e| e.to_fault())
    }
}

impl Server {
    /// Does jobs of a verb as well, those for anyone, for its models and for this host, whenever a slot is idle.
    /// `handler` does its work in [`BatchJob::step`]s. Jobs are looked for in the background, also when there is no
    /// JetStream yet.
    pub fn take_jobs<A, F, R>(&self, handler: F)
    where
        A: Ask,
        F: Fn(Arc<BatchJob<A>>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        debug_assert!(WAITING.contains(&A::VERB), "{} has no rights to its jobs", A::VERB);
        let node = self.bus.node();
        let models = self.spec.models.iter().map(|model| Target::Model(model));
        for target in [Target::Any, Target::Node(node)].into_iter().chain(models) {
            let how = match target {
                Target::Any => "any".to_owned(),
                Target::Model(model) => format!("m-{}", token(model)),
                Target::Node(node) => format!("n-{}", token(node)),
            };
            let puller = Puller {
                worker: Arc::clone(&self.worker),
                engines: self.engines.clone(),
                stop: self.stop.clone(),
                consumer: format!("{}-{}-{how}", A::VERB.capability, A::VERB.name),
                filter: subject::job(&A::VERB, target, "*"),
                handler: handler.clone(),
            };
            self.worker.tasks.spawn(puller.run::<A, R>());
        }
    }
}

/// Takes jobs of one kind.
#[derive(Clone)]
struct Puller<F> {
    worker: Arc<ServiceWorker>,
    engines: Engines,
    stop: CancellationToken,
    consumer: String,
    filter: String,
    handler: F,
}

impl<F> Puller<F> {
    async fn run<A, R>(self)
    where
        A: Ask,
        F: Fn(Arc<BatchJob<A>>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times();
        let mut pauses = backoff.build();
        loop {
            let pull = async {
                self.worker.bus().until_up().await;
                self.pull_until_lost::<A, R>(&mut || pauses = backoff.build()).await
            };
            let error = tokio::select! {
                () = self.stop.cancelled() => return,
                Err(error) = pull => error,
            };
            tracing::debug!(%error, consumer = self.consumer, "jobs are looked for again");
            let pause = pauses.next().unwrap_or(Duration::from_secs(5));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes jobs until something breaks.
    async fn pull_until_lost<A, R>(&self, works: &mut (impl FnMut() + Send)) -> Result<(), BusError>
    where
        A: Ask,
        F: Fn(Arc<BatchJob<A>>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let failed = |error: &dyn std::fmt::Display| BusError::jetstream("taking jobs", error);
        let lost = self.worker.bus().lost();
        tokio::pin!(lost);
        let jobs = Jobs::open(self.worker.bus()).await?;
        // A client that brings a recording may not make the store for it, where the bus has permissions.
        if let Err(error) = jobs.make_files().await {
            tracing::warn!(%error, "recordings can't be taken as jobs");
        }
        let config = pull::Config {
            durable_name: Some(self.consumer.clone()),
            filter_subject: self.filter.clone(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // Attempts are counted in the state: making room is none.
            max_deliver: -1,
            inactive_threshold: UNUSED,
            ..pull::Config::default()
        };
        let consumer =
            async { jobs.stream.get_or_create_consumer(&self.consumer, config).await.map_err(|e| failed(&e)) };
        let consumer: PullConsumer = jobs.bus.inner.control.keep(storage::JOBS, consumer).await?;
        loop {
            self.worker.slots.until_idle().await;
            let asked = consumer.fetch().max_messages(1).expires(PULL).messages().await;
            let mut messages = asked.map_err(|e| failed(&e))?;
            let message = tokio::select! {
                message = messages.next() => message,
                () = &mut lost => return Err(failed(&"the connection dropped")),
            };
            works();
            let Some(message) = message else { continue };
            let message = message.map_err(|e| failed(&e))?;
            if self.is_for_other::<A>(&message) {
                // The other may be full for long: ever longer pauses, up to 3.2 s.
                let again = message.info().map_or(0, |info| u32::try_from(info.delivered.clamp(1, 7) - 1).unwrap_or(0));
                acknowledge(&message, AckKind::Nak(Some(FOR_OTHER_AFTER * 2_u32.pow(again)))).await;
                continue;
            }
            let Some(slot) = self.worker.slots.try_idle() else {
                // A caller took it meanwhile: another host may have a slot.
                acknowledge(&message, AckKind::Nak(None)).await;
                continue;
            };
            let (puller, jobs) = (self.clone(), jobs.clone());
            self.worker.tasks.spawn(async move {
                if let Err(error) = puller.work::<A, R>(&jobs, &message, slot).await {
                    // Not acknowledged: it comes again after ACK_WAIT.
                    tracing::warn!(%error, subject = %message.subject, "a job was left");
                }
            });
        }
    }

    /// Whether a job names a model that another engine of this host has, and this one has not.
    fn is_for_other<A: Ask>(&self, message: &jetstream::Message) -> bool {
        if !self.engines.are_several() {
            return false;
        }
        let job = codec::decode::<Job>("", &message.payload);
        let request = job.ok().and_then(|job| serde_json::from_value::<A>(job.request).ok());
        request.is_some_and(|asked| self.engines.has_other_for(self.worker.offer(), asked.model(), asked.language()))
    }

    /// Does one job, as far as it gets.
    async fn work<A, R>(&self, jobs: &Jobs, message: &jetstream::Message, slot: Slot) -> Result<(), BusError>
    where
        A: Ask,
        F: Fn(Arc<BatchJob<A>>) -> R,
        R: Future<Output = Result<A::Reply, Fault>> + Send + 'static,
    {
        let Some(mut entry) = claim(jobs, message).await? else {
            acknowledge(message, AckKind::Ack).await;
            return Ok(());
        };
        let id = entry.state.id.clone();
        let cancel = CancellationToken::new();
        let _over = cancel.clone().drop_guard();
        let _running = CancelEntry::enter(&self.worker, &token(&id), &cancel);
        let _alive = AbortOnDropHandle::new(tokio::spawn(keep_alive(message.clone())));
        let body = Bytes::from(entry.state.job.request.to_string());
        let job = codec::decode::<A>("", &body).map(|request| {
            Arc::new(BatchJob {
                request,
                file: entry.state.job.file.clone(),
                jobs: jobs.clone(),
                slots: Arc::clone(&self.worker.slots),
                cancel: cancel.clone(),
                slot: Mutex::new(Some(slot)),
                gives_back: AtomicBool::new(false),
            })
        });
        tracing::info!(id, attempt = entry.state.attempts, "a job is begun");
        let result = match &job {
            Err(fault) => Err(fault.clone()),
            Ok(job) => {
                // On a task of its own: one that panics is an attempt that failed.
                let mut work = AbortOnDropHandle::new(tokio::spawn((self.handler)(Arc::clone(job))));
                tokio::select! {
                    biased;
                    result = &mut work => result
                        .unwrap_or_else(|_| Err(Fault::failed("the handler broke: a bug; the host's log tells more"))),
                    () = self.stop.cancelled() => {
                        job.gives_back.store(true, Ordering::Release);
                        Err(Fault::cancelled())
                    }
                    () = cancel.cancelled() => Err(Fault::cancelled()),
                    () = tokio::time::sleep(ATTEMPT_TIMEOUT) => {
                        let text = format!("it was not done within {} hours", ATTEMPT_TIMEOUT.as_secs() / 3_600);
                        Err(Fault::new(FaultCode::Deadline, text))
                    }
                }
            }
        };
        cancel.cancel();
        let attempts = entry.state.attempts;
        let state = &mut entry.state;
        let kind = match result {
            Ok(reply) => {
                let reply = serde_json::to_value(&reply).map_err(|e| Fault::failed(e.to_string()))?;
                jobs.keep_result(state, reply).await?;
                (state.status, state.error) = (JobStatus::Done, None);
                state.job.request = serde_json::Value::Null;
                AckKind::Ack
            }
            // Its owner cancelled it, as its state says; or everything was to stop, and it may go on later.
            Err(fault) if fault.code == FaultCode::Cancelled => {
                let gives_back = job.is_ok_and(|job| job.gives_back.load(Ordering::Acquire));
                (state.status, state.attempts) = (JobStatus::Waiting, attempts.saturating_sub(1));
                AckKind::Nak((!gives_back).then_some(RETRY_AFTER))
            }
            Err(fault) => {
                state.error = Some(fault.message.clone());
                let is_last = attempts >= MAX_ATTEMPTS || !fault.code.can_retry();
                state.status = if is_last { JobStatus::Failed } else { JobStatus::Waiting };
                let pause = RETRY_AFTER * 2_u32.pow(attempts.saturating_sub(1).min(6));
                if is_last { AckKind::Ack } else { AckKind::Nak(Some(pause)) }
            }
        };
        tracing::info!(id, status = state.status.name(), "a job is left");
        if jobs.update(&entry).await?.is_none() {
            // It was cancelled, or another host has it, since this one was taken for dead: theirs counts.
            tracing::info!(id, "another host or client has changed the job meanwhile");
            return Ok(());
        }
        acknowledge(message, kind).await;
        if entry.state.status == JobStatus::Done {
            jobs.delete_file(&entry.state).await;
        }
        Ok(())
    }
}

/// Writes down that this host has begun the job; `None` if there is nothing more to do.
async fn claim(jobs: &Jobs, message: &jetstream::Message) -> Result<Option<JobEntry>, BusError> {
    let subject = message.subject.as_str();
    let Some((.., id)) = subject::parse_job(subject) else { return Ok(None) };
    let mut entry = loop {
        if let Some(entry) = jobs.entry(&id).await? {
            break entry;
        }
        // Put there by a client that writes no state. What can't be read has no request, and fails for it.
        let job = codec::decode::<Job>("", &message.payload);
        let state = JobState { id: id.clone(), subject: subject.to_owned(), ..waiting(job.unwrap_or_default()) };
        jobs.create(&state).await?;
    };
    let state = &mut entry.state;
    if state.status.is_over() {
        // Cancelled by a client that may not take it out of the queue.
        if state.status == JobStatus::Cancelled {
            jobs.delete_file(state).await;
        }
        return Ok(None);
    }
    let exhausted = state.attempts >= MAX_ATTEMPTS;
    if exhausted {
        state.status = JobStatus::Failed;
        state.error.get_or_insert_with(|| format!("{MAX_ATTEMPTS} hosts died while they worked on it"));
    } else {
        (state.status, state.attempts) = (JobStatus::Running, state.attempts + 1);
        state.node = Some(jobs.bus.node().to_owned());
    }
    match jobs.update(&entry).await? {
        Some(revision) if !exhausted => Ok(Some(JobEntry { revision, ..entry })),
        Some(_) => Ok(None),
        None => Err(BusError::jetstream("claiming a job", "another host or client has changed it")),
    }
}

async fn keep_alive(message: jetstream::Message) {
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        acknowledge(&message, AckKind::Progress).await;
    }
}

async fn acknowledge(message: &jetstream::Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::debug!(%error, "a job was not acknowledged; it comes again");
    }
}
