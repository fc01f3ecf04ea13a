//! A patch of many ports: how soon it is made after they have come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jack::{AsyncClient, AudioIn, AudioOut, Client, Control, PortId, PortSpec, ProcessScope};

use super::{SECTION, Times, wait};
use crate::jack::{JackServer, open_on};
use crate::running::RunningHost;
use crate::support::{BenchHome, Row, Scope, progress};

/// Ports of each client.
const PORTS: usize = 100;
/// From the last port to the last connection, in ms.
const MOST_MS: f64 = 100.0;

/// When JACK told of ports and of connections.
#[derive(Default)]
struct Told {
    ports: Vec<Instant>,
    connections: Vec<Instant>,
}

/// Takes that down, as the host is told it.
#[derive(Clone, Default)]
struct Observer(Arc<Mutex<Told>>);

impl Observer {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl jack::NotificationHandler for Observer {
    fn port_registration(&mut self, _: &Client, _: PortId, is_registered: bool) {
        if is_registered {
            self.told().ports.push(Instant::now());
        }
    }

    fn ports_connected(&mut self, _: &Client, _: PortId, _: PortId, are_connected: bool) {
        if are_connected {
            self.told().connections.push(Instant::now());
        }
    }
}

struct Still<S> {
    _ports: Vec<jack::Port<S>>,
}

impl<S: PortSpec + Send + 'static> jack::ProcessHandler for Still<S> {
    fn process(&mut self, _: &Client, _: &ProcessScope) -> Control {
        Control::Continue
    }
}

/// A client with all its ports, not active yet.
fn wide<S: PortSpec + Copy>(server: &JackServer, name: &str, spec: S) -> (Client, Still<S>) {
    let client = open_on(server.name(), name);
    let ports = (1..=PORTS).map(|n| client.register_port(&format!("p{n:03}"), spec).unwrap()).collect();
    (client, Still { _ports: ports })
}

pub fn rows(scope: Scope, server: &JackServer) -> anyhow::Result<Vec<Row>> {
    let home = BenchHome::new()?;
    let sets = [
        r#"node.roles=["audio"]"#.to_owned(),
        format!("jack.server={}", server.name()),
        r#"audio.connect=[{ from = "wide-out", to = "wide-in" }]"#.to_owned(),
    ];
    let mut host = RunningHost::start(&home.home, &sets)?;
    let rounds: u32 = scope.of(20, 3);
    let bar = progress("a patch of 200 ports", u64::from(rounds) + 1);
    let (mut first, mut all, mut bare) = (Times::default(), Times::default(), Times::default());
    for round in 0..=rounds {
        let patch = patch(server)?;
        // The first one may find the host looking for JACK.
        if round > 0 {
            first.took.push(patch.first_ms);
            all.took.push(patch.all_ms);
            bare.took.push(by_hand(server)?);
        }
        host.check()?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let measure = format!("a patch of {} ports after the last of them: longest of {rounds}", 2 * PORTS);
    let note = |measure: &str, times: &Times| Row::note(SECTION, measure, format!("{:.1} ms", times.p50()));
    Ok(vec![
        Row::below(SECTION, measure, all.max(), MOST_MS, "ms")
            .beside(format!("{:.1} ms of bare jack_connect", bare.max())),
        note("   p50", &all).beside(format!("{:.1} ms", bare.p50())),
        note("   until the first connection, p50", &first),
    ])
}

/// From when JACK has told of the last port.
struct Patch {
    first_ms: f64,
    all_ms: f64,
}

fn patch(server: &JackServer) -> anyhow::Result<Patch> {
    let observer = Observer::default();
    let (client, still) = wide(server, "wide-out", AudioOut::default());
    let outs: AsyncClient<_, _> = client.activate_async(observer.clone(), still)?;
    let (client, still) = wide(server, "wide-in", AudioIn::default());
    let ins = client.activate_async((), still)?;
    let (appeared, first, last) = wait("the patch", || {
        let told = observer.told();
        // Of its own ports the observer is told as well.
        Some((*told.ports.get(2 * PORTS - 1)?, *told.connections.first()?, *told.connections.get(PORTS - 1)?))
    })?;
    drop((ins, outs));
    let ms = |at: Instant| crate::support::ms(at.saturating_duration_since(appeared));
    Ok(Patch { first_ms: ms(first), all_ms: ms(last) })
}

/// As many connections, one call after the other and nothing else, in ms.
fn by_hand(server: &JackServer) -> anyhow::Result<f64> {
    let (client, still) = wide(server, "bare-out", AudioOut::default());
    let outs = client.activate_async((), still)?;
    let (client, still) = wide(server, "bare-in", AudioIn::default());
    let ins = client.activate_async((), still)?;
    let begun = Instant::now();
    for n in 1..=PORTS {
        ins.as_client().connect_ports_by_name(&format!("bare-out:p{n:03}"), &format!("bare-in:p{n:03}"))?;
    }
    let took = crate::support::ms(begun.elapsed());
    drop((ins, outs));
    Ok(took)
}
