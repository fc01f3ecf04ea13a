//! All links of a host: those of its settings, and those that orders have set up, which a file keeps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::convert::{link_config, link_spec};
use super::link::{self, LinkParts};
use crate::bus::message::audio::{Link, LinkOrder, LinkSpec, Links as LinkList};
use crate::bus::message::fault::{Fault, FaultCode};
use crate::config::{LINKS_MAX, LinkConfig, LinkMode};

/// How long links may take to be gone.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// The file with the links that orders have set up.
const FILE: &str = "links.json";
/// Ports that are tried for an end that waits, and for one that calls, if the order names none.
const WAITING_PORTS: std::ops::Range<u16> = 4_464..4_564;
const CALLING_PORTS: std::ops::Range<u16> = 4_564..4_664;

/// The links.
pub struct Links {
    parts: LinkParts,
    file: PathBuf,
    running: Mutex<BTreeMap<String, RunningLink>>,
    tasks: TaskTracker,
    /// Grows whenever a link comes or goes.
    changes: watch::Sender<u64>,
}

struct RunningLink {
    config: LinkConfig,
    configured: bool,
    state: watch::Receiver<Link>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Links {
    /// Starts those of the settings and of the file in `folder`.
    pub async fn start(configured: &[LinkConfig], parts: LinkParts, folder: PathBuf) -> Self {
        let (file, tasks) = (folder.join(FILE), TaskTracker::new());
        let this = Self { parts, file, running: Mutex::default(), tasks, changes: watch::Sender::new(0) };
        {
            let mut running = this.running.lock().await;
            for link in configured {
                this.run(&mut running, link.clone(), true);
            }
            for spec in this.read().await {
                let kept = link_config(&spec).and_then(|link| {
                    clash(&running, &link)?;
                    Ok(link)
                });
                match kept {
                    Ok(link) => this.run(&mut running, link, false),
                    Err(fault) => tracing::warn!(link = spec.name, %fault, "a link that was set up before is left out"),
                }
            }
        }
        this
    }

    /// Each time that a link comes or goes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The names of all links.
    pub async fn names(&self) -> Vec<String> {
        self.running.lock().await.keys().cloned().collect()
    }

    /// Does what an order says, and gives the link that it is about, or all.
    ///
    /// # Errors
    /// Why not, and what would do.
    pub async fn order(&self, order: LinkOrder) -> Result<LinkList, Fault> {
        let mut running = self.running.lock().await;
        let links = match order {
            LinkOrder::List => running.values().map(|link| link.state.borrow().clone()).collect(),
            LinkOrder::Set { link } => {
                let link = self.complete(&running, link).await?;
                let is_other = |old: &RunningLink| old.config != link;
                if running.get(&link.name).is_some_and(|old| old.configured) {
                    let why = format!(
                        "link {:?} stands in the settings of this host; choose another name, or change it there",
                        link.name
                    );
                    return Err(Fault::invalid(why));
                }
                if running.get(&link.name).is_none_or(is_other) {
                    if let Some(old) = running.remove(&link.name) {
                        end(old).await;
                    }
                    self.run(&mut running, link.clone(), false);
                    self.write(&running).await?;
                }
                running.get(&link.name).map(|link| link.state.borrow().clone()).into_iter().collect()
            }
            LinkOrder::Remove { name } => {
                match running.get(&name) {
                    None => {
                        let names = running.keys().cloned().collect::<Vec<_>>().join(", ");
                        let names = if names.is_empty() { "none".to_owned() } else { names };
                        return Err(Fault::not_found(format!(
                            "there is no link {name:?} on this host; there are {names}"
                        )));
                    }
                    Some(link) if link.configured => {
                        let why = format!("link {name:?} stands in the settings of this host; take it out of them");
                        return Err(Fault::invalid(why));
                    }
                    Some(_) => {}
                }
                let old = running.remove(&name);
                let last = old.as_ref().map(|old| old.state.borrow().clone());
                if let Some(old) = old {
                    end(old).await;
                }
                self.changes.send_modify(|changes| *changes += 1);
                self.write(&running).await?;
                last.into_iter().collect()
            }
        };
        Ok(LinkList { links })
    }

    /// Ends all of them.
    pub async fn stop(&self) {
        let all = std::mem::take(&mut *self.running.lock().await);
        for link in all.values() {
            link.stop.cancel();
        }
        self.tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("JackTrip does not end");
        }
    }

