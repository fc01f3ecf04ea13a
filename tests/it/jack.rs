//! A listener's JACK client against a real server.

use sidetone::audio::{AudioEvent, Capture, JackClient, JackError, JackSettings, JackSupervisor, Patch, Playback};

use crate::support::jack::{JackServer, Peer, available, next, wait_for};

fn settings(server: &JackServer, name: &str) -> JackSettings {
    let patterns = |text: &str| vec![text.to_owned()];
    JackSettings {
        client_name: name.to_owned(),
        server: Some(server.name().to_owned()),
        patch: Patch::new(&patterns("peer:mouth"), &patterns("peer:e*")).unwrap(),
        ..JackSettings::for_listener("test")
    }
}

fn sine(rate_hz: u32, hz: f32, seconds: f32) -> Vec<f32> {
    let frames = (rate_hz as f32 * seconds) as usize;
    (0..frames).map(|n| 0.5 * (std::f32::consts::TAU * hz * n as f32 / rate_hz as f32).sin()).collect()
}

/// Sends `sent` from one side to the other and checks that it arrives bit for bit, after some silence.
fn passes(sent: &[f32], from: &mut Playback, to: &mut Capture) {
    let mut heard = Vec::new();
    to.read_into(&mut heard);
    heard.clear();
    let mut left = sent;
    wait_for("the sine to arrive whole", || {
        left = left.get(from.write(left)..).unwrap_or_default();
        to.read_into(&mut heard);
        // The sine starts with a 0; the first sample that is none is the second of it.
        let start = heard.iter().position(|&sample| sample != 0.0)?;
        (heard.len() - start >= sent.len() - 1).then_some(())
    });
    let start = heard.iter().position(|&sample| sample != 0.0).unwrap();
    assert!(heard[start..start + sent.len() - 1] == sent[1..], "the sine came out changed");
    from.end();
}

fn up(event: AudioEvent) -> (u32, u32, Capture, Playback) {
    match event {
        AudioEvent::Up { rate_hz, buffer_frames, capture, playback } => (rate_hz, buffer_frames, capture, playback),
        other => panic!("expected audio to come up, got {other:?}"),
    }
}

fn connected(peer: &Peer, name: &str) {
    wait_for("the listener to be connected to the peer", || {
        let out = peer.connections("peer:mouth").contains(&format!("{name}:voice_in"));
        let ear = peer.connections("peer:ear").contains(&format!("{name}:voice_out"));
        (out && ear).then_some(())
    });
}

#[test]
fn audio_passes_both_ways_and_comes_back_after_the_server_was_killed() {
    if !available() {
        return;
    }
    let mut server = JackServer::start(48_000, 128);
    let (supervisor, events) = JackSupervisor::start(settings(&server, "stage")).unwrap();
    let (rate_hz, buffer_frames, mut capture, mut playback) = up(next(&events));
    assert_eq!((rate_hz, buffer_frames), (48_000, 128));

    // The peer comes later than the listener and is found.
    let mut peer = Peer::open(&server, "peer");
    connected(&peer, "stage");
    passes(&sine(48_000, 440.0, 0.25), &mut peer.mouth, &mut capture);
    passes(&sine(48_000, 1000.0, 0.25), &mut playback, &mut peer.ear);
    wait_for("the playback to be drained", || playback.is_drained().then_some(()));
    assert_eq!(playback.played_frames(), 12_000);

    drop(peer);
    server.kill();
    let event = next(&events);
    assert!(matches!(&event, AudioEvent::Down { reason } if reason.contains("start it again")), "{event:?}");
    assert!(capture.is_closed() && playback.is_closed());
    // While it stays away, what can be done about it is said once.
    let event = next(&events);
    assert!(matches!(&event, AudioEvent::Down { reason } if reason.contains(server.name())), "{event:?}");

    server.restart(44_100, 256);
    let (rate_hz, buffer_frames, mut capture, mut playback) = up(next(&events));
    assert_eq!((rate_hz, buffer_frames), (44_100, 256));
    let mut peer = Peer::open(&server, "peer");
    connected(&peer, "stage");
    passes(&sine(44_100, 440.0, 0.25), &mut peer.mouth, &mut capture);
    passes(&sine(44_100, 1000.0, 0.25), &mut playback, &mut peer.ear);
    let status = supervisor.status();
    assert!(status.is_up());
    assert_eq!((status.rate_hz(), status.buffer_frames(), status.times_up()), (44_100, 256, 2));

    // The period changes while audio flows.
    peer.set_period(512);
    let event = next(&events);
    assert!(matches!(event, AudioEvent::Changed { rate_hz: 44_100, buffer_frames: 512 }), "{event:?}");
    passes(&sine(44_100, 440.0, 0.25), &mut peer.mouth, &mut capture);
    passes(&sine(44_100, 1000.0, 0.25), &mut playback, &mut peer.ear);

    #[cfg(feature = "rt-check")]
    {
        let times = &sidetone::audio::rt_check::CALLBACK_TIMES;
        eprintln!(
            "{} callbacks, p99 {:?} µs, longest {:?} µs",
            times.count(),
            times.quantile_us(0.99),
            times.quantile_us(1.0)
        );
        assert!(times.count() > 0);
    }
    drop(peer);
    drop(supervisor);
    assert!(!status.is_up());
    assert!(events.try_recv().is_err());
}

