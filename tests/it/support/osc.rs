//! A host with the role `osc`, a surface beside it, and programs that others have written.

use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use sidetone::home::Home;
use sidetone::osc::{Limits, OscMessage, OscTime, OscType, decode};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::host::{FAKES, Host, HostSpec};
use super::nats::{PATIENCE, free_port};

/// A host with OSC on loopback.
pub struct OscHost {
    /// The host.
    pub host: Host,
    /// Where it takes OSC.
    pub at: SocketAddr,
    /// Where it answers OSCQuery.
    pub query: SocketAddr,
}

impl OscHost {
    /// Starts one with the roles and the lines of its settings.
    pub async fn start(roles: &str, settings: &str) -> Self {
        Self::with(HostSpec::new("stage", roles), settings, &[]).await
    }

    /// The same, of a host that is set up already.
    pub async fn with(spec: HostSpec, settings: &str, sets: &[&str]) -> Self {
        let (osc, query) = (free_port(), free_port());
        let file = spec.home().join("osc.toml");
        std::fs::write(&file, settings).unwrap();
        let listen = [format!("osc.listen=127.0.0.1:{osc}"), format!("osc.query=127.0.0.1:{query}")];
        let spec = spec.set(FAKES).set(&["osc.announce=false", "voice.listeners=[{mode=\"push_to_talk\"}]"]);
        let spec = spec.set(&[&listen[0], &listen[1]]).set(sets).argument(&["--config", file.to_str().unwrap()]);
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { host: spec.start().await, at: at(osc), query: at(query) }
    }

    /// A surface that talks to it.
    pub fn surface(&self) -> Surface {
        Surface::new(self.at)
    }
}

/// A control surface: sends and hears datagrams.
pub struct Surface {
    socket: UdpSocket,
    host: SocketAddr,
}

impl Surface {
    /// One that talks to `host`.
    pub fn new(host: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self { socket, host }
    }

    /// The same on a port of its own.
    pub fn bound(port: u16, host: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind(("127.0.0.1", port)).unwrap(), host }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Sends a message.
    pub fn send(&self, addr: &str, args: &[OscType]) {
        self.send_raw(&message(addr, args));
    }

    /// Sends bytes.
    pub fn send_raw(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.host).unwrap();
    }

    /// The next message that comes; `None` if none does within `patience`.
    pub fn next_within(&self, patience: Duration) -> Option<OscMessage> {
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 65_536];
        let (size, _) = self.socket.recv_from(&mut buffer).ok()?;
        decode(&buffer[..size], &Limits::default()).unwrap().pop().map(|timed| timed.message)
    }

    /// Waits for a message at `addr`; others are passed over.
    #[track_caller]
    pub fn until(&self, addr: &str) -> Vec<OscType> {
        self.until_that(addr, |_| true)
    }

    /// Waits for a message at `addr` with arguments that `fits` takes.
    #[track_caller]
    pub fn until_that(&self, addr: &str, fits: impl Fn(&[OscType]) -> bool) -> Vec<OscType> {
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.next_within(left) {
                Some(message) if message.addr == addr && fits(&message.args) => return message.args,
                Some(message) => seen.push(message),
                None => break,
            }
        }
        panic!("waited in vain for {addr}; seen: {seen:#?}");
    }

    /// Everything that has come up to the answer to a ping: what was sent before has been worked on.
    pub fn settle(&self) -> Vec<OscMessage> {
        let mark = OscType::Int(i32::from(self.port()));
        self.send("/assistant/ping", std::slice::from_ref(&mark));
        let mut seen = Vec::new();
        loop {
            let message = self.next_within(PATIENCE).expect("a ping is answered");
            if message.addr == "/assistant/pong" && message.args == [mark.clone()] {
                return seen;
            }
            seen.push(message);
        }
    }
}

/// A message as a packet.
pub fn message(addr: &str, args: &[OscType]) -> Vec<u8> {
    sidetone::osc::encode(&OscMessage { addr: addr.to_owned(), args: args.to_vec() }).unwrap()
}

/// Packets in a bundle that is due at `at`.
pub fn bundle(at: OscTime, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut bundle = b"#bundle\0".to_vec();
    bundle.extend(at.seconds.to_be_bytes());
    bundle.extend(at.fractional.to_be_bytes());
    for packet in packets {
        bundle.extend(u32::try_from(packet.len()).unwrap().to_be_bytes());
        bundle.extend(packet);
    }
    bundle
}

/// A text argument.
pub fn text(text: &str) -> OscType {
    OscType::String(text.to_owned())
}

/// The text of the first argument.
pub fn first_text(args: &[OscType]) -> String {
    match args.first() {
        Some(OscType::String(text)) => text.clone(),
        other => panic!("no text: {other:?}"),
    }
}

/// Runs liblo's `oscsend`.
pub fn oscsend(arguments: &[&str]) {
    let status = std::process::Command::new("oscsend").args(arguments).status().expect("apt-get install liblo-tools");
    assert!(status.success(), "oscsend {arguments:?}: {status}");
}

/// Runs a line of Python with python-osc.
pub fn python(script: &str) -> String {
    let python = Home::find(None).path().join("venv/bin/python");
    let output = std::process::Command::new(python).args(["-c", script]).stdin(Stdio::null()).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    out.into_owned()
}

/// liblo's `oscdump`, listening.
pub struct OscDump {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl OscDump {
    /// Starts it; `at` is a port, or one of liblo's addresses.
    pub fn start(at: &str) -> Self {
        let mut child = Command::new("oscdump")
            .args(["-L", at])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("apt-get install liblo-tools");
        Self { lines: BufReader::new(child.stdout.take().unwrap()).lines(), _child: child }
    }

    /// The next line without its time: what has come.
    pub async fn next(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("oscdump shows nothing").unwrap().expect("oscdump has ended");
        line.split_once(' ').map_or(line.clone(), |(_, rest)| rest.to_owned())
    }
}
