//! An installation in a folder: a list of hosts, what `sidetone deploy nats` makes of it, and servers that run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sidetone::bus::{Access, Bus, BusError, Call};
use sidetone::config::Config;
use sidetone::node;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::support::host::{FAKES, HostSpec};
use crate::support::nats::{eventually, free_port, program, within};

/// Runs the program in `folder`; gives its exit code and all that it says.
pub fn sidetone(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    for variable in ["SIDETONE_CONFIG", "SIDETONE_BUS", "SIDETONE_NAME", "SIDETONE_LOG"] {
        command.env_remove(variable);
    }
    let Output { status, stdout, stderr } =
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(!text.contains("panicked"), "{text}");
    (status.code().unwrap(), text)
}

/// A call with more time than anything here takes.
pub fn call() -> Call {
    Call::within(Duration::from_secs(60))
}

/// The folder, and the servers that run. Dropping it kills them.
pub struct Site {
    pub folder: TempDir,
    program: PathBuf,
    servers: Vec<(Child, String)>,
    /// The tables of the servers.
    tables: String,
}

impl Site {
    /// A list of `servers` servers on free ports, and of `users`; `None` if nats-server is not there.
    pub fn new(servers: usize, users: &str) -> Option<Self> {
        let (program, folder) = (program("nats-server")?, tempfile::tempdir().unwrap());
        let mut tables = String::new();
        for server in 1..=servers {
            let here = folder.path().display();
            let [port, cluster, leaf] = [(); 3].map(|()| free_port());
            tables += &format!(
                "[[servers]]\nname = \"n{server}\"\naddresses = [\"127.0.0.1\", \"localhost\"]\nport = {port}\n\
                 cluster_port = {cluster}\nleaf_port = {leaf}\nfolder = \"{here}/nats/server-n{server}\"\nstore = \"{here}/store-{server}\"\n",
            );
        }
        // A recording over this goes through CLIPS.
        tables += "[limits]\nmax_payload = \"256KB\"\n";
        let site = Self { folder, program, servers: Vec::new(), tables };
        site.list(users);
        let (code, text) = site.deploy(&[]);
        assert_eq!(code, 0, "{text}");
        Some(site)
    }

    /// Writes the list of hosts anew; `HERE` in it is the folder that is written.
    pub fn list(&self, users: &str) {
        let users = users.replace("HERE", self.file("").to_str().unwrap().trim_end_matches('/'));
        std::fs::write(self.folder.path().join("hosts.toml"), format!("{}{users}", self.tables)).unwrap();
    }

    /// Runs `sidetone deploy nats`.
    pub fn deploy(&self, arguments: &[&str]) -> (i32, String) {
        sidetone(self.folder.path(), &[&["deploy", "nats"], arguments].concat())
    }

    /// A file of what was written.
    pub fn file(&self, file: &str) -> PathBuf {
        self.folder.path().join("nats").join(file)
    }

    pub fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.file(file)).unwrap()
    }

    /// Has nats-server check a configuration.
    pub fn check(&self, file: &Path) {
        let output = Command::new(&self.program).arg("-t").arg("-c").arg(file).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", file.display());
    }

    /// Starts the server of a configuration, and waits until it takes clients.
    pub async fn serve(&mut self, file: &str) {
        let log = std::fs::File::create(self.folder.path().join(format!("{}.log", self.servers.len()))).unwrap();
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("-c").arg(self.file(file)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.kill_on_drop(true).spawn().unwrap();
        let text = self.text(file);
        let port = text.lines().find_map(|line| line.strip_prefix("listen: \"")?.split(':').nth(1)).unwrap();
        let port: u16 = port.trim_end_matches('"').parse().unwrap();
        self.servers.push((child, file.to_owned()));
        eventually(|| async { TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
    }

    /// Kills a server, as a crash would.
    pub async fn kill(&mut self, file: &str) {
        let (child, _) = self.servers.iter_mut().find(|(_, of)| of == file).unwrap();
        child.kill().await.unwrap();
    }

    /// Has the first server read its configuration anew.
    pub fn reload(&self) {
        let pid = i32::try_from(self.servers[0].0.id().unwrap()).unwrap();
        // SAFETY: a plain system call on a child that lives.
        unsafe { libc::kill(pid, libc::SIGHUP) };
    }

    /// The settings of a host or client.
    pub fn settings(&self, folder: &str) -> PathBuf {
        self.file(&format!("{folder}/sidetone.toml"))
    }

    /// The way onto the bus of a host or client.
    pub fn access(&self, folder: &str) -> Access {
        node::access(&Config::load(&[self.settings(folder)], &[]).unwrap()).unwrap()
    }

    /// Gets onto the bus as a host or client.
    pub async fn bus(&self, folder: &str) -> Bus {
        let node = folder.split_once('-').unwrap().1;
        let config = Config::load(&[self.settings(folder)], &[]).unwrap();
        // Of a cluster, servers that have no majority yet take no clients.
        eventually(|| async {
            match Bus::connect(self.access(folder), node).await {
                Ok(bus) => {
                    bus.set_replicas(config.bus.replicas);
                    Some(bus)
                }
                Err(BusError::Connect { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await
    }

    /// A host of the site with fake engines, as its settings say.
    pub fn host(&self, name: &str, roles: &str) -> HostSpec {
        let settings = self.settings(&format!("host-{name}"));
        HostSpec::new(name, roles)
            .reached_by(self.access("client-op"))
            .argument(&["--config", settings.to_str().unwrap()])
            .set(FAKES)
    }

    /// A plain client with the key of a host or client; what the server refuses comes out of the second.
    pub async fn raw(&self, folder: &str, url: Option<&str>) -> async_nats::Client {
        let user = folder.split_once('-').unwrap();
        let seed = std::fs::read_to_string(self.file(&format!("{folder}/{}.nk", user.0))).unwrap();
        let options = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
            .custom_inbox_prefix(sidetone::bus::subject::inbox(user.1));
        let (options, url) = match url {
            Some(url) => (options, url.to_owned()),
            None => {
                let ca = self.file(&format!("{folder}/ca.pem"));
                (options.add_root_certificates(ca), self.access(folder).url.split(',').next().unwrap().to_owned())
            }
        };
        within(options.connect(url)).await.unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (at, (_, file)) in self.servers.iter().enumerate() {
                let log = std::fs::read_to_string(self.folder.path().join(format!("{at}.log"))).unwrap_or_default();
                eprintln!("{file}:\n{log}");
            }
        }
    }
}
