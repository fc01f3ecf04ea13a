//! One request's way from engine to engine, each of a host.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::state::{Fabric, Peers};
use super::view::wire_privacy;
use crate::bus::message::Message;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::node::{AskInfo, Routed};
use crate::bus::stream::Stream;
use crate::bus::subject::{Capability, Target};
use crate::bus::{BusError, Call};
use crate::router::{Need, Nobody, OfferId, Outcome, Permit, Privacy, Target as Chosen};

/// After so many checks in which a host that works on a request has said nothing, it is asked whether it lives.
const QUIET_CHECKS: u32 = 3;
/// How long it may take to say so: its processors are busy with the request.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long a request waits for hosts that rest after a failure.
const REST_MAX: Duration = Duration::from_secs(3);
/// How long a service that is in no list of hosts may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
/// So many times its usual time, and a request hangs.
const HANGS_AFTER: u32 = 4;
/// Who is asked when it is not known who is there.
const UNKNOWN: &str = "not known who is there: anyone of the queue group";
/// Who is asked when no host offers it, but a service that is none of Sidetone's does.
const UNLISTED: &str = "a service that is no host of Sidetone: anyone of the queue group";

/// The host that answers, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The host; empty: anyone of the queue group.
    pub host: String,
    /// Which of its engines; empty: the only one.
    pub engine: String,
    /// Why it.
    pub reason: String,
}

/// What is left to ask.
pub(super) struct Route {
    fabric: Fabric,
    need: Need,
    call: Call,
    until: Instant,
    left: VecDeque<Chosen>,
    /// Those that were asked: each is asked once, see [`Route::looks_again`].
    tried: Vec<OfferId>,
    /// Those of them that were full.
    full: Vec<OfferId>,
    /// Why the queue group is asked, which is done once.
    by_queue: Option<&'static str>,
    /// How many have been asked.
    number: u32,
    /// Why the last one failed.
    failed: Option<BusError>,
}

/// An engine that is asked.
pub(super) struct Attempt {
    pub(super) choice: Choice,
    pub(super) call: Call,
    /// Which run of the host; empty if that is not known.
    instance: String,
    permit: Option<HeldPermit>,
}

/// The router's leave to ask a host; given back however the request ends.
struct HeldPermit {
    fabric: Fabric,
    permit: Option<Permit>,
}

impl HeldPermit {
    fn settle(mut self, outcome: Outcome) {
        self.give_back(outcome);
    }

    fn give_back(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            let inner = &self.fabric.0;
            let Peers { view, health, .. } = &mut *inner.peers();
            health.settle(view, permit, outcome, inner.now());
        }
    }
}

impl Drop for HeldPermit {
    fn drop(&mut self) {
        self.give_back(Outcome::Abandoned);
    }
}

impl Attempt {
    fn id(&self) -> OfferId {
        OfferId::new(&self.choice.host, &self.choice.engine)
    }

    /// The host's name; empty for the queue group.
    pub(super) fn host(&self) -> &str {
        &self.choice.host
    }

    /// Which run of it; empty if that is not known.
    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// The subject's target.
    pub(super) fn target<'a>(&'a self, need: &'a Need) -> Target<'a> {
        let model = if need.voice.is_empty() { &need.model } else { &need.voice };
        match (self.choice.host.as_str(), model.as_str()) {
            ("", "") => Target::Any,
            ("", model) => Target::Model(model),
            (host, _) => Target::Node(host),
        }
    }

    /// The request has ended, or will by its caller's own doing.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            permit.settle(outcome);
        }
    }
}

impl Fabric {
    /// Decides which hosts to ask.
    pub(super) async fn route(&self, need: &Need, call: &Call) -> Result<Route, BusError> {
        let is_known = self.until_known().await;
        let need = self.0.narrowed(need);
        let until = Instant::now() + call.deadline;
        let (left, by_queue) = if is_known {
            self.candidates(&need, until).await.map_err(|nobody| refusal(&nobody))?
        } else {
            (VecDeque::new(), Some(UNKNOWN))
        };
        let call = Call { privacy: wire_privacy(need.privacy), ..call.clone() };
        Ok(Route {
            fabric: self.clone(),
            need,
            call,
            until,
            left,
            tried: Vec::new(),
            full: Vec::new(),
            by_queue,
            number: 0,
            failed: None,
        })
    }

