//! Sound on this host. Knows neither the bus nor tokio.
//!
//! | module | what |
//! | --- | --- |
//! | [`ring`] | the real-time side: what the JACK callback does, and the rings that join it to the rest |
//! | [`rt_check`] | what watches over it in a build with feature `rt-check` |
//! | [`jack`] | the clients of JACK: a listener's, one that sees the graph, one with MIDI ports; what keeps one alive |
//! | [`source`] | where a listener's sound comes from: JACK, a file, a stream of samples |
//! | [`supervisor`] | a listener's client and the graph's, as long as a role lives |
//! | [`graph`], [`patch`] | the connections that a server should have; those of a listener, as rules of that |
//! | [`patcher`] | connects it |
//! | [`jacktrip`] | the arguments of the program `jacktrip`, and its lines |
//! | [`midi`] | the same for MIDI, with times |
//! | [`clip`], [`pcm`], [`mod@resample`] | audio files; raw samples; from one sample rate to another |
//! | [`vad`], [`segment`] | whether there is speech; where an utterance starts and ends |
//! | [`pieces`], `quiet` | where long speech is cut for a recognizer; and where the speaker does not pause |
//!
//! Everywhere samples are mono `f32` with full scale at 1.0 unless a name says otherwise.

pub mod clip;
pub mod graph;
pub mod jack;
pub mod jacktrip;
pub mod midi;
pub mod patch;
pub mod patcher;
pub mod pcm;
pub mod pieces;
mod quiet;
pub mod resample;
pub mod ring;
pub mod rt_check;
pub mod segment;
pub mod source;
pub mod supervisor;
pub mod vad;
mod wav_header;

pub use clip::{CLIP_MAX_S, Clip, ClipError, ClipReader, TRUNCATED};
pub use jack::{GraphClient, JackClient, JackError, JackSettings, PortFlow};
pub use patch::Patch;
pub use pcm::{PcmError, PcmFormat, mono_to_pcm, pcm_to_mono, wav_bytes};
pub use pieces::{CutError, PIECE_MAX_S, Piece, Pieces};
pub use resample::{ResampleError, Resampler, resample};
pub use ring::{Capture, Playback, PlaybackControl, RtSide, voice_rings};
pub use segment::{EndReason, Segment, SegmentError, SegmentEvent, SegmentSettings, Segmenter};
pub use source::{Pace, Source, SourceError, SourceKind};
pub use supervisor::{AudioEvent, GraphEvent, GraphReport, GraphSupervisor, JackStatus, JackSupervisor};
pub use vad::{VAD_RATE_HZ, VADS, Vad, VadError, build_vad, usual_vad};
