//! Many hosts as one against bare NATS: what a decision costs, a request, a stream; whether all slots are used; and what a
//! reader that stalls fills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use sidetone::bus::message::Ask;
use sidetone::bus::message::fault::FaultCode;
use sidetone::bus::message::llm::{Answer, Chat};
use sidetone::bus::message::node::{AskInfo, NodeInfo};
use sidetone::bus::message::tts;
use sidetone::bus::registry::Claim;
use sidetone::bus::service::{Incoming, Server, ServiceSpec};
use sidetone::bus::subject::Capability;
use sidetone::bus::{Bus, BusError, Call, embedded};
use sidetone::config::Config;
use sidetone::fabric::{Fabric, need};
use sidetone::router::{Health, Host, Load, Model, Need, Offer, Policy, Router, View};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bus::{PATIENCE, chat, nanoseconds, serve_raw, spec, us};
use crate::streams::{self, FEW, MANY, ONE, Shape, Sound};
use crate::support::{BenchHome, Row, Scope, free_port, progress};

const SECTION: &str = "fabric";
/// Hosts in the view of a decision.
const HOSTS: usize = 1_000;
/// What a decision may take, in µs.
const DECISION_US: f64 = 20.0;
/// A request's body and its reply's, in bytes.
const BODY: usize = 128;
/// The slots of each host where all are to be used.
const SLOTS: [usize; 8] = [1, 2, 3, 4, 1, 2, 3, 4];
/// How long a request is worked on there.
const WORK: Duration = Duration::from_millis(100);
/// Hosts that ask, each with its own view.
const ASKING: usize = 4;
/// The pause of a caller that finds all slots taken.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// What may be held more while a reader stalls, in MiB.
const STALLED_MIB: f64 = 4.0;

/// Measures it all.
pub fn run(scope: Scope) -> anyhow::Result<Vec<Row>> {
    let mut rows = decisions(scope)?;
    rows.extend(tokio::runtime::Runtime::new().context("no runtime")?.block_on(measure(scope))?);
    Ok(rows)
}

async fn measure(scope: Scope) -> anyhow::Result<Vec<Row>> {
    let (home, port) = (BenchHome::new()?, free_port()?);
    let server = embedded::start(&home.home, port).await?;
    let url = embedded::url(port);
    let mut rows = on_one(scope, &url).await?;
    rows.extend(on_many(scope, &url).await?);
    rows.push(stalled(scope, &url).await?);
    server.stop(Duration::from_secs(5)).await;
    Ok(rows)
}

/// A view of 1,000 hosts of two capabilities, some full, with models of which some are loaded.
fn view() -> View {
    let offer = |n: usize, capability: &str| Offer {
        capability: capability.to_owned(),
        engine: "bench".to_owned(),
        models: (0..4)
            .map(|m| Model { name: format!("model-{}", (n + m) % 16), warm: m == 0, ..Model::default() })
            .collect(),
        languages: vec![["en", "de", "fr", "en-GB"][n % 4].to_owned()],
        load: Load { slots: 4, in_flight: u32::try_from(n % 5).unwrap_or(0), queued: 0, usual_ms: 200 },
        ..Offer::default()
    };
    let host = |n: usize| Host {
        name: format!("host-{n}"),
        instance: n.to_string(),
        tags: vec![["gpu", "low_power"][n % 2].to_owned()],
        draining: n.is_multiple_of(50),
        offers: vec![offer(n, "llm"), offer(n, "stt")],
    };
    (0..HOSTS).map(host).collect()
}

fn decisions(scope: Scope) -> anyhow::Result<Vec<Row>> {
    let (view, policy, health) = (view(), Policy::default(), Health::new());
    let router = Router { here: "host-1", view: &view, policy: &policy, health: &health };
    let text = |text: &str| text.to_owned();
    let needs = [
        need(Capability::Llm),
        Need { model: text("model-3"), ..need(Capability::Llm) },
        Need { language: text("en"), tags: vec![text("gpu")], ..need(Capability::Stt) },
    ];
    let mut times = Histogram::<u64>::new(3)?;
    let mut rng = rand::rng();
    let rounds = scope.of(200_000, 20_000);
    for round in 0..rounds + rounds / 10 {
        let begun = Instant::now();
        let targets = router.decide(&needs[round % needs.len()], Duration::ZERO, &mut rng);
        let time = begun.elapsed();
        ensure!(targets.is_ok_and(|targets| !targets.is_empty()), "a decision finds nobody");
        // The first tenth warms up.
        if round >= rounds / 10 {
            times.record(nanoseconds(time))?;
        }
    }
    let row = |quantile: f64, name: &str| {
        let time = us(times.value_at_quantile(quantile));
        Row::below(SECTION, format!("decision among {HOSTS} hosts, {name}"), time, DECISION_US, "µs")
    };
    Ok(vec![row(0.5, "p50"), row(0.99, "p99")])
}

