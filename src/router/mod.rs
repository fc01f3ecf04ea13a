//! Which engine of which host does it: what is needed and who is there give an ordered list of engines, each with its reason.
//!
//! Pure policy. It knows neither the bus nor the configuration, has no clock and no randomness of its own: a caller
//! gives the time and the generator, asks the hosts one after the other, and tells how it went.
//!
//! ```text
//!  reports ─▶ View ─────┐
//!  [route.stt] ─ Policy ┼─▶ Router::decide ─▶ [Target { id, reason }] ─▶ Health::admit ─▶ asks ─▶ Health::settle
//!             Health ───┘        ▲                                              │                    │
//!               ▲               Need                                            └────────┬───────────┘
//!               └────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | `need` | what is asked for |
//! | `host` | what a host is and offers |
//! | `view`, `index` | who is there; bit sets that find what offers what |
//! | `policy` | what the user wants: places, pins, weights |
//! | `decide` | the order |
//! | `explain` | why not the others; why nobody |
//! | `health` | who failed, who was full, what this caller has in flight |

mod decide;
mod explain;
mod health;
mod host;
mod index;
mod need;
mod policy;
mod view;

#[cfg(test)]
mod tests;

pub use decide::{Reason, Router, TARGETS_MAX, Target};
pub use explain::{Lack, Line, Nobody, Verdict};
pub use health::{BUSY_AVOID, COOL_DOWN_MAX, COOL_DOWN_MIN, Health, Outcome, PROBE_MAX, Permit, SILENT_REST, Standing};
pub use host::{Host, Load, Model, Offer, OfferId};
pub use need::{Latency, Need, Privacy};
pub use policy::{Place, Places, Policy, PolicyError, Rule, Weight};
pub use view::View;
