//! Sockets: datagrams and streams in, packets out without waiting.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket as PlainUdp};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::codec::FramedRead;

use crate::bus::message::fault::Fault;
use crate::osc::frame::{Deframer, Framed, Framing};
use crate::osc::{Limits, OscMessage, encode};

/// What the system is asked to keep of datagrams until they are read; it may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Streams at once; further ones are closed.
const STREAMS: usize = 64;
/// Packets that wait for a stream. When it is full the next is refused.
const STREAM_QUEUE: usize = 1_024;
/// How long a stream may take a packet without reading it; then it is closed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that is silent for so long is asked whether it lives; twice in vain, and it is closed.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How many ports are tried where the system is to choose one.
const CHOICES: u32 = 16;
/// How long to wait when the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What takes the packets that come in. It must not wait: the next packet is read when it has returned.
pub trait Intake: Send + Sync + 'static {
    /// Whether packets from there are taken.
    fn admits(&self, from: IpAddr) -> bool;
    /// A packet has come.
    fn packet(&self, packet: &[u8], peer: &Peer);
    /// A packet has come that can't be read.
    fn unreadable(&self, peer: &Peer, why: &str);
    /// A stream was closed at once, since as many are open as may be.
    fn crowded(&self, why: String);
}

/// Who sends, and the way back.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub at: SocketAddr,
    way: Way,
}

/// The way to a peer or target.
#[derive(Debug, Clone)]
pub enum Way {
    /// A datagram by this socket.
    Udp(Arc<PlainUdp>),
    /// A packet into this queue, which a connection empties.
    Stream(mpsc::Sender<Vec<u8>>),
}

impl Peer {
    /// One that is reached by `way`.
    #[must_use]
    pub fn new(at: SocketAddr, way: Way) -> Self {
        Self { at: SocketAddr::new(at.ip().to_canonical(), at.port()), way }
    }

    /// The same host at another port; a stream has but one way back.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Self {
        let at = SocketAddr::new(self.at.ip(), port);
        match self.way {
            Way::Udp(_) => Self { at, way: self.way.clone() },
            Way::Stream(_) => self.clone(),
        }
    }

    /// Whether the way there leads by the same socket or stream.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.way, &other.way) {
            (Way::Udp(_), Way::Udp(_)) => self.at == other.at,
            (Way::Stream(one), Way::Stream(other)) => one.same_channel(other),
            _ => false,
        }
    }

    /// Whether it is connected, so that its end is noticed.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.way, Way::Stream(_))
    }

    /// Whether its connection is closed; of datagrams that is not known.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(&self.way, Way::Stream(queue) if queue.is_closed())
    }

    /// Sends a packet at once.
    ///
    /// # Errors
    /// Why it can't be sent.
    pub fn send(&self, packet: &[u8]) -> Result<(), Fault> {
        self.way.send(packet, self.at)
    }

    /// Sends a message at once.
    ///
    /// # Errors
    /// Why it can't be sent.
    pub fn message(&self, message: &OscMessage) -> Result<(), Fault> {
        self.send(&encode(message).map_err(|e| Fault::invalid(e.to_string()))?)
    }
}

impl Way {
    /// The first of the addresses of a name that is reached this way: a socket for IPv4 does not reach the others.
    ///
    /// # Errors
    /// There is none.
    pub fn first(&self, mut found: impl Iterator<Item = SocketAddr>) -> Result<SocketAddr, String> {
        match self {
            Self::Udp(socket) if socket.local_addr().is_ok_and(|own| own.is_ipv4()) => found
                .find(SocketAddr::is_ipv4)
                .ok_or_else(|| "it has no IPv4 address, and osc.listen is one".to_owned()),
            _ => found.next().ok_or_else(|| "it has no address".to_owned()),
        }
    }