/// A host of the registry, as `sidetone run` brings it up.
struct Peer {
    bus: Bus,
    /// The services live as long as this.
    _servers: Vec<Server>,
    leave: CancellationToken,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.leave.cancel();
    }
}

impl Peer {
    /// Registers `bus` with what `server` offers.
    async fn start(bus: Bus, spec: &ServiceSpec, server: Server) -> anyhow::Result<Self> {
        let (offer, load) = (spec.offer(), server.load());
        let info = NodeInfo { node: bus.node().to_owned(), instance: bus.node().to_owned(), ..NodeInfo::default() };
        let now = move || {
            let (in_flight, usual_ms) = (load.in_flight(), load.usual_ms());
            let offer = sidetone::bus::message::node::Offer { in_flight, usual_ms, ..offer.clone() };
            NodeInfo { offers: vec![offer], ..info.clone() }
        };
        let claim = Claim::make(&bus, &now()).await?;
        let node = bus.service(spec_of(Capability::Node, 64)).await?;
        let told = now.clone();
        node.serve(move |_: Incoming<AskInfo>| {
            let info = told();
            async move { Ok(info) }
        })
        .await?;
        node.ready().await?;
        let leave = CancellationToken::new();
        tokio::spawn(claim.keep(now, futures::stream::pending().boxed(), leave.clone()));
        Ok(Self { bus, _servers: vec![server, node], leave })
    }

