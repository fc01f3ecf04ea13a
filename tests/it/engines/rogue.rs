//! A TCP server that answers HTTP requests as a test tells it to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How it answers one path.
#[derive(Clone)]
pub enum Reply {
    /// A status line's rest, a content type, a body.
    Body(&'static str, &'static str, &'static str),
    /// The same, but the body is promised longer than it is, and then nothing more comes.
    Stalled(&'static str, &'static str, &'static str),
    /// The same, but the connection is closed in the middle.
    Cut(&'static str, &'static str, &'static str),
    /// The body one byte a packet.
    Dribbled(&'static str, &'static str, &'static str),
    /// Nothing at all.
    Hang,
    /// The connection is closed at once.
    Close,
}

pub struct Rogue {
    pub url: String,
    /// How many connections a client has closed while the server still had them open.
    pub abandoned: watch::Receiver<usize>,
    /// How many requests came.
    pub requests: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Rogue {
    /// Answers by the first of `replies` whose path is part of the request line.
    pub async fn start(replies: Vec<(&'static str, Reply)>) -> Self {
        Self::start_at(0, replies).await
    }

    /// The same on a port of loopback; 0: a free one.
    pub async fn start_at(port: u16, replies: Vec<(&'static str, Reply)>) -> Self {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (count, abandoned) = watch::channel(0);
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, replies.clone(), count.clone(), Arc::clone(&counted)));
            }
        });
        Self { url: format!("http://{address}"), abandoned, requests, _serving: serving }
    }
}

async fn serve(
    mut stream: TcpStream,
    replies: Vec<(&'static str, Reply)>,
    abandoned: watch::Sender<usize>,
    requests: Arc<AtomicUsize>,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let line = read_request(&mut stream).await?;
    requests.fetch_add(1, Ordering::SeqCst);
    let (_, reply) = replies.into_iter().find(|(path, _)| line.contains(path))?;
    let head = |status: &str, kind: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    match reply {
        Reply::Body(status, kind, body) => {
            stream.write_all((head(status, kind, body.len()) + body).as_bytes()).await.ok()?;
        }
        Reply::Dribbled(status, kind, body) => {
            stream.write_all(head(status, kind, body.len()).as_bytes()).await.ok()?;
            for byte in body.bytes() {
                stream.write_all(&[byte]).await.ok()?;
                stream.flush().await.ok()?;
                tokio::task::yield_now().await;
            }
        }
        Reply::Cut(status, kind, body) => {
            stream.write_all((head(status, kind, body.len() + 100) + body).as_bytes()).await.ok()?;
        }
        Reply::Stalled(status, kind, body) => {
            stream.write_all((head(status, kind, body.len() + 100) + body).as_bytes()).await.ok()?;
            until_closed(&mut stream, &abandoned).await;
        }
        Reply::Hang => until_closed(&mut stream, &abandoned).await,
        Reply::Close => {}
    }
    Some(())
}

async fn until_closed(stream: &mut TcpStream, abandoned: &watch::Sender<usize>) {
    let mut byte = [0];
    while stream.read(&mut byte).await.is_ok_and(|count| count > 0) {}
    abandoned.send_modify(|count| *count += 1);
}

/// Reads a request with its body and gives the request line.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![];
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return head.lines().next().map(str::to_owned);
        }
    }
}
