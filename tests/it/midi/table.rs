//! `[[midi.on]]`: what a device's controls set off.

use std::net::UdpSocket;

use sidetone::bus::message::voice::{Control, TurnState};

use super::{send, spec, state};
use crate::support::booth::Booth;
use crate::support::host::{FAKES, Follow, PATIENCE};
use crate::support::jack::{JackServer, available};
use crate::support::midi::Device;
use crate::support::nats::Nats;

#[tokio::test(flavor = "multi_thread")]
async fn a_pad_plays_and_a_fader_sends_osc_without_the_bus() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let lights = UdpSocket::bind("127.0.0.1:0").unwrap();
    lights.set_read_timeout(Some(PATIENCE)).unwrap();
    let table = format!(
        r#"
[osc]
listen = "127.0.0.1:0"
query = ""
announce = false
targets = {{ lights = "{}" }}
[[midi.on]]
port = "pad"
note = "C3..B3"
when = "held"
do = {{ midi = {{ note = "{{number}}", velocity = "{{velocity}}", channel = 5, port = "pad" }} }}
feedback = {{ on = 7, off = 1, channel = 11 }}
[[midi.on]]
port = "pad"
cc = 7
when = "change"
do = {{ osc = {{ target = "lights", address = "/dimmer", args = ["{{value | scale 0 127 0 1}}"] }} }}
[[midi.on]]
note = 90
when = "long"
do = {{ osc = {{ target = "lights", address = "/long" }} }}
[[midi.on]]
note = 90
do = {{ osc = {{ target = "lights", address = "/short" }} }}
[[midi.on]]
note = 91
do = "stop"
"#,
        lights.local_addr().unwrap()
    );
    let mut host = spec(&jack, "midi,osc", &table).start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    let osc = || {
        let mut buffer = [0; 1024];
        let (len, _) = lights.recv_from(&mut buffer).unwrap();
        match rosc::decoder::decode_udp(&buffer[..len]).unwrap().1 {
            rosc::OscPacket::Message(message) => (message.addr, message.args),
            bundle => panic!("{bundle:?}"),
        }
    };

    pad.play(&[&[0x90, 50, 99]]);
    pad.hears_this(&[0x94, 50, 99]).await;
    pad.hears_this(&[0x9a, 50, 7]).await;
    pad.play(&[&[0x80, 50, 0]]);
    pad.hears_this(&[0x84, 50, 64]).await;
    pad.hears_this(&[0x9a, 50, 1]).await;

    pad.play(&[&[0xb0, 7, 127]]);
    let (address, args) = osc();
    assert_eq!(address, "/dimmer");
    assert!(matches!(args.as_slice(), [rosc::OscType::Int(1) | rosc::OscType::Float(_)]), "{args:?}");
    pad.play(&[&[0x90, 90, 1], &[0x80, 90, 1]]);
    assert_eq!(osc().0, "/short");
    pad.play(&[&[0x90, 90, 1]]);
    assert_eq!(osc().0, "/long");
    pad.play(&[&[0x80, 90, 1]]);

    // A pedal stops it all, also while the bus is away.
    send(&host, r#"{"chord":"C","hold":true,"port":"pad","channel":9}"#).await.unwrap();
    pad.hears_this(&[0x98, 67, 100]).await;
    let servers = host.children();
    for pid in &servers {
        // SAFETY: a plain system call on a child of the host.
        unsafe { libc::kill(*pid, libc::SIGSTOP) };
    }
    pad.play(&[&[0x90, 91, 1]]);
    pad.hears_this(&[0x88, 67, 64]).await;
    pad.play(&[&[0x90, 52, 99]]);
    pad.hears_this(&[0x94, 52, 99]).await;
    for pid in &servers {
        // SAFETY: as above.
        unsafe { libc::kill(*pid, libc::SIGCONT) };
    }
    // The end of the host is the end of the note.
    assert!(host.end(libc::SIGTERM).success());
    // Lights are no notes that sound.
    assert_eq!(pad.sounding(), [(10, 50), (10, 52)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pedal_holds_push_to_talk_and_its_light_follows() {
    if !available() {
        return;
    }
    let jack = JackServer::start(48_000, 256);
    let table = r#"
[[voice.listeners]]
name = "main"
[[midi.on]]
port = "pad"
cc = 64
when = "held"
do = "push_to_talk"
feedback = { follow = "listening", note = 40 }
"#;
    let spec = spec(&jack, "voice,stt,tts,llm,agent,midi", table).set(FAKES);
    let mut host = spec.start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    let mut follow = Follow::new(host.bus()).await;
    // The listener finds JACK by itself, beside the pad.
    host.has_audio().await;
    pad.play(&[&[0xb0, 64, 127]]);
    follow.state(TurnState::Listening).await;
    pad.hears_this(&[0x90, 40, 127]).await;
    // Its cable is pulled while it is down.
    drop(pad);
    follow.state(TurnState::Idle).await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    // What it shows is told again.
    pad.hears_this(&[0x90, 40, 0]).await;
    assert!(state(&host).await.up);
    host.end(libc::SIGTERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pedal_that_is_let_go_is_told_whatever_was_not_answered() {
    if !available() {
        return;
    }
    let Some(nats) = Nats::start().await else { return };
    let (mut silent, mut quick) = (Booth::new(&nats, "silent").await, Booth::new(&nats, "quick").await);
    let jack = JackServer::start(48_000, 256);
    let table = r#"
[[midi.on]]
cc = 64
when = "held"
do = { push_to_talk = { listener = "booth/silent" } }
[[midi.on]]
note = 60
do = { say = { text = "never", listener = "booth/silent" } }
[[midi.on]]
note = 61
do = { say = { text = "at once", listener = "booth/quick" } }
[[midi.on]]
note = 62
do = "stop"
"#;
    let mut host = spec(&jack, "midi", table).on(&nats.url()).start().await;
    let pad = Device::plug(&jack, "pad");
    pad.connected("pad").await;
    let say = |text: &str| Control::Say { text: text.to_owned() };
    pad.play(&[&[0xb0, 64, 127]]);
    assert_eq!(silent.next().await, Control::PushToTalk { held: Some(true) });
    // One that does not answer holds up no other; a stop throws away the presses that wait for it, and not the release.
    pad.play(&[&[0x90, 60, 99], &[0x80, 60, 0], &[0xb0, 64, 0], &[0x90, 61, 99]]);
    assert_eq!(quick.answer().await, say("at once"));
    pad.play(&[&[0x90, 62, 99]]);
    assert_eq!(silent.answer().await, Control::PushToTalk { held: Some(false) });
    host.end(libc::SIGTERM);
}
