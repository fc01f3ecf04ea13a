//! Several hosts as one: real processes on a real server, and what befalls them.

mod chaos;
mod cluster;
mod death;
mod engines;
mod listen;
mod memory;
mod network;
mod pause;
mod reader;
mod refusals;
mod routing;
mod server;
mod shown;
mod speech;

use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt as _;
use sidetone::bus::message::Message as _;
use sidetone::bus::message::agent::{Run, RunEvent};
use sidetone::bus::message::llm::{Chat, ChatMessage, Role};
use sidetone::bus::message::node::{NodeInfo, Routed};
use sidetone::bus::message::session::{SessionEvent, What};
use sidetone::bus::{Bus, Call, session, subject};
use sidetone::config::Config;
use sidetone::fabric::Fabric;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use ulid::Ulid;

use crate::support::host::{FAKES, Host, HostSpec};
use crate::support::nats::{Nats, eventually, within};

/// Longer than any test takes: nothing here ends by it, unless a test says so.
const LONG: Duration = Duration::from_secs(120);

fn call() -> Call {
    Call::within(LONG)
}

/// A host with scripted engines, started.
async fn host(nats: &Nats, name: &str, roles: &str, settings: &[&str]) -> Host {
    HostSpec::new(name, roles).set(FAKES).set(settings).on(&nats.url()).start().await
}

/// The way to whoever can, seen from a host that offers nothing; it knows of `hosts`.
async fn fabric(bus: &Bus, config: &Config, hosts: &[&str]) -> Fabric {
    let fabric = Fabric::start(bus, "tests", config);
    knows(&fabric, hosts).await;
    fabric
}

/// Waits until `fabric` knows exactly these hosts, all of them with their roles up.
async fn knows(fabric: &Fabric, hosts: &[&str]) {
    eventually(|| async {
        let nodes = fabric.nodes().await;
        let names: Vec<_> =
            nodes.iter().filter(|info| !info.offers.is_empty()).map(|info| info.node.as_str()).collect();
        (names == hosts).then_some(())
    })
    .await;
}

/// A question that a fake model answers word by word by itself.
fn chat(text: &str) -> Chat {
    Chat { messages: vec![ChatMessage::new(Role::User, text)], model: None, stream: true, ..Chat::example() }
}

/// `count` words that differ, so that one that is lost or repeated shows.
fn words(count: usize) -> String {
    (0..count).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ")
}

/// A person's turn.
fn turn(text: &str) -> Run {
    let turn = Some(Ulid::generate().to_string());
    let session = Some(Ulid::generate().to_string());
    Run { text: text.to_owned(), session, turn, stream: true, heard: None, said: String::new() }
}

/// What hosts tell from now on.
struct Events {
    heard: mpsc::UnboundedReceiver<(String, NodeInfo)>,
    routed: mpsc::UnboundedReceiver<(String, Routed)>,
}

impl Events {
    async fn new(bus: &Bus) -> Self {
        let ((heard_out, heard), (routed_out, routed)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let mut routes = bus.subscribe::<Routed>(&subject::event_of_all("routed")).await.unwrap();
        let mut all = Vec::new();
        for kind in ["up", "down", "changed", "lost", "back"] {
            let events = bus.subscribe::<NodeInfo>(&subject::event_of_all(kind)).await.unwrap();
            all.push(events.map(move |(_, info)| (kind.to_owned(), info.unwrap())).boxed());
        }
        let mut all = futures::stream::select_all(all);
        tokio::spawn(async move {
            loop {
                let sent = tokio::select! {
                    Some(event) = all.next() => heard_out.send(event).is_ok(),
                    Some((subject, routed)) = routes.next() => routed_out.send((subject, routed.unwrap())).is_ok(),
                    else => return,
                };
                if !sent {
                    return;
                }
            }
        });
        Self { heard, routed }
    }

    /// Waits until `node` tells of itself, or is told of, as `kind`.
    #[track_caller]
    fn until(&mut self, kind: &str, node: &str) -> impl Future<Output = NodeInfo> {
        within(async move {
            loop {
                let (told, info) = self.heard.recv().await.unwrap();
                if told == kind && info.node == node {
                    return info;
                }
            }
        })
    }

    /// The next choice for `capability`, and who has made it.
    #[track_caller]
    fn routed(&mut self, capability: &str) -> impl Future<Output = (String, Routed)> {
        within(async move {
            loop {
                let (subject, routed) = self.routed.recv().await.unwrap();
                if routed.capability == capability {
                    let by = subject.split('.').nth(1).unwrap_or_default().to_owned();
                    return (by, routed);
                }
            }
        })
    }

    /// The choices for `capability` that have been told since.
    fn all_routed(&mut self, capability: &str) -> Vec<Routed> {
        let told = std::iter::from_fn(|| self.routed.try_recv().ok());
        told.map(|(_, routed)| routed).filter(|routed| routed.capability == capability).collect()
    }
}

/// `sidetone` beside the hosts, as a person runs it.
fn cli(nats: &Nats, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    for variable in ["SIDETONE_CONFIG", "SIDETONE_BUS", "SIDETONE_NAME", "SIDETONE_LOG"] {
        command.env_remove(variable);
    }
    command.args(arguments).args(["--bus", &nats.url(), "--home"]).arg(nats.folder());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// The events of a turn, once its reply is kept.
async fn kept(bus: &Bus, session: &str) -> Vec<SessionEvent> {
    eventually(|| async {
        let events = session::history(bus, session, 1_000).await.ok()?;
        events.iter().any(|event| matches!(event.what, What::Reply { .. })).then_some(events)
    })
    .await
}

/// Checks that a session holds one utterance and one reply, which says `text`.
fn assert_kept_once(events: &[SessionEvent], text: &str) {
    let replies: Vec<_> = events
        .iter()
        .filter_map(|event| if let What::Reply { text, .. } = &event.what { Some(text) } else { None })
        .collect();
    assert_eq!(replies, [text], "{events:#?}");
    let utterances = events.iter().filter(|event| matches!(event.what, What::Utterance { .. })).count();
    assert_eq!(utterances, 1, "{events:#?}");
}

/// Runs a turn to its end as a caller does that goes on elsewhere; gives its text as it came, in pieces.
async fn run(fabric: &Fabric, request: &Run, mut piece: impl FnMut(&str)) -> Result<String, sidetone::bus::BusError> {
    let mut request = request.clone();
    let need = sidetone::fabric::need(subject::Capability::Agent);
    let mut events = fabric.open(&need, request.clone(), &call()).await?;
    let mut text = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(RunEvent::Text { text: more }) => {
                piece(&more);
                text.push_str(&more);
            }
            Ok(_) => {}
            Err(error) => {
                request.said = text.clone();
                if !events.go_on(&error, request.clone()) {
                    return Err(error);
                }
            }
        }
    }
    Ok(text)
}
