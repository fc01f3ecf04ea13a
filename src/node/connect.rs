//! The way onto the bus, which a host takes once and tries until the server is there.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use tokio_util::sync::CancellationToken;

use super::error::NodeError;
use crate::bus::{Access, Bus, BusError, access, embedded};
use crate::config::Config;
use crate::home::Home;
use crate::process::Supervised;

/// The pauses between attempts to reach the server.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// The way onto the bus that the settings say.
///
/// # Errors
/// [`BusError::Access`] when a file of it will not do.
pub fn access(config: &Config) -> Result<Access, BusError> {
    let bus = &config.bus;
    if bus.is_embedded() {
        return Ok(Access { user: config.node_name(), ..Access::from(&embedded::url(bus.port)) });
    }
    let files = access::Files {
        nkey: &bus.nkey_file,
        credentials: &bus.creds,
        tls_ca: &bus.tls_ca,
        tls_cert: &bus.tls_cert,
        tls_key: &bus.tls_key,
    };
    Access::read(&bus.url, &config.node_name(), files)
}

/// Starts the embedded server if it is asked for, and connects; tries again until the server is there or it takes too
/// long. `None` when the host is to stop before.
pub(super) async fn connect(
    config: &Config,
    home: &Home,
    name: &str,
    stop: &CancellationToken,
) -> Result<Option<(Option<Supervised>, Bus)>, NodeError> {
    let (access, config) = (access(config)?, &config.bus);
    let server = if config.is_embedded() { Some(embedded::start(home, config.port).await?) } else { None };
    let until = Instant::now() + Duration::from_millis(config.connect_timeout_ms);
    let tries = (|| Bus::connect(access.clone(), name))
        .retry(ExponentialBuilder::default().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX).without_max_times())
        .when(|error| error.can_retry() && Instant::now() < until)
        .notify(|error, pause| tracing::warn!(%error, retry_ms = pause.as_millis(), "no bus yet"));
    tokio::select! {
        bus = tries => {
            let bus = bus?;
            bus.set_replicas(config.replicas);
            Ok(Some((server, bus)))
        }
        () = stop.cancelled() => Ok(None),
    }
}
