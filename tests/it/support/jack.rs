//! A real JACK server on the dummy driver, and a client that plays and records beside the one under test.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use jack::{AudioIn, AudioOut, Client, ClientOptions, Control, Port, ProcessScope};
use sidetone::audio::{Capture, Playback, RtSide, voice_rings};

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The ports that a server has room for, which is 50 KiB of shared memory each: containers may have 64 MiB in all.
const PORTS: u32 = 512;
const FEW_PORTS: u32 = 64;

/// libjack serves one server a process, so tests of one process that use one take turns. Where each test is a process of its
/// own, no test waits.
static TURN: Mutex<()> = Mutex::new(());
/// The groups of .config/nextest.toml for tests with a server: they know how many a machine can have.
const GROUPS: [&str; 2] = ["jack", "link"];
static NAMES: AtomicU32 = AtomicU32::new(0);

/// Whether `jackd` is installed. Without it a JACK test says that it is skipped; in CI that is a failure.
pub fn available() -> bool {
    let found = Command::new("jackd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "jackd is not installed: apt install jackd2");
    if !found {
        eprintln!("skipped: jackd is not installed (apt install jackd2)");
    }
    found
}

/// A running server. Dropping it ends it and waits until the process is gone.
#[allow(dead_code, reason = "the bench starts one server; the tests several")]
pub struct JackServer {
    name: String,
    child: Child,
    /// Of the server that this process itself uses.
    _turn: Option<MutexGuard<'static, ()>>,
}

#[allow(dead_code, reason = "the bench starts one server; the tests several")]
impl JackServer {
    /// Starts a server under a name that no other test process uses.
    pub fn start(rate_hz: u32, period: u32) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self::named(rate_hz, period, PORTS, Some(turn))
    }

    /// Starts another beside `_first`, for hosts: this process can't use two.
    pub fn beside(_first: &Self, rate_hz: u32, period: u32) -> Self {
        Self::named(rate_hz, period, FEW_PORTS, None)
    }

    fn named(rate_hz: u32, period: u32, ports: u32, turn: Option<MutexGuard<'static, ()>>) -> Self {
        let group = std::env::var("NEXTEST_TEST_GROUP");
        assert!(
            group.as_ref().map_or(true, |group| GROUPS.contains(&group.as_str())),
            "a test with a JACK server is in {group:?}: name it in .config/nextest.toml, in one of the groups {GROUPS:?}"
        );
        let name = format!("sidetone-it-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed));
        let child = spawn(&name, rate_hz, period, ports);
        Self { name, child, _turn: turn }
    }

    /// Its name, as `-n` took it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kills it as a crash would (SIGKILL), and waits for the process: its name is free only then. Start it anew, or the
    /// machine has one place less for servers.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew under the same name, after [`JackServer::kill`].
    pub fn restart(&mut self, rate_hz: u32, period: u32) {
        self.child = spawn(&self.name, rate_hz, period, PORTS);
    }
}

impl Drop for JackServer {
    // Asks it to go: a server that is killed keeps its place among the 8 that a machine may have, until one of the same
    // name is started.
    fn drop(&mut self) {
        // SAFETY: a plain system call. The child has not been waited for, or the call finds no process.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        // In vain if it has gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Now and then a server does not come up among many that open and close: then it is started anew.
fn spawn(name: &str, rate_hz: u32, period: u32, ports: u32) -> Child {
    for _ in 0..5 {
        let mut child = try_spawn(name, rate_hz, period, ports);
        let deadline = Instant::now() + PATIENCE / 2;
        while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            if is_up(name) {
                return child;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("jackd {name} does not come up: it is started anew");
        let _ = child.kill();
        child.wait().unwrap();
    }
    panic!("jackd {name} does not come up");
}

/// Whether a server takes clients. `jack_wait` could wait for it, but looks once a second.
fn is_up(name: &str) -> bool {
    let looked = Command::new("jack_wait").args(["-s", name, "-c"]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    looked.unwrap().stdout.starts_with(b"running")
}

fn try_spawn(name: &str, rate_hz: u32, period: u32, ports: u32) -> Child {
    let mut command = Command::new("jackd");
    // A test that is killed takes its server with it.
    // SAFETY: prctl is safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    command
        .args(["-n", name, "-R", "-P", "60", "-p", &ports.to_string(), "-d", "dummy"])
        .args(["-r", &rate_hz.to_string(), "-p", &period.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for `probe` to give something, looking every few milliseconds.
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct PeerProcess {
    input: Port<AudioIn>,
    output: Port<AudioOut>,
    rt: RtSide,
}

impl jack::ProcessHandler for PeerProcess {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        self.rt.process(self.input.as_slice(scope), self.output.as_mut_slice(scope));
        Control::Continue
    }
}

/// Counts the periods that the server missed.
pub struct Xruns(pub Arc<AtomicU64>);

impl jack::NotificationHandler for Xruns {
    fn xrun(&mut self, _: &Client) -> Control {
        self.0.fetch_add(1, Ordering::Relaxed);
        Control::Continue
    }
}

/// Another program on the graph: ports `ear` (records) and `mouth` (plays).
#[allow(dead_code, reason = "the bench counts xruns and connects; the tests do not")]
pub struct Peer {
    _client: jack::AsyncClient<Xruns, PeerProcess>,
    xruns: Arc<AtomicU64>,
    /// What `ear` heard.
    pub ear: Capture,
    /// What `mouth` says.
    pub mouth: Playback,
}

#[allow(dead_code, reason = "the bench counts xruns and connects; the tests do not")]
impl Peer {
    /// Opens client `name` on `server`.
    pub fn open(server: &JackServer, name: &str) -> Self {
        Self::open_at(server.name(), name)
    }

    /// Opens client `name` on the server called `server`, whoever started it. A server that has just started takes a client and
    /// now and then never calls it: such a one is opened again.
    pub fn open_at(server: &str, name: &str) -> Self {
        for _ in 0..3 {
            let mut peer = Self::activate(server, name);
            let (mut heard, deadline) = (Vec::new(), Instant::now() + PATIENCE / 10);
            while Instant::now() < deadline {
                peer.ear.read_into(&mut heard);
                if !heard.is_empty() {
                    return peer;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            eprintln!("JACK server {server} does not call client {name}: it is opened again");
        }
        panic!("JACK server {server} does not call client {name}");
    }

    fn activate(server: &str, name: &str) -> Self {
        let client = open_on(server, name);
        let input = client.register_port("ear", AudioIn::default()).unwrap();
        let output = client.register_port("mouth", AudioOut::default()).unwrap();
        let rate_hz = client.sample_rate();
        let (rt, ear, mouth) = voice_rings(rate_hz as usize * 4, rate_hz as usize * 4, rate_hz);
        let xruns = Arc::<AtomicU64>::default();
        let client = client.activate_async(Xruns(Arc::clone(&xruns)), PeerProcess { input, output, rt }).unwrap();
        Self { _client: client, xruns, ear, mouth }
    }

    /// Periods that the server has missed since this client was opened.
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }

    /// How long the periods were, in ms, that the server has missed since this client was opened: no client hears anything then.
    pub fn missed_ms(&self) -> usize {
        let client = self._client.as_client();
        let frames = self.xruns() * u64::from(client.buffer_size());
        (frames * 1_000).div_ceil(u64::from(client.sample_rate())) as usize
    }

    /// Makes a connection.
    pub fn connect(&self, source: &str, sink: &str) {
        self._client.as_client().connect_ports_by_name(source, sink).unwrap();
    }

    /// What port `port` is connected to.
    pub fn connections(&self, port: &str) -> Vec<String> {
        self._client.as_client().port_by_name(port).map(|port| port.get_connections()).unwrap_or_default()
    }

    /// Takes a connection away.
    pub fn disconnect(&self, source: &str, sink: &str) {
        self._client.as_client().disconnect_ports_by_name(source, sink).unwrap();
    }

    /// Asks the server for another period.
    pub fn set_period(&self, frames: u32) {
        self._client.as_client().set_buffer_size(frames).unwrap();
    }
}

/// A client that is not active yet. When clients are opened on several servers at the same moment, some are refused: such a one
/// is opened again.
pub fn open_on(server: &str, name: &str) -> Client {
    let mut status = 0;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(client) = try_open(server, name, &mut status) {
            return client;
        }
        assert!(Instant::now() < deadline, "peer {name} can't open on {server}: status {status:#x}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn try_open(server: &str, name: &str, status: &mut jack::jack_sys::jack_status_t) -> Option<Client> {
    use std::ffi::{CString, c_char, c_uint};
    type Open = unsafe extern "C" fn(*const c_char, c_uint, *mut c_uint, ...) -> *mut jack::jack_sys::jack_client_t;
    let options = ClientOptions::NO_START_SERVER | ClientOptions::USE_EXACT_NAME | ClientOptions::SERVER_NAME;
    let (c_name, c_server) = (CString::new(name).unwrap(), CString::new(server).unwrap());
    // SAFETY: the type is that of jack/jack.h; the strings outlive the call.
    unsafe {
        let open = jack::jack_sys::library().unwrap().get::<Open>(b"jack_client_open\0").unwrap();
        let raw = open(c_name.as_ptr(), options.bits(), status, c_server.as_ptr());
        (!raw.is_null()).then(|| Client::from_raw(raw))
    }
}

/// Waits for the next event, which must come.
#[track_caller]
pub fn next<T>(events: &mpsc::Receiver<T>) -> T {
    events.recv_timeout(PATIENCE).unwrap()
}
