//! What comes by OSC: onto the bus, to handlers, to listeners; at once or later.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt as _;
use sidetone::bus::message::Blob;
use sidetone::bus::message::fault::Fault;
use sidetone::bus::message::osc::{Arg, In};
use sidetone::osc::OscType;
use sidetone::osc::time::tag;

use crate::support::nats::{eventually, free_port, within};
use crate::support::osc::{OscHost, Surface, bundle, first_text, message, oscsend, python, text};

type Told = std::pin::Pin<Box<dyn futures::Stream<Item = (String, Result<In, Fault>)> + Send>>;

/// What the host publishes of what comes.
async fn strays(host: &OscHost) -> Told {
    host.host.bus().subscribe::<In>("osc.in.stage.>").await.unwrap().boxed()
}

async fn next(told: &mut Told) -> (String, In) {
    let (subject, stray) = within(told.next()).await.unwrap();
    (subject, stray.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_on_the_bus_with_every_type() {
    let host = OscHost::start("osc", "").await;
    let mut told = strays(&host).await;
    let port = host.at.port().to_string();
    oscsend(&["127.0.0.1", &port, "/desk/fader/3", "ihfdscTFNI", "7", "5000000000", "0.5", "0.1", "red", "x"]);
    let (subject, stray) = next(&mut told).await;
    assert_eq!((subject.as_str(), stray.address.as_str()), ("osc.in.stage.desk.fader.3", "/desk/fader/3"));
    assert!(stray.from.starts_with("127.0.0.1:") && stray.node == "stage", "{stray:?}");
    let args = [
        Arg::Int(7),
        Arg::Int64(5_000_000_000),
        Arg::Float(0.5),
        Arg::Double(0.1),
        Arg::Text("red".to_owned()),
        Arg::Char('x'),
        Arg::Bool(true),
        Arg::Bool(false),
        Arg::Nil,
        Arg::Infinitum,
    ];
    assert_eq!(stray.args, args);

    // What liblo's program can't write, python-osc can.
    python(&format!(
        "from pythonosc.udp_client import SimpleUDPClient\n\
         from pythonosc.osc_message_builder import OscMessageBuilder as B\n\
         b = B('/py/a b')\n\
         b.add_arg(b'\\x00\\x01\\xff'); b.add_arg([1, ['deep', 2.5]]); b.add_arg((0, 144, 60, 100), 'm'); b.add_arg(0x11223344, 'r')\n\
         SimpleUDPClient('127.0.0.1', {port}).send(b.build())"
    ));
    let (subject, stray) = next(&mut told).await;
    assert_eq!(subject, "osc.in.stage.py.a=20b");
    let deep = Arg::Array(vec![Arg::Text("deep".to_owned()), Arg::Float(2.5)]);
    let blob = Arg::Blob(Blob(Bytes::from_static(&[0, 1, 255])));
    let array = Arg::Array(vec![Arg::Int(1), deep]);
    assert_eq!(stray.args, [blob, array, Arg::Midi([0, 144, 60, 100]), Arg::Color([0x11, 0x22, 0x33, 0x44])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_heard_in_both_framings_and_answered_in_the_same() {
    let host = OscHost::start("osc", "").await;
    let mut told = strays(&host).await;
    let port = host.at.port();
    // liblo writes sizes, as in OSC 1.0.
    oscsend(&[&format!("osc.tcp://127.0.0.1:{port}/"), "/sized", "i", "1"]);
    assert_eq!(next(&mut told).await.1.address, "/sized");
    for (mode, name) in [("1.1", "slip"), ("1.0", "size")] {
        let said = python(&format!(
            "from pythonosc.tcp_client import SimpleTCPClient\n\
             c = SimpleTCPClient('127.0.0.1', {port}, mode='{mode}')\n\
             c.send_message('/{name}', ['a\\xdb\\xc0b', 1])\n\
             c.send_message('/assistant/ping', [42])\n\
             for m in c.get_messages(20):\n    print(m)\n    break"
        ));
        let (_, stray) = next(&mut told).await;
        assert_eq!((stray.address, stray.args), (format!("/{name}"), vec![Arg::Text("aÛÀb".to_owned()), Arg::Int(1)]));
        assert!(said.contains("/assistant/pong") && said.contains("42"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_send_on_what_they_are_set_for() {
    let out = free_port();
    let settings = format!(
        "[osc.targets]\nlights = \"127.0.0.1:{out}\"\n\
         [[osc.on]]\naddress = \"/cue/*/{{go,stop}}\"\nargs = [\"fade\"]\n\
         do = {{ osc = {{ target = \"lights\", address = \"/scene/{{1}}/{{2}}\", args = [\"{{fade | scale 0 1 0 100}}\", \"of {{args}}\"] }} }}\n\
         [[osc.on]]\naddress = \"/lamp\"\nargs = [\"on\"]\n\
         do = {{ osc = {{ target = \"lights\", address = \"/lamp\", args = [\"{{on}}\"] }} }}\n\
         [[osc.on]]\naddress = \"/lapp\"\ndo = {{ osc = {{ target = \"lights\", address = \"/lapp\" }} }}\n"
    );
    let host = OscHost::start("osc", &settings).await;
    let lights = Surface::bound(out, host.at);
    let surface = host.surface();
    surface.send("/cue/intro/go", &[OscType::Float(0.5)]);
    assert_eq!(lights.until("/scene/intro/go"), [OscType::Float(50.0), text("of 0.5")]);
    // A button that is let go counts where OSC is sent.
    surface.send("/lamp", &[OscType::Bool(false)]);
    assert_eq!(lights.until("/lamp"), [OscType::Int(0)]);
    // A pattern stands for each address that it fits.
    surface.send("/la{m,p}p", &[OscType::Int(1)]);
    assert_eq!(lights.until("/lamp"), [OscType::Int(1)]);
    assert_eq!(lights.until("/lapp"), []);
    surface.send("/cue/intro/go", &[]);
    let error = first_text(&surface.until("/assistant/error"));
    assert!(error.contains("/cue/intro/go") && error.contains("`fade`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_are_done_in_their_time_and_a_stop_drops_what_waits() {
    let host = OscHost::start("osc", "").await;
    let mut told = strays(&host).await;
    let surface = host.surface();
    let later = |ms| tag(SystemTime::now() + Duration::from_millis(ms));
    let of = |addr: &str| message(addr, &[]);
    // Later than a busy machine takes for the next one.
    surface.send_raw(&bundle(later(1_500), &[of("/second"), of("/third")]));
    surface.send_raw(&bundle(tag(SystemTime::now() - Duration::from_secs(9)), &[of("/first")]));
    for address in ["/first", "/second", "/third"] {
        assert_eq!(next(&mut told).await.1.address, address);
    }
    // A stop drops what waits, and what comes after it in its own packet is done.
    surface.send_raw(&bundle(later(1_000), &[of("/dropped")]));
    surface.send_raw(&bundle(later(0), &[of("/assistant/stop"), bundle(later(1_300), &[of("/kept")])]));
    assert_eq!(next(&mut told).await.1.address, "/kept");
    // One of another host, too.
    surface.send_raw(&bundle(later(1_000), &[of("/dropped")]));
    surface.settle();
    host.host.bus().publish("control.stop".to_owned(), &sidetone::bus::message::node::Stop::default()).await.unwrap();
    eventually(|| async { (host.host.log().matches("pending OSC was dropped").count() == 2).then_some(()) }).await;
    surface.send_raw(&bundle(later(1_300), &[of("/kept")]));
    assert_eq!(next(&mut told).await.1.address, "/kept");
    surface.send_raw(&bundle(later(3_600_000), &[of("/tomorrow")]));
    let error = first_text(&surface.until("/assistant/error"));
    assert!(error.contains("/tomorrow") && error.contains("at most 60 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_does_not_fit_is_left_out_whole() {
    let host = OscHost::start("osc", "").await;
    let mut told = strays(&host).await;
    let surface = host.surface();
    let later = |ms| tag(SystemTime::now() + Duration::from_millis(ms));
    let many = |addr: &str, count| vec![message(addr, &[]); count];
    for _ in 0..4 {
        surface.send_raw(&bundle(later(50_000), &many("/wait", 1_000)));
        assert!(surface.settle().is_empty());
    }
    // 96 more would be taken.
    surface.send_raw(&bundle(later(0), &[bundle(later(500), &many("/part", 97)), message("/now", &[])]));
    let error = first_text(&surface.until("/assistant/error"));
    assert!(error.contains("/part") && error.contains("the 97 of its bundle are left out"), "{error}");
    assert!(surface.settle().is_empty(), "it is told once");
    surface.send_raw(&bundle(later(500), &many("/whole", 96)));
    assert_eq!(next(&mut told).await.1.address, "/now");
    for _ in 0..96 {
        assert_eq!(next(&mut told).await.1.address, "/whole");
    }
    // A stop makes room.
    surface.send("/assistant/stop", &[]);
    surface.settle();
    surface.send_raw(&bundle(later(300), &many("/after", 1_000)));
    assert!(surface.settle().is_empty());
    assert_eq!(next(&mut told).await.1.address, "/after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_published_without_loss() {
    let host = OscHost::start("osc", "").await;
    let mut told = strays(&host).await;
    let surface = host.surface();
    // As fast as they are taken, and no more on their way than a socket's buffer holds.
    let (on_their_way, ahead) = std::sync::mpsc::sync_channel(150);
    let sender = tokio::task::spawn_blocking(move || {
        for number in 0..5_000 {
            on_their_way.send(()).unwrap();
            surface.send("/burst", &[OscType::Int(number)]);
        }
        surface
    });
    for number in 0..5_000 {
        assert_eq!(next(&mut told).await.1.args, [Arg::Int(number)]);
        ahead.recv().unwrap();
    }
    sender.await.unwrap().settle();
}
