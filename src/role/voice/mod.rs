//! Role `voice`.
use super::{Role, RoleContext, RoleError};
use async_trait::async_trait;
/// Voice.
pub struct Voice;
#[async_trait]
impl Role for Voice {
    async fn run(self: Box<Self>, _: RoleContext) -> Result<(), RoleError> {
        Ok(())
    }
}
