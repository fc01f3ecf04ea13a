//! OSCQuery: what there is, over HTTP; values as they change, and messages, over a WebSocket; and the announcement by mDNS.
//!
//! It has a server of its own, since the address space begins at `/`, and since who may ask is the same as who may send.

mod announce;
mod guard;
mod tree;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use axum::extract::State as Shared;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::addresses::{FEEDBACK, ROOT, VERBS};
use super::dispatcher::Dispatcher;
use super::net::{self, Intake as _, Peer, Way};
use crate::config::Config;
use crate::http::{Http, HttpError, Mounted, Remote};
use crate::osc::Limits;
use tree::{ATTRIBUTES, Leaf, NoAnswer, Range};

pub use announce::Announced;

/// The server, and what announces it. Dropping it ends both.
pub struct Query {
    http: Http,
    _mounted: Mounted,
    /// Connections that are kept open do not keep it.
    _space: Arc<AddressSpace>,
}

/// What clients are shown.
struct AddressSpace {
    dispatcher: Arc<Dispatcher>,
    name: String,
    /// The names of this host in the network.
    hosts: Arc<[String]>,
    osc_port: u16,
}

/// What a client says beside OSC.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct ClientCommand {
    command: String,
    data: Value,
}

impl Query {
    /// Serves at `listen`; `osc_port` is where OSC is taken.
    ///
    /// # Errors
    /// The address is none, or taken.
    pub async fn start(listen: &str, dispatcher: &Arc<Dispatcher>, osc_port: u16) -> Result<Self, String> {
        let http = Http::start(listen).await.map_err(|HttpError::Bind { listen, why }| {
            format!("osc.query is {listen:?}: {why}; give an address and a free port such as \"0.0.0.0:9001\", or \"\" for none")
        })?;
        let node = &dispatcher.node;
        // Without a name of its own a host has that of the system.
        let hosts = [node.clone(), announce::host(node), Config::default().node_name()].into();
        let space =
            Arc::new(AddressSpace { dispatcher: Arc::clone(dispatcher), name: announce::name(node), hosts, osc_port });
        let mounted = http.mount("/", Router::new().fallback(answer).with_state(Arc::downgrade(&space)));
        Ok(Self { http, _mounted: mounted, _space: space })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.http.address()
    }
}

