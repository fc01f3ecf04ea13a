//! Audio between hosts by JackTrip: hosts in network namespaces, each with a JACK server of its own.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sidetone::audio::Clip;
use sidetone::bus::message::audio::{Link, LinkOrder, LinkSpec, LinkState};
use sidetone::bus::message::voice::{Control, TurnState};
use sidetone::bus::subject::Target;
use sidetone::bus::{Bus, BusError, Call, subject};
use tokio::sync::mpsc;

use crate::support::host::{FAKES, Follow, Host, HostSpec};
use crate::support::jack::{JackServer, Peer, available, wait_for};
use crate::support::nats::{Nats, NatsSpec, eventually, within};
use crate::support::network::Network;

/// Whether all is there; says what is not.
fn ready() -> bool {
    let found = Command::new("jacktrip").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "jacktrip is not installed: apt install jacktrip");
    if !found {
        eprintln!("skipped: jacktrip is not installed (apt install jacktrip)");
    }
    found && available()
}

/// A bus that all networks reach.
async fn bus() -> Option<(Nats, Bus)> {
    let nats = Nats::of(NatsSpec { host: "0.0.0.0", ..NatsSpec::default() }).await?;
    let bus = nats.host("tests").await;
    Some((nats, bus))
}

fn spec(
    nats: &Nats,
    jack: &JackServer,
    name: &str,
    roles: &str,
    network: Option<&Network>,
    settings: &str,
) -> HostSpec {
    let address = network.map_or("127.0.0.1", |network| network.address());
    let text = format!("[jack]\nserver = {:?}\n{settings}", jack.name());
    let spec = HostSpec::new(name, roles).set(FAKES).config(&text).on(&format!("nats://{address}:{}", nats.port()));
    match network {
        Some(network) => spec.run_by(&network.wrapper()),
        None => spec,
    }
}

/// The states of links, as they are published.
struct Links(mpsc::UnboundedReceiver<Link>, Vec<(String, LinkState)>);

