//! Role `osc`: sends and hears OSC.

use async_trait::async_trait;

use super::{Role, RoleContext, RoleError};
use crate::bus::service::ServiceSpec;
use crate::bus::subject::Capability;

/// Requests at once. They are answered in no time.
const SLOTS: usize = 64;

/// The role.
pub struct Osc;

#[async_trait]
impl Role for Osc {
    async fn run(self: Box<Self>, context: RoleContext) -> Result<(), RoleError> {
        let spec = ServiceSpec {
            capability: Capability::Osc,
            about: "sends and hears OSC",
            engine: String::new(),
            models: Vec::new(),
            slots: SLOTS,
        };
        let offer = spec.offer();
        let server = context.bus.service(spec).await?;
        server.ready().await?;
        context.up(offer, Some(server.load()));
        context.serve_until_stopped(server).await
    }
}