async fn answer(
    Shared(space): Shared<Weak<AddressSpace>>,
    Extension(Remote(from)): Extension<Remote>,
    headers: HeaderMap,
    uri: Uri,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Some(space) = space.upgrade() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    if !space.dispatcher.admits(from.ip()) {
        return (StatusCode::FORBIDDEN, "osc.allow does not name this host\n").into_response();
    }
    if !guard::is_for_us(&headers, &uri, &space.hosts) {
        let text =
            format!("this host is not called so: ask for it by its address, or as {}.local\n", space.dispatcher.node);
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    if let Ok(socket) = socket {
        if guard::is_foreign(&headers) {
            return (StatusCode::FORBIDDEN, "pages of other servers may not send OSC\n").into_response();
        }
        let max = Limits::default().bytes;
        let socket = socket.max_message_size(max).max_frame_size(max);
        let (ended, conversations) = (space.dispatcher.ended.clone(), space.dispatcher.conversations.clone());
        let conversation = move |socket| async move {
            ended.run_until_cancelled(converse(socket, from, &space.dispatcher)).await;
        };
        return socket.on_upgrade(move |socket| conversations.track_future(conversation(socket)));
    }
    let path = percent_decode_str(uri.path()).decode_utf8_lossy();
    let attribute = uri.query().filter(|query| !query.is_empty());
    let found = match attribute {
        Some("HOST_INFO") => Ok(space.host_info()),
        attribute => tree::look_up(&space.leaves(), &path, attribute),
    };
    match found {
        Ok(value) => ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response(),
        Err(NoAnswer::Empty) => StatusCode::NO_CONTENT.into_response(),
        Err(NoAnswer::NoPath) => (StatusCode::NOT_FOUND, format!("there is nothing at {path}\n")).into_response(),
        Err(NoAnswer::NoAttribute) => {
            let text = format!(
                "there is no attribute {}; there are HOST_INFO, {}\n",
                attribute.unwrap_or_default(),
                ATTRIBUTES.join(", ")
            );
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
}

impl AddressSpace {
    fn host_info(&self) -> Value {
        let mut extensions: serde_json::Map<String, Value> = ATTRIBUTES
            .iter()
            .filter(|name| **name != "FULL_PATH")
            .map(|&name| (name.to_owned(), true.into()))
            .collect();
        extensions.extend(["LISTEN", "PATH_CHANGED"].map(|name| (name.to_owned(), true.into())));
        json!({
            "NAME": self.name,
            "OSC_PORT": self.osc_port,
            "OSC_TRANSPORT": "UDP",
            "EXTENSIONS": extensions,
        })
    }

    /// Everything that there is at the moment.
    fn leaves(&self) -> Vec<Leaf> {
        let dispatcher = &self.dispatcher;
        let names = dispatcher.listeners.names();
        let roots = std::iter::once(ROOT.to_owned()).chain(names.iter().map(|name| format!("{ROOT}{name}/")));
        let mut leaves = Vec::new();
        for root in roots {
            let path = |name: &str| format!("{root}{name}");
            let is_shown = |name: &str| FEEDBACK.iter().any(|shown| shown.name == name);
            leaves.extend(VERBS.iter().map(|verb| Leaf {
                path: path(verb.name),
                types: verb.types.to_owned(),
                access: if is_shown(verb.name) { 3 } else { 2 },
                about: verb.about.to_owned(),
                value: dispatcher.surfaces.value(&path(verb.name)),
                range: range(verb.name),
            }));
            leaves.extend(FEEDBACK.iter().filter(|shown| !VERBS.iter().any(|verb| verb.name == shown.name)).map(
                |shown| Leaf {
                    path: path(shown.name),
                    types: shown.types.to_owned(),
                    access: 1,
                    about: shown.about.to_owned(),
                    value: dispatcher.surfaces.value(&path(shown.name)),
                    range: range(shown.name),
                },
            ));
        }
        let own = dispatcher.handlers.iter().filter(|handler| !handler.address.is_wild());
        for handler in own {
            let path = handler.address.as_str().trim_end_matches('/').to_owned();
            if !leaves.iter().any(|leaf| leaf.path == path) {
                leaves.push(Leaf {
                    path,
                    types: handler.types(),
                    access: 2,
                    about: handler.about(),
                    ..Leaf::default()
                });
            }
        }
        leaves
    }
}

fn range(name: &str) -> Option<Range> {
    match name {
        "ptt" | "mute" | "muted" | "level" => Some(Range::Between(0.0, 1.0)),
        "mode" => Some(Range::Of(vec!["wake", "open", "push_to_talk"])),
        "state" => Some(Range::Of(vec!["idle", "wake_detected", "listening", "processing", "speaking"])),
        "subscribe" | "unsubscribe" => Some(Range::Between(1.0, 65_535.0)),
        _ => None,
    }
}

/// OSC in both directions, and what a client asks to hear, until either end closes. What it does not read does not keep what it
/// sends from being heard.
async fn converse(socket: WebSocket, from: SocketAddr, dispatcher: &Dispatcher) {
    let (queue, mut packets) = net::queue();
    let peer = Peer::new(from, Way::Stream(queue));
    let (mut writer, mut reader) = socket.split();
    let begun = Instant::now();
    let heard = AtomicU64::new(0);
    let reading = async {
        while let Some(Ok(message)) = reader.next().await {
            heard.store(begun.elapsed().as_secs(), Ordering::Relaxed);
            match message {
                Message::Binary(packet) => dispatcher.packet(&packet, &peer),
                Message::Text(text) => obey(text.as_str(), dispatcher, &peer),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        "it has hung up".to_owned()
    };
    let writing = async {
        let mut changes = dispatcher.listeners.changes();
        let mut looks = tokio::time::interval_at((begun + net::SILENCE).into(), net::SILENCE);
        loop {
            let message = tokio::select! {
                Some(packet) = packets.recv() => Message::Binary(packet.into()),
                _ = looks.tick() => {
                    let silent = begun.elapsed().as_secs().saturating_sub(heard.load(Ordering::Relaxed));
                    if silent > 3 * net::SILENCE.as_secs() {
                        return "it does not answer".to_owned();
                    }
                    Message::Ping(Bytes::new())
                }
                Ok(()) = changes.changed() => {
                    let changed = json!({ "COMMAND": "PATH_CHANGED", "DATA": ROOT.trim_end_matches('/') });
                    Message::Text(changed.to_string().into())
                }
            };
            match tokio::time::timeout(net::WRITE_TIMEOUT, writer.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "it does not read what it is sent".to_owned(),
            }
        }
    };
    let why = tokio::select! {
        why = reading => why,
        why = writing => why,
    };
    tracing::debug!(%from, why, "a client of OSCQuery is gone");
    dispatcher.surfaces.unsubscribe(&peer, None);
}

fn obey(text: &str, dispatcher: &Dispatcher, peer: &Peer) {
    match serde_json::from_str::<ClientCommand>(text) {
        Ok(ClientCommand { command, data: Value::String(path) }) if command == "LISTEN" || command == "IGNORE" => {
            if let Err(why) = dispatcher.surfaces.listen(peer, &path, command == "LISTEN") {
                dispatcher.unreadable(peer, &why);
            }
        }
        Ok(ClientCommand { command, .. }) => tracing::debug!(command, "an OSCQuery command that is not known"),
        Err(error) => dispatcher.unreadable(peer, &format!("no OSCQuery command: {error}")),
    }
}
