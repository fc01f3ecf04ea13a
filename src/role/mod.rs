//! What a host does. A role is a file (or folder) and a row of [`ROLES`]; roles meet on the bus, even on one host.
//!
//! | file | what |
//! | --- | --- |
//! | `table` | the rows |
//! | `context` | what a role is, and what it works with |
//! | `error` | why one ends |
//! | `offers` | what the roles of a host offer at the moment |
//! | `providers` | the engines of a role, each by itself |
//! | [`model_cache`] | models that roles share |

pub mod agent;
pub mod audio;
mod context;
mod error;
pub mod llm;
pub mod midi;
pub mod model_cache;
mod offers;
pub mod osc;
mod providers;
pub mod stt;
mod table;
pub mod tts;
pub mod voice;

pub(crate) use context::millis;
pub use context::{Role, RoleContext};
pub use error::RoleError;
pub use offers::Offers;
pub use table::{ROLES, RoleRow, find};
