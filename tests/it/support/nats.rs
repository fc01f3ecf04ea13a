//! A real nats-server with JetStream, and the stock `nats` CLI.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use sidetone::bus::Bus;
use sidetone::home::Home;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `work`, which must end.
#[track_caller]
pub fn within<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move { tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited in vain at {place}")) }
}

/// Tries `probe` until it gives something, which it must.
#[track_caller]
pub fn eventually<T, F: Future<Output = Option<T>>>(mut probe: impl FnMut() -> F) -> impl Future<Output = T> {
    within(async move {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

/// The program `name`, if it is there. Otherwise the test is skipped, or fails where all is required.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = Home::find(None).program(name);
    super::need(path.is_file(), &format!("the program {name}")).then_some(path)
}

/// A port that is free now, for TCP and UDP. No other test process gets it while this one lives, so that a server may close it
/// and open it again. None of those that the system gives away itself: it would be taken before it is used.
pub fn free_port() -> u16 {
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 20_000;
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(997)));
    let next = || u16::try_from(FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT).unwrap();
    let is_free = |port: &u16| {
        let all = (Ipv4Addr::UNSPECIFIED, *port);
        reserve(*port) && TcpListener::bind(all).is_ok() && UdpSocket::bind(all).is_ok()
    };
    std::iter::repeat_with(next).take(COUNT as usize).find(is_free).unwrap()
}

/// Whether no other process has reserved this port. The lock, on a byte of a file, ends with this process.
fn reserve(port: u16) -> bool {
    static RESERVED: LazyLock<std::fs::File> = LazyLock::new(|| {
        let file = std::env::temp_dir().join("sidetone-test-ports");
        std::fs::File::options().create(true).append(true).open(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"))
    });
    // SAFETY: all zeros are a value of this plain structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = port.into();
    lock.l_len = 1;
    // SAFETY: a plain system call on a file that stays open.
    unsafe { libc::fcntl(RESERVED.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
}

/// How a server is set up.
#[derive(Clone, Copy)]
pub struct NatsSpec<'a> {
    /// The address that it listens on.
    pub host: &'a str,
    /// Its port; `None`: one that is free.
    pub port: Option<u16>,
    /// Where its store is; `None`: in a folder that goes with the server.
    pub store: Option<&'a Path>,
    /// More settings of JetStream, each after a comma.
    pub jetstream: &'a str,
    /// More configuration.
    pub more: &'a str,
}

impl Default for NatsSpec<'_> {
    fn default() -> Self {
        Self { host: "127.0.0.1", port: None, store: None, jetstream: "", more: "" }
    }
}

/// A server on a port of its own, with a store of its own. Dropping it kills it.
pub struct Nats {
    program: PathBuf,
    port: u16,
    folder: TempDir,
    child: Child,
}

impl Nats {
    /// Starts a server; `None` if the program is not there and the test is to be skipped.
    pub async fn start() -> Option<Self> {
        Self::with("").await
    }

    /// Starts a server with more configuration.
    pub async fn with(configuration: &str) -> Option<Self> {
        Self::of(NatsSpec { more: configuration, ..NatsSpec::default() }).await
    }

    /// Starts a server as `spec` says.
    pub async fn of(spec: NatsSpec<'_>) -> Option<Self> {
        let (program, port) = (program("nats-server")?, spec.port.unwrap_or_else(free_port));
        let folder = TempDir::new().unwrap();
        let store = spec.store.map_or_else(|| folder.path().join("store"), Path::to_owned);
        let NatsSpec { host, jetstream, more, .. } = spec;
        let text = format!(
            "listen: \"{host}:{port}\"\njetstream {{ store_dir: {store:?}, sync_interval: always{jetstream} }}\n{more}\n"
        );
        std::fs::write(folder.path().join("nats-server.conf"), text).unwrap();
        let child = spawn(&program, &folder);
        let server = Self { program, port, folder, child };
        server.ready().await;
        Some(server)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[cfg(all(feature = "fake", feature = "whisper", feature = "sherpa"))]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A host on it. As a host does, it tries again: a machine that has just been woken may keep a first try waiting.
    pub async fn host(&self, node: &str) -> Bus {
        let connect = || async { Bus::connect(&self.url(), node).await.inspect_err(|e| eprintln!("{e}")).ok() };
        eventually(connect).await
    }

    /// A plain client on it, that knows nothing of our wire.
    pub async fn raw(&self) -> async_nats::Client {
        let connect = || async { async_nats::connect(self.url()).await.inspect_err(|e| eprintln!("{e}")).ok() };
        eventually(connect).await
    }

    /// Subscribes `raw` to `subject`, and waits until the subscription stands: a flush is no proof of that.
    pub async fn hear(&self, raw: &async_nats::Client, subject: &str) -> async_nats::Subscriber {
        within(async {
            let messages = raw.subscribe(subject.to_owned()).await.unwrap();
            let inbox = raw.new_inbox();
            let mut echo = raw.subscribe(inbox.clone()).await.unwrap();
            raw.publish(inbox, "".into()).await.unwrap();
            echo.next().await.unwrap();
            messages
        })
        .await
    }

    /// Kills it as a crash would (SIGKILL), and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it anew on the same port and store, after [`Nats::kill`].
    pub async fn restart(&mut self) {
        self.child = spawn(&self.program, &self.folder);
        self.ready().await;
    }

    async fn ready(&self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        eventually(|| async { TcpStream::connect(address).await.ok() }).await;
    }

    /// A folder that goes with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A shell line as one would type it, with `nats` and `sidetone` on the path; `None` if set-up has not built `nats`.
    pub fn shell(&self, line: &str) -> Option<std::process::Command> {
        let bin = program("nats")?.parent()?.to_owned();
        let sidetone = Path::new(env!("CARGO_BIN_EXE_sidetone")).parent()?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = std::process::Command::new("sh");
        command
            .args(["-ec", line])
            .env("PATH", format!("{}:{}:{path}", bin.display(), sidetone.display()))
            .env("NATS_URL", self.url())
            .env("HOME", self.folder())
            .env("XDG_CONFIG_HOME", self.folder())
            .current_dir(self.folder())
            .stdin(Stdio::null());
        Some(command)
    }

    /// A run of the stock CLI `program` against it; killed when dropped.
    pub fn cli(&self, program: &PathBuf, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(["--server", &self.url()])
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the stock CLI to its end; gives what it prints.
    pub async fn run_cli(&self, program: &PathBuf, arguments: &[&str], input: &[u8]) -> String {
        let mut command = self.cli(program, arguments);
        self.run(&mut command, input).await
    }

    /// Runs a command to its end; gives what it prints.
    pub async fn run(&self, command: &mut Command, input: &[u8]) -> String {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).await.unwrap();
        drop(stdin);
        let Output { status, stdout, stderr } = within(child.wait_with_output()).await.unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{:?}: {status}\n{stdout}\n{stderr}", command.as_std());
        format!("{stdout}{stderr}")
    }
}

fn spawn(program: &PathBuf, folder: &TempDir) -> Child {
    Command::new(program)
        .arg("-c")
        .arg(folder.path().join("nats-server.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
