//! Role `audio`: keeps the JACK graph, and links it to other hosts.
//!
//! | module | what |
//! | --- | --- |
//! | [`link`] | one link: keeps its JackTrip running, and says how it is doing |
//! | [`links`] | all of them: those of the settings, and those that orders have set up |
//! | [`probe`] | the way to another host, measured |
//! | [`convert`] | between settings, the bus, and what the audio side takes |

pub mod convert;
mod link;
mod links;
mod probe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{Role, RoleContext, RoleError};
use crate::audio::graph::{Rules, StepKind};
use crate::audio::{GraphEvent, GraphSupervisor, jacktrip};
use crate::bus::message::Ask as _;
use crate::bus::message::audio::{Applied, Apply, AskGraph, LinkOrder};
use crate::bus::message::fault::Fault;
use crate::bus::message::node::{AudioOffer, Offer};
use crate::bus::service::{Incoming, Server, ServiceSpec};
use crate::bus::subject::{Capability, Target};
use crate::telemetry::metrics::{JACK_UP, XRUNS};
pub use link::other_rate;
use link::{JackFormat, LinkParts};
use links::Links;
use probe::Prober;

/// Requests at once. They are answered in no time, but for those that wait for JACK.
const SLOTS: usize = 64;
/// Events of the graph that wait to be reported; when it is full they are left out.
const EVENTS: usize = 1_024;

/// How long JACK may take to be found or not before the role is up.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How often xruns are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The role.
pub struct Audio;

#[async_trait]
impl Role for Audio {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        let config = &context.config.audio;
        let rules = convert::rules(config).map_err(RoleError::Setting)?;
        let node = context.bus.node().to_owned();
        let server_name = Some(context.config.jack.server.as_str()).filter(|name| !name.is_empty());
        let client = client_name(&node);
        let (supervisor, jack, events) = keep_graph(&client, server_name, rules)?;
        let prober = Prober::listen(config.probe_port).await.map_err(|error| {
            let port = config.probe_port;
            RoleError::Setting(format!("audio.probe_port is {port}: {error}; choose another, or 0 for a free one"))
        })?;
        let program = context.home.program(jacktrip::PROGRAM);
        let has_jacktrip = is_program(&program);
        if !has_jacktrip && !config.link.is_empty() {
            let why = format!("audio links need JackTrip, which is not here: {}", jacktrip::INSTALL_HINT);
            context.bus.report(&Fault::unavailable(why)).await;
        }
        let parts = LinkParts {
            bus: context.bus.clone(),
            fabric: context.fabric.clone(),
            graph: Arc::clone(&supervisor),
            jack: jack.clone(),
            prober: prober.clone(),
            program,
            server: crate::audio::jack::server_name(server_name),
        };
        let links = Arc::new(Links::start(&config.link, parts, context.home.state().join("audio")).await);

        let spec = ServiceSpec {
            capability: Capability::Audio,
            about: "keeps the JACK graph, and links it to other hosts",
            engine: "JACK, JackTrip".to_owned(),
            models: Vec::new(),
            slots: SLOTS,
        };
        let offer = Offer { slots: 0, ..spec.offer() };
        let server = context.bus.service(spec).await?;
        serve(&server, &node, &supervisor, &links).await?;
        server.ready().await?;

        // So that what it offers is right from the beginning.
        let until = Instant::now() + FIRST_LOOK;
        while !supervisor.report().has_looked && Instant::now() < until {
            tokio::time::sleep(FIRST_LOOK / 100).await;
        }
        let _reporting = AbortOnDropHandle::new(tokio::spawn(report(context.clone(), events)));
        let own = AudioOffer { probe_port: prober.port(), jacktrip: has_jacktrip, ..AudioOffer::default() };
        let ended = offer_until_stopped(
            &context,
            &server,
            Offering { offer, own, jack, supervisor: &supervisor, links: &links },
        )
        .await;
        server.stop(context.drain_timeout()).await;
        links.stop().await;
        let closed = tokio::task::spawn_blocking(move || supervisor.close());
        if tokio::time::timeout(context.drain_timeout(), closed).await.is_err() {
            tracing::warn!("the JACK client of the graph was not closed in time");
        }
        ended
    }
}

/// The server's rate and period while there is one, and what happens to the graph.
type Graph = (Arc<GraphSupervisor>, watch::Receiver<JackFormat>, mpsc::Receiver<GraphEvent>);

/// Starts to keep the graph by `rules`.
fn keep_graph(client: &str, server: Option<&str>, rules: Rules) -> Result<Graph, RoleError> {
    let (events_out, events) = mpsc::channel(EVENTS);
    let (jack_out, jack) = watch::channel::<JackFormat>(None);
    let notify = Box::new(move |event| {
        match &event {
            GraphEvent::Up { rate_hz, buffer_frames } => {
                jack_out.send_if_modified(|jack| {
                    let now = Some((*rate_hz, *buffer_frames));
                    std::mem::replace(jack, now) != now
                });
            }
            GraphEvent::Down { .. } => {
                jack_out.send_if_modified(|jack| jack.take().is_some());
            }
            _ => {}
        }
        // Full: the reader is behind.
        let _ = events_out.try_send(event);
    });
    let supervisor = GraphSupervisor::start(client, server, rules, notify)
        .map_err(|error| RoleError::Setting(format!("no thread for the JACK graph: {error}")))?;
    Ok((Arc::new(supervisor), jack, events))
}

