//! The graph of a JACK server as this host sees and keeps it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sidetone::audio::jack::{ConnectError, PortKind};
use sidetone::audio::{GraphClient, JackClient, JackError, JackSettings, PortFlow};
use sidetone::bus::Call;
use sidetone::bus::message::audio::{AskGraph, Graph};
use sidetone::bus::subject::Target;

use crate::support::host::{Follow, Host, HostSpec, Seen};
use crate::support::jack::{JackServer, Peer, available, open_on, wait_for};
use crate::support::nats::{eventually, within};

fn pair(source: &str, sink: &str) -> (String, String) {
    (source.to_owned(), sink.to_owned())
}

#[test]
fn ports_and_connections_are_seen_and_changed_by_name() {
    if !available() {
        return;
    }
    let server = JackServer::start(48_000, 128);
    let graph = GraphClient::open("watcher", Some(server.name())).unwrap();
    assert_eq!((graph.watch().rate_hz(), graph.watch().buffer_frames()), (48_000, 128));
    let _ = graph.take_fresh();
    let peer = Peer::open(&server, "peer");
    let both: BTreeSet<String> = ["peer:ear".to_owned(), "peer:mouth".to_owned()].into();
    // They are told one by one, among other changes of the graph.
    let mut fresh = BTreeSet::new();
    wait_for("the peer's ports to be told", || {
        fresh.extend(graph.take_fresh().unwrap());
        (fresh == both).then_some(())
    });
    assert_eq!(graph.take_fresh(), Some(BTreeSet::new()));

    let state = graph.state();
    let port = |name: &str| state.ports.iter().find(|port| port.name == name).unwrap();
    let (ear, out) = (port("peer:ear"), port("system:playback_1"));
    assert_eq!((ear.client(), ear.kind, ear.flow), ("peer", PortKind::Audio, PortFlow::Sink));
    assert!(!ear.is_physical && out.is_physical && out.is_terminal);
    assert!(out.playback.max_frames > 0, "{out:?}");
    assert!(!state.ports.iter().any(|port| port.client() == "watcher"));
    assert_eq!(state.connections, BTreeSet::new());

    let made = pair("peer:mouth", "system:playback_1");
    graph.connect(&made.0, &made.1).unwrap();
    graph.connect(&made.0, &made.1).unwrap();
    // The connection is another client's on both sides.
    wait_for("the connection to be seen", || graph.state().connections.contains(&made).then_some(()));
    assert_eq!(peer.connections("peer:mouth"), ["system:playback_1"]);
    graph.disconnect(&made.0, &made.1).unwrap();
    wait_for("the connection to go", || graph.state().connections.is_empty().then_some(()));

    for (source, sink, expected) in [
        ("nobody:out", "peer:ear", ConnectError::NoPort("nobody:out".to_owned())),
        ("peer:mouth", "nobody:in", ConnectError::NoPort("nobody:in".to_owned())),
        ("peer:mouth\0", "peer:ear", ConnectError::NoPort("peer:mouth\\0".to_owned())),
        ("peer:ear", "system:playback_1", ConnectError::NotASource("peer:ear".to_owned())),
        ("peer:mouth", "system:capture_1", ConnectError::NotASink("system:capture_1".to_owned())),
    ] {
        assert_eq!(graph.connect(source, sink).unwrap_err(), expected);
    }
    let error = graph.disconnect("peer:mouth", "peer:ear").unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}

#[test]
fn after_a_server_died_all_clients_are_closed_before_any_is_opened() {
    if !available() {
        return;
    }
    let mut server = JackServer::start(48_000, 128);
    let open = |name: &str| GraphClient::open(name, Some(server.name())).unwrap();
    let (graph, other) = (open("watcher"), open("other"));
    let error = GraphClient::open("third", Some("another")).unwrap_err();
    assert!(matches!(&error, JackError::OtherServer { current, .. } if current == server.name()), "{error}");

    server.kill();
    wait_for("the death to be told", || (graph.watch().is_down() && other.watch().is_down()).then_some(()));
    assert_eq!(graph.state().ports, []);
    assert_eq!(graph.connect("a:b", "c:d").unwrap_err(), ConnectError::Down);
    server.restart(44_100, 256);
    let settings = JackSettings { server: Some(server.name().to_owned()), ..JackSettings::for_listener("graph") };
    assert_eq!(JackClient::open(&settings).unwrap_err(), JackError::Closing);
    drop(graph);
    assert_eq!(JackClient::open(&settings).unwrap_err(), JackError::Closing);
    drop(other);
    let (_client, _capture, _playback) = JackClient::open(&settings).unwrap();
    let graph = GraphClient::open("watcher", Some(server.name())).unwrap();
    assert!(!graph.watch().is_down());
}

/// The host's own name for what it is asked by the bus.
const HOST: &str = "studio";

