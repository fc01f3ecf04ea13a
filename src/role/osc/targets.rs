//! Where OSC goes to, by name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::net::{self, Intake, Peer, Way};
use crate::bus::message::fault::Fault;
use crate::config::{OscTarget, OscTransport};
use crate::osc::frame::Framing;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses between two attempts, from the shortest to the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// How often a name is looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);

/// All targets of this host.
#[derive(Debug)]
pub struct Targets(BTreeMap<String, Arc<Target>>);

/// One of them.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    config: OscTarget,
    way: Way,
    /// Where it is, or why that is not known, or why it is not connected.
    found: Mutex<Result<SocketAddr, String>>,
    /// What a connection sends, until it is started.
    packets: Mutex<Option<mpsc::Receiver<Vec<u8>>>>,
}

impl Targets {
    /// From the settings; `sender` sends to those that want nothing special.
    ///
    /// # Errors
    /// The setting that can't be.
    pub fn new(targets: &BTreeMap<String, OscTarget>, sender: &Arc<UdpSocket>) -> Result<Self, String> {
        let target = |(name, config): (&String, &OscTarget)| {
            let target = Target::new(name, config, sender).map_err(|why| format!("osc.targets.{name}: {why}"))?;
            Ok((name.clone(), Arc::new(target)))
        };
        targets.iter().map(target).collect::<Result<_, _>>().map(Self)
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The target of that name.
    ///
    /// # Errors
    /// There is none; which there are.
    pub fn get(&self, name: &str) -> Result<&Arc<Target>, Fault> {
        self.0.get(name).ok_or_else(|| {
            let there = self.names().join(", ");
            Fault::not_found(if there.is_empty() {
                format!("there is no OSC target {name:?}, and none at all: add it to [osc.targets]")
            } else {
                format!("there is no OSC target {name:?}; there are {there}")
            })
        })
    }

    /// Finds names and keeps connections, for ever. What a connected target sends goes to `intake`; `reached` hears of each that
    /// has come, or has come back.
    pub async fn keep<I: Intake>(&self, intake: &Arc<I>, reached: impl Fn(&Target) + Clone + Send + Sync + 'static) {
        let mut tasks = JoinSet::new();
        for target in self.0.values() {
            let (target, intake, reached) = (Arc::clone(target), Arc::clone(intake), reached.clone());
            tasks.spawn(async move { target.keep(intake.as_ref(), &reached).await });
        }
        while tasks.join_next().await.is_some() {}
        std::future::pending::<()>().await;
    }
}

impl Target {
    fn new(name: &str, config: &OscTarget, sender: &Arc<UdpSocket>) -> Result<Self, String> {
        let like = "give a host and a port, such as \"192.168.1.20:8000\"";
        let port = config.to.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(format!("{:?} is no address: {like}", config.to));
        }
        let address = config.to.parse::<SocketAddr>().ok();
        let found = Mutex::new(address.ok_or_else(|| "its name was not looked up yet".to_owned()));
        let (way, packets) = match config.by {
            OscTransport::Udp => (Way::Udp(own_socket(config, address, sender)?), None),
            OscTransport::Tcp | OscTransport::TcpSize => {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Err("it is not connected yet".to_owned());
                let (queue, packets) = net::queue();
                (Way::Stream(queue), Some(packets))
            }
        };
        Ok(Self { name: name.to_owned(), config: config.clone(), way, found, packets: Mutex::new(packets) })
    }

    fn is_stream(&self) -> bool {
        self.config.by != OscTransport::Udp
    }

    /// Sends a packet at once; gives where to.
    ///
    /// # Errors
    /// Why it can't be sent.
    pub fn send(&self, packet: &[u8]) -> Result<SocketAddr, Fault> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (name, to) = (&self.name, &self.config.to);
        let at = found.map_err(|why| Fault::failed(format!("OSC can't be sent to {name} ({to}): {why}")))?;
        self.way.send(packet, at)?;
        Ok(at)
    }

    /// Where it is, as far as that is known.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone().ok()
    }

    fn set(&self, found: Result<SocketAddr, String>) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    async fn keep(&self, intake: &impl Intake, reached: &(impl Fn(&Self) + Sync)) {
        if self.is_stream() {
            self.stay_connected(intake, reached).await;
        } else if self.config.to.parse::<SocketAddr>().is_err() {
            let mut pause = PAUSES[0];
            loop {
                let found = self.look_up().await;
                pause = if found.is_ok() { LOOK_UP_EVERY } else { (pause * 2).min(PAUSES[1]) };
                // An address that was found stays, until another is.
                let before = self.address();
                if found.is_ok() || before.is_none() {
                    self.set(found);
                    if self.address() != before {
                        reached(self);
                    }
                }
                sleep(pause).await;
            }
        }
    }

    async fn look_up(&self) -> Result<SocketAddr, String> {
        let found = match timeout(CONNECT_TIMEOUT, lookup_host(&self.config.to)).await {
            Ok(Ok(found)) => self.way.first(found),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("its name was not found in time".to_owned()),
        };
        found.map_err(|why| format!("{why}; correct osc.targets.{}", self.name))
    }

    async fn stay_connected(&self, intake: &impl Intake, reached: &(impl Fn(&Self) + Sync)) {
        let Some(mut packets) = self.packets.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let framing = if self.config.by == OscTransport::Tcp { Framing::Slip } else { Framing::Size };
        let mut pause = PAUSES[0];
        loop {
            let error = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.config.to)).await {
                Err(_) => "no connection came about in time".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(stream)) => match stream.peer_addr() {
                    Err(error) => error.to_string(),
                    Ok(at) => {
                        tracing::info!(target = self.name, %at, "connected by OSC");
                        self.set(Ok(at));
                        pause = PAUSES[0];
                        reached(self);
                        let peer = Peer::new(at, self.way.clone());
                        net::talk(stream, &peer, Some(framing), &mut packets, intake).await.to_string()
                    }
                },
            };
            tracing::debug!(target = self.name, error, "not connected by OSC");
            self.set(Err(format!("it is not connected: {error}")));
            // What was for the connection that broke is not for the next.
            while packets.try_recv().is_ok() {}
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }
}

/// The socket that sends to a target: one of its own if it needs special settings, or another kind of address.
fn own_socket(
    config: &OscTarget,
    address: Option<SocketAddr>,
    sender: &Arc<UdpSocket>,
) -> Result<Arc<UdpSocket>, String> {
    let failed = |error: std::io::Error| format!("no socket for it: {error}");
    let is_v6 = sender.local_addr().map_err(failed)?.is_ipv6();
    let needs_v6 = address.is_some_and(|address| address.is_ipv6());
    if config.ttl == 1 && config.interface.is_empty() && (is_v6 || !needs_v6) {
        return Ok(Arc::clone(sender));
    }
    let any = if needs_v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let socket = net::sending_socket(SocketAddr::new(any, 0)).map_err(failed)?;
    if !needs_v6 {
        socket.set_multicast_ttl_v4(config.ttl).map_err(failed)?;
    }
    if !config.interface.is_empty() {
        let interface: Ipv4Addr = config.interface.parse().map_err(|_| {
            format!(
                "interface is {:?}: give the address of this host on that network, such as \"192.168.1.5\"",
                config.interface
            )
        })?;
        rustix::net::sockopt::set_ip_multicast_if(&socket, &interface).map_err(|error| failed(error.into()))?;
    }
    Ok(Arc::new(socket))
}
