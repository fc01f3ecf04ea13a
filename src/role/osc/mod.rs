//! Role `osc`: hears and sends OSC by UDP and TCP.
//!
//! ```text
//! UDP, TCP, WebSocket ─▶ dispatcher ─┬─ due later: schedule ─▶ dispatcher
//!                                    ├─ OSC, MIDI, stop: at once, in the task that has received it
//!                                    ├─ listeners, commands, tools: outboxes, then the bus
//!                                    └─ what no handler takes: osc.in
//! osc.out, the rig ─▶ targets          states, levels, sessions ─▶ surfaces
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`net`] | sockets: datagrams and streams in, to what implements `Intake`; packets out without waiting |
//! | [`dispatcher`] | what may come, when it is due, what it sets off |
//! | [`replies`] | answers and errors to peers |
//! | [`addresses`] | `/assistant/…`: what each takes and means |
//! | [`handlers`] | `[[osc.on]]` |
//! | [`listeners`] | which listeners are meant |
//! | [`targets`] | `[osc.targets]` |
//! | [`schedule`] | what waits for its time |
//! | [`query`] | OSCQuery and mDNS |
//! | [`surfaces`], [`follow`] | feedback: to whom, and from what |
//! | [`allow`], [`tally`], [`wire`] | who may send; what goes wrong too often to report each time; arguments of OSC and the bus |

pub mod addresses;
pub mod allow;
mod dispatcher;
mod follow;
pub mod handlers;
mod listeners;
mod net;
mod query;
mod replies;
mod schedule;
mod surfaces;
mod tally;
mod targets;
pub mod wire;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Role, RoleContext, RoleError};
use crate::bus::Bus;
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::osc::{In, Out};
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::{self, Capability};
use crate::engine::EngineError;
use crate::osc::OscType;
use crate::rig::effects::{Effects, Outcome, Report};
use addresses::ROOT;
use allow::Allow;
use dispatcher::Dispatcher;
use handlers::Handlers;
use listeners::Listeners;
use net::{Peer, Sockets};
use query::{Announced, Query};
use replies::Replies;
use surfaces::{Scope, Surfaces, Viewer};
use tally::{Problem, Tally};
use targets::Targets;

/// Requests at once. They are answered in no time.
const SLOTS: usize = 64;
/// Messages that wait to be published: more than a second of the fastest gear.
const STRAYS: usize = 8_192;
/// How often it is looked whether what was held is a loop.
const SETTLE_EVERY: Duration = Duration::from_millis(100);
/// How long the clients of OSCQuery may take to be left when the role ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The role.
pub struct Osc;

#[async_trait]
impl Role for Osc {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        let config = &context.config.osc;
        let setting = RoleError::Setting;
        let sockets = Sockets::open(&config.listen, &config.groups).await.map_err(setting)?;
        let (strays_in, strays) = mpsc::channel(STRAYS);
        let dispatcher = Arc::new(dispatcher(&context, &sockets, strays_in)?);
        let ending = dispatcher.ended.clone().drop_guard();
        let spec = ServiceSpec {
            capability: Capability::Osc,
            about: "sends and hears OSC",
            engine: sockets.address().map(|at| format!("udp and tcp {at}")).unwrap_or_default(),
            models: dispatcher.targets.names(),
            slots: SLOTS,
        };
        let offer = spec.offer();
        let server = context.bus.service(spec).await?;
        let out = Arc::clone(&dispatcher);
        server
            .serve(move |incoming: Incoming<Out>| {
                let sent = out.out(incoming.request);
                async move { sent }
            })
            .await?;
        let out = Arc::clone(&dispatcher);
        let _plugged = context.rig.plug_osc(Arc::new(move |message| out.out(message).map(drop)));
        let osc_port = sockets.address().map(|at| at.port()).unwrap_or_default();
        let query = if config.query.is_empty() {
            None
        } else {
            Some(Query::start(&config.query, &dispatcher, osc_port).await.map_err(setting)?)
        };
        let query_port = query.as_ref().and_then(Query::address).map(|at| at.port());
        tracing::info!(osc_port, query_port, targets = dispatcher.targets.names().join(","), "OSC");
        let announced = config.announce.then(|| Announced::start(&dispatcher.node, osc_port, query_port)).transpose();
        let _announced = announced.unwrap_or_else(|error| {
            tracing::warn!(%error, "surfaces will not find this host by themselves: mDNS does not work here");
            None
        });
        let mut tasks = self::tasks(&context, &dispatcher, sockets, strays);
        server.ready().await?;
        context.up(offer, Some(server.load()));
        let ended = tokio::select! {
            ended = context.serve_until_stopped(server) => ended,
            Some(ended) = tasks.join_next() => {
                Err(EngineError::Failed(format!("a part of the role osc has ended: {ended:?}")).into())
            }
        };
        tasks.shutdown().await;
        // The role may be started again, and the ports must be free then.
        drop((ending, query));
        dispatcher.conversations.close();
        if timeout(CLOSE_TIMEOUT, dispatcher.conversations.wait()).await.is_err() {
            tracing::warn!("clients of OSCQuery are still there");
        }
        ended
    }
}