impl Links {
    async fn new(bus: &Bus) -> Self {
        use futures::StreamExt as _;
        let mut links = bus.subscribe::<Link>(&subject::event_of_all("link")).await.unwrap();
        let (out, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some((_, link)) = links.next().await {
                if out.send(link.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self(seen, Vec::new())
    }

    async fn until(&mut self, node: &str, state: LinkState) -> Link {
        let until = Instant::now() + crate::support::host::PATIENCE;
        loop {
            let Ok(Some(link)) = tokio::time::timeout_at(until.into(), self.0.recv()).await else {
                panic!("waited in vain for the link of {node} to be {state:?}; seen: {:?}", self.1)
            };
            self.1.push((link.node.clone(), link.state));
            if link.node == node && link.state == state {
                return link;
            }
        }
    }
}

fn cli(host: &Host, arguments: &[&str]) -> (i32, String, String) {
    told(host.cli(arguments).output().unwrap())
}

fn told(done: Output) -> (i32, String, String) {
    let (out, err) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    (done.status.code().unwrap(), out, err)
}

async fn order(bus: &Bus, node: &str, order: LinkOrder) -> Result<Vec<Link>, BusError> {
    let call = Call::within(Duration::from_secs(20));
    within(bus.ask(Target::Node(node), &order, &call)).await.map(|links| links.links)
}

/// Says `peer`'s mouth something until its ear hears it: there and back over the link.
fn passes(peer: &mut Peer) {
    let tone: Vec<f32> = (0..4_800).map(|n| 0.5 * (n as f32 / 20.0).sin()).collect();
    let mut heard = Vec::new();
    let mut last = Instant::now() - Duration::from_secs(1);
    wait_for("a tone to come back over the link", || {
        if last.elapsed() > Duration::from_millis(400) {
            last = Instant::now();
            peer.mouth.write(&tone);
        }
        heard.clear();
        peer.ear.read_into(&mut heard);
        heard.iter().any(|sample| sample.abs() > 0.3).then_some(())
    });
}

/// The JackTrip of a host.
fn jacktrip(client: &str) -> i32 {
    let found = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let words: Vec<&str> = line.split('\0').collect();
        (words.first()?.ends_with("jacktrip") && words.windows(2).any(|pair| pair == ["-J", client])).then_some(pid)
    });
    found.unwrap_or_else(|| panic!("there is no JackTrip with the client {client}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_are_linked_by_one_command_lose_each_other_and_are_linked_again() {
    if !ready() {
        return;
    }
    let Some(network) = Network::make(10) else { return };
    let Some((nats, bus)) = bus().await else { return };
    let near = JackServer::start(48_000, 128);
    let far = JackServer::beside(&near, 48_000, 128);
    // What comes to the studio is played; what comes to the stage goes straight back.
    let studio = "[[audio.connect]]\nfrom = \"room:mouth\"\nto = \"t-stage:send_1\"\n\
        [[audio.connect]]\nfrom = \"t-stage:receive_1\"\nto = \"room:ear\"\n";
    let stage = "[[audio.connect]]\nfrom = \"t-studio:receive_1\"\nto = \"t-studio:send_1\"\n";
    let studio = spec(&nats, &near, "t-studio", "audio", None, studio).start().await;
    let mut stage = spec(&nats, &far, "t-stage", "audio", Some(&network), stage).start().await;
    let mut links = Links::new(&bus).await;
    let mut room = Peer::open(&near, "room");

    let (code, out, err) = cli(&studio, &["link", "t-studio", "t-stage", "--channels", "1"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("t-stage:receive_1") && out.contains("t-studio:send_1"), "{out}");
    passes(&mut room);
    let shown = eventually(|| async {
        let links = order(&bus, "t-stage", LinkOrder::List).await.ok()?;
        links.into_iter().find(|link| link.round_trip_us.is_some() && link.loss.is_some())
    })
    .await;
    assert_eq!(
        (shown.spec.mode.as_str(), shown.spec.peer.as_str(), shown.state),
        ("p2p-client", "t-studio", LinkState::Up)
    );
    assert!(shown.round_trip_us.unwrap() < 100_000 && shown.loss.unwrap() < 0.5, "{shown:?}");
    let (code, out, _) = cli(&studio, &["links"]);
    assert!(code == 0 && out.contains("p2p-server") && out.contains("p2p-client") && out.contains(" ms"), "{out}");
    let nodes = sidetone::bus::roster::nodes(&bus).await.unwrap();
    let offered = nodes.iter().find(|info| info.node == "t-stage").unwrap().offers[0].clone();
    assert_eq!((offered.models.as_slice(), offered.audio.unwrap().rate_hz), (&["t-studio".to_owned()][..], 48_000));

    // The network is cut, and joined again.
    while links.0.try_recv().is_ok() {}
    network.cut();
    let lost = links.until("t-studio", LinkState::Lost).await;
    assert!(lost.why.contains("'t-stage'"), "{}", lost.why);
    network.join();
    let joined = Instant::now();
    links.until("t-studio", LinkState::Up).await;
    eprintln!("the link was back {:?} after the network", joined.elapsed());
    passes(&mut room);

    // Either JackTrip is killed.
    for (node, client) in [("t-studio", "t-stage"), ("t-stage", "t-studio")] {
        while links.0.try_recv().is_ok() {}
        let killed = Instant::now();
        // SAFETY: a plain system call on a child of a host of this test.
        assert_eq!(unsafe { libc::kill(jacktrip(client), libc::SIGKILL) }, 0);
        links.until(node, LinkState::Up).await;
        eprintln!("the link was back {:?} after its JackTrip on {node} was killed", killed.elapsed());
        passes(&mut room);
    }

    // A host ends and comes back: it has kept its end.
    while links.0.try_recv().is_ok() {}
    assert!(stage.end(libc::SIGTERM).success(), "{}", stage.log());
    links.until("t-studio", LinkState::Lost).await;
    stage.restart().await;
    links.until("t-stage", LinkState::Up).await;
    passes(&mut room);

    let (code, out, err) = cli(&studio, &["link", "t-stage", "t-studio", "--remove"]);
    assert_eq!(code, 0, "{out}{err}");
    for node in ["t-studio", "t-stage"] {
        assert_eq!(order(&bus, node, LinkOrder::List).await.unwrap(), []);
    }
    wait_for("the ports to be gone", || room.connections("room:mouth").is_empty().then_some(()));
    let (code, _, err) = cli(&studio, &["link", "t-stage", "t-studio", "--remove"]);
    assert!(code == 3 && err.contains("there is no link"), "{code} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_can_not_be_is_refused_with_the_reason() {
    if !ready() {
        return;
    }
    let Some((nats, bus)) = bus().await else { return };
    let near = JackServer::start(48_000, 128);
    let far = JackServer::beside(&near, 44_100, 128);
    let settings =
        "[[audio.link]]\nname = \"broken\"\nmode = \"p2p-client\"\npeer = \"no.such.host.invalid\"\nport = 4999\n";
    let studio = spec(&nats, &near, "r-studio", "audio", None, settings).start().await;
    let stage = spec(&nats, &far, "r-stage", "audio", None, "").start().await;
    let mut links = Links::new(&bus).await;

    // The registry knows the rates before anything is started.
    let (code, _, err) = cli(&studio, &["link", "r-studio", "r-stage"]);
    assert!(code == 1 && err.contains("44100 Hz") && err.contains("48000 Hz"), "{code} {err}");
    let spec_of = |name: &str, mode: &str, peer: &str, port: u16| LinkSpec {
        name: name.to_owned(),
        mode: mode.to_owned(),
        peer: peer.to_owned(),
        port,
        ..LinkSpec::default()
    };
    let set = |link: LinkSpec| LinkOrder::Set { link };
    let made = order(&bus, "r-studio", set(spec_of("known", "p2p-server", "r-stage", 0))).await.unwrap();
    let refused = links.until("r-studio", LinkState::Refused).await;
    assert!(refused.why.contains("44100 Hz"), "{}", refused.why);
    // Set again as it is, it stays as it is.
    let again = order(&bus, "r-studio", set(spec_of("known", "p2p-server", "r-stage", 0))).await.unwrap();
    assert_eq!(again[0].spec, made[0].spec);
    order(&bus, "r-studio", LinkOrder::Remove { name: "known".to_owned() }).await.unwrap();

    // Of a peer that is no host JackTrip itself finds out: the one that hears the other first says so.
    let waits = order(&bus, "r-studio", set(spec_of("anyone", "p2p-server", "", 0))).await.unwrap();
    links.until("r-studio", LinkState::Waiting).await;
    order(&bus, "r-stage", set(spec_of("blind", "p2p-client", "127.0.0.1", waits[0].spec.port))).await.unwrap();
    let refused = eventually(|| async {
        let mut all = order(&bus, "r-stage", LinkOrder::List).await.ok()?;
        all.extend(order(&bus, "r-studio", LinkOrder::List).await.ok()?);
        all.into_iter().find(|link| link.state == LinkState::Refused && link.spec.name != "broken")
    })
    .await;
    let why = &refused.why;
    assert!(why.contains("48000 Hz") && why.contains("44100 Hz") && why.contains("JackTrip needs one rate"), "{why}");

    // What stands in the settings says why it can't be, and is not removed by an order.
    let listed = order(&bus, "r-studio", LinkOrder::List).await.unwrap();
    let broken = listed.iter().find(|link| link.spec.name == "broken").unwrap();
    assert!(broken.configured && broken.why.contains("no.such.host.invalid"), "{broken:?}");
    let port = waits[0].spec.port;
    for (link, says) in [
        (LinkOrder::Remove { name: "broken".to_owned() }, "settings"),
        (set(spec_of("broken", "p2p-server", "", 0)), "settings"),
        (LinkOrder::Remove { name: "none".to_owned() }, "there are anyone, broken"),
        (set(spec_of("x", "p2p", "", 0)), "there are p2p-server, p2p-client, hub-server, hub-client"),
        (set(spec_of("x", "p2p-client", "r-stage", 0)), "port is missing"),
        (set(spec_of("x", "p2p-client", "", 4464)), "who calls needs"),
        (set(spec_of("x", "p2p-client", "--help", 4464)), "does not begin with '-'"),
        (set(spec_of("a:b", "p2p-server", "", 0)), "JACK client"),
        (set(spec_of("y", "p2p-server", "", port)), "is that of link \"anyone\""),
        (set(LinkSpec { channels: 999, ..spec_of("x", "p2p-server", "", 0) }), "1 to 64"),
        (set(LinkSpec { queue: 1, ..spec_of("x", "p2p-server", "", 0) }), "2 to 250"),
    ] {
        let error = order(&bus, "r-studio", link).await.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
    for (arguments, code, says) in [
        (&["link", "r-studio", "r-studio"][..], 1, "needs two"),
        (&["link", "r-studio", "nobody"], 3, "those with it are r-stage, r-studio"),
        (&["links", "--host", "nobody"], 3, "nobody"),
    ] {
        let (is, _, err) = cli(&studio, arguments);
        assert!(is == code && err.contains(says), "{arguments:?}: {is} {err}");
    }
    drop(stage);
}

/// A folder with a `jacktrip` that says that it waits for its peer, and does `then`; and `$PATH` with it.
fn deaf_jacktrip(then: &str) -> (tempfile::TempDir, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jacktrip");
    std::fs::write(&file, format!("#!/bin/sh\necho 'Waiting for Peer...'\n{then}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    (folder, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_never_up_is_not_lost() {
    if !available() {
        return;
    }
    let Some((nats, bus)) = bus().await else { return };
    let jack = JackServer::start(48_000, 128);
    let (_folder, path) = deaf_jacktrip("exit 0");
    let mut links = Links::new(&bus).await;
    let settings = "[[audio.link]]\nname = \"stage\"\nmode = \"p2p-server\"\n";
    let _host = spec(&nats, &jack, "studio", "audio", None, settings).env("PATH", &path).start().await;
    while links.until("studio", LinkState::Waiting).await.restarts < 3 {}
    assert!(links.1.iter().all(|(_, state)| *state != LinkState::Lost), "{:?}", links.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_stopped_in_the_middle_is_taken_back_on_both() {
    if !available() {
        return;
    }
    let Some((nats, bus)) = bus().await else { return };
    let jack = JackServer::start(48_000, 128);
    let (_folder, path) = deaf_jacktrip("exec sleep 1000");
    let spec = |name: &str| spec(&nats, &jack, name, "audio", None, "").env("PATH", &path);
    let (studio, _stage) = (spec("studio").start().await, spec("stage").start().await);
    let rates = || async {
        let nodes = sidetone::bus::roster::nodes(&bus).await.ok()?;
        let up = |info: &&sidetone::bus::message::node::NodeInfo| {
            info.offers.iter().any(|offer| offer.audio.as_ref().is_some_and(|audio| audio.rate_hz != 0))
        };
        (nodes.iter().filter(up).count() == 2).then_some(())
    };
    eventually(rates).await;
    let links = |node: &'static str| order(&bus, node, LinkOrder::List);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut command = studio.cli(&["link", "studio", "stage"]);
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        eventually(|| async { (!links("studio").await.ok()?.is_empty()).then_some(()) }).await;
        // SAFETY: a plain system call on a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(running.id().cast_signed(), signal) }, 0);
        let ended = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap());
        let (code, out, err) = told(within(ended).await.unwrap());
        assert!(code == 1 && err.contains("studio and stage are as they were"), "{code} {out} {err}");
        assert_eq!((links("studio").await.unwrap(), links("stage").await.unwrap()), (vec![], vec![]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_jacktrip_a_link_says_what_to_install() {
    if !ready() {
        return;
    }
    let Some((nats, bus)) = bus().await else { return };
    let jack = JackServer::start(48_000, 128);
    let settings = "[[audio.link]]\nname = \"stage\"\nmode = \"p2p-server\"\n";
    let mut follow = Follow::new(&bus).await;
    let host = spec(&nats, &jack, "bare", "audio", None, settings).env("PATH", "/nonexistent").start().await;
    follow
        .until("the missing program to be told", |seen| match seen {
            crate::support::host::Seen::Fault(fault) if fault.message.contains("package 'jacktrip'") => Some(()),
            _ => None,
        })
        .await;
    let refused = eventually(|| async {
        let links = order(&bus, "bare", LinkOrder::List).await.ok()?;
        links.into_iter().find(|link| link.why.contains("package 'jacktrip'"))
    })
    .await;
    assert_eq!(refused.state, LinkState::Refused);
    let server = format!("jack.server={}", jack.name());
    let doctor = ["doctor", "--set", "node.roles=[\"audio\"]", "--set", &server];
    let mut command = host.cli(&doctor);
    let (_, out, _) =
        told(command.env("PATH", "/nonexistent").arg("--config").arg(link_settings(&host)).output().unwrap());
    let row = out.lines().find(|line| line.contains("JackTrip")).unwrap_or_else(|| panic!("{out}"));
    assert!(row.starts_with("FAIL") && row.contains("package 'jacktrip'"), "{row}");
}

fn link_settings(host: &Host) -> std::path::PathBuf {
    let file = host.spec.home().join("doctor.toml");
    std::fs::write(&file, "[[audio.link]]\nname = \"stage\"\nmode = \"p2p-server\"\n").unwrap();
    file
}

/// A person at a far host: says a fixture into its link, and takes down what comes back.
fn speaks(host: &Host, jack: &JackServer, link: &str) -> std::process::Child {
    let said = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio/jfk-4s.ogg");
    let record = host.spec.home().join("heard.wav");
    let server = format!("jack.server={}", jack.name());
    let (to, from) = (format!("{link}:send_*"), format!("{link}:receive_*"));
    let mut command = host.cli(&["play", said.to_str().unwrap(), "--set", &server, "--to", &to, "--from", &from]);
    command.arg("--record").arg(&record).args(["--until-silent-s", "1.5"]);
    command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// How long the host's person heard something, in ms.
fn heard_ms(host: &Host) -> u64 {
    let clip = Clip::decode(&std::fs::read(host.spec.home().join("heard.wav")).unwrap()).unwrap();
    clip.duration_ms()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voice_hub_hears_three_hosts_and_answers_each() {
    if !ready() {
        return;
    }
    // A host tells its addresses when it starts.
    let networks: Vec<Network> = (20..23).map_while(Network::make).collect();
    if networks.len() < 3 {
        return;
    }
    let Some((nats, bus)) = bus().await else { return };
    let hub_jack = JackServer::start(48_000, 256);
    let mut settings = "[[audio.link]]\nname = \"hub\"\nmode = \"hub-server\"\nchannels = 1\n".to_owned();
    let names = ["h-one", "h-two", "h-three"];
    for name in names {
        settings += &format!(
            "[[voice.listeners]]\nname = \"{name}\"\nmode = \"open\"\n\
             capture_from = [\"{name}:receive_*\"]\nplayback_to = [\"{name}:send_*\"]\n"
        );
    }
    let hub = spec(&nats, &hub_jack, "h-hub", "audio,voice,stt,tts,llm,agent", None, &settings).start().await;
    let mut follow = Follow::new(&bus).await;
    let mut links = Links::new(&bus).await;
    let mut far = Vec::new();
    for (name, network) in names.iter().zip(networks) {
        let jack = JackServer::beside(&hub_jack, 48_000, 256);
        let link = "[[audio.link]]\nname = \"hub\"\nmode = \"hub-client\"\npeer = \"h-hub\"\nchannels = 1\n";
        let host = spec(&nats, &jack, name, "audio", Some(&network), link).start().await;
        links.until(name, LinkState::Up).await;
        far.push((network, jack, host));
    }
    let watcher = Peer::open(&hub_jack, "watcher");
    for name in names {
        wait_for("the hub's listeners to be connected", || {
            let hears = watcher.connections(&format!("{name}:receive_1"));
            (hears == [format!("sidetone-{name}:voice_in")]).then_some(())
        });
    }
    // All three speak at a time, and each is answered.
    let mut speaking = Vec::new();
    for (_, jack, host) in &far {
        speaking.push(speaks(host, jack, "hub"));
        // Clients that are opened at the same moment on several servers have been seen to be refused.
        let name = host.spec.name.clone();
        follow
            .until(&format!("{name} to be heard"), |seen| match seen {
                crate::support::host::Seen::State(state) => {
                    (state.listener == name && state.state == TurnState::Listening).then_some(())
                }
                _ => None,
            })
            .await;
    }
    for (child, (_, _, host)) in speaking.into_iter().zip(&far) {
        let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        assert!(done.status.success(), "{} was not answered: {}", host.spec.name, done.status);
        assert!(heard_ms(host) > 200, "{} ms", heard_ms(host));
    }
    // One goes and comes back; the hub goes on.
    let (_, _, one) = &mut far[0];
    assert!(one.end(libc::SIGTERM).success(), "{}", one.log());
    while links.0.try_recv().is_ok() {}
    one.restart().await;
    links.until("h-one", LinkState::Up).await;
    let graph = || async {
        let call = Call::within(Duration::from_secs(10));
        within(bus.ask(Target::Node("h-hub"), &sidetone::bus::message::audio::AskGraph {}, &call)).await.unwrap()
    };
    let until = Instant::now() + Duration::from_secs(20);
    while watcher.connections("h-one:receive_1") != ["sidetone-h-one:voice_in"] {
        assert!(Instant::now() < until, "its listener is not connected again: {:#?}", graph().await.connections);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(hub);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_performance_host_without_stt_has_its_commands_heard_by_another() {
    if !ready() {
        return;
    }
    let Some(network) = Network::make(30) else { return };
    let Some((nats, bus)) = bus().await else { return };
    let stt_jack = JackServer::start(48_000, 256);
    let stage_jack = JackServer::beside(&stt_jack, 48_000, 256);
    // The stage sends its microphone; the other host listens for it, and answers into the same link.
    let far = "[[audio.link]]\nname = \"p-stt\"\nmode = \"p2p-client\"\npeer = \"p-stt\"\nport = 4870\nchannels = 1\n";
    let near = "[[audio.link]]\nname = \"p-stage\"\nmode = \"p2p-server\"\npeer = \"p-stage\"\nport = 4870\nchannels = 1\n\
        [[voice.listeners]]\nname = \"main\"\nmode = \"open\"\ncapture_from = [\"p-stage:receive_1\"]\nplayback_to = [\"p-stage:send_1\"]\n";
    let stt = spec(&nats, &stt_jack, "p-stt", "audio,voice,stt,tts,llm,agent", None, near).start().await;
    let mut links = Links::new(&bus).await;
    let started = Instant::now();
    let stage = spec(&nats, &stage_jack, "p-stage", "audio", Some(&network), far).start().await;
    links.until("p-stt", LinkState::Up).await;
    eprintln!("the link was up {:?} after the second host was started", started.elapsed());
    let watcher = Peer::open(&stt_jack, "watcher");
    wait_for("the listener to be connected", || {
        (watcher.connections("p-stage:receive_1") == ["sidetone-main:voice_in"]).then_some(())
    });
    let mut follow = Follow::new(&bus).await;
    let child = speaks(&stage, &stage_jack, "p-stt");
    follow.state(TurnState::Speaking).await;
    let said = follow
        .session("what was said", |what| match what {
            sidetone::bus::message::session::What::Utterance { text, .. } => Some(text.clone()),
            _ => None,
        })
        .await;
    assert!(!said.is_empty());
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(heard_ms(&stage) > 200, "{} ms", heard_ms(&stage));
    stt.control(Control::Stop).await.unwrap();
}
