use std::net::UdpSocket;

use super::super::net::{self, Way};
use super::*;
use crate::osc::{Limits, decode};

/// Feedback, and a surface that may see it.
fn setting() -> (Surfaces, UdpSocket, Peer) {
    let surface = UdpSocket::bind("127.0.0.1:0").unwrap();
    surface.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let sender = Arc::new(net::sending_socket("127.0.0.1:0".parse().unwrap()).unwrap());
    let peer = Peer::new(surface.local_addr().unwrap(), Way::Udp(sender));
    (Surfaces::new(30, Arc::default()), surface, peer)
}

/// What has come, up to a pause.
fn seen(surface: &UdpSocket) -> Vec<String> {
    let mut seen = Vec::new();
    let mut buffer = [0; 1_024];
    while let Ok(size) = surface.recv(&mut buffer) {
        seen.extend(decode(&buffer[..size], &Limits::default()).unwrap().into_iter().map(|timed| timed.message.addr));
    }
    seen
}

#[test]
fn a_surface_is_sent_all_then_changes_then_all_when_it_is_back() {
    let (surfaces, surface, peer) = setting();
    let int = |number| vec![OscType::Int(number)];
    surfaces.show("/assistant/muted", int(0));
    surfaces.show("/assistant/main/muted", int(0));
    surfaces.subscribe(Viewer::Peer(peer.clone()), Scope::All).unwrap();
    assert_eq!(seen(&surface), ["/assistant/main/muted", "/assistant/muted"]);
    surfaces.show("/assistant/muted", int(0));
    assert_eq!(seen(&surface), [""; 0], "nothing has changed");
    surfaces.show("/assistant/muted", int(1));
    surfaces.happen("/assistant/main/muted", int(0));
    assert_eq!(seen(&surface), ["/assistant/muted", "/assistant/main/muted"]);
    // It is known what was sent, for loops.
    let sent = surfaces.take_sent();
    assert!(sent.iter().any(|sent| sent.to == peer.at && sent.address == "/assistant/muted"), "{sent:?}");
    assert!(surfaces.take_sent().is_empty());
    let now = Instant::now();
    surfaces.heard(&peer, now + SILENCE / 2);
    assert_eq!(seen(&surface), [""; 0]);
    surfaces.heard(&peer, now + 2 * SILENCE);
    assert_eq!(seen(&surface), ["/assistant/main/muted", "/assistant/muted"]);
    surfaces.unsubscribe(&peer, None);
    surfaces.show("/assistant/muted", int(0));
    assert_eq!(seen(&surface), [""; 0]);
    assert!(!surfaces.wants("/assistant/muted"));
}

#[test]
fn who_listens_to_single_addresses_is_sent_those() {
    let (surfaces, surface, peer) = setting();
    surfaces.show("/a", vec![OscType::Int(1)]);
    surfaces.listen(&peer, "/a", true).unwrap();
    surfaces.listen(&peer, "/b", true).unwrap();
    let long = format!("/{}", "a".repeat(255));
    assert!(surfaces.listen(&peer, &long, true).unwrap_err().contains("256 bytes"));
    surfaces.show("/b", vec![OscType::Int(1)]);
    surfaces.show("/c", vec![OscType::Int(1)]);
    assert_eq!(seen(&surface), ["/a", "/b"]);
    surfaces.listen(&peer, "/b", false).unwrap();
    surfaces.show("/b", vec![OscType::Int(2)]);
    assert_eq!(seen(&surface), [""; 0]);
}

#[test]
fn one_may_see_several_listeners_and_leave_one_of_them() {
    let (surfaces, surface, peer) = setting();
    let of = |name: &str| Scope::below(format!("/assistant/{name}/"));
    surfaces.subscribe(Viewer::Peer(peer.clone()), of("main")).unwrap();
    surfaces.subscribe(Viewer::Peer(peer.clone()), of("booth")).unwrap();
    let show = |number| {
        for name in ["main", "booth", "attic"] {
            surfaces.happen(&format!("/assistant/{name}/{number}"), vec![OscType::Int(1)]);
        }
    };
    show(1);
    assert_eq!(seen(&surface), ["/assistant/main/1", "/assistant/booth/1"]);
    surfaces.unsubscribe(&peer, Some("/assistant/main/"));
    show(2);
    assert_eq!(seen(&surface), ["/assistant/booth/2"]);
    surfaces.unsubscribe(&peer, Some("/assistant/booth/"));
    assert!(surfaces.lock().subscribers.is_empty());
    // Of names there is no end.
    for number in 0..=PREFIXES {
        let subscribed = surfaces.subscribe(Viewer::Peer(peer.clone()), of(&number.to_string()));
        assert_eq!(subscribed.is_err(), number == PREFIXES, "{subscribed:?}");
    }
    surfaces.subscribe(Viewer::Peer(peer.clone()), Scope::All).unwrap();
    surfaces.subscribe(Viewer::Peer(peer), of("main")).unwrap();
    assert!(surfaces.wants("/assistant/attic/1"), "all are more than one");
}

