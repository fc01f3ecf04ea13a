//! One link: keeps its JackTrip running, and says how it is doing.
//!
//! ```text
//! no JACK, other rate, no such host ──▶ refused or waiting; looks again when something has changed
//! starting ──▶ waiting ──▶ up ◀──▶ lost
//!    ▲            │         │        │  the program ended, its peer stopped, a hub is silent
//!    └────────────┴─────────┴────────┘  after a pause of 0.1 … 1 s
//! ```

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::convert::{has_client, invocation, link_spec};
use super::probe::Prober;
use crate::audio::GraphSupervisor;
use crate::audio::jacktrip::{Act, INSTALL_HINT, Reader, Run, Standing};
use crate::bus::message::audio::{Link, LinkState};
use crate::bus::message::node::AudioOffer;
use crate::bus::{Bus, subject};
use crate::config::{LinkConfig, LinkMode};
use crate::fabric::Fabric;
use crate::process::{ChildSpec, ProcessError, ReadChild, ReadyProbe};

/// Lines that wait to be read; JackTrip writes some 35 a second.
const LINES: usize = 256;
/// How often the time is looked at.
const TICK: Duration = Duration::from_millis(50);
/// The pause before JackTrip is started again, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A link that was up for so long has recovered: the next restart comes quickly again.
const STABLE: Duration = Duration::from_secs(5);
/// When to look again at what can't be, if nothing has changed.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// How long JackTrip may take to end.
const STOP_TIMEOUT: Duration = Duration::from_millis(700);
/// How long JACK may take to forget the client of a JackTrip that has ended.
const NAME_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a host may take to answer a probe, and how often it is asked.
const PROBE_TIMEOUT: Duration = Duration::from_millis(400);
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Round trips that are averaged.
const PROBES: usize = 10;
/// Lines that are reported when JackTrip ends at once.
const LAST_WORDS: usize = 4;
/// How long a name may take to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The rate and the period of this host's JACK server; `None` while there is none.
pub type JackFormat = Option<(u32, u32)>;

/// What a link works with.
#[derive(Clone)]
pub struct LinkParts {
    pub bus: Bus,
    pub fabric: Fabric,
    pub graph: Arc<GraphSupervisor>,
    pub jack: watch::Receiver<JackFormat>,
    pub prober: Prober,
    pub program: std::path::PathBuf,
    pub server: String,
}

/// A link that runs until `stop` fires; `states` always has its last state.
pub async fn keep(
    link: LinkConfig,
    configured: bool,
    parts: LinkParts,
    states: watch::Sender<Link>,
    stop: CancellationToken,
) {
    let state = Link { node: parts.bus.node().to_owned(), spec: link_spec(&link), configured, ..Link::default() };
    let stopped = stop.clone();
    let mut supervisor = LinkSupervisor { link, parts, states, state, pings: VecDeque::new(), pause: PAUSE_MIN, stop };
    let late = async {
        stopped.cancelled().await;
        sleep(STOP_TIMEOUT * 2).await;
    };
    tokio::select! {
        () = supervisor.run() => {}
        // A JackTrip that still runs is killed with its future.
        () = late => {}
    }
}

struct LinkSupervisor {
    link: LinkConfig,
    parts: LinkParts,
    states: watch::Sender<Link>,
    state: Link,
    pings: VecDeque<Option<Duration>>,
    pause: Duration,
    stop: CancellationToken,
}

/// The other side.
struct FarEnd {
    /// What JackTrip is given.
    address: String,
    /// Where the way to it is measured.
    probe: Option<SocketAddr>,
}