    /// The hosts to ask, or why the queue group.
    async fn candidates(
        &self,
        need: &Need,
        until: Instant,
    ) -> Result<(VecDeque<Chosen>, Option<&'static str>), Nobody> {
        loop {
            let mut changes = self.0.changes.subscribe();
            let (nobody, unlisted) = match self.0.decide(need, &[]) {
                Ok(chosen) => return Ok((chosen.into(), None)),
                Err(nobody) => nobody,
            };
            if unlisted && self.0.bus.is_served(&need.capability, PING_TIMEOUT).await {
                return Ok((VecDeque::new(), Some(UNLISTED)));
            }
            match nobody {
                // All who could have failed a moment ago.
                Nobody::Resting { retry_in, .. } if retry_in <= REST_MAX && Instant::now() + retry_in < until => {
                    // Or until one of them says that it is well.
                    let _ = timeout(retry_in, changes.changed()).await;
                }
                nobody => return Err(nobody),
            }
        }
    }

    /// Waits for `work` at a host, and for signs of its life: one that died, was paused or was cut off says nothing.
    pub(super) async fn watched<T>(
        &self,
        attempt: &Attempt,
        work: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        tokio::select! {
            biased;
            result = work => result,
            error = self.dies(attempt.host(), &attempt.instance, || 0) => Err(error),
        }
    }

    /// The same for a stream, which ends by it.
    pub(super) fn watch_over<M: Message>(&self, attempt: &Attempt, stream: &mut Stream<M>) {
        let (fabric, host, instance) = (self.clone(), attempt.host().to_owned(), attempt.instance.clone());
        let received = stream.received();
        stream.end_by(async move { fabric.dies(&host, &instance, || received.count()).await });
    }

    /// Completes when a host gives no sign of life any more, or another run of it does, and has it rested; never for the
    /// queue group, or while this host's own connection is down. What was `received` from it is such a sign.
    pub(super) async fn dies(&self, host: &str, instance: &str, received: impl Fn() -> u64) -> BusError {
        if host.is_empty() {
            return std::future::pending().await;
        }
        let (bus, mut expected, mut before, mut quiet) = (&self.0.bus, instance.to_owned(), received(), 0);
        let mut checks = self.0.liveness.watch();
        let why = loop {
            checks.next().await;
            quiet = if received() == before { quiet + 1 } else { 0 };
            before = received();
            if quiet < QUIET_CHECKS {
                continue;
            }
            quiet = 0;
            let call = Call::within(SIGN_OF_LIFE);
            let why = match bus.ask(Target::Node(host), &AskInfo {}, &call).await {
                Ok(info) if expected.is_empty() => {
                    expected = info.instance;
                    continue;
                }
                // It was killed and is back already: the new run knows nothing of the request.
                Ok(info) if info.instance != expected => "it was restarted".to_owned(),
                Err(BusError::Nobody { .. }) => "it has left the bus".to_owned(),
                Err(BusError::Deadline { .. }) if bus.is_up() => {
                    format!("no sign of life within {} s", SIGN_OF_LIFE.as_secs())
                }
                // It answers, if only that it is busy; or the connection is down, of which the request itself tells.
                _ => continue,
            };
            if received() == before {
                break why;
            }
        };
        self.0.fell_silent(host, instance);
        silent(host, &why)
    }
}

fn silent(host: &str, why: &str) -> BusError {
    // Not a fault of its own: a host that says one has taken it down as well.
    BusError::Cut { subject: host.to_owned(), why: format!("it went silent in the middle of a request: {why}") }
}

/// The router's 'nobody' as callers know it.
fn refusal(nobody: &Nobody) -> BusError {
    let code = match nobody {
        Nobody::Full { .. } => FaultCode::Busy,
        Nobody::NotOffered { .. } => FaultCode::NotFound,
        _ => FaultCode::Unavailable,
    };
    Fault::new(code, nobody.to_string()).into()
}

impl Route {
    /// The next host to ask. When those of the first decision were asked in vain, another decision is made among the others.
    ///
    /// # Errors
    /// What the last one said, if no host is left or no time.
    pub(super) async fn next(&mut self) -> Result<Attempt, BusError> {
        let time = self.until.saturating_duration_since(Instant::now());
        if time.is_zero() && self.failed.is_some() {
            return Err(self.last_word());
        }
        loop {
            let (choice, permit) = if let Some(reason) = self.by_queue.take() {
                // What stays on this host is asked of this host alone.
                let stays = self.need.privacy == Privacy::Host;
                let host = if stays { self.fabric.0.here.clone() } else { String::new() };
                (Choice { reason: reason.to_owned(), host, ..Choice::default() }, None)
            } else {
                let Some(chosen) = self.left.pop_front().or_else(|| self.decide_again()) else {
                    return Err(self.last_word());
                };
                let inner = &self.fabric.0;
                let permit = {
                    let Peers { view, health, .. } = &mut *inner.peers();
                    health.admit(view, &self.need.capability, &chosen.id, inner.now())
                };
                let Some(permit) = permit else {
                    // It left or failed since it was chosen.
                    self.tried.push(chosen.id);
                    continue;
                };
                let pending = HeldPermit { fabric: self.fabric.clone(), permit: Some(permit) };
                let OfferId { host, engine } = chosen.id;
                (Choice { reason: chosen.reason.to_string(), host, engine }, Some(pending))
            };
            let instance = self.fabric.0.instance(&choice.host);
            self.number += 1;
            self.tried.push(OfferId::new(&choice.host, &choice.engine));
            let routed = Routed {
                capability: self.need.capability.clone(),
                host: choice.host.clone(),
                engine: choice.engine.clone(),
                reason: choice.reason.clone(),
                turn: self.call.turn.map(|turn| turn.to_string()),
                attempt: self.number,
                after: self.failed.as_ref().map(ToString::to_string),
            };
            self.fabric.publish(routed);
            let engine = Some(choice.engine.clone()).filter(|engine| !engine.is_empty());
            let call = Call { deadline: time, route: Some(choice.reason.clone()), engine, ..self.call.clone() };
            return Ok(Attempt { choice, call, instance, permit });
        }
    }

