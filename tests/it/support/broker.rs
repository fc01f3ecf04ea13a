//! A real nats-server on a port of its own, and the stock `nats` CLI beside it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sidetone::home::Home;
use tempfile::TempDir;

use super::need;

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server with JetStream. Dropping it kills it.
pub struct Broker {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Broker {
    /// Starts a server on a free port; `None` if set-up has not fetched it.
    pub fn start() -> Option<Self> {
        let program = Home::find(None).program("nats-server");
        if !need(program.is_file(), &format!("nats-server ({})", program.display())) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // The server chooses the port itself and writes it down.
        let mut broker = Self { child: spawn(folder.path(), -1), folder, port: 0 };
        broker.port = broker.wait_for("the server to write down its port", |broker| {
            let file = broker.folder.path().join(format!("nats-server_{}.ports", broker.child.id()));
            let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
            ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
        });
        Some(broker)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port and store.
    pub fn restart(&mut self) {
        self.child = spawn(self.folder.path(), i32::from(self.port));
        self.wait_for("the server to listen again", |broker| {
            std::net::TcpStream::connect(("127.0.0.1", broker.port)).ok()
        });
    }

    /// A folder that goes with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A shell line as one would type it, with `nats` and `sidetone` on the path; `None` if set-up has not built `nats`.
    pub fn shell(&self, line: &str) -> Option<Command> {
        let bin = Home::find(None).bin();
        if !need(bin.join("nats").is_file(), &format!("the nats CLI ({})", bin.join("nats").display())) {
            return None;
        }
        let sidetone = Path::new(env!("CARGO_BIN_EXE_sidetone")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-ec", line])
            .env("PATH", format!("{}:{}:{path}", bin.display(), sidetone.display()))
            .env("NATS_URL", self.url())
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        Some(command)
    }

    fn wait_for<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "nats-server ended while the test waited for {what}");
            assert!(Instant::now() < until, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, port: i32) -> Child {
    Command::new(Home::find(None).program("nats-server"))
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
        .arg(folder.join("store"))
        .arg("--ports_file_dir")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