    async fn serve<A, F, R>(url: &str, name: &str, slots: usize, handler: F) -> anyhow::Result<Self>
    where
        A: Ask,
        F: Fn(Incoming<A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<A::Reply, sidetone::bus::message::fault::Fault>> + Send + 'static,
    {
        let (bus, spec) = (Bus::connect(url, name).await?, ServiceSpec { slots, ..spec::<A>() });
        let server = bus.service(spec.clone()).await?;
        server.serve::<A, F, R>(handler).await?;
        server.ready().await?;
        Self::start(bus, &spec, server).await
    }
}

fn spec_of(capability: Capability, slots: usize) -> ServiceSpec {
    ServiceSpec { capability, slots, ..spec::<Chat>() }
}

/// The way to whoever can, for the host that `bus` is; once it knows of `hosts` hosts.
async fn fabric(bus: &Bus, hosts: usize) -> anyhow::Result<Fabric> {
    let fabric = Fabric::start(bus, bus.node(), &Config::default());
    let mut changes = fabric.changes();
    let known = async {
        while fabric.nodes().await.len() < hosts {
            changes.changed().await?;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, known).await.context("the hosts do not hear of each other")??;
    Ok(fabric)
}

/// Answers a chat with as many bytes as were asked with.
async fn echo(incoming: Incoming<Chat>) -> Result<Answer, sidetone::bus::message::fault::Fault> {
    let asked = incoming.request.messages.into_iter().next().map(|message| message.content);
    Ok(Answer { text: asked.unwrap_or_default(), done: None })
}

/// A request to one other host, to this host itself, and bare; and streams.
async fn on_one(scope: Scope, url: &str) -> anyhow::Result<Vec<Row>> {
    let far = Peer::serve(url, "far", 64, echo).await?;
    let voice = Peer::serve(url, "voice", 64, streams::speak).await?;
    let caller = Bus::connect(url, "bench-caller").await?;
    let (raw_host, raw) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
    serve_raw(&raw_host, &raw).await?;
    let (remote, local) = (fabric(&caller, 2).await?, fabric(&far.bus, 2).await?);
    let mut rows = requests(scope, &remote, &local, &raw).await?;
    for (sound, shapes) in [(Sound::Spoken, &[MANY][..]), (Sound::Short, &[MANY, FEW, ONE][..])] {
        rows.extend(streams(scope, sound, shapes, &remote, &raw_host, &raw).await?);
    }
    drop((remote, local, far, voice));
    Ok(rows)
}

async fn requests(scope: Scope, remote: &Fabric, local: &Fabric, raw: &Client) -> anyhow::Result<Vec<Row>> {
    let (warm_up, rounds) = (scope.of(2_000, 200), scope.of(20_000_u64, 2_000));
    let (request, call, body) = (chat(BODY)?, Call::within(PATIENCE), Bytes::from(vec![b'x'; BODY]));
    let llm = need(Capability::Llm);
    let histogram = || Histogram::<u64>::new(3);
    let (mut bare, mut far, mut near) = (histogram()?, histogram()?, histogram()?);
    let bar = progress("requests through the fabric", rounds);
    for round in 0..warm_up + rounds {
        let begun = Instant::now();
        let reply = raw.request("raw.echo", body.clone()).await?;
        let bare_time = begun.elapsed();
        ensure!(reply.payload.len() == BODY, "a bare reply is cut off");
        let mut times = [Duration::ZERO; 2];
        for (fabric, time) in [remote, local].into_iter().zip(&mut times) {
            let begun = Instant::now();
            let reply = fabric.ask(&llm, &request, &call).await?;
            *time = begun.elapsed();
            ensure!(reply.text == request.messages[0].content, "a reply is cut off");
        }
        if round >= warm_up {
            bare.record(nanoseconds(bare_time))?;
            far.record(nanoseconds(times[0]))?;
            near.record(nanoseconds(times[1]))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let row = |quantile: f64, name: &str, most: f64| {
        let at = |times: &Histogram<u64>| us(times.value_at_quantile(quantile));
        let (far, near, bare) = (at(&far), at(&near), at(&bare));
        let remote = Row {
            baseline: format!("{bare:.0} µs"),
            compared: format!("{:.2} ×", far / bare),
            target: format!("≤ {most} ×"),
            met: Some(far / bare <= most),
            ..Row::note(SECTION, format!("request to another host, {BODY} B, {name}"), format!("{far:.0} µs"))
        };
        let measure = format!("   the same to its own host, {name}");
        let compared = format!("{:.2} ×", near / bare);
        let own =
            Row {
                baseline: format!("{bare:.0} µs"), compared, ..Row::note(SECTION, measure, format!("{near:.0} µs"))
            };
        [remote, own]
    };
    Ok([row(0.5, "p50", 1.3), row(0.99, "p99", 1.3)].concat())
}

async fn streams(
    scope: Scope,
    sound: Sound,
    shapes: &[Shape],
    remote: &Fabric,
    raw_host: &Client,
    raw: &Client,
) -> anyhow::Result<Vec<Row>> {
    let (rounds, tts, call) = (streams::Rounds::new(scope, sound), need(Capability::Tts), Call::within(PATIENCE));
    let (tts, call) = (&tts, &call);
    let (mut ours, mut published) = (vec![Vec::new(); shapes.len()], Vec::new());
    let bar = progress("streams through the fabric", rounds.count);
    for round in 0..=rounds.count {
        let mut rates = Vec::new();
        for shape in shapes {
            let stream = || async move {
                let mut stream = remote.open(tts, sound.request(shape.chunks), call).await?;
                streams::hear(sound, shape.chunks, async || stream.next().await).await
            };
            rates.push(rounds.rate(*shape, stream).await?);
        }
        let of_publishing = rounds.publish_rate(raw_host, raw).await?;
        // The first round warms up.
        if round > 0 {
            ours.iter_mut().zip(rates).for_each(|(all, rate)| all.push(rate));
            published.push(of_publishing);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(shapes.iter().zip(&ours).map(|(shape, ours)| rounds.row(SECTION, *shape, ours, &published)).collect())
}

/// Eight hosts with uneven slots, asked for more than they can do.
#[allow(clippy::cast_precision_loss, reason = "counts of requests")]
async fn on_many(scope: Scope, url: &str) -> anyhow::Result<Vec<Row>> {
    let serving = SLOTS.iter().enumerate().map(|(n, &slots)| async move {
        Peer::serve(url, &format!("worker-{n}"), slots, |incoming: Incoming<Chat>| async move {
            tokio::time::sleep(WORK).await;
            echo(incoming).await
        })
        .await
    });
    let peers = try_join_all(serving).await?;
    let asking = (0..ASKING).map(|n| async move {
        let bus = Bus::connect(url, &format!("asking-{n}")).await?;
        fabric(&bus, SLOTS.len()).await
    });
    let fabrics = try_join_all(asking).await?;
    let slots: usize = SLOTS.iter().sum();
    let (done, refused, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let time = scope.of(Duration::from_secs(15), Duration::from_secs(4));
    let (request, llm) = (chat(BODY)?, need(Capability::Llm));
    let caller = |fabric: &Fabric| {
        let fabric = fabric.clone();
        let (request, llm, done, refused, over) = (&request, &llm, &done, &refused, &over);
        async move {
            while !over.load(Ordering::Relaxed) {
                match fabric.ask(llm, request, &Call::within(PATIENCE)).await {
                    Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                    Err(BusError::Fault(fault)) if fault.code == FaultCode::Busy => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(FULL_PAUSE).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            anyhow::Ok(())
        }
    };
    // Half as many callers again as there are slots.
    let callers = try_join_all((0..slots * 3 / 2).map(|n| caller(&fabrics[n % ASKING])));
    let bar = progress("uneven hosts", time.as_secs());
    let timing = async {
        let mut rate = 0.0;
        // What is taken up in the first second warms up: nobody knows yet how long a request takes.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (begun, before) = (Instant::now(), done.load(Ordering::Relaxed));
        while begun.elapsed() < time {
            tokio::time::sleep(Duration::from_secs(1)).await;
            bar.inc(1);
            rate = (done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
        }
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(rate)
    };
    let (_, rate) = tokio::try_join!(callers, timing)?;
    bar.finish_and_clear();
    let most = slots as f64 / WORK.as_secs_f64();
    drop(peers);
    let measure = format!("{} hosts of 1 to 4 slots, {} callers", SLOTS.len(), slots * 3 / 2);
    let row = Row {
        baseline: format!("{most:.0} /s"),
        compared: format!("{:.2} ×", rate / most),
        target: "≥ 0.9 ×".to_owned(),
        met: Some(rate / most >= 0.9),
        ..Row::note(SECTION, measure, format!("{rate:.0} /s"))
    };
    let refused = format!("{} of {}", refused.load(Ordering::Relaxed), done.load(Ordering::Relaxed));
    Ok(vec![row, Row::note(SECTION, "   told that all slots are taken, and asked again", refused)])
}

/// What is held more after a reader has stalled for some seconds, with a worker that would send without end.
async fn stalled(scope: Scope, url: &str) -> anyhow::Result<Row> {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let voice = Peer::serve(url, "endless", 4, move |incoming: Incoming<tts::Stream>| {
        let counted = Arc::clone(&counted);
        async move {
            loop {
                incoming.replies.send(&Sound::Short.chunk()).await?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await?;
    let caller = Bus::connect(url, "stalling").await?;
    let fabric = fabric(&caller, 1).await?;
    let request = tts::Stream(tts::Say { text: "a".to_owned(), ..tts::Say::default() });
    let mut stream = fabric.open(&need(Capability::Tts), request, &Call::within(PATIENCE)).await?;
    // It reads for a while, so that all buffers on the way have their size.
    for _ in 0..2_000 {
        timeout(PATIENCE, stream.next()).await?.context("the stream ends")??;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, sent_before) = (resident_mib()?, sent.load(Ordering::Relaxed));
    tokio::time::sleep(scope.of(Duration::from_secs(10), Duration::from_secs(3))).await;
    let (after, sent_after) = (resident_mib()?, sent.load(Ordering::Relaxed));
    ensure!(sent_after == sent_before, "the worker goes on though nobody reads");
    timeout(PATIENCE, stream.next()).await?.context("the stream ends")??;
    drop((stream, fabric, voice));
    let measure = "held more while a reader stalls";
    Ok(Row::below(SECTION, measure, (after - before).max(0.0), STALLED_MIB, "MiB").beside(format!("{before:.0} MiB")))
}

/// The memory that this process holds.
#[allow(clippy::cast_precision_loss, reason = "KiB of one process")]
fn resident_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib as f64 / 1_024.0)
}