/// Serves what is asked of this host's graph and links.
async fn serve(
    server: &Server,
    node: &str,
    supervisor: &Arc<GraphSupervisor>,
    links: &Arc<Links>,
) -> Result<(), RoleError> {
    let own = Target::Node(node);
    let (shown, name) = (Arc::clone(supervisor), node.to_owned());
    let graph = move |_: Incoming<AskGraph>| {
        let graph = convert::graph(&name, &shown.report());
        async move { Ok(graph) }
    };
    server.serve_at("graph-n", AskGraph::VERB.subject(own), graph).await?;
    let (restored, name) = (Arc::clone(supervisor), node.to_owned());
    let apply = move |incoming: Incoming<Apply>| apply(Arc::clone(&restored), name.clone(), incoming.request);
    server.serve_at("apply-n", Apply::VERB.subject(own), apply).await?;
    let ordered = Arc::clone(links);
    let order = move |incoming: Incoming<LinkOrder>| {
        let links = Arc::clone(&ordered);
        // To its end, though the caller goes away: half an order would leave a link that no file knows, or none.
        let order = tokio::spawn(async move { links.order(incoming.request).await });
        async move { order.await.unwrap_or_else(|error| Err(Fault::failed(format!("the order broke: {error}")))) }
    };
    server.serve_at("links-n", LinkOrder::VERB.subject(own), order).await?;
    Ok(())
}

/// What is offered, and where it comes from.
struct Offering<'a> {
    offer: Offer,
    own: AudioOffer,
    jack: watch::Receiver<JackFormat>,
    supervisor: &'a GraphSupervisor,
    links: &'a Links,
}

/// Keeps the offer and the meters right until the host stops.
async fn offer_until_stopped(context: &RoleContext, server: &Server, offering: Offering<'_>) -> Result<(), RoleError> {
    let Offering { offer, own, mut jack, supervisor, links } = offering;
    let mut changes = links.changes();
    let (up, xruns) =
        (metrics::gauge!(JACK_UP, "listener" => "graph"), metrics::counter!(XRUNS, "listener" => "graph"));
    let (mut shown, mut ticks) = (None, tokio::time::interval(LOOK_EVERY));
    loop {
        let now = *jack.borrow_and_update();
        changes.mark_unchanged();
        let (rate_hz, period_frames) = now.unwrap_or_default();
        let audio = AudioOffer { rate_hz, period_frames, ..own.clone() };
        let names = links.names().await;
        let offer = Offer { models: names.clone(), warm: names, audio: Some(audio), ..offer.clone() };
        if shown.as_ref() != Some(&offer) {
            context.up(offer.clone(), None);
            shown = Some(offer);
        }
        up.set(if now.is_some() { 1.0 } else { 0.0 });
        xruns.absolute(supervisor.report().xruns);
        tokio::select! {
            () = context.stop.cancelled() => return Ok(()),
            error = server.refused() => return Err(error.into()),
            _ = jack.changed() => {}
            _ = changes.changed() => {}
            _ = ticks.tick() => {}
        }
    }
}

/// Reports what was put right and what could not be, until the graph is no longer kept.
async fn report(context: RoleContext, mut events: mpsc::Receiver<GraphEvent>) {
    while let Some(event) = events.recv().await {
        let fault = match event {
            GraphEvent::Righted(step) => {
                let what = if step.kind == StepKind::Connect { "disconnected" } else { "connected" };
                let (source, sink) = (step.source, step.sink);
                Fault::failed(format!(
                    "another program {what} '{source}' and '{sink}', which is pinned: it was put right again"
                ))
            }
            GraphEvent::Refused { connection: (source, sink), why } => {
                Fault::failed(format!("JACK does not connect '{source}' and '{sink}', and is asked again: {why}"))
            }
            _ => continue,
        };
        context.bus.report(&fault).await;
    }
}

async fn apply(supervisor: Arc<GraphSupervisor>, node: String, request: Apply) -> Result<Applied, Fault> {
    let rules = request.connect.iter().map(convert::wire_rule).collect::<Result<Vec<_>, _>>()?;
    let restored = tokio::task::spawn_blocking(move || supervisor.restore(rules, request.exact)).await;
    let restored = restored.map_err(|error| Fault::failed(format!("libjack broke: {error}")))?;
    restored.map(|plan| convert::applied(&node, &plan)).map_err(Fault::unavailable)
}

/// The name of the client that keeps the graph. Two hosts may share a JACK server.
fn client_name(node: &str) -> String {
    let name = format!("sidetone-graph-{}", node.replace(':', "-"));
    name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 63).map(|(_, c)| c).collect()
}

/// Whether there is such a program: at its path, or on `$PATH`.
pub(crate) fn is_program(program: &std::path::Path) -> bool {
    if program.components().count() > 1 {
        return program.is_file();
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