#[test]
fn a_connection_that_was_taken_away_stays_away() {
    if !available() {
        return;
    }
    let server = JackServer::start(48_000, 128);
    let peer = Peer::open(&server, "peer");
    let (_supervisor, events) = JackSupervisor::start(settings(&server, "stage")).unwrap();
    up(next(&events));
    connected(&peer, "stage");
    peer.disconnect("peer:mouth", "stage:voice_in");
    // A newcomer makes the supervisor look again: it is connected, and what the user took away is not.
    let other = Peer::open(&server, "other");
    let (_second, second_events) = JackSupervisor::start(JackSettings {
        patch: Patch::new(&["other:mouth".to_owned()], &["other:ear".to_owned()]).unwrap(),
        ..settings(&server, "foyer")
    })
    .unwrap();
    up(next(&second_events));
    wait_for("the second listener to be connected", || {
        (other.connections("other:mouth") == ["foyer:voice_in"]
            && other.connections("other:ear") == ["foyer:voice_out"])
        .then_some(())
    });
    assert_eq!(peer.connections("peer:mouth"), Vec::<String>::new());
    assert_eq!(peer.connections("peer:ear"), ["stage:voice_out"]);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    if !available() {
        return;
    }
    let server = JackServer::start(48_000, 128);
    let good = settings(&server, "stage");
    let nowhere = JackSettings { server: Some("sidetone-no-such-server".to_owned()), ..good.clone() };
    let error = JackClient::open(&nowhere).unwrap_err();
    assert_eq!(error, JackError::NoServer { server: "sidetone-no-such-server".to_owned() });
    assert!(error.to_string().contains("JACK_DEFAULT_SERVER"), "{error}");

    let (first, _capture, _playback) = JackClient::open(&good).unwrap();
    let error = JackClient::open(&good).unwrap_err();
    assert_eq!(error, JackError::NameTaken { server: server.name().to_owned(), name: "stage".to_owned() });
    let error = JackClient::open(&nowhere).unwrap_err();
    assert!(matches!(&error, JackError::OtherServer { current, .. } if current == server.name()), "{error:?}");
    drop(first);
    // The name is free again.
    drop(JackClient::open(&good).unwrap());

    for name in ["", "a:b", &"n".repeat(64)] {
        let bad = JackSettings { client_name: name.to_owned(), ..good.clone() };
        assert_eq!(JackClient::open(&bad).unwrap_err(), JackError::Name(name.to_owned()));
    }
}

#[test]
fn without_a_server_the_supervisor_says_why_waits_and_stops_at_once() {
    if !available() {
        return;
    }
    // Takes its turn by starting a server, whose name is free again after the kill.
    let mut server = JackServer::start(48_000, 128);
    server.kill();
    let (supervisor, events) = JackSupervisor::start(settings(&server, "stage")).unwrap();
    let event = next(&events);
    assert!(matches!(&event, AudioEvent::Down { reason } if reason.contains("jackd")), "{event:?}");
    server.restart(96_000, 64);
    let (rate_hz, buffer_frames, _capture, _playback) = up(next(&events));
    assert_eq!((rate_hz, buffer_frames), (96_000, 64));
    drop(supervisor);
    assert!(events.recv().is_err());
}
