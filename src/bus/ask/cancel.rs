//! A caller that goes away cancels what it has asked for.

use std::time::Instant;

use bytes::Bytes;

use super::call::Call;
use crate::bus::connect::Bus;
use crate::wire::subject::{self, Capability};

/// Cancels a request on the host that works on it, if the caller goes away before the answer is whole.
#[derive(Debug)]
pub(super) struct CancelOnDrop {
    armed: Option<(Bus, Capability, String)>,
    until: Instant,
}

impl CancelOnDrop {
    pub(super) fn new(bus: &Bus, capability: Capability, request: &str, call: &Call) -> Self {
        Self { armed: Some((bus.clone(), capability, request.to_owned())), until: Instant::now() + call.time() }
    }

    pub(super) fn disarm(&mut self) {
        self.armed = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some((bus, capability, request)) = self.armed.take() else { return };
        let until = self.until;
        // Dropped outside a runtime there is no connection left either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // While the connection is down the worker goes on, so the cancel comes later; at the deadline it stops by itself.
                if tokio::time::timeout_at(until.into(), bus.until_up()).await.is_err() {
                    return;
                }
                let subject = subject::cancel(capability, &request);
                if let Err(error) = bus.inner.control.publish(&subject.into(), None, None, Bytes::new()).await {
                    tracing::debug!(%error, "a request could not be cancelled");
                }
            });
        }
    }
}