impl LinkSupervisor {
    async fn run(&mut self) {
        while !self.stop.is_cancelled() {
            let changes = self.parts.fabric.changes();
            let peer = match self.prepare().await {
                Ok(peer) => peer,
                Err((state, why)) => {
                    self.set(state, why).await;
                    self.until_something_changes(changes).await;
                    continue;
                }
            };
            let pause = match self.play(&peer).await {
                Ok(()) => self.pause,
                Err((state, why)) => {
                    self.set(state, why).await;
                    REFUSED_PAUSE
                }
            };
            if pause == REFUSED_PAUSE {
                self.until_something_changes(changes).await;
            } else {
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                self.state.restarts += 1;
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }

    /// Another host, another rate, or some time.
    async fn until_something_changes(&mut self, mut changes: watch::Receiver<u64>) {
        tokio::select! {
            _ = self.parts.jack.changed() => {}
            // Hosts renew their entries every 3 s, which is a change as well.
            _ = changes.changed() => sleep(PAUSE_MIN).await,
            () = sleep(REFUSED_PAUSE) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Looks whether there can be a link now.
    async fn prepare(&mut self) -> Result<FarEnd, (LinkState, String)> {
        let Some((rate_hz, _)) = *self.parts.jack.borrow_and_update() else {
            let why = self.parts.graph.report().down.clone().unwrap_or_else(|| "JACK is coming up".to_owned());
            return Err((LinkState::Refused, format!("no JACK here: {why}")));
        };
        let nodes = self.parts.fabric.nodes().await;
        let node = nodes.iter().find(|info| info.node == self.link.peer && !self.link.peer.is_empty());
        let Some(node) = node else { return self.outside().await };
        let offer = node.offers.iter().find_map(|offer| offer.audio.clone()).unwrap_or_default();
        if offer.rate_hz != 0 && offer.rate_hz != rate_hz {
            return Err((LinkState::Refused, other_rate(&self.link.peer, offer.rate_hz, rate_hz)));
        }
        let addresses: Vec<IpAddr> = node.addresses.iter().filter_map(|address| address.parse().ok()).collect();
        Ok(self.reach(&addresses, &offer).await)
    }

    /// A host of Sidetone: by the first of its addresses that answers.
    async fn reach(&self, addresses: &[IpAddr], offer: &AudioOffer) -> FarEnd {
        let found = match offer.probe_port {
            0 => None,
            port => self.parts.prober.first(addresses, port, PROBE_TIMEOUT).await,
        };
        let address = found.map(|(address, _)| address).or_else(|| addresses.first().copied());
        let probe =
            address.filter(|_| offer.probe_port != 0).map(|address| SocketAddr::from((address, offer.probe_port)));
        FarEnd { address: address.map_or_else(|| self.link.peer.clone(), |address| address.to_string()), probe }
    }

    /// An address outside of Sidetone, or a host that is not up yet.
    async fn outside(&self) -> Result<FarEnd, (LinkState, String)> {
        let peer = &self.link.peer;
        if !self.link.mode.calls() || peer.parse::<IpAddr>().is_ok() {
            return Ok(FarEnd { address: peer.clone(), probe: None });
        }
        let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((peer.as_str(), self.link.port))).await;
        let address = found.ok().and_then(Result::ok).and_then(|mut found| found.next());
        let unknown = || {
            let why = format!(
                "no host of this bus is called '{peer}', and no network knows that name; `sidetone nodes` lists the hosts"
            );
            (LinkState::Waiting, why)
        };
        address.map(|address| FarEnd { address: address.ip().to_string(), probe: None }).ok_or_else(unknown)
    }

    /// Runs JackTrip until it ends or is to be started again.
    async fn play(&mut self, peer: &FarEnd) -> Result<(), (LinkState, String)> {
        self.until_free().await?;
        let (lines_in, mut lines) = mpsc::channel(LINES);
        let invocation = invocation(&self.link, &peer.address, self.parts.bus.node());
        let spec = ChildSpec {
            name: format!("jacktrip {}", self.link.name),
            program: self.parts.program.clone(),
            args: invocation.args().into_iter().map(Into::into).collect(),
            env: vec![
                ("JACK_DEFAULT_SERVER".into(), self.parts.server.clone().into()),
                ("JACK_NO_START_SERVER".into(), "1".into()),
                ("QT_QPA_PLATFORM".into(), "offscreen".into()),
            ],
            // Its lines say so.
            ready: ReadyProbe::new(|| async { true }),
            ready_timeout: STOP_TIMEOUT,
            install_hint: INSTALL_HINT.to_owned(),
        };
        self.set(LinkState::Starting, String::new()).await;
        let mut child = ReadChild::start(&spec, &lines_in).await.map_err(|error| match error {
            ProcessError::NotInstalled { .. } => (LinkState::Refused, error.to_string()),
            _ => (LinkState::Failed, error.to_string()),
        })?;
        drop(lines_in);
        let begun = Instant::now();
        let mut run = Run::new(invocation.end, Duration::ZERO);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut up_since): (VecDeque<String>, Option<Instant>) = (VecDeque::new(), None);
        let (pings_in, mut pings) = mpsc::channel(1);
        let _pinging = peer.probe.map(|to| ping(self.parts.prober.clone(), to, pings_in));
        let act = loop {
            let act = tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => {
                        if !Reader::is_noise(&line) {
                            tracing::debug!(target: "child", name = spec.name, "{line}");
                            last.push_back(line.clone());
                            keep_last(&mut last, LAST_WORDS);
                        }
                        run.read(&line, begun.elapsed())
                    }
                    None => {
                        // One that is silent and goes on is ended below.
                        let _ = timeout(STOP_TIMEOUT, child.wait()).await;
                        break Act::Restart;
                    }
                },
                _ = ticks.tick() => run.tick(begun.elapsed()),
                Some(taken) = pings.recv() => {
                    self.pings.push_back(taken);
                    keep_last(&mut self.pings, PROBES);
                    self.measure(&run);
                    Act::Stay
                }
                _ = self.parts.jack.changed() => Act::Restart,
                () = self.stop.cancelled() => Act::Restart,
            };
            self.measure(&run);
            let (state, why) = self.standing(&run);
            if state == LinkState::Up {
                up_since.get_or_insert_with(Instant::now);
            }
            if act == Act::Stay || state != LinkState::Up {
                self.set(state, why).await;
            }
            if act != Act::Stay {
                break act;
            }
        };
        child.stop(STOP_TIMEOUT).await;
        if up_since.is_some_and(|since| since.elapsed() > STABLE) {
            self.pause = PAUSE_MIN;
        }
        let (state, why) = self.standing(&run);
        match (act, state) {
            (Act::GiveUp, _) => Err((state, why)),
            (_, LinkState::Failed) => {
                self.set(state, why).await;
                Ok(())
            }
            (_, LinkState::Starting) => {
                let said = last.into_iter().collect::<Vec<_>>().join(" | ");
                self.set(LinkState::Failed, format!("JackTrip ended at once; its last words: {said}")).await;
                Ok(())
            }
            // There was nothing to lose yet.
            (_, LinkState::Waiting) => {
                self.set(state, why).await;
                Ok(())
            }
            _ => {
                self.set(LinkState::Lost, self.lost()).await;
                Ok(())
            }
        }
    }

