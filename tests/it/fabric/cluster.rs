//! Several NATS servers as one, stores that fill up, and clocks that differ.

use std::path::Path;
use std::process::Command;

use async_nats::jetstream::{self, stream};
use futures::future::join_all;
use sidetone::bus::jobs::Jobs;
use sidetone::bus::message::node::NodeInfo;
use sidetone::bus::message::session::What;
use sidetone::bus::registry::Claim;
use sidetone::bus::session::{self, SessionLog};
use sidetone::bus::{Bus, roster};
use sidetone::config::Config;
use sidetone::wire::storage;
use tempfile::TempDir;

use super::{LONG, assert_kept_once, fabric, host, kept, run, turn, words};
use crate::support::host::{FAKES, HostSpec};
use crate::support::nats::{Nats, NatsSpec, eventually, free_port, within};
use crate::support::need;

/// Three servers that keep everything three times, and the address of all of them.
async fn three() -> Option<(Vec<Nats>, String)> {
    let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
    let routes: Vec<_> = ports.iter().map(|(_, port)| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let starting = ports.iter().enumerate().map(|(n, &(port, route))| {
        let more = format!(
            "server_name: n{n}\ncluster {{ name: c, listen: \"127.0.0.1:{route}\", routes: [{}] }}",
            routes.join(", ")
        );
        async move { Nats::of(NatsSpec { port: Some(port), more: &more, ..NatsSpec::default() }).await }
    });
    let servers: Option<Vec<Nats>> = join_all(starting).await.into_iter().collect();
    let servers = servers?;
    let url = servers.iter().map(Nats::url).collect::<Vec<_>>().join(",");
    Some((servers, url))
}

/// The server that leads the stream SESSIONS.
async fn leader(servers: &[Nats], bus: &Nats) -> usize {
    let context = jetstream::new(bus.raw().await);
    let name = eventually(|| async {
        let mut stream = context.get_stream(storage::SESSIONS).await.ok()?;
        stream.info().await.ok()?.cluster.clone()?.leader
    })
    .await;
    let at = name.trim_start_matches('n').parse().unwrap();
    assert!(at < servers.len());
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_servers_one_is_killed_and_nothing_acknowledged_is_lost() {
    let Some((mut servers, url)) = three().await else { return };
    let bus = within(Bus::connect(&url, "tests")).await.unwrap();
    bus.set_replicas(3);
    // The three must find each other first.
    let log = eventually(|| async { SessionLog::start(&bus).await.ok() }).await;
    let spec = HostSpec::new("a", "llm,agent").set(FAKES).set(&["bus.replicas=3"]).on(&url);
    let _a = spec.start().await;
    let all = fabric(&bus, &Config::default(), &["a"]).await;
    let before = turn("before");
    assert_eq!(within(run(&all, &before, |_| {})).await.unwrap(), "before");
    assert_kept_once(&kept(&bus, before.session.as_deref().unwrap()).await, "before");

    let said = |n: usize| What::Reply { text: n.to_string(), model: None };
    for n in 0..100 {
        log.append("s", None, said(n)).await;
    }
    let victim = leader(&servers, &servers[0]).await;
    servers[victim].kill().await;
    for n in 100..200 {
        log.append("s", None, said(n)).await;
    }
    assert!(log.flush(LONG).await);
    let texts: Vec<_> = eventually(|| async { session::history(&bus, "s", 1_000).await.ok() })
        .await
        .into_iter()
        .map(|event| if let What::Reply { text, .. } = event.what { text } else { String::new() })
        .collect();
    let wanted: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(texts, wanted);
    // Two of three go on as before, for the hosts as well.
    let after = turn("after");
    let answer = eventually(|| async { run(&all, &after, |_| {}).await.ok() }).await;
    assert_eq!(answer, "after");
    assert_kept_once(&kept(&bus, after.session.as_deref().unwrap()).await, "after");
    assert_kept_once(&kept(&bus, before.session.as_deref().unwrap()).await, "before");
    eventually(|| async { roster::nodes(&bus).await.ok()?.iter().any(|info| info.node == "a").then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_with_one_copy_gets_three() {
    let Some((servers, url)) = three().await else { return };
    let bus = within(Bus::connect(&url, "tests")).await.unwrap();
    let open = || async {
        let log = SessionLog::start(&bus).await.ok()?;
        let jobs = Jobs::open(&bus).await.ok()?;
        bus.make_clips().await.ok().map(|()| (log, jobs))
    };
    // The three must find each other first.
    drop(eventually(open).await);
    let _before = Claim::make(&bus, &NodeInfo { node: "tests".to_owned(), ..NodeInfo::default() }).await.unwrap();
    bus.set_replicas(3);
    // While a stream gets its copies it may have no leader.
    drop(eventually(open).await);
    let other = NodeInfo { node: "other".to_owned(), instance: "other".to_owned(), ..NodeInfo::default() };
    let _after = eventually(|| async { Claim::make(&bus, &other).await.ok() }).await;
    let context = jetstream::new(servers[0].raw().await);
    for name in ["SESSIONS", "JOBS", "KV_JOB_STATES", "KV_NODES", "OBJ_CLIPS"] {
        let stream = within(context.get_stream(name)).await.unwrap();
        assert_eq!(stream.cached_info().config.num_replicas, 3, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_can_not_keep_three_copies_and_says_so() {
    let Some(nats) = Nats::start().await else { return };
    let spec = HostSpec::new("a", "llm").set(FAKES).set(&["bus.replicas=3"]).on(&nats.url());
    let (_, why) = within(tokio::task::spawn_blocking(move || spec.refused())).await.unwrap();
    assert!(why.contains("3 of them in a cluster for bus.replicas = 3"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_full_events_wait_and_none_is_lost() {
    let limited = NatsSpec { jetstream: ", max_file_store: 4MB", ..NatsSpec::default() };
    let Some(nats) = Nats::of(limited).await else { return };
    let a = host(&nats, "a", "llm,agent", &[]).await;
    let all = fabric(a.bus(), &Config::default(), &["a"]).await;
    let before = turn("before");
    within(run(&all, &before, |_| {})).await.unwrap();
    assert_kept_once(&kept(a.bus(), before.session.as_deref().unwrap()).await, "before");
    // Somebody else fills it.
    let context = jetstream::new(nats.raw().await);
    let filler = stream::Config {
        name: "FILL".to_owned(),
        subjects: vec!["fill".to_owned()],
        storage: stream::StorageType::File,
        ..stream::Config::default()
    };
    within(context.create_stream(filler)).await.unwrap();
    for bytes in [100_000, 1_000, 10] {
        while within(within(context.publish("fill", vec![0; bytes].into())).await.unwrap().into_future()).await.is_ok()
        {
        }
    }
    let during = turn("during");
    assert_eq!(within(run(&all, &during, |_| {})).await.unwrap(), "during");
    // The turn is answered, and nothing claims that it is kept.
    let session = during.session.as_deref().unwrap();
    assert!(within(session::history(a.bus(), session, 10)).await.unwrap().is_empty());
    within(context.delete_stream("FILL")).await.unwrap();
    assert_kept_once(&kept(a.bus(), session).await, "during");
    assert_kept_once(&kept(a.bus(), before.session.as_deref().unwrap()).await, "before");
}

/// A file system of a few MiB on a folder; taken down when it is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        need(false, "the right to mount a small disk (root has it)");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is about to end may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_loses_nothing_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount() else { return };
    let Some(mut nats) = Nats::of(NatsSpec { store: Some(disk.path()), ..NatsSpec::default() }).await else { return };
    let a = host(&nats, "a", "llm,agent", &[]).await;
    let all = fabric(a.bus(), &Config::default(), &["a"]).await;
    let before = turn("before");
    within(run(&all, &before, |_| {})).await.unwrap();
    assert_kept_once(&kept(a.bus(), before.session.as_deref().unwrap()).await, "before");
    let filler = disk.path().join("filler");
    // To the last byte.
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write(&mut file, &[0; 512]).is_ok_and(|written| written > 0) {}
    // Larger than what is left of a block of the file system that is begun already.
    let text = words(1_000);
    let during = turn(&text);
    assert_eq!(within(run(&all, &during, |_| {})).await.unwrap(), text);
    // There is room again, and the server is started anew, as it must be after that.
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    nats.kill().await;
    nats.restart().await;
    within(a.bus().until_up()).await;
    assert_kept_once(&kept_soon(a.bus(), during.session.as_deref().unwrap()).await, &text);
    assert_kept_once(&kept_soon(a.bus(), before.session.as_deref().unwrap()).await, "before");
    // The host is none the worse.
    let after = turn("after");
    let answer = eventually(|| async { run(&all, &after, |_| {}).await.ok() }).await;
    assert_eq!(answer, "after");
    drop((a, nats));
}

/// As [`kept`], where the stream may not be there yet.
async fn kept_soon(bus: &Bus, session: &str) -> Vec<sidetone::bus::message::session::SessionEvent> {
    eventually(|| async {
        let events = session::history(bus, session, 1_000).await.ok()?;
        events.iter().any(|event| matches!(event.what, What::Reply { .. })).then_some(events)
    })
    .await
}

/// Where Debian has what shifts a process's clock.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[tokio::test(flavor = "multi_thread")]
async fn clocks_an_hour_apart_do_not_keep_hosts_apart() {
    if !need(Path::new(FAKETIME).exists(), "libfaketime (the package faketime)") {
        return;
    }
    let Some(nats) = Nats::start().await else { return };
    let shifted = |name: &str, roles: &str, by: &str| {
        let spec = HostSpec::new(name, roles).set(FAKES).set(&["llm.model=slow:100"]).on(&nats.url());
        spec.env("LD_PRELOAD", FAKETIME).env("FAKETIME", by).env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    };
    let early = shifted("early", "llm", "-1h").start().await;
    let _late = shifted("late", "agent", "+1h").start().await;
    let bus = early.bus();
    let all = fabric(bus, &Config::default(), &["early", "late"]).await;
    let text = words(20);
    let request = turn(&text);
    assert_eq!(within(run(&all, &request, |_| {})).await.unwrap(), text);
    let events = kept(bus, request.session.as_deref().unwrap()).await;
    assert_kept_once(&events, &text);
    let here = jiff::Timestamp::now();
    let there: jiff::Timestamp = events[0].at.parse().unwrap();
    let ahead = there.duration_since(here);
    assert!(ahead > jiff::SignedDuration::from_mins(50), "the clock was not shifted: {ahead}");
    // Their entries are renewed and stay: that is told by the server's clock alone.
    let mut nodes = all.changes();
    for _ in 0..4 {
        within(nodes.changed()).await.unwrap();
    }
    let names: Vec<_> = all.nodes().await.into_iter().map(|info| info.node).collect();
    assert_eq!(names, ["early", "late"]);
}
