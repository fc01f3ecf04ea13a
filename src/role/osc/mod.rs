//! Role `osc`: hears and sends OSC by UDP and TCP.
//!
//! ```text
//! UDP, TCP, WebSocket ─▶ desk ─┬─ due later: schedule ─▶ desk
//!                              ├─ OSC, MIDI, stop: at once, in the task that has received it
//!                              ├─ listeners, commands, tools: a queue, then lanes, then the bus
//!                              └─ what nobody takes: osc.in
//! osc.out, the rig ─▶ targets          states, levels, sessions ─▶ surfaces
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`net`] | sockets: datagrams and streams in, packets out without waiting |
//! | [`desk`] | what may come, when it is due, what is done |
//! | [`addresses`] | `/assistant/…`: what each takes and means |
//! | [`handlers`] | `[[osc.on]]` |
//! | [`listeners`] | which listeners are meant |
//! | [`targets`] | `[osc.targets]` |
//! | [`schedule`] | what waits for its time |
//! | [`query`] | OSCQuery and mDNS |
//! | [`surfaces`], [`follow`] | feedback: to whom, and from what |
//! | [`allow`], [`tally`], [`wire`] | who may send; what goes wrong too often to tell each time; arguments of OSC and the bus |

pub mod addresses;
pub mod allow;
mod desk;
mod follow;
pub mod handlers;
mod listeners;
mod net;
mod query;
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
use crate::bus::message::fault::{Fault, FaultCode};
use crate::bus::message::osc::{In, Out};
use crate::bus::service::{Incoming, ServiceSpec};
use crate::bus::subject::{self, Capability};
use crate::bus::{Bus, message};
use crate::engine::EngineError;
use crate::osc::{OscMessage, OscType};
use crate::rig::deeds::{Deeds, End, Task, Told};
use addresses::ROOT;
use allow::Allow;
use desk::Desk;
use handlers::Handlers;
use listeners::Listeners;
use net::{Ears, Peer};
use query::{Announced, Query};
use surfaces::{Scope, Surfaces, Viewer};
use tally::{Kind, Tally};
use targets::Targets;

/// Requests at once. They are answered in no time.
const SLOTS: usize = 64;
/// Deeds that wait to be put into their lanes, which takes no time.
const WORK: usize = 256;
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
        let ears = Ears::open(&config.listen, &config.groups).await.map_err(setting)?;
        let tally = Arc::new(Tally::default());
        let (work_in, work) = mpsc::channel(WORK);
        let (strays_in, strays) = mpsc::channel(STRAYS);
        let desk = Arc::new(Desk {
            node: context.bus.node().to_owned(),
            allow: Allow::new(&config.allow).map_err(setting)?,
            ahead: Duration::from_millis(config.ahead_ms),
            surfaces: Arc::new(Surfaces::new(config.feedback_hz, Arc::clone(&tally))),
            tally,
            handlers: Handlers::new(&config.on).map_err(setting)?,
            listeners: Arc::new(Listeners::new(context.bus.node(), &context.config)),
            targets: Targets::new(&config.targets, &ears.mouth).map_err(setting)?,
            schedule: schedule::Schedule::default(),
            rig: context.rig.clone(),
            work: work_in,
            strays: strays_in,
            loops: Mutex::default(),
            begun: Instant::now(),
            ended: CancellationToken::new(),
            conversations: TaskTracker::new(),
            patterns: Mutex::default(),
            answers: Mutex::default(),
            whole: Mutex::default(),
        });
        let ending = desk.ended.clone().drop_guard();
        for name in &config.subscribers {
            let target = desk.targets.get(name).map_err(|fault| setting(format!("osc.subscribers: {fault}")))?;
            desk.surfaces.subscribe(Viewer::Target(Arc::clone(target)), Scope::All).map_err(setting)?;
        }
        let spec = ServiceSpec {
            capability: Capability::Osc,
            about: "sends and hears OSC",
            engine: ears.address().map(|at| format!("udp and tcp {at}")).unwrap_or_default(),
            models: desk.targets.names(),
            slots: SLOTS,
        };
        let offer = spec.offer();
        let server = context.bus.service(spec).await?;
        let out = Arc::clone(&desk);
        server
            .serve(move |incoming: Incoming<Out>| {
                let sent = out.out(incoming.request);
                async move { sent }
            })
            .await?;
        let out = Arc::clone(&desk);
        let _plugged = context.rig.plug_osc(Arc::new(move |message| out.out(message).map(drop)));
        let osc_port = ears.address().map(|at| at.port()).unwrap_or_default();
        let query = if config.query.is_empty() {
            None
        } else {
            Some(Query::start(&config.query, &desk, osc_port).await.map_err(setting)?)
        };
        let query_port = query.as_ref().and_then(Query::address).map(|at| at.port());
        tracing::info!(osc_port, query_port, targets = desk.targets.names().join(","), "OSC");
        let announced = config.announce.then(|| Announced::start(&desk.node, osc_port, query_port)).transpose();
        let _announced = announced.unwrap_or_else(|error| {
            tracing::warn!(%error, "surfaces will not find this host by themselves: mDNS does not work here");
            None
        });
        let mut tasks = self::tasks(&context, &desk, ears, work, strays);
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
        desk.conversations.close();
        if timeout(CLOSE_TIMEOUT, desk.conversations.wait()).await.is_err() {
            tracing::warn!("clients of OSCQuery are still there");
        }
        ended
    }
}