    /// Sends a packet to `to` at once.
    ///
    /// # Errors
    /// Why it can't be sent: a failure of this target, which says nothing of the host and its others.
    pub fn send(&self, packet: &[u8], to: SocketAddr) -> Result<(), Fault> {
        match self {
            Self::Udp(socket) => {
                let failed = |error: std::io::Error| Fault::failed(format!("OSC can't be sent to {to}: {error}"));
                let to = if socket.local_addr().map_err(failed)?.is_ipv6() { mapped(to) } else { to };
                socket.send_to(packet, to).map(drop).map_err(failed)
            }
            Self::Stream(queue) => queue.try_send(packet.to_vec()).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    Fault::failed(format!("OSC can't be sent to {to}: it does not read what it is sent"))
                }
                mpsc::error::TrySendError::Closed(_) => {
                    Fault::failed(format!("OSC can't be sent to {to}: it has hung up"))
                }
            }),
        }
    }
}

/// As a socket for both kinds of addresses has it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        v6 @ SocketAddr::V6(_) => v6,
    }
}

/// A socket that sends datagrams, to everybody in a network if asked to.
///
/// # Errors
/// What the system says.
pub fn sending_socket(at: SocketAddr) -> std::io::Result<PlainUdp> {
    let socket = PlainUdp::bind(at)?;
    socket.set_nonblocking(true)?;
    socket.set_broadcast(true)?;
    Ok(socket)
}

/// Sockets for UDP and TCP on one port. One that the system chooses for the first may be taken for the second: then another.
async fn both(at: SocketAddr) -> std::io::Result<(PlainUdp, TcpListener)> {
    let mut tries = if at.port() == 0 { CHOICES } else { 1 };
    loop {
        tries -= 1;
        let udp = sending_socket(at)?;
        match TcpListener::bind(udp.local_addr()?).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => {}
            tcp => return tcp.map(|tcp| (udp, tcp)),
        }
    }
}

/// The sockets that listen.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    /// The same socket as `udp`, to send by: receivers answer to where a packet came from.
    pub sender: Arc<PlainUdp>,
}

impl Sockets {
    /// Listens at `listen` by UDP and TCP, and in the multicast groups.
    ///
    /// # Errors
    /// The setting that can't be, and why.
    pub async fn open(listen: &str, groups: &[String]) -> Result<Self, String> {
        let failed = |error: std::io::Error| {
            format!("osc.listen is {listen:?}: {error}; give an address and a free port, such as \"0.0.0.0:9000\"")
        };
        let at = tokio::net::lookup_host(listen).await.map_err(failed)?.next();
        let at = at.ok_or_else(|| failed(std::io::Error::other("it has no address")))?;
        let (plain, tcp) = both(at).await.map_err(failed)?;
        if let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size(&plain, RECEIVE_BUFFER) {
            tracing::debug!(%error, "the receive buffer of OSC keeps its size");
        }
        for group in groups {
            let wrong = |why: &dyn std::fmt::Display| {
                format!("osc.groups has {group:?}: {why}; a multicast group is an address such as \"239.0.0.1\"")
            };
            let address: Ipv4Addr = group.parse().map_err(|error| wrong(&error))?;
            plain.join_multicast_v4(&address, &Ipv4Addr::UNSPECIFIED).map_err(|error| wrong(&error))?;
        }
        let sender = Arc::new(plain.try_clone().map_err(failed)?);
        let udp = UdpSocket::from_std(plain).map_err(failed)?;
        Ok(Self { udp, tcp, sender })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.udp.local_addr().ok()
    }

    /// Listens, for ever.
    pub async fn hear<I: Intake>(&self, intake: &Arc<I>) {
        tokio::join!(self.datagrams(intake.as_ref()), self.streams(intake));
    }

    async fn datagrams(&self, intake: &impl Intake) {
        let mut buffer = vec![0; 1 << 16];
        let way = Way::Udp(Arc::clone(&self.sender));
        loop {
            match self.udp.recv_from(&mut buffer).await {
                Ok((size, from)) => {
                    if intake.admits(from.ip()) {
                        let packet = buffer.get(..size).unwrap_or_default();
                        intake.packet(packet, &Peer::new(from, way.clone()));
                    }
                }
                // An earlier datagram was refused by its receiver, for instance.
                Err(error) => tracing::debug!(%error, "no datagram could be read"),
            }
        }
    }

