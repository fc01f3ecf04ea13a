//! A host's place on the bus: its two connections, and what its server is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::access::Access;
use super::acks::Acks;
use super::connection::NatsConnection;
use super::error::BusError;
use crate::wire::message::Replies;
use crate::wire::storage;

/// A host's place on the bus. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Bus {
    pub(in crate::bus) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(in crate::bus) struct Inner {
    node: String,
    pub(in crate::bus) control: NatsConnection,
    /// Audio has a connection of its own: capacity and stalls are a connection's, and 'stop' must not queue behind sound.
    pub(in crate::bus) audio: NatsConnection,
    acks: Acks,
    audio_acks: Acks,
    replicas: AtomicUsize,
    /// Streams of which this user may not raise the copies, as was said once.
    pub(in crate::bus) unraised: Mutex<BTreeSet<String>>,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version, such as `2.12.1`.
    pub version: String,
    /// Whether JetStream is switched on.
    pub jetstream: bool,
    /// The largest message, headers included.
    pub max_payload_bytes: usize,
}

impl Bus {
    /// Connects as host `node` by `access`, which can be the plain address of a server.
    ///
    /// # Errors
    /// [`BusError::Connect`] if the server can't be reached now; the caller decides whether to try again.
    /// [`BusError::Login`] if it does not let this user in.
    pub async fn connect(access: impl Into<Access>, node: &str) -> Result<Self, BusError> {
        let mut access = access.into();
        if access.user.is_empty() {
            node.clone_into(&mut access.user);
        }
        let (control_name, audio_name) = (format!("sidetone {node}"), format!("sidetone {node} audio"));
        let (control, audio) = tokio::try_join!(
            NatsConnection::connect(&access, &control_name, "control"),
            NatsConnection::connect(&access, &audio_name, "audio")
        )?;
        let (acks, audio_acks) = tokio::try_join!(Acks::start(&control), Acks::start(&audio))?;
        let (node, replicas) = (node.to_owned(), AtomicUsize::new(1));
        let unraised = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { node, control, audio, acks, audio_acks, replicas, unraised }) })
    }

    /// How many servers of a cluster keep the streams and buckets that are made from now on; 1 unless it is said.
    pub fn set_replicas(&self, replicas: usize) {
        self.inner.replicas.store(replicas, Ordering::Relaxed);
    }

    pub(in crate::bus) fn replicas(&self) -> usize {
        self.inner.replicas.load(Ordering::Relaxed)
    }

    /// What would help where a stream or bucket can't be made.
    pub(in crate::bus) fn no_jetstream(&self, why: &dyn std::fmt::Display) -> String {
        match self.replicas() {
            1 => format!("{why}; start nats-server with -js"),
            n => format!("{why}; start nats-server with -js, and {n} of them in a cluster for bus.replicas = {n}"),
        }
    }

    /// The name of this host.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.inner.node
    }

    /// Whether the server can be reached right now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.control.is_up()
    }

    /// Waits until the server can be reached.
    pub async fn until_up(&self) {
        self.inner.control.until_up().await;
    }

    /// Waits until the server can be reached and has all subscriptions of this host, as after a loss: the client renews them,
    /// but counts as connected before the server has read them.
    pub async fn until_heard(&self) {
        loop {
            self.until_up().await;
            match self.inner.control.ready().await {
                Err(error) if !self.is_up() => tracing::debug!(%error, "the connection was lost again"),
                _ => return,
            }
        }
    }

    /// Completes when the connection is lost after this call.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.inner.control.lost()
    }

    /// The server's name and version.
    #[must_use]
    pub fn server(&self) -> String {
        let info = self.inner.control.client.server_info();
        format!("nats-server {} at {}:{}", info.version, info.host, info.port)
    }

    /// What the server says of itself.
    #[must_use]
    pub fn server_facts(&self) -> ServerFacts {
        let info = self.inner.control.client.server_info();
        ServerFacts { version: info.version, jetstream: info.jetstream, max_payload_bytes: info.max_payload }
    }

    /// Whether there is JetStream: at this server, or at those that it is a leaf of.
    pub async fn has_jetstream(&self) -> bool {
        let connection = &self.inner.control;
        let there = async {
            let account = connection.jetstream().query_account().await;
            account.map_err(|e| BusError::jetstream("looking for it", e))
        };
        self.server_facts().jetstream || connection.keep(storage::NODES, there).await.is_ok()
    }

    /// The connection for a verb that is answered so.
    pub(in crate::bus) fn connection(&self, replies: Replies) -> &NatsConnection {
        match replies {
            Replies::Audio => &self.inner.audio,
            Replies::One | Replies::Stream | Replies::Talk => &self.inner.control,
        }
    }

    /// What the readers of its streams acknowledge.
    pub(in crate::bus) fn acks(&self, replies: Replies) -> &Acks {
        match replies {
            Replies::Audio => &self.inner.audio_acks,
            Replies::One | Replies::Stream | Replies::Talk => &self.inner.acks,
        }
    }
}