    /// JACK would give another name to a second client of one.
    async fn until_free(&self) -> Result<(), (LinkState, String)> {
        if self.link.mode == LinkMode::HubServer {
            return Ok(());
        }
        let until = Instant::now() + NAME_TIMEOUT;
        while has_client(&self.parts.graph.report().state, &self.link.name) {
            if Instant::now() > until {
                let name = &self.link.name;
                let why = format!("JACK has a client '{name}' already; end it, or give this link another name");
                return Err((LinkState::Refused, why));
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    fn standing(&self, run: &Run) -> (LinkState, String) {
        match run.standing() {
            Standing::Starting => (LinkState::Starting, String::new()),
            Standing::Waiting => (LinkState::Waiting, self.waits()),
            Standing::Up => (LinkState::Up, String::new()),
            Standing::Lost => (LinkState::Lost, self.lost()),
            Standing::OtherRate(rate_hz) => {
                let own = self.parts.jack.borrow().map_or(0, |(own, _)| own);
                let peer = if self.link.peer.is_empty() { "the other side" } else { &self.link.peer };
                (LinkState::Refused, other_rate(peer, *rate_hz, own))
            }
            Standing::Failed(why) => (LinkState::Failed, why.clone()),
        }
    }

    fn waits(&self) -> String {
        match (self.link.mode.calls(), self.link.peer.as_str()) {
            (true, peer) => format!("'{peer}' does not answer on port {} yet", self.link.port),
            (false, "") => format!("no host has called on port {} yet", self.link.port),
            (false, peer) => format!("'{peer}' has not called on port {} yet", self.link.port),
        }
    }

    fn lost(&self) -> String {
        match self.link.peer.as_str() {
            "" => "nothing comes from the other side any more".to_owned(),
            peer => format!("nothing comes from '{peer}' any more"),
        }
    }

    fn measure(&mut self, run: &Run) {
        let heard: Vec<Duration> = self.pings.iter().flatten().copied().collect();
        let mean = |sum: Duration| sum / u32::try_from(heard.len()).unwrap_or(1).max(1);
        let trip = (!heard.is_empty()).then(|| micros(mean(heard.iter().sum())));
        let loss = run.loss();
        let buffered = self.parts.jack.borrow().map(|(rate_hz, period)| {
            // On each side: a period on its way in, the queue, and a period on its way out.
            let frames = u64::from(period) * (u64::from(self.link.queue) + 2) * 2;
            frames * 1_000_000 / u64::from(rate_hz.max(1))
        });
        let is_other = (trip, loss, buffered) != (self.state.round_trip_us, self.state.loss, self.state.buffered_us);
        (self.state.round_trip_us, self.state.loss, self.state.buffered_us) = (trip, loss, buffered);
        if is_other {
            self.states.send_replace(self.state.clone());
        }
    }

    /// Says where the link stands, if that is news.
    async fn set(&mut self, state: LinkState, why: String) {
        if (self.state.state, &self.state.why) == (state, &why) && !self.state.since.is_empty() {
            return;
        }
        let is_bad = matches!(state, LinkState::Lost | LinkState::Refused | LinkState::Failed);
        if is_bad {
            tracing::warn!(link = self.link.name, state = state.name(), why, "audio link");
        } else {
            tracing::info!(link = self.link.name, state = state.name(), why, "audio link");
        }
        if state != LinkState::Up {
            self.state.loss = None;
        }
        (self.state.state, self.state.why) = (state, why);
        self.state.since = format!("{:.3}", jiff::Timestamp::now());
        self.states.send_replace(self.state.clone());
        let at = subject::event(self.parts.bus.node(), "link");
        if let Err(error) = self.parts.bus.publish(at, &self.state).await {
            tracing::debug!(%error, "the state of a link was not published");
        }
    }
}

/// Asks a host again and again how long the way to it is, until the answers are no longer wanted.
fn ping(
    prober: Prober,
    to: SocketAddr,
    pings: mpsc::Sender<Option<Duration>>,
) -> tokio_util::task::AbortOnDropHandle<()> {
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let taken = prober.round_trip(to, PROBE_TIMEOUT).await;
            if pings.send(taken).await.is_err() {
                return;
            }
            sleep(PROBE_EVERY).await;
        }
    }))
}

/// The message about two servers with different rates.
#[must_use]
pub fn other_rate(peer: &str, rate_hz: u32, own_hz: u32) -> String {
    format!(
        "{peer} runs JACK at {rate_hz} Hz and this host at {own_hz} Hz: JackTrip needs one rate; restart one of the servers \
         with the other's"
    )
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn keep_last<T>(queue: &mut VecDeque<T>, len: usize) {
    queue.drain(..queue.len().saturating_sub(len));
}
