//! What JackTrip 1.7 was seen to write.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const SILENCE: &str = "UDP waiting too long (more than 30ms) for 198.18.0.1...";

fn invocation(end: End) -> Invocation {
    Invocation {
        name: "stage".to_owned(),
        end,
        peer: "stage.lan".to_owned(),
        port: 4464,
        bind_port: 0,
        channels: 2,
        queue: 4,
        redundancy: 1,
        bits: 16,
        remote_name: "studio".to_owned(),
        hub_base_port: 61_002,
    }
}

#[test]
fn each_end_is_asked_for_in_its_own_way() {
    let common = "-n 2 -q 4 -r 1 -b 16 -D -J stage -I 1";
    for (end, own) in [
        (End::P2pServer, "-s -B 4464"),
        (End::P2pClient, "-c stage.lan -P 4464 -B 4464"),
        (End::HubServer, "-S -B 4464 -p 5 -U 61002"),
        (End::HubClient, "-C stage.lan -P 4464 -B 4464 -K studio"),
    ] {
        assert_eq!(invocation(end).args().join(" "), format!("{own} {common}"));
    }
    let other = Invocation { bind_port: 5000, ..invocation(End::P2pClient) };
    assert!(other.args().join(" ").contains("-B 5000"));
}

#[test]
fn lines_mean_what_they_say() {
    let mut reader = Reader::default();
    let report = "2026-11-24T18:06:48 198.18.0.2 send: 0/0 recv: 0/1 prot: 7/2/1 tot: 2260 sync: 4/0/0/1/0 skew: -1/-1";
    for (line, said) in [
        ("Waiting for Connection From a Client...", Some(Said::Waiting)),
        ("Waiting for Peer...", Some(Said::Waiting)),
        ("Received Connection from Peer!", Some(Said::Connected)),
        (SILENCE, Some(Said::Silence)),
        (report, Some(Said::Report { address: "198.18.0.2".to_owned(), lost: 7, total: 2_260 })),
        ("Peer Stopped", Some(Said::PeerStopped)),
        ("ERROR: Peer Sampling Rate is   : 44100", Some(Said::OtherRate(44_100))),
        ("       Local Sampling Rate is  : 48000", None),
        ("ERROR:", None),
        (
            "Could not bind UDP socket. It may already be binded by another process on your machine.",
            Some(Said::PortTaken),
        ),
        ("ERROR:", None),
        (
            "Maybe the JACK server is not running?",
            Some(Said::Error("Maybe the JACK server is not running?".to_owned())),
        ),
        ("Unable to connect to JACK server", Some(Said::NoJack)),
        ("Incorrect presentation format address", None),
        ("ERROR:", None),
        (
            "Incorrect presentation format address",
            Some(Said::Error("Incorrect presentation format address".to_owned())),
        ),
        ("Connection timed out. Retrying again using exponential backoff", Some(Said::NoHub)),
        ("JackTrip HUB SERVER: Waiting for client connections...", Some(Said::Waiting)),
        ("The Sampling Rate is: 48000", None),
        ("prot: x tot: y", None),
        ("", None),
    ] {
        assert_eq!(reader.read(line), said, "{line}");
    }
    assert!(Reader::is_noise(SILENCE) && Reader::is_noise("-----") && !Reader::is_noise("Peer Stopped"));
}

fn report(total: u64, lost: u64) -> String {
    format!("2026-11-24T18:06:43 198.18.0.2 send: 0/0 recv: 0/0 prot: {lost}/0/0 tot: {total} sync: 4/0")
}

#[test]
fn two_peers_lose_and_find_each_other() {
    let mut run = Run::new(End::P2pServer, Duration::ZERO);
    assert_eq!(*run.standing(), Standing::Starting);
    run.read("Waiting for Peer...", SECOND);
    assert_eq!(*run.standing(), Standing::Waiting);
    run.read("Received Connection from Peer!", SECOND);
    assert_eq!(*run.standing(), Standing::Up);
    run.read(&report(375, 0), 2 * SECOND);
    assert_eq!(run.loss(), Some(0.0));
    let mut now = 3 * SECOND;
    for _ in 0..3 {
        run.read(SILENCE, now);
        now += 30 * MS;
    }
    assert_eq!(*run.standing(), Standing::Up, "a hiccup is no loss");
    for _ in 0..10 {
        run.read(SILENCE, now);
        now += 30 * MS;
    }
    assert_eq!(*run.standing(), Standing::Lost);
    assert_eq!(run.tick(now), Act::Stay);
    now += 200 * MS;
    assert_eq!(run.tick(now), Act::Stay);
    assert_eq!(*run.standing(), Standing::Up, "it has stopped complaining");
    run.read(&report(100, 10), now);
    assert!((run.loss().unwrap() - 10.0 / 475.0).abs() < 1e-9, "{:?}", run.loss());
}

