//! The rig: what performers feel. OSC and MIDI against what the driver and bare NATS take by themselves, floods, the
//! clock, links and patches; on real JACK servers, with hosts as processes.

mod gear;
mod graph;
mod latency;
mod link;
mod load;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::Client;
use sidetone::bus::Bus;
use sidetone::osc::{OscMessage, OscType, encode};

use self::gear::{Driver, Heard, Synth};
use crate::jack::{JackServer, available};
use crate::running::RunningHost;
use crate::support::{BenchHome, Row, Scope, free_port, ms};

const SECTION: &str = "rig";
const RATE_HZ: u32 = 48_000;
/// Frames of a period.
const PERIOD: u32 = 128;
/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// The name of the host that has OSC alone.
const FAR: &str = "bench-far";
/// The listener.
const LISTENER: &str = "main";

/// Measures it all.
pub fn run(scope: Scope) -> anyhow::Result<Vec<Row>> {
    if !available() {
        return Ok(vec![Row::note(SECTION, "skipped: jackd is not installed", "")]);
    }
    let server = JackServer::start(RATE_HZ, PERIOD);
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    let mut rows = runtime.block_on(async {
        let mut stage = Stage::start(&server).await?;
        let mut rows = latency::rows(scope, &mut stage).await?;
        rows.extend(load::rows(scope, &mut stage).await?);
        stage.near.check()?;
        stage.far.check()?;
        anyhow::Ok(rows)
    })?;
    rows.extend(graph::rows(scope, &server)?);
    rows.extend(runtime.block_on(link::rows(scope, &server))?);
    Ok(rows)
}

/// A host with voice, OSC and MIDI, another with OSC alone, and the gear around them.
struct Stage {
    near: RunningHost,
    far: RunningHost,
    /// A surface that talks to the near host.
    surface: Surface,
    /// And one that talks to the far one.
    far_surface: Surface,
    /// Where target `back` of the near host is.
    back: UdpSocket,
    /// Plays into the synth by itself.
    driver: Driver,
    /// Plays into the host.
    keys: Driver,
    /// Hears the driver and the host.
    synth: Synth,
    /// Hears the keys as the host does.
    ear: Synth,
    bus: Bus,
    nats: Client,
    _homes: [BenchHome; 2],
}

