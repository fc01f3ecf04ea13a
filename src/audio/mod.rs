//! Sound on this host. Knows neither the bus nor tokio.
//!
//! | module | what |
//! | --- | --- |
//! | [`ring`] | the real-time side: what the JACK callback does, and the rings that join it to the rest |
//! | [`jack`], [`supervise`], [`patch`] | a listener's JACK client; what keeps it alive; which ports it is connected to |
//! | [`clip`], [`resample`] | audio files and raw samples in and out; from one sample rate to another |
//! | [`vad`], [`segment`], [`wake`] | whether somebody speaks; where an utterance starts and ends; whether it was meant for us |
//!
//! Everywhere samples are mono `f32` with full scale at 1.0 unless a name says otherwise.

pub mod jack;
pub mod patch;
pub mod resample;
pub mod ring;
pub mod segment;
pub mod supervise;
pub mod wake;

pub use jack::{JackClient, JackError, JackSettings};
pub use patch::{Patch, PatternError};
pub use resample::{ResampleError, Resampler, resample};
pub use ring::{Capture, Playback, PlaybackControl, RtSide, voice_rings};
pub use segment::{EndReason, Segment, SegmentError, SegmentEvent, SegmentSettings, Segmenter};
pub use supervise::{AudioEvent, JackStatus, JackSupervisor};
pub use wake::{WakeError, WakeMatch, WakePhrases};