#[test]
fn a_hub_that_is_silent_is_called_anew_and_two_peers_wait_longer() {
    for (end, restarts_after) in [(End::HubClient, SECOND), (End::P2pClient, 9 * SECOND)] {
        let mut run = Run::new(end, Duration::ZERO);
        run.read("Waiting for Peer...", Duration::ZERO);
        run.read("Received Connection from Peer!", Duration::ZERO);
        let mut now = Duration::ZERO;
        let restarted = loop {
            now += 30 * MS;
            run.read(SILENCE, now);
            if run.tick(now) == Act::Restart {
                break now;
            }
            assert!(now < 20 * SECOND);
        };
        assert!(restarted <= restarts_after && restarted >= restarts_after / 2, "{end:?} {restarted:?}");
    }
}

#[test]
fn what_a_peer_of_a_hub_does_is_no_end_of_the_hub() {
    let mut run = Run::new(End::HubServer, Duration::ZERO);
    run.read("JackTrip HUB SERVER: Waiting for client connections...", SECOND);
    assert_eq!(*run.standing(), Standing::Up);
    for line in ["Peer Stopped", "ERROR: Peer Sampling Rate is   : 44100", SILENCE] {
        assert_eq!(run.read(line, SECOND), Act::Stay);
    }
    assert_eq!(*run.standing(), Standing::Up);
}

#[test]
fn what_can_not_be_is_given_up_and_said() {
    let read = |lines: &[&str]| {
        let mut run = Run::new(End::P2pClient, Duration::ZERO);
        let acts: Vec<Act> = lines.iter().map(|line| run.read(line, SECOND)).collect();
        (*acts.last().unwrap(), run.standing().clone())
    };
    assert_eq!(read(&["ERROR: Peer Sampling Rate is   : 44100"]), (Act::GiveUp, Standing::OtherRate(44_100)));
    let (act, standing) = read(&["ERROR:", "Could not bind UDP socket."]);
    assert!(matches!(&standing, Standing::Failed(why) if why.contains("another port")), "{standing:?}");
    assert_eq!(act, Act::GiveUp);
    assert_eq!(read(&["Peer Stopped"]), (Act::Restart, Standing::Lost));
    let (act, standing) = read(&["ERROR: Peer Sampling Rate is   : 0"]);
    assert!(act == Act::Restart && matches!(standing, Standing::Failed(_)), "{standing:?}");
}

proptest! {
    #[test]
    fn no_line_breaks_it(lines in prop::collection::vec("(prot: |tot: |ERROR:|[0-9/ :a-zA-Z.-]|\\PC){0,30}", 0..20)) {
        let mut run = Run::new(End::P2pClient, Duration::ZERO);
        for line in &lines {
            run.read(line, SECOND);
            run.tick(SECOND);
        }
        prop_assert!(run.loss().is_none_or(|loss| (0.0..=1.0).contains(&loss)));
    }
}

#[test]
fn the_loss_of_a_hub_is_that_of_the_peers_that_are_there() {
    let mut run = Run::new(End::HubServer, Duration::ZERO);
    let report = |peer: usize, lost: u64, total: u64| {
        format!("2026-11-24T18:06:43 10.0.0.{peer} send: 0/0 recv: 0/1 prot: {lost}/0/0 tot: {total} sync: 0")
    };
    // More peers than are told apart come and go.
    for peer in 0..200 {
        run.read(&report(peer, 0, 100), Duration::ZERO);
    }
    assert_eq!(run.loss(), Some(0.0));
    for second in 1..=1_000 {
        run.read(&report(250, 50 * second, 100 * second), Duration::from_secs(second));
    }
    assert_eq!(run.loss(), Some(0.5));
}