impl Stage {
    async fn start(server: &JackServer) -> anyhow::Result<Self> {
        let homes = [BenchHome::new()?, BenchHome::new()?];
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no socket")?;
        let (port, far_port) = (free_port()?, free_port()?);
        let on = concat!(
            r#"{ address = "/play", args = ["n", "v"], "#,
            r#"do = { midi = { note = "{n}", velocity = "{v}", ms = 20 } } }, "#,
            r#"{ address = "/hold", args = ["n"], do = { midi = { note = "{n}", hold = true } } }"#,
        );
        let relay = concat!(
            r#"{ address = "/relay", args = ["n"], "#,
            r#"do = { osc = { target = "back", address = "/relay", args = ["{n}"] } } }"#,
        );
        let listener = r#"mode = "push_to_talk", capture_from = [], playback_to = []"#;
        let mut sets = osc(port);
        sets.extend([
            r#"node.roles=["voice","osc","midi"]"#.to_owned(),
            format!("jack.server={}", server.name()),
            format!("voice.listeners=[{{ name = '{LISTENER}', {listener} }}]"),
            format!(r#"osc.targets={{ back = "{}" }}"#, back.local_addr()?),
            format!("osc.on=[{on}, {relay}]"),
        ]);
        let near = RunningHost::start(&homes[0].home, &sets)?;
        let mut sets = osc(far_port);
        sets.extend([r#"node.roles=["osc"]"#.to_owned(), format!("osc.on=[{on}]")]);
        let far = near.beside(&homes[1].home, FAR, &sets)?;
        let bus = Bus::connect(&near.url, "bench-peer").await?;
        let nats = async_nats::connect(&near.url).await?;
        let (synth, ear) = (Synth::open(server, "synth"), Synth::open(server, "ear"));
        let (driver, keys) = (Driver::open(server, "driver", usize::MAX), Driver::open(server, "keys", load::A_PERIOD));
        for (source, sink) in [
            ("driver:out", "synth:in"),
            ("sidetone-midi:midi_out", "synth:in"),
            ("keys:out", "sidetone-midi:midi_in"),
            ("keys:out", "ear:in"),
        ] {
            synth.connect(source, sink)?;
        }
        let (surface, far_surface) = (Surface::new(port)?, Surface::new(far_port)?);
        Ok(Self { near, far, surface, far_surface, back, driver, keys, synth, ear, bus, nats, _homes: homes })
    }
}

/// The settings of OSC on loopback alone.
fn osc(port: u16) -> Vec<String> {
    vec![format!("osc.listen=127.0.0.1:{port}"), r#"osc.query="""#.to_owned(), "osc.announce=false".to_owned()]
}

/// What sends OSC.
struct Surface(UdpSocket);

impl Surface {
    fn new(port: u16) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no socket")?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        Ok(Self(socket))
    }

    /// Sends numbers to an address; gives when.
    fn send(&self, address: &str, numbers: &[i32]) -> anyhow::Result<Instant> {
        let args = numbers.iter().map(|number| OscType::Int(*number)).collect();
        let packet = encode(&OscMessage { addr: address.to_owned(), args })?;
        let begun = Instant::now();
        self.0.send(&packet)?;
        Ok(begun)
    }
}

/// What something took, over and over, in ms.
#[derive(Debug, Default)]
struct Times {
    took: Vec<f64>,
    /// How often it was not heard.
    unheard: u64,
}

impl Times {
    /// Takes down when something was heard that was begun at `begun`.
    fn heard(&mut self, begun: Instant, heard: Option<Heard>) {
        match heard {
            Some(heard) => self.took.push(ms(heard.at.saturating_duration_since(begun))),
            None => self.unheard += 1,
        }
    }

    /// Of `share` of the times it took no longer.
    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// The longest.
    fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// p99 below a limit in ms, and p50.
    fn below(&self, measure: &str, limit_ms: f64) -> Vec<Row> {
        vec![
            Row::below(SECTION, format!("{measure}: p99 of {}", self.took.len()), self.p99(), limit_ms, "ms"),
            Row::note(SECTION, "   p50", format!("{:.2} ms", self.p50())),
        ]
    }

    /// p99 at most `most_ms` over that of `bare`, and p50.
    fn over(&self, measure: &str, bare: &Self, what: &str, most_ms: f64, xruns: u64) -> Vec<Row> {
        let row = |measure: String, own: f64, bare: f64| Row {
            baseline: format!("{bare:.2} ms {what}"),
            compared: format!("{:+.2} ms", own - bare),
            ..Row::note(SECTION, measure, format!("{own:.2} ms"))
        };
        let (p99, bare_p99) = (self.p99(), bare.p99());
        let mut rows = vec![
            Row {
                target: format!("≤ +{most_ms} ms"),
                met: Some(p99 - bare_p99 <= most_ms),
                ..row(format!("{measure}: p99 of {}", self.took.len()), p99, bare_p99)
            },
            row("   p50".to_owned(), self.p50(), bare.p50()),
        ];
        if self.unheard + bare.unheard > 0 {
            let row = Row::note(SECTION, "   dropped by JACK with a period that it missed", self.unheard.to_string());
            rows.push(row.beside(format!("{} of the driver's own; {xruns} xruns", bare.unheard)));
        }
        rows
    }
}

/// Waits for any time up to a few periods, so that nothing keeps step with the server.
fn pause() {
    std::thread::sleep(Duration::from_micros(rand::random_range(2_000..8_000)));
}

/// Looks until there is something; it must come.
fn wait<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        ensure!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
