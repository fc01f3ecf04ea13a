//! What is wrong, too much, or goes round and round.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use sidetone::bus::message::fault::Fault;
use sidetone::osc::OscType;
use sidetone::osc::frame::Framing;

use crate::support::host::HostSpec;
use crate::support::nats::{free_port, within};
use crate::support::osc::{OscHost, Surface, bundle, first_text, message};

type Faults = std::pin::Pin<Box<dyn futures::Stream<Item = Fault> + Send>>;

async fn faults(host: &OscHost) -> Faults {
    let faults = host.host.bus().subscribe::<Fault>("event.stage.fault").await.unwrap();
    faults.map(|(_, fault)| fault.unwrap()).boxed()
}

async fn told(faults: &mut Faults, words: &str) -> Fault {
    within(async {
        loop {
            let fault = faults.next().await.unwrap();
            if fault.message.contains(words) {
                return fault;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_told_and_survived() {
    let host = OscHost::start("osc", "").await;
    let mut faults = faults(&host).await;
    let surface = host.surface();
    let now = sidetone::osc::time::IMMEDIATELY;
    let mut nested = message("/a", &[]);
    for _ in 0..9 {
        nested = bundle(now, &[nested]);
    }
    let arrays = [b"/a\0\0,".as_slice(), &[b'['; 400], &[b']'; 400], b"\0\0\0"].concat();
    let many = bundle(now, &vec![message("/a", &[]); 1_025]);
    let packets: Vec<(&str, &[u8])> = vec![
        ("the packet ends within an address", b"/abc"),
        ("begins neither with / nor with #bundle", b"hello\0\0\0"),
        ("more than 8 bundles within each other", &nested),
        ("more than 8 arrays within each other", &arrays),
        ("more than 1024 messages in a packet", &many),
        ("promise arguments, and there are none", b"/ab\0,iii\0\0\0\0"),
        ("do not fit what follows", b"/ab\0,ib\0\0\0\0\x01\xFF\xFF\xFF\xFF"),
        ("leave 4 bytes over", b"/ab\0,i\0\0\0\0\0\x01\0\0\0\x02"),
        ("which is no type", b"/ab\0,q\0\0"),
        ("do not close an array", b"/ab\0,[i\0\0\0\0\x01"),
        ("only printable ASCII is taken", "/ä\0".as_bytes()),
        ("has a [ without its ]", b"/[a\0"),
    ];
    for (why, packet) in &packets {
        surface.send_raw(packet);
        let error = first_text(&surface.until("/assistant/error"));
        assert!(error.contains(why), "{why}: {error}");
    }
    // Told once a while, with how many there were.
    let fault = told(&mut faults, "OSC packets could not be read").await;
    assert!(fault.message.contains("the first: from 127.0.0.1:"), "{fault}");
    // Typing errors are answered; what another Sidetone shows is not, or two of them could go on for ever.
    surface.send("/assistant/sotp", &[]);
    assert!(first_text(&surface.until("/assistant/error")).contains("there are command, ask, say"));
    surface.send("/assistant/say", &[]);
    assert!(first_text(&surface.until("/assistant/error")).contains("say takes a text"));
    surface.send("/assistant/error", &[OscType::Int(1)]);
    surface.send("/assistant/ptt", &[OscType::Int(1)]);
    let seen = surface.settle();
    let texts: Vec<String> = seen.iter().map(|message| first_text(&message.args)).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("there is no listener"), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_nonsense_is_counted_and_passes() {
    let host = OscHost::start("osc", "").await;
    let mut faults = faults(&host).await;
    let surface = host.surface();
    let before = resident_kib(host.host.pid());
    for number in 0..100_000_u32 {
        surface.send_raw(&number.to_be_bytes());
    }
    told(&mut faults, "OSC packets could not be read").await;
    // The kernel may have dropped the ping as well.
    let mut answered = false;
    for _ in 0..100 {
        surface.send("/assistant/ping", &[OscType::Int(7)]);
        while let Some(message) = surface.next_within(Duration::from_millis(200)) {
            answered |= message.addr == "/assistant/pong";
        }
        if answered {
            break;
        }
    }
    assert!(answered, "the host no longer answers");
    let grown = resident_kib(host.host.pid()).saturating_sub(before);
    assert!(grown < 32_768, "the host has grown by {grown} KiB");
}

fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_left_out_and_told() {
    let spec = HostSpec::new("stage", "osc").set(&["osc.allow=[\"10.0.0.0/8\"]"]);
    let host = OscHost::with(spec, "", &[]).await;
    let mut faults = faults(&host).await;
    let surface = host.surface();
    surface.send("/assistant/ping", &[]);
    let fault = told(&mut faults, "osc.allow").await;
    assert!(fault.message.contains("127.0.0.1"), "{fault}");
    assert!(surface.next_within(Duration::from_millis(1)).is_none());
    let client = std::net::TcpStream::connect(host.at).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(std::io::Read::read(&mut &client, &mut [0; 8]).unwrap(), 0, "the stream is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_may_not_send_is_not_heard_by_the_stream_to_it() {
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings =
        format!("[osc.targets]\ndesk = {{ to = \"{}\", by = \"tcp_size\" }}\n", target.local_addr().unwrap());
    let spec = HostSpec::new("stage", "osc").set(&["osc.allow=[\"10.0.0.0/8\"]"]);
    let host = OscHost::with(spec, &settings, &[]).await;
    let mut faults = faults(&host).await;
    let (mut stream, _) = target.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    std::io::Write::write_all(&mut stream, &Framing::Size.frame(&message("/assistant/ping", &[]))).unwrap();
    assert!(told(&mut faults, "osc.allow").await.message.contains("127.0.0.1"));
    assert!(std::io::Read::read(&mut stream, &mut [0; 8]).is_err(), "it was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_broken_told_and_free_again() {
    let echo_port = free_port();
    let settings = format!(
        "[osc.targets]\necho = \"127.0.0.1:{echo_port}\"\n\
         [[osc.on]]\naddress = \"/toggle\"\nargs = [\"on\"]\n\
         do = {{ osc = {{ target = \"echo\", address = \"/toggle\", args = [\"{{on | scale 0 1 1 0}}\"] }} }}\n"
    );
    let host = OscHost::start("osc", &settings).await;
    let mut faults = faults(&host).await;
    // A peer that sends back everything that it is sent.
    let rounds = Arc::new(AtomicU64::new(0));
    let (counted, at) = (Arc::clone(&rounds), host.at);
    std::thread::spawn(move || {
        let echo = std::net::UdpSocket::bind(("127.0.0.1", echo_port)).unwrap();
        let mut buffer = [0; 1_024];
        while let Ok(size) = echo.recv(&mut buffer) {
            counted.fetch_add(1, Ordering::Relaxed);
            if echo.send_to(&buffer[..size], at).is_err() {
                return;
            }
        }
    });
    let surface = host.surface();
    // It may not be bound yet.
    while rounds.load(Ordering::Relaxed) == 0 {
        surface.send("/toggle", &[OscType::Float(1.0)]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fault = told(&mut faults, "feedback loop").await;
    assert!(fault.message.contains("/toggle from 127.0.0.1"), "{fault}");
    let broken = rounds.load(Ordering::Relaxed);
    assert!(broken < 200, "{broken} rounds");
    // Other addresses of the same peer are not touched, and this one comes back.
    surface.settle();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while rounds.load(Ordering::Relaxed) == broken {
        assert!(std::time::Instant::now() < until, "it does not come back");
        surface.send("/toggle", &[OscType::Float(1.0)]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    told(&mut faults, "feedback loop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_can_not_be_end_the_host_with_what_would_do() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let listen = format!("osc.listen=127.0.0.1:{port}");
    for (set, words) in [
        (listen.as_str(), "give an address and a free port"),
        ("osc.allow=[\"studio\"]", "osc.allow has \"studio\""),
        ("osc.subscribers=[\"wall\"]", "no OSC target \"wall\""),
        ("osc.targets={ desk = \"10.0.0.5\" }", "osc.targets.desk: \"10.0.0.5\" is no address"),
        ("osc.groups=[\"10.0.0.5\"]", "osc.groups has \"10.0.0.5\""),
        ("osc.on=[{ address = \"/[\", do = \"stop\" }]", "has a [ without its ]"),
        ("osc.on=[{ address = \"/x\", do = { say = { text = \"{y}\" } } }]", "no slot \"y\""),
        ("osc.query=nowhere", "osc.query is \"nowhere\""),
    ] {
        let free = format!("osc.listen=127.0.0.1:{}", free_port());
        let spec = HostSpec::new("stage", "osc").set(&[&free, "osc.query=", "osc.announce=false", set]);
        let (code, why) = spec.refused();
        assert!(why.contains(words) && code != 0, "{set}: {code} {why}");
    }
    drop(Surface::new(taken.local_addr().unwrap()));
}