    async fn streams<I: Intake>(&self, intake: &Arc<I>) {
        let places = Arc::new(Semaphore::new(STREAMS));
        let mut streams = tokio::task::JoinSet::new();
        loop {
            while streams.try_join_next().is_some() {}
            match self.tcp.accept().await {
                Ok((stream, from)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        intake.crowded(format!("{STREAMS} streams are open, and {from} wants another"));
                        continue;
                    };
                    if intake.admits(from.ip()) {
                        let intake = Arc::clone(intake);
                        streams.spawn(async move {
                            let (queue, packets) = mpsc::channel(STREAM_QUEUE);
                            converse(stream, from, None, (queue, packets), intake.as_ref()).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a stream of OSC can't be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A queue of packets, both of its ends.
pub type Queue = (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>);

/// A queue for a stream.
#[must_use]
pub fn queue() -> Queue {
    mpsc::channel(STREAM_QUEUE)
}

/// Takes packets from a stream and sends those of the queue, until either end closes. It answers in the framing that it hears
/// unless one is given.
async fn converse(stream: TcpStream, at: SocketAddr, framing: Option<Framing>, queue: Queue, intake: &impl Intake) {
    let (sender, mut packets) = queue;
    // The queue closes with the connection, not with this end of it.
    let peer = Peer::new(at, Way::Stream(sender));
    let error = talk(stream, &peer, framing, &mut packets, intake).await;
    tracing::debug!(%at, ?error, "a stream of OSC has ended");
}

/// A peer that is gone without a word is noticed, and gives its place back.
fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(stream, SILENCE)?;
    Ok(sockopt::set_tcp_keepcnt(stream, 2)?)
}

/// The same with a queue that outlives the connection; says why it ended.
pub async fn talk(
    stream: TcpStream,
    peer: &Peer,
    framing: Option<Framing>,
    packets: &mut mpsc::Receiver<Vec<u8>>,
    intake: &impl Intake,
) -> std::io::Error {
    if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
        return error;
    }
    let (reader, mut writer) = stream.into_split();
    let max = Limits::default().bytes;
    let mut frames = FramedRead::new(reader, Deframer::new(max));
    // What the other end does not read does not keep what it sends from being heard.
    let heard = Mutex::new(None);
    let reading = async {
        loop {
            let framed = match frames.next().await {
                None => return std::io::Error::from(std::io::ErrorKind::UnexpectedEof),
                Some(Err(error)) => return error,
                Some(Ok(framed)) => framed,
            };
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = frames.decoder().framing();
            match framed {
                // A target that is sent to need not be one that may send.
                _ if !intake.admits(peer.at.ip()) => {}
                Framed::Packet(packet) => intake.packet(&packet, peer),
                Framed::TooBig => intake.unreadable(peer, &format!("a packet of more than {max} bytes")),
                Framed::Garbled => intake.unreadable(peer, "a frame with an escape that SLIP does not know"),
            }
        }
    };
    let closing = Notify::new();
    let mut writing = pin!(async {
        loop {
            let packet = tokio::select! {
                biased;
                packet = packets.recv() => packet,
                () = closing.notified() => None,
            };
            let Some(packet) = packet else { return std::io::ErrorKind::UnexpectedEof.into() };
            let framing = framing.or(*heard.lock().unwrap_or_else(PoisonError::into_inner)).unwrap_or(Framing::Slip);
            match timeout(WRITE_TIMEOUT, writer.write_all(&framing.frame(&packet))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) => return std::io::Error::from(std::io::ErrorKind::TimedOut),
            }
        }
    });
    let error = tokio::select! {
        error = reading => error,
        error = &mut writing => return error,
    };
    if framing.is_none() && error.kind() == std::io::ErrorKind::UnexpectedEof {
        // A peer that has only ended what it sends still reads the answers.
        closing.notify_one();
        let _ = timeout(WRITE_TIMEOUT, writing).await;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_reached_at_an_address_of_the_sockets_kind() {
        let [v6, v4] = ["[::1]:9000", "127.0.0.1:9000"].map(|at| at.parse::<SocketAddr>().unwrap());
        let way = Way::Udp(Arc::new(sending_socket("127.0.0.1:0".parse().unwrap()).unwrap()));
        assert_eq!(way.first([v6, v4].into_iter()), Ok(v4));
        assert!(way.first([v6].into_iter()).unwrap_err().contains("IPv4"));
        assert_eq!(Way::Stream(queue().0).first([v6, v4].into_iter()), Ok(v6));
    }
}
