//! Streams (TCP): those that end, do not read, or come back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use bytes::BytesMut;
use futures::StreamExt as _;
use sidetone::bus::message::fault::Fault;
use sidetone::bus::message::osc::In;
use sidetone::osc::frame::{Deframer, Framed, Framing};
use sidetone::osc::{Limits, OscMessage, OscType, decode};
use tokio_util::codec::Decoder as _;

use crate::support::host::PATIENCE;
use crate::support::nats::within;
use crate::support::osc::{OscHost, message};

/// The messages of a stream, up to its end or one that `wanted` takes.
fn read(stream: &mut TcpStream, wanted: impl Fn(&OscMessage) -> bool) -> Vec<OscMessage> {
    let (mut deframer, mut bytes, mut seen) = (Deframer::new(Limits::default().bytes), BytesMut::new(), Vec::new());
    let mut buffer = [0; 4_096];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        let size = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..size]);
        while let Some(framed) = deframer.decode(&mut bytes).unwrap() {
            let Framed::Packet(packet) = framed else { panic!("{framed:?}") };
            seen.extend(decode(&packet, &Limits::default()).unwrap().into_iter().map(|timed| timed.message));
            if seen.last().is_some_and(&wanted) {
                return seen;
            }
        }
        if size == 0 {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_ended_what_it_sends_still_gets_its_answers() {
    let host = OscHost::start("osc", "").await;
    for framing in [Framing::Slip, Framing::Size] {
        let mut stream = TcpStream::connect(host.at).unwrap();
        let pings: Vec<u8> =
            (0..500).flat_map(|number| framing.frame(&message("/assistant/ping", &[OscType::Int(number)]))).collect();
        stream.write_all(&pings).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answers = read(&mut stream, |_| false);
        let numbers: Vec<OscType> = answers.into_iter().flat_map(|message| message.args).collect();
        assert_eq!(numbers, (0..500).map(OscType::Int).collect::<Vec<_>>(), "{framing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_heard_and_told_of() {
    let host = OscHost::start("osc", "").await;
    let mut strays = host.host.bus().subscribe::<In>("osc.in.stage.>").await.unwrap();
    let mut faults = host.host.bus().subscribe::<Fault>("event.stage.fault").await.unwrap();
    let mut stream = TcpStream::connect(host.at).unwrap();
    // More answers than the sockets and the queue hold.
    let ping = |number| message("/assistant/ping", &[OscType::Int(number), OscType::Blob(vec![7; 8_192])]);
    let heard = Framing::Size.frame(&message("/heard", &[]));
    let sender = tokio::task::spawn_blocking(move || {
        // Each is another, or they would look like a loop.
        for number in 0..2_500 {
            stream.write_all(&Framing::Size.frame(&ping(number))).unwrap();
        }
        stream.write_all(&heard).unwrap();
        stream
    });
    let (_, stray) = within(strays.next()).await.unwrap();
    assert_eq!(stray.unwrap().address, "/heard");
    let told = within(async {
        loop {
            let fault = faults.next().await.unwrap().1.unwrap();
            if fault.message.contains("could not be sent") {
                return fault;
            }
        }
    });
    assert!(told.await.message.contains("it does not read what it is sent"));
    drop(sender.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_comes_back_is_shown_everything_again() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = format!(
        "[osc]\nsubscribers = [\"desk\"]\n[osc.targets]\ndesk = {{ to = \"{}\", by = \"tcp\" }}\n",
        target.local_addr().unwrap()
    );
    let _host = OscHost::start("voice,osc", &settings).await;
    let (mut stream, _) = target.accept().unwrap();
    read(&mut stream, |message| message.addr == "/assistant/main/mute");
    drop(stream);
    // Each time it is shown all, though nothing has changed meanwhile.
    for _ in 0..2 {
        let (mut stream, _) = target.accept().unwrap();
        let seen = read(&mut stream, |message| message.addr == "/assistant/state");
        assert!(seen.iter().any(|message| message.addr == "/assistant/main/muted"), "{seen:?}");
    }
}