#[test]
fn what_was_sent_last_is_known_however_much_it_was() {
    let (surfaces, _, peer) = setting();
    surfaces.subscribe(Viewer::Peer(peer.clone()), Scope::All).unwrap();
    for number in 0..ADDRESSES / 2 {
        surfaces.happen(&format!("/{number}"), vec![]);
    }
    let before = Instant::now();
    for _ in 0..3 {
        surfaces.subscribe(Viewer::Peer(peer.clone()), Scope::All).unwrap();
    }
    let sent = surfaces.take_sent();
    assert!(sent.len() == ADDRESSES && sent.iter().all(|sent| sent.at >= before));
}

#[test]
fn more_addresses_than_are_kept_are_told() {
    let (surfaces, _, peer) = setting();
    for number in 0..=ADDRESSES {
        let listened = surfaces.listen(&peer, &format!("/{number}"), true);
        assert_eq!(listened.is_err(), number == ADDRESSES, "{listened:?}");
        surfaces.happen(&format!("/{number}"), vec![]);
    }
    assert!(surfaces.listen(&peer, "/7", true).is_ok(), "it is listened to already");
    let told = surfaces.tally.due(Instant::now());
    assert!(told.iter().any(|fault| fault.message.contains("1024 addresses have feedback")), "{told:?}");
}

#[tokio::test]
async fn what_is_due_before_what_is_waited_for_is_sent_in_its_time() {
    let (mut surfaces, surface, peer) = setting();
    // Long enough to tell one from the other.
    surfaces = Surfaces::new(2, Arc::clone(&surfaces.tally));
    let surfaces = Arc::new(surfaces);
    surfaces.subscribe(Viewer::Peer(peer), Scope::All).unwrap();
    let int = |number| vec![OscType::Int(number)];
    surfaces.show("/z", int(1));
    tokio::time::sleep(Duration::from_millis(200)).await;
    surfaces.show("/a", int(1));
    let own = Arc::clone(&surfaces);
    let pace = tokio::spawn(async move { own.keep_pace().await });
    // One waits for its time, and then the other for an earlier one.
    surfaces.show("/a", int(2));
    tokio::time::sleep(Duration::from_millis(50)).await;
    surfaces.show("/z", int(2));
    let seen = tokio::task::spawn_blocking(move || {
        surface.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 1_024];
        let mut addresses = Vec::new();
        for _ in 0..4 {
            let size = surface.recv(&mut buffer).unwrap();
            addresses.push(decode(&buffer[..size], &Limits::default()).unwrap()[0].message.addr.clone());
        }
        addresses
    });
    assert_eq!(seen.await.unwrap(), ["/z", "/a", "/z", "/a"]);
    pace.abort();
}

#[test]
fn who_is_silent_for_long_is_sent_no_more_unless_it_is_connected() {
    let (surfaces, _, peer) = setting();
    let (queue, packets) = net::queue();
    surfaces.subscribe(Viewer::Peer(peer.clone()), Scope::All).unwrap();
    surfaces.subscribe(Viewer::Peer(Peer::new("10.0.0.9:1".parse().unwrap(), Way::Stream(queue))), Scope::All).unwrap();
    let (now, there) = (Instant::now(), || surfaces.lock().subscribers.len());
    surfaces.lock().tidy(now + LAPSE / 2);
    surfaces.heard(&peer, now + LAPSE / 2);
    surfaces.lock().tidy(now + LAPSE + LAPSE / 4);
    assert_eq!(there(), 2, "it was heard");
    surfaces.lock().tidy(now + 2 * LAPSE);
    assert_eq!(there(), 1);
    // Its connection ends.
    drop(packets);
    assert!(!surfaces.wants("/a"));
    assert_eq!(there(), 0);
}

#[test]
fn what_is_gone_is_forgotten() {
    let (surfaces, surface, peer) = setting();
    for address in ["/assistant/stage/main/muted", "/assistant/studio/main/muted"] {
        surfaces.show(address, vec![OscType::Int(1)]);
        surfaces.show(address, vec![OscType::Int(0)]);
    }
    surfaces.forget(|address| address.starts_with("/assistant/stage/"));
    assert_eq!(surfaces.value("/assistant/stage/main/muted"), None);
    surfaces.subscribe(Viewer::Peer(peer), Scope::All).unwrap();
    assert_eq!(seen(&surface), ["/assistant/studio/main/muted"]);
    // Nothing holds back what comes anew.
    surfaces.show("/assistant/stage/main/muted", vec![OscType::Int(2)]);
    assert_eq!(seen(&surface), ["/assistant/stage/main/muted"]);
}

#[test]
fn the_one_that_was_silent_for_longest_makes_room() {
    let (surfaces, _, peer) = setting();
    for port in 1..=100 {
        surfaces.subscribe(Viewer::Peer(peer.at_port(port)), Scope::All).unwrap();
    }
    let ports: Vec<u16> =
        surfaces.lock().subscribers.iter().filter_map(|old| Some(old.viewer.address()?.port())).collect();
    assert_eq!(ports, (37..=100).collect::<Vec<u16>>());
}