    /// Takes in how a request ended; gives the end if no other host can change it.
    pub(super) fn ended<T>(
        &mut self,
        mut attempt: Attempt,
        result: Result<T, BusError>,
    ) -> Option<Result<T, BusError>> {
        match result {
            Ok(answer) => {
                attempt.settle(Outcome::Answered);
                Some(Ok(answer))
            }
            Err(error) => {
                let outcome = self.blame(&attempt, &error);
                attempt.settle(outcome);
                match (outcome, &error) {
                    (Outcome::Busy, _) => self.full.push(attempt.id()),
                    // That took its time.
                    (_, BusError::Cut { .. }) => self.looks_again(),
                    _ => {}
                }
                if can_go_on(&error) {
                    tracing::info!(asked = %attempt.id(), %error, "another is asked");
                    self.failed = Some(error);
                    return None;
                }
                Some(Err(error))
            }
        }
    }

    /// An answer broke off: another decision is made among the hosts that are there. Gives whether any is left to ask, and time.
    pub(super) fn failed_with(&mut self, error: BusError) -> bool {
        self.failed = Some(error);
        self.looks_again();
        self.left = self.others();
        !self.left.is_empty() && Instant::now() < self.until
    }

    /// Those that were full may be asked once more: another host has worked on the request since.
    fn looks_again(&mut self) {
        self.tried.retain(|id| !self.full.contains(id));
        self.full.clear();
    }

    /// Those who can be asked and were not.
    fn others(&self) -> VecDeque<Chosen> {
        self.fabric.0.decide(&self.need, &self.tried).map(VecDeque::from).unwrap_or_default()
    }

    /// The first of a new decision, if there is time and any host that was not asked.
    fn decide_again(&mut self) -> Option<Chosen> {
        // The queue group is no host in particular: it is asked once.
        let is_over = Instant::now() >= self.until || self.tried.iter().any(|id| id.host.is_empty());
        self.left = if is_over { VecDeque::new() } else { self.others() };
        self.left.pop_front()
    }

    /// What the end of a request that nothing was heard of says about its host: one that lives and is far over its usual
    /// time hangs. An agent is late with others' work.
    fn blame(&self, attempt: &Attempt, error: &BusError) -> Outcome {
        let is_late = match error {
            BusError::Deadline { .. } => true,
            BusError::Fault(fault) => {
                fault.code == FaultCode::Deadline && self.need.capability != Capability::Agent.token()
            }
            _ => false,
        };
        let usual = || self.fabric.0.usual(&attempt.id(), &self.need.capability);
        if is_late && usual().is_some_and(|usual| attempt.call.deadline >= usual * HANGS_AFTER) {
            return Outcome::Failed;
        }
        outcome(error)
    }

    fn last_word(&mut self) -> BusError {
        self.failed.take().unwrap_or_else(|| {
            Fault::unavailable(format!(
                "nobody who offers {} can be asked just now: those that failed rest for some seconds",
                self.need
            ))
            .into()
        })
    }
}

/// Whether another host may do better.
pub(super) fn can_go_on(error: &BusError) -> bool {
    match error {
        BusError::Nobody { .. } | BusError::Cut { .. } => true,
        BusError::Fault(fault) => fault.code.can_retry(),
        _ => false,
    }
}

/// What an error says about the host.
pub(super) fn outcome(error: &BusError) -> Outcome {
    match error {
        BusError::Nobody { .. } | BusError::Cut { .. } => Outcome::Failed,
        BusError::Fault(fault) => match fault.code {
            FaultCode::Busy => Outcome::Busy,
            FaultCode::Unavailable => Outcome::Failed,
            // It lives, and may do the next request.
            _ => Outcome::Answered,
        },
        // This host's own connection, or its caller's patience.
        _ => Outcome::Abandoned,
    }
}
