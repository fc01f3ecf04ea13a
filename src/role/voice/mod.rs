//! Role `voice`.
use async_trait::async_trait;
use super::{Role, RoleContext, RoleError};
/// Voice.
pub struct Voice;
#[async_trait]
impl Role for Voice {
    async fn run(self: Box<Self>, _: RoleContext) -> Result<(), RoleError> {
        Ok(())
    }
}
