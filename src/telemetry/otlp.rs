//! Spans to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! They are sent in batches by a thread of their own, from a queue of 2,048; when it is full, spans are dropped, never
//! work held up. A collector that can't be reached is said once, and once more when it is back.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use ulid::Ulid;

use super::export::Export;
use super::parent::Parent;

/// How long one batch may take to be sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the last spans may take when the program ends.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);
/// Where a collector takes traces.
const TRACES: &str = "/v1/traces";
/// The spans that are exported. Others, such as a role's, last as long as the host.
const SPANS: [&str; 2] = ["turn", "request"];

/// Sends spans until it finishes.
#[derive(Debug)]
pub(super) struct Exporter(SdkTracerProvider);

impl Exporter {
    pub(super) fn finish(self) {
        if let Err(error) = self.0.shutdown_with_timeout(FINISH_TIMEOUT) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// Starts to send; gives the layer that makes spans of tracing's.
pub(super) fn start<S>(export: &Export) -> Result<(Exporter, impl Layer<S> + use<S>), String>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let wrong =
        |why: &str| format!("telemetry.otlp_url is {:?}: {why}; an example is \"http://127.0.0.1:4318\"", export.url);
    let mut url = reqwest::Url::parse(&export.url).map_err(|e| wrong(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("OTLP goes over http or https"));
    }
    if !url.path().ends_with(TRACES) {
        let path = format!("{}{TRACES}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    let client = Client {
        http: reqwest::Client::builder().timeout(SEND_TIMEOUT).build().map_err(|e| wrong(&e.to_string()))?,
        runtime: Handle::try_current().map_err(|e| wrong(&e.to_string()))?,
        url: url.to_string(),
        failing: Arc::default(),
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url.as_str())
        .with_http_client(client)
        .build()
        .map_err(|e| wrong(&e.to_string()))?;
    let resource = Resource::builder_empty()
        .with_service_name("sidetone")
        .with_attribute(KeyValue::new("service.instance.id", export.node.clone()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_id_generator(TurnIds(RandomIdGenerator::default()))
        .with_resource(resource)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("sidetone"))
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_filter(filter_fn(is_exported));
    Ok((Exporter(provider), layer))
}

fn is_exported(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target().starts_with("sidetone") && *metadata.level() <= Level::INFO;
    ours && (metadata.is_event() || SPANS.contains(&metadata.name()))
}

thread_local! {
    static NEXT: Cell<Option<u128>> = const { Cell::new(None) };
}

/// A turn's ULID is the id of its trace.
#[derive(Debug)]
struct TurnIds(RandomIdGenerator);

impl IdGenerator for TurnIds {
    fn new_trace_id(&self) -> TraceId {
        NEXT.take().map_or_else(|| self.0.new_trace_id(), |id| TraceId::from_bytes(id.to_be_bytes()))
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// Starts a span in trace `id`, under `parent` or as its root; gives its id, if it is exported.
pub(super) fn link(span: &Span, id: Ulid, parent: Option<Parent>, name: &str) -> Option<u64> {
    let above = parent.map_or_else(Context::new, |Parent { turn, span }| {
        let (trace, span) = (TraceId::from_bytes(turn.0.to_be_bytes()), SpanId::from_bytes(span.to_be_bytes()));
        let remote = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
        Context::new().with_remote_span_context(remote)
    });
    // It fails where no spans are exported.
    span.set_parent(above).ok()?;
    NEXT.set(Some(id.0));
    let context = span.context();
    NEXT.set(None);
    let started = context.span();
    started.update_name(name.to_owned());
    let own = started.span_context();
    own.is_valid().then(|| u64::from_be_bytes(own.span_id().to_bytes()))
}

/// Marks a span as failed.
pub(super) fn fail(span: &Span, code: &'static str) {
    span.set_status(Status::error(code));
}

/// Sends from whichever thread asks, on the program's runtime and with its TLS.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    url: String,
    failing: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let response = http.execute(request).await?.error_for_status()?;
            let mut answer = Response::builder().status(response.status());
            if let Some(headers) = answer.headers_mut() {
                headers.clone_from(response.headers());
            }
            Ok::<_, reqwest::Error>((answer, response.bytes().await?))
        });
        let result = match sent.await {
            Ok(Ok((answer, body))) => answer.body(body).map_err(HttpError::from),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(error.into()),
        };
        let failed = result.is_err();
        if self.failing.swap(failed, Ordering::AcqRel) != failed {
            match &result {
                Ok(_) => tracing::info!(url = self.url, "the collector takes spans again"),
                Err(error) => {
                    let why = describe(error.as_ref());
                    tracing::warn!(url = self.url, why, "spans can't be sent, and are dropped until they can");
                }
            }
        }
        result
    }
}

/// An error with its causes: reqwest's own text says little.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[tokio::test]
    async fn an_address_that_can_not_be_is_refused() {
        let start = |url: &str| {
            let export = Export { url: url.to_owned(), node: "studio".to_owned() };
            start::<tracing_subscriber::Registry>(&export).map(|_| ()).unwrap_err()
        };
        assert!(start("collector").contains("telemetry.otlp_url is \"collector\""));
        assert!(start("nats://collector:4318").contains("http or https"));
    }

    #[test]
    fn a_trace_has_the_id_of_its_turn_and_the_span_that_asked() {
        let provider = SdkTracerProvider::builder().with_id_generator(TurnIds(RandomIdGenerator::default())).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let turn = Ulid::generate();
            let root = tracing::info_span!("turn");
            let id = link(&root, turn, None, "turn").unwrap();
            let context = root.context();
            assert_eq!(context.span().span_context().trace_id().to_bytes(), turn.0.to_be_bytes());
            let child = tracing::info_span!("request");
            let own = link(&child, turn, Some(Parent { turn, span: id }), "llm.chat").unwrap();
            assert_ne!(own, id);
            assert_eq!(child.context().span().span_context().trace_id().to_bytes(), turn.0.to_be_bytes());
        });
    }
}