/// A host that keeps the graph of `jack` as `rules` say.
async fn keeping(jack: &JackServer, rules: &str) -> Host {
    let text = format!("[jack]\nserver = {:?}\n{rules}", jack.name());
    HostSpec::new(HOST, "audio").config(&text).start().await
}

fn connected(peer: &Peer, source: &str, sinks: &[&str]) {
    wait_for(&format!("{source} to be connected to {sinks:?}"), || {
        let mut found = peer.connections(source);
        found.sort();
        (found == sinks).then_some(())
    });
}

async fn fault(follow: &mut Follow, says: &str) -> String {
    follow
        .until(says, |seen| match seen {
            Seen::Fault(fault) if fault.message.contains(says) => Some(fault.message.clone()),
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_is_kept_as_the_settings_say_and_people_are_left_alone() {
    if !available() {
        return;
    }
    let mut jack = JackServer::start(48_000, 128);
    let rules = r#"
        [[audio.connect]]
        from = "one:mouth"
        to = "system:playback_*"
        [[audio.connect]]
        from = "/t[vw]o:mouth/"
        to = "one:ear"
        type = "audio"
        pinned = true
        [[audio.disconnect]]
        from = "two"
        to = "system"
    "#;
    let mut host = keeping(&jack, rules).await;
    let mut follow = Follow::new(host.bus()).await;
    let one = Peer::open(&jack, "one");
    // A mono client is heard on both sides.
    connected(&one, "one:mouth", &["system:playback_1", "system:playback_2"]);
    let two = Peer::open(&jack, "two");
    // As a program does that connects itself.
    two.connect("two:mouth", "system:playback_1");
    connected(&two, "two:mouth", &["one:ear"]);

    // What somebody parts stays so; what is pinned is put right, and that is told.
    one.disconnect("one:mouth", "system:playback_1");
    two.disconnect("two:mouth", "one:ear");
    let told = fault(&mut follow, "pinned").await;
    assert!(told.contains("'two:mouth' and 'one:ear'"), "{told}");
    connected(&two, "two:mouth", &["one:ear"]);
    connected(&one, "one:mouth", &["system:playback_2"]);
    // By hand, long after its ports came, is what somebody wants.
    tokio::time::sleep(sidetone::audio::graph::Policy::SETTLE).await;
    two.connect("two:mouth", "system:playback_2");
    // A port that comes anew is connected anew, and nothing else is touched meanwhile.
    drop(one);
    let one = Peer::open(&jack, "one");
    connected(&one, "one:mouth", &["system:playback_1", "system:playback_2"]);
    connected(&two, "two:mouth", &["one:ear", "system:playback_2"]);

    // The server dies and comes back at another rate: so does the graph.
    drop((one, two));
    jack.kill();
    let bus = host.bus().clone();
    let down = eventually(|| async { graph(&bus).await.down }).await;
    assert!(down.contains("start it again") || down.contains(jack.name()), "{down}");
    jack.restart(44_100, 256);
    let one = Peer::open(&jack, "one");
    connected(&one, "one:mouth", &["system:playback_1", "system:playback_2"]);
    let shown = eventually(|| async {
        let graph = graph(&bus).await;
        (graph.down.is_none() && graph.connections.len() == 2).then_some(graph)
    })
    .await;
    assert_eq!((shown.node.as_str(), shown.rate_hz, shown.period_frames), (HOST, 44_100, 256));
    let port = shown.ports.iter().find(|port| port.name == "one:mouth").unwrap();
    assert!(port.gives && port.kind == "audio" && !port.physical);
    let nodes = sidetone::bus::roster::nodes(&bus).await.unwrap();
    let offer = nodes.iter().flat_map(|info| &info.offers).find_map(|offer| offer.audio.clone()).unwrap();
    assert!(offer.probe_port != 0, "{offer:?}");
    drop(one);
    assert!(host.end(libc::SIGTERM).success(), "{}", host.log());
}

async fn graph(bus: &sidetone::bus::Bus) -> Graph {
    let call = Call::within(Duration::from_secs(10));
    within(bus.ask(Target::Node(HOST), &AskGraph {}, &call)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_is_shown_saved_and_restored_here_and_by_the_bus() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 128);
    let host = keeping(&jack, "").await;
    let one = Peer::open(&jack, "one");
    let two = Peer::open(&jack, "two");
    one.connect("one:mouth", "two:ear");
    two.connect("two:mouth", "one:ear");
    two.connect("two:mouth", "system:playback_1");
    let server = format!("jack.server={}", jack.name());
    let run = |arguments: &[&str]| {
        let mut command = host.cli(arguments);
        let done = command.arg("--set").arg(&server).output().unwrap();
        let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
        (done.status.code().unwrap(), out, err)
    };
    let file = host.spec.home().join("patch.toml");
    let file = file.to_str().unwrap();
    for far in [&[][..], &["--host", HOST]] {
        let run = |arguments: &[&str]| run(&[arguments, far].concat());
        wait_for("the connections to be seen", || {
            let (_, out, _) = run(&["patch", "show", "--json"]);
            let shown: serde_json::Value = serde_json::from_str(&out).ok()?;
            (shown["connections"].as_array()?.len() == 3).then_some(())
        });
        let (code, out, err) = run(&["patch", "show"]);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("48000 Hz") && out.contains("→ system:playback_1"), "{out}");
        let playback = out.lines().find(|line| line.trim_start().starts_with("system:playback_1")).unwrap();
        assert!(playback.contains("ms)") && playback.contains("← two:mouth"), "{playback}");
        let (code, out, err) = run(&["patch", "save", file]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.starts_with("3 connections are in "), "{out}");

        // Other connections, then back as it was.
        two.disconnect("two:mouth", "one:ear");
        one.connect("one:mouth", "one:ear");
        let (code, out, err) = run(&["patch", "apply", file, "--exact"]);
        assert_eq!(code, 0, "{out}{err}");
        assert!(
            out.contains("connected     two:mouth → one:ear") && out.contains("parted        one:mouth → one:ear"),
            "{out}"
        );
        connected(&one, "one:mouth", &["two:ear"]);
        connected(&two, "two:mouth", &["one:ear", "system:playback_1"]);

        // What is gone is named.
        let more = std::fs::read_to_string(file).unwrap()
            + "\n[[audio.connect]]\nfrom = \"gone:out\"\nto = \"one:ear\"\n[[audio.connect]]\nfrom = \"one:other\"\nto = \"two\"\n";
        std::fs::write(file, more).unwrap();
        let (code, out, err) = run(&["patch", "apply", file]);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("3 were there already"), "{out}");
        assert!(out.contains("gone:out → one:ear: client 'gone' is not running"), "{out}");
        assert!(out.contains("client 'one' has no port 'one:other' now"), "{out}");
        assert!(err.contains("2 connections could not be restored"), "{err}");
    }
    for (arguments, code, says) in [
        (&["patch", "show", "--host", "nowhere"][..], 3, "needs role audio"),
        (&["patch", "apply", "/nowhere.toml"], 2, "/nowhere.toml"),
        (&["patch", "show", "--set", "jack.server=no-such-server"], 1, "no-such-server"),
    ] {
        let done = host.cli(arguments).output().unwrap();
        let err = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(code) && err.contains(says), "{arguments:?}: {:?} {err}", done.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_without_sense_are_told_at_start() {
    for (rules, says) in [
        ("[[audio.connect]]\nfrom = \"/(/\"\nto = \"a\"", "audio.connect, the 1st: the port pattern '/(/'"),
        ("[[audio.connect]]\nfrom = \"a\"\nto = \"b\"\nchannels = \"stereo\"", "channels 'stereo'"),
        ("[[audio.disconnect]]\nfrom = \"a\"\nto = \"\"", "audio.disconnect, the 1st"),
        ("[[audio.link]]\nname = \"a\"\nmode = \"p2p-client\"", "audio.link.a.peer"),
    ] {
        let (code, why) = HostSpec::new(HOST, "audio").config(rules).refused();
        assert!(code == 2 || code == 1, "{code}: {why}");
        assert!(why.contains(says), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_ports_are_patched_when_they_appear() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let rule = "[[audio.connect]]\nfrom = \"many-out\"\nto = \"many-in\"\n";
    let host = keeping(&jack, rule).await;
    let bus = host.bus().clone();
    eventually(|| async { graph(&bus).await.down.is_none().then_some(()) }).await;
    let sinks = Many::open(&jack, "many-in", false);
    let sources = Many::open(&jack, "many-out", true);
    let appeared = Instant::now();
    let right: Vec<_> = (1..=100).map(|n| pair(&format!("many-out:port_{n}"), &format!("many-in:port_{n}"))).collect();
    wait_for("each port to be connected with its own", || (sources.connections() == right).then_some(()));
    eprintln!("200 ports were patched {:?} after the last had appeared", appeared.elapsed());
    drop((sources, sinks));
}

/// A client with a hundred ports.
struct Many(jack::AsyncClient<(), ()>, Vec<String>);

impl Many {
    fn open(server: &JackServer, name: &str, gives: bool) -> Self {
        let client = open_on(server.name(), name);
        let register = |n: usize| {
            let name = format!("port_{n}");
            if gives {
                client.register_port(&name, jack::AudioOut::default()).unwrap().name().unwrap()
            } else {
                client.register_port(&name, jack::AudioIn::default()).unwrap().name().unwrap()
            }
        };
        let names = (1..=100).map(register).collect();
        Self(client.activate_async((), ()).unwrap(), names)
    }

    fn connections(&self) -> Vec<(String, String)> {
        let client = self.0.as_client();
        let mut found = Vec::new();
        for name in &self.1 {
            found.extend(client.port_by_name(name).unwrap().get_connections().into_iter().map(|to| (name.clone(), to)));
        }
        found
    }
}
