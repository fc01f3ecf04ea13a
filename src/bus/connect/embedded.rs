//! The embedded server: a real `nats-server` with JetStream on loopback, started and supervised by the first host.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;

use super::error::BusError;
use crate::home::Home;
use crate::process::{ChildSpec, ReadyProbe, Supervised};

/// How long the server may take to be ready; it takes some 60 ms, more when it has a large store to recover.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Large enough for a bare WAV of 80 s in CD quality from the stock CLI; NATS advises against more.
const MAX_PAYLOAD: &str = "8MB";

/// The address of the embedded server.
#[must_use]
pub fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

/// Starts the server on `port`, with its store in `home`.
///
/// # Errors
/// [`BusError::Connect`] when the port is taken, the program is missing, or it does not come up.
pub async fn start(home: &Home, port: u16) -> Result<Supervised, BusError> {
    let failed = |why: String| BusError::Connect { url: url(port), why };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpStream::connect(address).await.is_ok() {
        return Err(failed(format!(
            "port {port} is taken: if a NATS server runs there, use it with --bus {}; else choose another port with --set bus.port=…",
            url(port)
        )));
    }
    let folder = home.state().join("nats");
    let config = folder.join("nats-server.conf");
    tokio::fs::create_dir_all(&folder).await.map_err(|e| failed(format!("can't make {}: {e}", folder.display())))?;
    let lock = lock(&folder).map_err(failed)?;
    tokio::fs::write(&config, render(port, &folder))
        .await
        .map_err(|e| failed(format!("can't write {}: {e}", config.display())))?;
    let spec = ChildSpec {
        name: "nats-server".to_owned(),
        program: home.program("nats-server"),
        args: vec!["-c".into(), config.into()],
        env: Vec::new(),
        // The lock goes with the specification, which lives as long as the server is kept up.
        ready: ReadyProbe::new(move || {
            let _ = &lock;
            async move { TcpStream::connect(address).await.is_ok() }
        }),
        ready_timeout: READY_TIMEOUT,
        install_hint:
            "install nats-server 2.12 or newer (`make setup` in a checkout does), or set bus.url to a server of yours"
                .to_owned(),
    };
    Supervised::start(spec).await.map_err(|e| failed(e.to_string()))
}

/// Keeps a second server, on another port, away from the same store, which it would spoil.
fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|e| format!("can't make {}: {e}", path.display()))?;
    file.try_lock().map_err(|_| {
        format!(
            "the store {} is in use by another host on this machine: use that host's bus, or give this one another --home",
            folder.display()
        )
    })?;
    Ok(file)
}

/// The server's configuration. An acknowledged event must survive a power failure: every write is synced.
fn render(port: u16, store: &Path) -> String {
    let store = store.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "listen: \"127.0.0.1:{port}\"\nmax_payload: {MAX_PAYLOAD}\n\
         jetstream {{\n  store_dir: \"{store}\"\n  sync_interval: always\n}}\n"
    )
}
