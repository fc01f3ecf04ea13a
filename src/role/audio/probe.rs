//! The way to another host, measured: a datagram there and back. JackTrip measures nothing of the kind.
//!
//! 13 bytes: `STP`, 1 for a question or 2 for its echo, a kind byte that is 0, and a number that comes back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

/// Questions that may be on their way at once; more find no answer.
const ASKED_MAX: usize = 256;
const LENGTH: usize = 13;
const MAGIC: &[u8; 3] = b"STP";
const QUESTION: u8 = 1;
const ECHO: u8 = 2;

type Asked = Mutex<HashMap<u64, oneshot::Sender<Instant>>>;

/// Echoes what other hosts send, and sends to them. Cloning shares it.
#[derive(Clone)]
pub struct Prober(Arc<Inner>);

struct Inner {
    socket: Arc<UdpSocket>,
    asked: Arc<Asked>,
    _echoing: AbortOnDropHandle<()>,
}

impl Prober {
    /// Listens on `port`; 0 for a free one.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn listen(port: u16) -> std::io::Result<Self> {
        let both = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).await;
        let socket = match both {
            Ok(socket) => socket,
            // A host without IPv6.
            Err(_) => UdpSocket::bind(("0.0.0.0", port)).await?,
        };
        let (socket, asked) = (Arc::new(socket), Arc::<Asked>::default());
        let (hears, answers) = (Arc::clone(&socket), Arc::clone(&asked));
        let echoing = tokio::spawn(async move {
            let mut bytes = [0; 64];
            loop {
                // An error is one of an earlier send, such as 'port unreachable'.
                let Ok((length, from)) = hears.recv_from(&mut bytes).await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let at = Instant::now();
                let Some((kind, number)) = bytes.get(..length).and_then(read) else { continue };
                if kind == QUESTION {
                    // The caller asks again.
                    let _ = hears.try_send_to(&datagram(ECHO, number), from);
                } else if let Some(asker) = answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
                    let _ = asker.send(at);
                }
            }
        });
        Ok(Self(Arc::new(Inner { socket, asked, _echoing: AbortOnDropHandle::new(echoing) })))
    }

    /// Where it listens; 0 if that can't be said.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.socket.local_addr().map_or(0, |address| address.port())
    }

    /// How long a datagram takes there and back; `None` if it does not within `patience`.
    pub async fn round_trip(&self, to: SocketAddr, patience: Duration) -> Option<Duration> {
        let number = rand::random::<u64>();
        let (answer, answered) = oneshot::channel();
        {
            let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.retain(|_, asker| !asker.is_closed());
            if asked.len() >= ASKED_MAX {
                return None;
            }
            asked.insert(number, answer);
        }
        let is_v6 = self.0.socket.local_addr().is_ok_and(|own| own.is_ipv6());
        let to = match to.ip() {
            IpAddr::V4(address) if is_v6 => SocketAddr::from((address.to_ipv6_mapped(), to.port())),
            _ => to,
        };
        let begun = Instant::now();
        self.0.socket.send_to(&datagram(QUESTION, number), to).await.ok()?;
        let at = tokio::time::timeout(patience, answered).await.ok()?.ok()?;
        Some(at.saturating_duration_since(begun))
    }

    /// The first of `addresses` that answers on `port`, and how long that took.
    pub async fn first(&self, addresses: &[IpAddr], port: u16, patience: Duration) -> Option<(IpAddr, Duration)> {
        let tries = addresses.iter().map(|&address| {
            let this = self.clone();
            Box::pin(async move {
                let taken = this.round_trip(SocketAddr::from((address, port)), patience).await;
                taken.map(|taken| (address, taken)).ok_or(())
            })
        });
        let tries: Vec<_> = tries.collect();
        if tries.is_empty() {
            return None;
        }
        futures::future::select_ok(tries).await.ok().map(|(found, _)| found)
    }
}

fn datagram(kind: u8, number: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let (head, tail) = bytes.split_at_mut(5);
    let (magic, rest) = head.split_at_mut(3);
    magic.copy_from_slice(MAGIC);
    if let Some(place) = rest.first_mut() {
        *place = kind;
    }
    tail.copy_from_slice(&number.to_be_bytes());
    bytes
}

fn read(bytes: &[u8]) -> Option<(u8, u64)> {
    let rest = bytes.strip_prefix(MAGIC).filter(|_| bytes.len() == LENGTH)?;
    let (kind, number) = (*rest.first()?, rest.get(2..)?);
    matches!(kind, QUESTION | ECHO).then_some((kind, u64::from_be_bytes(number.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_measure_the_way_between_them() {
        let (one, other) = (Prober::listen(0).await.unwrap(), Prober::listen(0).await.unwrap());
        let patience = Duration::from_secs(5);
        let addresses = ["203.0.113.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let (address, _) = one.first(&addresses, other.port(), patience).await.unwrap();
        assert_eq!(address, addresses[1]);
        // No socket listens there.
        let gone = SocketAddr::from((addresses[1], other.port()));
        drop(other);
        assert_eq!(one.round_trip(gone, Duration::from_millis(50)).await, None);
    }

    #[tokio::test]
    async fn what_is_no_question_is_not_answered() {
        let prober = Prober::listen(0).await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = ("127.0.0.1", prober.port());
        for bytes in
            [&b""[..], b"STP", b"STP\x01", &[0; 200], &datagram(3, 7), &datagram(ECHO, 7), b"XXX\x01\0\0\0\0\0\0\0\0\0"]
        {
            socket.send_to(bytes, to).await.unwrap();
        }
        socket.send_to(&datagram(QUESTION, 9), to).await.unwrap();
        let mut bytes = [0; 64];
        let (length, _) =
            tokio::time::timeout(Duration::from_secs(5), socket.recv_from(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(read(&bytes[..length]), Some((ECHO, 9)), "the first answer is the question's");
    }
}