/// From the settings.
fn dispatcher(context: &RoleContext, sockets: &Sockets, strays: mpsc::Sender<In>) -> Result<Dispatcher, RoleError> {
    let (config, setting) = (&context.config.osc, RoleError::Setting);
    let tally = Arc::new(Tally::default());
    let replies = Arc::new(Replies::new(Arc::clone(&tally)));
    let own = Arc::clone(&replies);
    let effects = Effects::new(context.rig.clone(), move |report: Report<Peer>| match report.outcome {
        Outcome::Done(Some(text)) if report.is_command => own.text(&report.from, "reply", &text),
        Outcome::Done(_) => {}
        Outcome::Failed(fault) => own.error(&report.from, &fault.message),
        Outcome::LeftOut(why) => own.left_out(&report.from, &why),
    });
    let dispatcher = Dispatcher {
        node: context.bus.node().to_owned(),
        allow: Allow::new(&config.allow).map_err(setting)?,
        ahead: Duration::from_millis(config.ahead_ms),
        surfaces: Arc::new(Surfaces::new(config.feedback_hz, Arc::clone(&tally))),
        tally,
        replies,
        handlers: Handlers::new(&config.on).map_err(setting)?,
        listeners: Arc::new(Listeners::new(context.bus.node(), &context.config)),
        targets: Targets::new(&config.targets, &sockets.sender).map_err(setting)?,
        schedule: schedule::Schedule::default(),
        rig: context.rig.clone(),
        effects,
        strays,
        loops: Mutex::default(),
        begun: Instant::now(),
        ended: CancellationToken::new(),
        conversations: TaskTracker::new(),
        patterns: Mutex::default(),
        whole: Mutex::default(),
    };
    for name in &config.subscribers {
        let target = dispatcher.targets.get(name).map_err(|fault| setting(format!("osc.subscribers: {fault}")))?;
        dispatcher.surfaces.subscribe(Viewer::Target(Arc::clone(target)), Scope::All).map_err(setting)?;
    }
    Ok(dispatcher)
}

/// All that goes on beside the service. None of it ends by itself.
fn tasks(
    context: &RoleContext,
    dispatcher: &Arc<Dispatcher>,
    sockets: Sockets,
    strays: mpsc::Receiver<In>,
) -> JoinSet<()> {
    let (bus, fabric) = (context.bus.clone(), context.fabric.clone());
    let mut tasks = JoinSet::new();
    let of = |dispatcher: &Arc<Dispatcher>| (Arc::clone(dispatcher), bus.clone());
    let (own, _) = of(dispatcher);
    tasks.spawn(async move { sockets.hear(&own).await });
    let (own, _) = of(dispatcher);
    tasks.spawn(async move {
        let surfaces = Arc::clone(&own.surfaces);
        own.targets.keep(&own, move |target| surfaces.resync(target)).await;
    });
    let (own, _) = of(dispatcher);
    tasks.spawn(async move {
        loop {
            let waiting = own.schedule.next().await;
            own.due(waiting);
        }
    });
    let (own, _) = of(dispatcher);
    tasks.spawn(async move {
        let mut stops = own.rig.stops().subscribe();
        loop {
            stops.next().await;
            own.stop();
        }
    });
    let (own, _) = of(dispatcher);
    tasks.spawn(async move { own.surfaces.keep_pace().await });
    let (own, bus) = of(dispatcher);
    tasks.spawn(async move { own.tally.report(&bus).await });
    let (own, bus) = of(dispatcher);
    tasks.spawn(async move { settle(&own, &bus).await });
    let (own, bus) = of(dispatcher);
    tasks.spawn(async move { publish(&own, &bus, strays).await });
    let (own, bus) = of(dispatcher);
    tasks.spawn(async move {
        if let Err(error) = follow::follow(&bus, &fabric, &own).await {
            bus.report(&Fault::unavailable(format!("surfaces get no feedback: {error}"))).await;
        }
        std::future::pending::<()>().await;
    });
    tasks
}

/// Reports loops that were broken.
async fn settle(dispatcher: &Dispatcher, bus: &Bus) {
    let mut ticks = tokio::time::interval(SETTLE_EVERY);
    loop {
        ticks.tick().await;
        let broken = dispatcher.loops().settle(dispatcher.begun.elapsed());
        for broken in broken {
            let (host, address) = broken.key;
            let text = format!(
                "OSC feedback loop: {address} from {host} triggered itself {} times and was cut off; \
                 have {host} not send back what it is sent, or send it to another address",
                broken.rounds
            );
            bus.report(&Fault::new(FaultCode::Invalid, text.clone())).await;
            dispatcher.surfaces.happen(&format!("{ROOT}error"), vec![OscType::String(text)]);
        }
    }
}

/// Publishes what no handler has taken.
async fn publish(dispatcher: &Dispatcher, bus: &Bus, mut strays: mpsc::Receiver<In>) {
    while let Some(stray) = strays.recv().await {
        let subject = subject::osc_in(bus.node(), &stray.address);
        if let Err(error) = bus.publish(subject, &stray).await {
            dispatcher.tally.count(Problem::Unpublished, || format!("{}: {error}", stray.address));
        }
    }
}
