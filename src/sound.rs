//! Between samples and what the bus carries. Beside `audio` and `bus`, neither of which knows the other: for the roles and
//! for subcommands that send sound.

use crate::audio::{PcmFormat, mono_to_pcm, pcm_to_mono};
use crate::bus::message::fault::Fault;
use crate::bus::message::{Blob, Pcm, SampleFormat};

/// Mono samples as 16-bit PCM.
#[must_use]
pub fn to_wire(samples: &[f32], rate_hz: u32) -> Pcm {
    let data = Blob(mono_to_pcm(samples, PcmFormat::S16Le).into());
    Pcm { format: SampleFormat::S16le, rate_hz, channels: 1, data }
}

/// All channels mixed to one.
///
/// # Errors
/// A [`Fault`] that says what is wrong with the description or the data.
pub fn from_wire(pcm: &Pcm) -> Result<Vec<f32>, Fault> {
    if pcm.rate_hz == 0 {
        return Err(Fault::invalid("pcm.rate_hz is 0; say how many frames a second there are, such as 16000"));
    }
    let format = match pcm.format {
        SampleFormat::S16le => PcmFormat::S16Le,
        SampleFormat::F32le => PcmFormat::F32Le,
    };
    pcm_to_mono(&pcm.data.0, format, pcm.channels).map_err(|e| Fault::invalid(e.to_string()))
}