    /// Fills in what an order leaves open, and checks the rest.
    async fn complete(&self, running: &BTreeMap<String, RunningLink>, mut spec: LinkSpec) -> Result<LinkConfig, Fault> {
        // Given again as it is, it stays as it is.
        let old = running.get(&spec.name).map(|old| &old.config);
        let open = link_config(&spec)?;
        if open.mode.calls() {
            if spec.port == 0 {
                return Err(Fault::invalid("port is missing; who calls must know where the other side listens"));
            }
            if spec.bind_port == 0 {
                spec.bind_port = match old.filter(|old| old.mode.calls()) {
                    Some(old) => old.bind_port,
                    None => free_port(running, open.mode).await?,
                };
            }
        } else if spec.port == 0 {
            spec.port = match old.filter(|old| old.mode == open.mode) {
                Some(old) => old.port,
                None => free_port(running, open.mode).await?,
            };
        }
        let link = link_config(&spec)?;
        if let Err((field, given, why)) = link.check() {
            return Err(Fault::invalid(format!("{field} is {given}: {why}")));
        }
        clash(running, &link)?;
        Ok(link)
    }

    fn run(&self, running: &mut BTreeMap<String, RunningLink>, config: LinkConfig, configured: bool) {
        let first =
            Link { node: self.parts.bus.node().to_owned(), spec: link_spec(&config), configured, ..Link::default() };
        let (states, state) = watch::channel(first);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let name = config.name.clone();
        let kept = link::keep(config.clone(), configured, self.parts.clone(), states, stop.clone());
        let over = ended.clone().drop_guard();
        self.tasks.spawn(async move {
            kept.await;
            drop(over);
        });
        running.insert(name, RunningLink { config, configured, state, stop, ended });
        self.changes.send_modify(|changes| *changes += 1);
    }

    async fn read(&self) -> Vec<LinkSpec> {
        let Ok(text) = tokio::fs::read(&self.file).await else { return Vec::new() };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(file = %self.file.display(), %error, "the links that were set up before can't be read; set them up again");
            Vec::new()
        })
    }

    async fn write(&self, running: &BTreeMap<String, RunningLink>) -> Result<(), Fault> {
        let specs: Vec<LinkSpec> =
            running.values().filter(|link| !link.configured).map(|link| link_spec(&link.config)).collect();
        let file = self.file.clone();
        let written = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let folder = file.parent().unwrap_or(std::path::Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut whole = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut whole, &specs)?;
            whole.persist(&file)?;
            Ok(())
        });
        let result = written.await.map_err(|error| error.to_string()).and_then(|done| done.map_err(|e| e.to_string()));
        result.map_err(|why| {
            let file = self.file.display();
            Fault::failed(format!(
                "the link runs, but not beyond a restart of this host: {file} can't be written: {why}"
            ))
        })
    }
}

/// A role that fails leaves no JackTrip behind.
impl Drop for Links {
    fn drop(&mut self) {
        for link in self.running.get_mut().values() {
            link.stop.cancel();
        }
    }
}

async fn end(link: RunningLink) {
    link.stop.cancel();
    // Else its port may still be taken; the next start tries again.
    let _ = tokio::time::timeout(STOP_TIMEOUT, link.ended.cancelled()).await;
}

fn clash(running: &BTreeMap<String, RunningLink>, link: &LinkConfig) -> Result<(), Fault> {
    let others = || running.values().map(|other| &other.config).filter(|other| other.name != link.name);
    if others().count() >= LINKS_MAX {
        return Err(Fault::new(FaultCode::Busy, format!("this host has {LINKS_MAX} links already; remove one")));
    }
    match others().find(|other| other.own_port() == link.own_port()) {
        Some(other) => {
            let why = format!("port {} is that of link {:?} on this host; choose another", link.own_port(), other.name);
            Err(Fault::invalid(why))
        }
        None => Ok(()),
    }
}

/// A port that is free.
async fn free_port(running: &BTreeMap<String, RunningLink>, mode: LinkMode) -> Result<u16, Fault> {
    let ports = if mode.calls() { CALLING_PORTS } else { WAITING_PORTS };
    for port in ports.clone() {
        if running.values().any(|link| link.config.own_port() == port) {
            continue;
        }
        let udp = UdpSocket::bind(("0.0.0.0", port)).await;
        let tcp = if mode == LinkMode::HubServer { TcpListener::bind(("0.0.0.0", port)).await.is_ok() } else { true };
        if udp.is_ok() && tcp {
            return Ok(port);
        }
    }
    Err(Fault::unavailable(format!("no port of {} to {} is free on this host", ports.start, ports.end - 1)))
}