/// All that goes on beside the service. None of it ends by itself.
fn tasks(
    context: &RoleContext,
    desk: &Arc<Desk>,
    ears: Ears,
    work: mpsc::Receiver<Task<Peer>>,
    strays: mpsc::Receiver<In>,
) -> JoinSet<()> {
    let (bus, fabric) = (context.bus.clone(), context.fabric.clone());
    let mut tasks = JoinSet::new();
    let of = |desk: &Arc<Desk>| (Arc::clone(desk), bus.clone());
    let (own, _) = of(desk);
    tasks.spawn(async move { ears.hear(&own).await });
    let (own, _) = of(desk);
    tasks.spawn(async move { own.targets.keep(&own).await });
    let (own, _) = of(desk);
    tasks.spawn(async move {
        loop {
            let waiting = own.schedule.next().await;
            own.due(waiting);
        }
    });
    let (own, _) = of(desk);
    tasks.spawn(async move {
        let mut stops = own.rig.stops().subscribe();
        loop {
            stops.next().await;
            own.stop();
        }
    });
    let (own, _) = of(desk);
    tasks.spawn(async move { own.surfaces.keep_pace().await });
    let (own, told) = of(desk);
    tasks.spawn(async move { own.tally.tell(&told).await });
    let (own, told) = of(desk);
    tasks.spawn(async move { settle(&own, &told).await });
    let (own, _) = of(desk);
    tasks.spawn(do_work(own, work));
    let (own, told) = of(desk);
    tasks.spawn(async move { publish(&own, &told, strays).await });
    let (own, told) = of(desk);
    tasks.spawn(async move {
        if let Err(error) = follow::follow(&told, &fabric, &own).await {
            told.report(&Fault::unavailable(format!("surfaces get no feedback: {error}"))).await;
        }
        std::future::pending::<()>().await;
    });
    tasks
}

/// Tells of loops that were broken.
async fn settle(desk: &Desk, bus: &Bus) {
    let mut ticks = tokio::time::interval(SETTLE_EVERY);
    loop {
        ticks.tick().await;
        let broken = desk.loops().settle(desk.begun.elapsed());
        for broken in broken {
            let (host, address) = broken.key;
            let text = format!(
                "OSC feedback loop: {address} from {host} triggered itself {} times and was cut off; \
                 have {host} not send back what it is sent, or send it to another address",
                broken.rounds
            );
            bus.report(&Fault::new(FaultCode::Invalid, text.clone())).await;
            desk.surfaces.happen(&format!("{ROOT}error"), vec![OscType::String(text)]);
        }
    }
}

/// Does what needs the bus, and tells whoever asked what came of it.
async fn do_work(desk: Arc<Desk>, mut queue: mpsc::Receiver<Task<Peer>>) {
    let own = Arc::clone(&desk);
    let deeds = Deeds::new(desk.rig.clone(), move |told: Told<Peer>| match told.end {
        End::Done(Some(text)) if told.is_command => {
            let text = OscType::String(text.replace('\0', " "));
            own.tell(&told.from, &OscMessage { addr: format!("{ROOT}reply"), args: vec![text] });
        }
        End::Done(_) => {}
        End::Failed(fault) => own.error(&told.from, &fault.message),
        End::LeftOut(why) => own.left_out(&told.from, &why),
    });
    while let Some(task) = queue.recv().await {
        deeds.put(task);
    }
}

/// Publishes what nobody has taken.
async fn publish(desk: &Desk, bus: &Bus, mut strays: mpsc::Receiver<message::osc::In>) {
    while let Some(stray) = strays.recv().await {
        let subject = subject::osc_in(bus.node(), &stray.address);
        if let Err(error) = bus.publish(subject, &stray).await {
            desk.tally.count(Kind::Unpublished, || format!("{}: {error}", stray.address));
        }
    }
}
