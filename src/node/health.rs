//! What the host answers over HTTP: `/health`, `/capabilities`, `/metrics`.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::card::Card;
use crate::bus::{Bus, HEALTH};
use crate::http::{Http, HttpError, Mounted};
use crate::telemetry::{health, metrics};

/// The text format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The host, as far as it has started.
#[derive(Debug)]
struct HostStatus {
    node: String,
    /// The roles that are switched on.
    roles: Vec<&'static str>,
    /// Once the server was reached.
    known: OnceLock<(Bus, Card)>,
}

/// The host's own routes. Dropping it takes them away.
#[derive(Debug, Clone)]
pub(super) struct Health {
    /// The server, for the roles.
    pub(super) http: Http,
    host: Arc<HostStatus>,
    _routes: Arc<[Mounted]>,
    _upkeep: Option<Arc<tokio_util::task::AbortOnDropHandle<()>>>,
}

impl Health {
    /// Starts the server on `listen`, if that is not empty, and begins to measure.
    pub(super) async fn start(listen: &str, node: &str, roles: Vec<&'static str>) -> Result<Self, HttpError> {
        let http = Http::start(listen).await?;
        let host = Arc::new(HostStatus { node: node.to_owned(), roles, known: OnceLock::new() });
        let Some(address) = http.address() else {
            return Ok(Self { http, host, _routes: Arc::new([]), _upkeep: None });
        };
        let (of_health, of_card) = (Arc::clone(&host), Arc::clone(&host));
        let mount = |path: &str, routes| http.mount(path, routes);
        let mut routes = vec![
            mount("/health", Router::new().route("/health", get(move || async move { of_health.health() }))),
            mount(
                "/capabilities",
                Router::new().route("/capabilities", get(move || async move { of_card.capabilities() })),
            ),
        ];
        let mut upkeep = None;
        match metrics::install(node) {
            Ok(exposition) => {
                let shown = exposition.clone();
                let show = move || async move { ([(header::CONTENT_TYPE, EXPOSITION)], shown.render()) };
                routes.push(mount("/metrics", Router::new().route("/metrics", get(show))));
                upkeep = Some(Arc::new(tokio_util::task::AbortOnDropHandle::new(tokio::spawn(exposition.keep_up()))));
            }
            Err(why) => tracing::error!(why, "/metrics is not served"),
        }
        tracing::info!(%address, "serving /health, /capabilities and /metrics");
        Ok(Self { http, host, _routes: routes.into(), _upkeep: upkeep })
    }

    /// The host is on the bus.
    pub(super) fn on_bus(&self, bus: &Bus, card: &Card) {
        let _ = self.host.known.set((bus.clone(), card.clone()));
    }
}

/// A part as it is shown.
fn part(state: Result<(), String>) -> Value {
    match state {
        Ok(()) => json!({ "up": true }),
        Err(why) => json!({ "up": false, "why": why }),
    }
}

impl HostStatus {
    fn health(&self) -> impl IntoResponse + use<> {
        let known = self.known.get();
        let bus = match known {
            None => Err("the server was not reached yet".to_owned()),
            Some((bus, _)) if bus.is_up() => Ok(()),
            Some(_) => Err("the connection to NATS dropped; it is tried again".to_owned()),
        };
        let offers = known.map(|(_, card)| card.offers.now()).unwrap_or_default();
        let role = |name: &str| {
            let up = offers.iter().any(|offer| offer.role == name);
            if up { Ok(()) } else { Err("it is starting, or broke and is started again; the log says why".to_owned()) }
        };
        let roles: Vec<_> = self.roles.iter().map(|name| ((*name).to_owned(), role(name))).collect();
        let (jack, kept) = (health::of_kind("jack"), health::of_kind(HEALTH));
        let draining = known.is_some_and(|(_, card)| card.stop.is_cancelled());
        let up = bus.is_ok() && roles.iter().chain(&jack).chain(&kept).all(|(_, state)| state.is_ok());
        let status = match (draining, up) {
            (true, _) => "draining",
            (false, true) => "up",
            (false, false) => "down",
        };
        let parts = |parts: Vec<(String, _)>| parts.into_iter().map(|(name, state)| (name, part(state))).collect();
        let [roles, jack, kept]: [Map<_, _>; 3] = [roles, jack, kept].map(parts);
        let body = json!({
            "status": status, "node": self.node, "bus": part(bus), "kept": kept, "roles": roles, "jack": jack,
        });
        let code = if up && !draining { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n"))
    }

    fn capabilities(&self) -> impl IntoResponse + use<> {
        let (code, body) = match self.known.get() {
            Some((_, card)) => (StatusCode::OK, serde_json::to_value(card.now()).unwrap_or_default()),
            None => (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "the host is not on the bus yet" })),
        };
        (code, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n"))
    }
}
