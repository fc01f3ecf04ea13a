//! Devices that go, servers that die, hosts that are killed, and what can't be.

use futures::StreamExt as _;
use sidetone::bus::message::fault::{Fault, FaultCode};
use sidetone::bus::message::node::Stop;
use sidetone::bus::{BusError, subject};

use super::{send, spec, state};
use crate::support::host::PATIENCE;
use crate::support::jack::{JackServer, available};
use crate::support::midi::Device;
use crate::support::nats::eventually;

fn fault(result: Result<sidetone::bus::message::midi::Sent, BusError>) -> Fault {
    match result {
        Err(BusError::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_end_by_a_stop_by_the_device_s_return_and_by_the_run_after_a_kill() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let mut host = spec(&jack, "midi", "").start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    let hold = |note: u8| format!(r#"{{"note":{note},"hold":true,"port":"pad"}}"#);

    send(&host, &hold(60)).await.unwrap();
    send(&host, r#"{"note":61,"on":"bar","bars":2,"port":"pad"}"#).await.unwrap();
    pad.hears_this(&[0x90, 60, 100]).await;
    host.bus().publish(subject::STOP.to_owned(), &Stop::default()).await.unwrap();
    pad.hears_this(&[0x80, 60, 64]).await;
    assert_eq!(state(&host).await.waiting, 0);

    let mut faults = host.bus().subscribe::<Fault>(&subject::event_of_all("fault")).await.unwrap();
    send(&host, &hold(62)).await.unwrap();
    pad.hears_this(&[0x90, 62, 100]).await;
    drop(pad);
    let (_, told) = tokio::time::timeout(PATIENCE, faults.next()).await.unwrap().unwrap();
    let told = told.unwrap().message;
    assert!(told.contains("pad:synth has gone while 1 notes sounded"), "{told}");
    let pad = Device::plug(&jack, "pad");
    pad.hears_this(&[0x80, 62, 64]).await;
    pad.connected("pad").await;

    // Another program plays the same device.
    let other = Device::plug(&jack, "other");
    other.connect("other:keys", "pad:synth");
    let shared = async {
        while let Some((_, told)) = faults.next().await {
            if told.unwrap().message.contains("other:keys plays the same device") {
                return;
            }
        }
        panic!("the bus has gone");
    };
    tokio::time::timeout(PATIENCE, shared).await.expect("nobody tells of the other player");
    drop(other);

    send(&host, &hold(63)).await.unwrap();
    pad.hears_this(&[0x90, 63, 100]).await;
    host.end(libc::SIGKILL);
    host.restart().await;
    pad.hears_this(&[0x80, 63, 64]).await;
    assert_eq!(pad.sounding(), []);

    pad.connected("pad").await;
    send(&host, &hold(65)).await.unwrap();
    pad.hears_this(&[0x90, 65, 100]).await;
    assert!(host.end(libc::SIGTERM).success());
    assert_eq!(pad.sounding(), [], "{:02x?}", pad.heard());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_waited_for() {
    if !available() {
        return;
    }
    let mut jack = JackServer::start(48_000, 256);
    let host = spec(&jack, "midi", "").start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    send(&host, r#"{"note":60,"hold":true,"port":"pad"}"#).await.unwrap();
    pad.hears_this(&[0x90, 60, 100]).await;
    jack.kill();
    drop(pad);
    eventually(|| async { (!state(&host).await.up).then_some(()) }).await;
    let away = fault(send(&host, r#"{"note":61,"port":"pad"}"#).await);
    assert_eq!(away.code, FaultCode::Unavailable, "{away}");
    jack.restart(44_100, 128);
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    // The note from before has an end, and new ones sound.
    pad.hears_this(&[0x80, 60, 64]).await;
    send(&host, r#"{"note":64,"ms":20,"port":"pad"}"#).await.unwrap();
    pad.hears_this(&[0x80, 64, 64]).await;
    assert_eq!(pad.sounding(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_told() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let host = spec(&jack, "midi", "").start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    for (json, code, told) in [
        (r#"{"note":60,"port":"synth"}"#, FaultCode::NotFound, "no MIDI port \"synth\"; it has midi_out, pad"),
        (r#"{"note":"H2","port":"pad"}"#, FaultCode::Invalid, "`H2` is no note; write one as C4"),
        (r#"{}"#, FaultCode::Invalid, "nothing says what to send"),
        (r#"{"cc":7,"value":200}"#, FaultCode::Invalid, "value 200 can't be"),
    ] {
        let fault = fault(send(&host, json).await);
        assert!(fault.code == code && fault.message.contains(told), "{json}: {fault}");
    }
    // Rubbish on the cable makes nothing fall over, and is counted.
    let rubbish: Vec<Vec<(u32, Vec<u8>)>> = (0..200_u32)
        .map(|n| vec![(0, (0..(n % 50) + 1).map(|at| (at * 37 + n * 101) as u8 | u8::from(at == 0) << 7).collect())])
        .collect();
    pad.play_in_periods(rubbish);
    pad.play_in_periods(vec![vec![(0, vec![0xf7]), (1, vec![0xf4]), (2, vec![0xb0, 1, 1])]]);
    let now = eventually(|| async {
        let now = state(&host).await;
        let is_there = now.ports[1].controllers_in.iter().any(|controller| (controller.cc, controller.value) == (1, 1));
        is_there.then_some(now)
    })
    .await;
    assert!(now.skipped > 0 && now.up, "{now:?}");

    // Settings that can't be end a host at once, and say which.
    for (more, told) in [
        ("[[midi.on]]\nnote = 60\nport = \"x\"\ndo = \"stop\"", "[[midi.on]] number 1: there is no port \"x\""),
        ("[midi.ports.\"a b\"]\nmatch = \"x\"", "midi.ports.a b: a port's name"),
        ("[[midi.on]]\nnote = 60\ndo = { midi = { chord = \"Xyz\" } }", "`Xyz` is no chord"),
        ("[midi]\nbpm = 0.0", "midi.bpm: there is no tempo of 0 BPM"),
        ("[midi]\nclock_to = [\"x\"]", "midi.clock_to: midi has no port \"x\""),
    ] {
        let (_, why) = spec(&jack, "midi", more).refused();
        assert!(why.contains(told), "{why}");
    }
    // A second host on the same server has to have another client.
    let second = spec(&jack, "midi", "").start().await;
    eventually(|| async { second.log().contains("already has a client 'sidetone-midi'").then_some(()) }).await;
    assert!(second.log().contains("set midi.client"), "{}", second.log());
}
