//! Readers that stall, go away, or change their mind; and what the server forbids.

use std::net::Ipv4Addr;
use std::time::Duration;

use sidetone::bus::message::llm::Chat;
use sidetone::bus::message::node::{AskInfo, NodeInfo};
use sidetone::bus::subject::{Capability, Target};
use sidetone::bus::{Bus, BusError};
use sidetone::config::Config;
use sidetone::fabric::need;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{call, chat, cli, fabric, host, words};
use crate::support::host::{FAKES, HostSpec};
use crate::support::nats::{Nats, eventually, free_port, within};

async fn info(bus: &Bus, node: &str) -> NodeInfo {
    within(bus.ask(Target::Node(node), &AskInfo {}, &call())).await.unwrap()
}

async fn in_flight(bus: &Bus, node: &str) -> usize {
    info(bus, node).await.offers.iter().map(|offer| offer.in_flight).sum()
}

/// What the host behind `port` measures.
async fn page(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// The chunks that the host behind `port` has sent of `verb`.
async fn chunks(port: u16, verb: &str) -> u64 {
    let page = page(port).await.unwrap();
    let of_verb = format!("sidetone_stream_chunks_total{{verb=\"{verb}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&of_verb)?.trim().parse().ok()).unwrap_or(0)
}

/// How many bytes a pipe holds that have not been read.
fn waiting_bytes(pipe: std::os::fd::RawFd) -> libc::c_int {
    let mut bytes = 0;
    // SAFETY: a plain system call on a pipe that stays open; it writes the one number.
    assert_eq!(unsafe { libc::ioctl(pipe, libc::FIONREAD, &raw mut bytes) }, 0);
    bytes
}

/// The memory that a process holds, in KiB.
fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_holds_everybody_up_without_filling_their_memory_and_its_death_frees_them() {
    let Some(nats) = Nats::start().await else { return };
    let (port, agent_port) = (free_port(), free_port());
    // Far more than what fits into the pipe of a reader that does not read.
    let listen = |port: u16| format!("http.listen=127.0.0.1:{port}");
    let a = host(&nats, "a", "llm", &[&listen(port)]).await;
    let b = host(&nats, "b", "agent", &[&listen(agent_port)]).await;
    let bus = nats.host("tests").await;
    let _all = fabric(&bus, &Config::default(), &["a", "b"]).await;
    // Nobody reads what it prints: its pipe fills, and it stands still.
    let text = words(3_000);
    let mut reader = cli(&nats, &["ask", &text]);
    let pipe = std::os::fd::AsRawFd::as_raw_fd(reader.stdout.as_ref().unwrap());
    // SAFETY: a plain system call on a pipe that stays open.
    assert!(unsafe { libc::fcntl(pipe, libc::F_SETPIPE_SZ, 4_096) } >= 4_096);
    // It stands still when its pipe has no room for one more piece of the answer.
    eventually(|| async { (waiting_bytes(pipe) > 3_500).then_some(()) }).await;
    let mut before = (0, 0);
    // As long as more comes it is no stall; each look waits for three round trips.
    within(async {
        let mut same = 0;
        while same < 20 {
            info(&bus, "a").await;
            info(&bus, "b").await;
            let now = (chunks(port, "llm.chat").await, chunks(agent_port, "agent.run").await);
            same = if now == before && now.0 > 0 { same + 1 } else { 0 };
            before = now;
        }
    })
    .await;
    let memory = (resident_kib(a.pid()), resident_kib(b.pid()));
    assert!(before.0 < 2_500, "the worker has sent all its {} chunks", before.0);
    assert_eq!((in_flight(&bus, "a").await, in_flight(&bus, "b").await), (1, 1));
    for _ in 0..50 {
        info(&bus, "a").await;
    }
    assert_eq!((chunks(port, "llm.chat").await, chunks(agent_port, "agent.run").await), before);
    for (host, before) in [(&a, memory.0), (&b, memory.1)] {
        let more = resident_kib(host.pid()).saturating_sub(before);
        assert!(more < 8 << 10, "{} holds {more} KiB more", host.spec.name);
    }
    reader.start_kill().unwrap();
    within(reader.wait()).await.unwrap();
    eventually(|| async { (in_flight(&bus, "a").await + in_flight(&bus, "b").await == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_cancelled_stops_its_engine_within_a_chunk() {
    let Some(nats) = Nats::start().await else { return };
    let port = free_port();
    let listen = format!("http.listen=127.0.0.1:{port}");
    let a = host(&nats, "a", "llm", &["llm.model=slow:400", &listen]).await;
    let all = fabric(a.bus(), &Config::default(), &["a"]).await;
    let mut answer = within(all.open(&need(Capability::Llm), chat(&words(100)), &call())).await.unwrap();
    for _ in 0..3 {
        within(answer.next()).await.unwrap().unwrap();
    }
    drop(answer);
    eventually(|| async { (in_flight(a.bus(), "a").await == 0).then_some(()) }).await;
    let made = chunks(port, "llm.chat").await;
    assert!((3..=4).contains(&made), "{made} chunks were made, 3 were read");
}

/// A server where `guest` may not ask models, and `deaf` may not serve them.
const PERMISSIONS: &str = r#"
authorization { users = [
  { user: host, password: p }
  { user: guest, password: p, permissions: { publish: { deny: ["llm.>"] } } }
  { user: deaf, password: p, permissions: { subscribe: { deny: ["llm.>"] } } }
] }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_forbids_is_an_error_and_not_silence() {
    let Some(nats) = Nats::with(PERMISSIONS).await else { return };
    let url = |user: &str| nats.url().replace("nats://", &format!("nats://{user}:p@"));
    let _a = HostSpec::new("a", "llm").set(FAKES).on(&url("host")).start().await;
    let guest = within(Bus::connect(&url("guest"), "guest")).await.unwrap();
    let all = fabric(&guest, &Config::default(), &["a"]).await;
    let begun = std::time::Instant::now();
    let ask = Chat { stream: false, ..chat("hello") };
    let error = within(all.ask(&need(Capability::Llm), &ask, &call())).await.unwrap_err();
    assert!(matches!(&error, BusError::Denied { subject } if subject == "llm.chat.n.a"), "{error}");
    let mut answer = within(all.open(&need(Capability::Llm), chat("hello"), &call())).await.unwrap();
    let error = within(answer.next()).await.unwrap().unwrap_err();
    assert!(matches!(&error, BusError::Denied { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60), "that is the deadline, not the refusal");
    // A host that could not hear a request must not say that it serves.
    let deaf = HostSpec::new("deaf", "llm").set(FAKES).on(&url("deaf"));
    let (code, why) = within(tokio::task::spawn_blocking(move || deaf.refused())).await.unwrap();
    assert!(code == 1 && why.contains("may not subscribe to llm."), "{code}: {why}");
    // Nor may one who subscribes believe that it hears.
    let bus = within(Bus::connect(&url("deaf"), "deaf")).await.unwrap();
    let error = within(bus.subscribe::<Chat>("llm.>")).await.map(drop).unwrap_err();
    assert!(matches!(&error, BusError::DeniedHearing { subject, .. } if subject == "llm.>"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pauses_for_long_reads_on() {
    let Some(nats) = Nats::start().await else { return };
    let _a = host(&nats, "a", "llm", &[]).await;
    let bus = nats.host("tests").await;
    let all = fabric(&bus, &Config::default(), &["a"]).await;
    // More than may be on the way at once.
    let text = words(300);
    let mut stream = within(all.open(&need(Capability::Llm), chat(&text), &call())).await.unwrap();
    let mut said = within(stream.next()).await.unwrap().unwrap().text;
    // Long enough that the host would be asked for a sign of life, and given up without one.
    tokio::time::sleep(Duration::from_secs(4)).await;
    while let Some(piece) = within(stream.next()).await {
        let piece = piece.unwrap();
        if piece.done.is_none() {
            said += &piece.text;
        }
    }
    assert!(said.contains(&text), "{said}");
}
