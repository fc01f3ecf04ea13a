//! The graph of a JACK server as this host sees and keeps it.

use std::collections::BTreeSet;

use sidetone::audio::jack::{ConnectError, PortKind};
use sidetone::audio::{GraphClient, Guest, JackClient, JackError, JackSettings, PortFlow};

use crate::support::jack::{JackServer, Peer, available, wait_for};

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
    let before = graph.watch().graph_changes();
    let peer = Peer::open(&server, "peer");
    wait_for("the peer's ports to be told", || (graph.watch().graph_changes() >= before + 2).then_some(()));
    let both: BTreeSet<String> = ["peer:ear".to_owned(), "peer:mouth".to_owned()].into();
    assert_eq!(graph.take_fresh(), Some(both));
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
fn after_a_server_died_guests_are_closed_before_anything_is_opened() {
    if !available() {
        return;
    }
    let mut server = JackServer::start(48_000, 128);
    let graph = GraphClient::open("watcher", Some(server.name())).unwrap();
    let opened = || Ok::<_, std::convert::Infallible>("a client of midir's");
    let (guest, client) = Guest::open(Some(server.name()), opened).unwrap().unwrap();
    assert_eq!(client, "a client of midir's");
    assert!(!guest.is_stale());
    let error = Guest::open(Some("another"), opened).unwrap_err();
    assert!(matches!(&error, JackError::OtherServer { current, .. } if current == server.name()), "{error}");
    // One that fails leaves no trace.
    let failed = Guest::open(Some(server.name()), || Err::<(), _>("no")).unwrap();
    assert_eq!(failed.unwrap_err(), "no");

    server.kill();
    wait_for("the death to be told", || graph.watch().is_down().then_some(()));
    assert!(guest.is_stale());
    assert_eq!(graph.state().ports, []);
    assert_eq!(graph.connect("a:b", "c:d").unwrap_err(), ConnectError::Down);
    server.restart(44_100, 256);
    let settings = JackSettings { server: Some(server.name().to_owned()), ..JackSettings::for_listener("graph") };
    assert_eq!(JackClient::open(&settings).unwrap_err(), JackError::Closing);
    drop(graph);
    assert_eq!(JackClient::open(&settings).unwrap_err(), JackError::Closing);
    drop(guest);
    let (_client, _capture, _playback) = JackClient::open(&settings).unwrap();
    let (guest, _) = Guest::open(Some(server.name()), opened).unwrap().unwrap();
    assert!(!guest.is_stale());
}
