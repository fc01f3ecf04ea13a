//! Sound on this host. Knows neither the bus nor tokio.
//!
//! | module | what |
//! | --- | --- |
//! | [`ring`] | the real-time side: what the JACK callback does, and the rings that join it to the rest |
//! | [`jack`], [`supervise`], [`patch`] | a listener's JACK client; what keeps it alive; which ports it is connected to |

pub mod jack;
pub mod patch;
pub mod ring;
pub mod supervise;

pub use jack::{JackClient, JackError, JackSettings};
pub use patch::{Patch, PatternError};
pub use ring::{Capture, Playback, PlaybackControl, RtSide, voice_rings};
pub use supervise::{AudioEvent, JackStatus, JackSupervisor};
