//! A JackTrip link between two hosts, each with a JACK server of its own: how soon it is up, and up again.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use sidetone::bus::message::audio::{Link, LinkOrder, LinkSpec, LinkState};
use sidetone::bus::subject::{self, Target};
use sidetone::bus::{Bus, Call};
use tokio::time::timeout_at;

use super::{FAR, PATIENCE, PERIOD, RATE_HZ, SECTION, Times};
use crate::jack::JackServer;
use crate::running::{NODE, Process, RunningHost};
use crate::support::{BenchHome, Row, Scope, free_port, ms, progress};

/// From the order to the second side until both are up, in ms.
const MOST_UP_MS: f64 = 2_000.0;
/// From the death of a JackTrip until both are up again.
const MOST_BACK_MS: f64 = 3_000.0;
const NAME: &str = "bench-link";

pub async fn rows(scope: Scope, server: &JackServer) -> anyhow::Result<Vec<Row>> {
    if Command::new("jacktrip").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Ok(vec![Row::note(SECTION, "links", "not measured: jacktrip is not installed")]);
    }
    let other = JackServer::beside(server, RATE_HZ, PERIOD);
    let homes = [BenchHome::new()?, BenchHome::new()?];
    let sets = |server: &JackServer| [r#"node.roles=["audio"]"#.to_owned(), format!("jack.server={}", server.name())];
    let near = RunningHost::start(&homes[0].home, &sets(server))?;
    let far = near.beside(&homes[1].home, FAR, &sets(&other))?;
    let bus = Bus::connect(&near.url, "bench-peer").await?;
    let mut links = Links::new(&bus).await?;
    let rounds: u32 = scope.of(8, 2);
    let bar = progress("a JackTrip link", u64::from(rounds));
    let (mut up, mut back) = (Times::default(), Times::default());
    for round in 0..rounds {
        let (port, bind_port) = (free_udp_port()?, free_udp_port()?);
        let spec = |mode: &str, peer: &str, bind_port: u16| LinkSpec {
            name: NAME.to_owned(),
            mode: mode.to_owned(),
            peer: peer.to_owned(),
            port,
            bind_port,
            channels: 2,
            ..LinkSpec::default()
        };
        links.forget();
        order(&bus, NODE, LinkOrder::Set { link: spec("p2p-server", FAR, 0) }).await?;
        links.until(|links| links.near == Some(LinkState::Waiting)).await.context("the first side")?;
        let begun = Instant::now();
        order(&bus, FAR, LinkOrder::Set { link: spec("p2p-client", NODE, bind_port) }).await?;
        up.took.push(ms(links.until(Links::both_up).await.context("the second side")?.duration_since(begun)));
        // Either end's is killed.
        let host = if round % 2 == 0 { &near } else { &far };
        let begun = Instant::now();
        kill_jacktrip(host)?;
        links.until(|links| !links.both_up()).await.context("the loss")?;
        back.took.push(ms(links.until(Links::both_up).await.context("after the loss")?.duration_since(begun)));
        for node in [NODE, FAR] {
            order(&bus, node, LinkOrder::Remove { name: NAME.to_owned() }).await?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let row = |measure: &str, times: &Times, most_ms: f64| {
        Row::below(SECTION, format!("{measure}: longest of {rounds}"), times.max(), most_ms, "ms")
            .beside(format!("p50 {:.0} ms", times.p50()))
    };
    Ok(vec![
        row("JackTrip link up, both sides, after the second was begun", &up, MOST_UP_MS),
        row("JackTrip link back after a JackTrip was killed", &back, MOST_BACK_MS),
    ])
}

/// Both ends, as they tell of themselves.
struct Links {
    told: BoxStream<'static, Link>,
    near: Option<LinkState>,
    far: Option<LinkState>,
}

impl Links {
    async fn new(bus: &Bus) -> anyhow::Result<Self> {
        let told = bus.subscribe::<Link>(&subject::event_of_all("link")).await?;
        Ok(Self { told: readable(told).boxed(), near: None, far: None })
    }

    /// Forgets what was told of links that are gone.
    fn forget(&mut self) {
        while self.told.next().now_or_never().flatten().is_some() {}
        (self.near, self.far) = (None, None);
    }

    fn both_up(&self) -> bool {
        self.near == Some(LinkState::Up) && self.far == Some(LinkState::Up)
    }

    /// Follows until it holds; gives when that was told.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) -> anyhow::Result<Instant> {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            let told = timeout_at(until.into(), self.told.next()).await;
            let told = told.with_context(|| format!("in vain: the ends are {:?} and {:?}", self.near, self.far))?;
            let link = told.context("the bus is gone")?;
            let end = if link.node == NODE { &mut self.near } else { &mut self.far };
            *end = Some(link.state);
        }
        Ok(Instant::now())
    }
}

fn readable<K, T, E>(told: impl Stream<Item = (K, Result<T, E>)>) -> impl Stream<Item = T> {
    told.filter_map(|(_, told)| std::future::ready(told.ok()))
}

async fn order(bus: &Bus, node: &str, order: LinkOrder) -> anyhow::Result<()> {
    bus.ask(Target::Node(node), &order, &Call::within(PATIENCE)).await.with_context(|| format!("{node} refuses"))?;
    Ok(())
}

fn kill_jacktrip(host: &RunningHost) -> anyhow::Result<()> {
    let found = Process::descendants(host.pid())?.into_iter().find(|process| process.name == "jacktrip");
    let pid = found.and_then(|process| Pid::from_raw(process.pid.cast_signed())).context("there is no JackTrip")?;
    kill_process(pid, Signal::KILL).context("can't kill JackTrip")?;
    Ok(())
}

/// A port that nobody has, of those above what JackTrip takes by itself.
fn free_udp_port() -> anyhow::Result<u16> {
    let port = free_port()?;
    let socket = std::net::UdpSocket::bind(("127.0.0.1", port));
    ensure!(socket.is_ok(), "port {port} is taken");
    Ok(port)
}
