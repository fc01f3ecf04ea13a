//! A listener's client: one with the ports `voice_in` and `voice_out`.

use std::sync::{Arc, Mutex};

use jack::{AudioIn, AudioOut, Client, Control, Frames, Port, ProcessScope};

use super::open::open_raw;
use super::patchbay::{Known, Patchbay};
use super::table::{Seat, close, seated};
use super::watch::{Notices, Watch};
use super::{JackError, server_name};
use crate::audio::patch::Patch;
use crate::audio::ring::{Capture, Playback, RtSide, voice_rings};
use crate::audio::rt_check::watched;

/// Name of the port that listens.
pub const PORT_IN: &str = "voice_in";
/// Name of the port that speaks.
pub const PORT_OUT: &str = "voice_out";

/// How a listener appears in JACK.
#[derive(Debug, Clone)]
pub struct JackSettings {
    /// Name of the client, such as `sidetone-stage`; 1 to 63 bytes without `:`.
    pub client_name: String,
    /// Name of the server; `None` takes `$JACK_DEFAULT_SERVER`, else `default`.
    pub server: Option<String>,
    /// What to connect to, as it appears.
    pub patch: Patch,
    /// Length of the capture ring, in ms: how long the reader may be away before audio is lost.
    pub capture_ms: u32,
    /// Length of the playback ring, in ms: how far ahead speech is queued.
    pub playback_ms: u32,
}

impl JackSettings {
    /// The settings of listener `listener`: client `sidetone-<listener>`, the default server, nothing connected, 2 s of
    /// capture and 0.5 s of playback.
    #[must_use]
    pub fn for_listener(listener: &str) -> Self {
        Self {
            client_name: format!("sidetone-{listener}"),
            server: None,
            patch: Patch::default(),
            capture_ms: 2000,
            playback_ms: 500,
        }
    }
}

struct Process {
    input: Port<AudioIn>,
    output: Port<AudioOut>,
    rt: RtSide,
    watch: Arc<Watch>,
}

impl jack::ProcessHandler for Process {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        watched(|| self.rt.process(self.input.as_slice(scope), self.output.as_mut_slice(scope)));
        Control::Continue
    }

    fn buffer_size(&mut self, _: &Client, frames: Frames) -> Control {
        self.watch.has_period(frames);
        Control::Continue
    }
}

/// An open, running client. Dropping it closes it, within 3 s.
pub struct JackClient {
    active: Option<jack::AsyncClient<Notices, Process>>,
    watch: Arc<Watch>,
    known: Mutex<Known>,
    seat: Arc<Seat>,
    port_in: String,
    port_out: String,
}

impl std::fmt::Debug for JackClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JackClient").field("port_in", &self.port_in).field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl JackClient {
    /// Opens a client, registers its ports and starts it, with fresh rings at the server's rate. The calling thread is
    /// unparked whenever JACK reports something. Never starts a server.
    ///
    /// # Errors
    /// See [`JackError`].
    pub fn open(settings: &JackSettings) -> Result<(Self, Capture, Playback), JackError> {
        let server = server_name(settings.server.as_deref());
        let (seat, (active, watch, ports, rings)) = seated(&server, || {
            let client = open_raw(&settings.client_name, &server)?;
            let refused = |err: jack::Error| JackError::Refused {
                server: server.clone(),
                name: settings.client_name.clone(),
                reason: err.to_string(),
            };
            let input = client.register_port(PORT_IN, AudioIn::default()).map_err(refused)?;
            let output = client.register_port(PORT_OUT, AudioOut::default()).map_err(refused)?;
            let ports = (input.name().map_err(refused)?, output.name().map_err(refused)?);

            let rate_hz = client.sample_rate();
            let frames = |ms: u32| (u64::from(rate_hz) * u64::from(ms) / 1000) as usize;
            // A ring shorter than two periods would lose audio however quick the other side is.
            let least = client.buffer_size() as usize * 2;
            let (rt, capture, playback) =
                voice_rings(frames(settings.capture_ms).max(least), frames(settings.playback_ms).max(least), rate_hz);
            let watch = Watch::of(&client);
            let process = Process { input, output, rt, watch: Arc::clone(&watch) };
            let active = client.activate_async(Notices(Arc::clone(&watch)), process).map_err(refused)?;
            Ok((Arc::clone(&watch), (active, watch, ports, (capture, playback))))
        })?;
        let (port_in, port_out) = ports;
        let (capture, playback) = rings;
        let known = Mutex::default();
        Ok((Self { active: Some(active), watch, known, seat, port_in, port_out }, capture, playback))
    }

    /// What JACK has reported so far.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The full names of `voice_in` and `voice_out`.
    #[must_use]
    pub fn port_names(&self) -> (&str, &str) {
        (&self.port_in, &self.port_out)
    }

    /// How long after [`RtSide::process`] gave it a frame is heard, in frames; 0 when nothing is connected.
    #[must_use]
    pub fn playback_latency_frames(&self) -> u32 {
        self.client()
            .and_then(|client| client.port_by_name(&self.port_out))
            .map_or(0, |port| port.get_latency_range(jack::LatencyType::Playback).1)
    }

    /// The graph as it sees it.
    #[must_use]
    pub fn patchbay(&self) -> Patchbay<'_> {
        Patchbay { client: self.client(), watch: &self.watch, known: &self.known }
    }

    /// The client while its server lives.
    fn client(&self) -> Option<&Client> {
        self.active.as_ref().filter(|_| !self.watch.is_down()).map(jack::AsyncClient::as_client)
    }
}

impl Drop for JackClient {
    fn drop(&mut self) {
        if let Some(active) = self.active.take() {
            close(&self.seat, &self.port_in, active);
        }
    }
}
