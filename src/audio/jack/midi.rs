//! A client with MIDI ports.
//!
//! Not midir's: its JACK side opens a client a port, sends all at frame 0, takes the time of the callback for that of the
//! message, writes past what its ring holds when the server dawdles, and does not learn that the server has gone.

use std::sync::Arc;
use std::thread::Thread;

use jack::{Client, Control, Frames, MidiIn, MidiOut, Port, ProcessScope, RawMidi};

use super::open::open_raw;
use super::table::{Seat, close, seated};
use super::watch::{Notices, Watch};
use super::{JackError, server_name};
use crate::audio::midi::{Cycle, MidiRings, MidiRt, midi_rings};
use crate::audio::rt_check::watched;

/// How MIDI appears in JACK.
#[derive(Debug, Clone)]
pub struct MidiSettings {
    /// Name of the client; 1 to 63 bytes without `:`.
    pub client_name: String,
    /// Name of the server; `None` takes `$JACK_DEFAULT_SERVER`, else `default`.
    pub server: Option<String>,
    /// Names of the ports that listen.
    pub inputs: Vec<String>,
    /// Names of the ports that play.
    pub outputs: Vec<String>,
}

struct Process {
    inputs: Vec<Port<MidiIn>>,
    outputs: Vec<Port<MidiOut>>,
    rt: MidiRt,
    watch: Arc<Watch>,
    reader: Thread,
    last: Option<Cycle>,
}

impl jack::ProcessHandler for Process {
    fn process(&mut self, client: &Client, scope: &ProcessScope) -> Control {
        watched(|| {
            let frames = scope.n_frames();
            let cycle = match scope.cycle_times() {
                Ok(times) => Cycle { start_us: times.current_usecs, next_us: times.next_usecs, frames },
                // A server that does not tell: the period begins now.
                Err(_) => {
                    let start_us = client.time();
                    let us = u64::from(frames) * 1_000_000 / u64::from(self.watch.rate_hz().max(1));
                    Cycle { start_us, next_us: start_us + us, frames }
                }
            };
            let cycle = cycle.after(self.last);
            self.last = Some(cycle);
            let mut came = false;
            for (at, port) in self.inputs.iter().enumerate() {
                for event in port.iter(scope) {
                    came = true;
                    self.rt.receive(at as u16, cycle.at_us(event.time), event.bytes);
                }
            }
            for (at, port) in self.outputs.iter_mut().enumerate() {
                let mut writer = port.writer(scope);
                self.rt.send(at, cycle, |time, bytes| writer.write(&RawMidi { time, bytes }).is_ok());
            }
            if came {
                // A futex wake, when something came: it does not wait.
                self.reader.unpark();
            }
        });
        Control::Continue
    }

    fn buffer_size(&mut self, _: &Client, frames: Frames) -> Control {
        self.watch.has_period(frames);
        Control::Continue
    }
}

/// An open, running client. Dropping it closes it, within 3 s.
pub struct MidiClient {
    active: Option<jack::AsyncClient<Notices, Process>>,
    watch: Arc<Watch>,
    seat: Arc<Seat>,
    name: String,
}

impl std::fmt::Debug for MidiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MidiClient").field("name", &self.name).field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl MidiClient {
    /// Opens a client, registers its ports and starts it. The calling thread is unparked whenever JACK reports something,
    /// `reader` whenever messages came. Never starts a server.
    ///
    /// # Errors
    /// See [`JackError`].
    pub fn open(settings: &MidiSettings, reader: Thread) -> Result<(Self, MidiRings), JackError> {
        let server = server_name(settings.server.as_deref());
        let (seat, (active, watch, rings)) = seated(&server, || {
            let client = open_raw(&settings.client_name, &server)?;
            let refused = |err: jack::Error| JackError::Refused {
                server: server.clone(),
                name: settings.client_name.clone(),
                reason: err.to_string(),
            };
            let input = |name: &String| client.register_port(name, MidiIn::default()).map_err(refused);
            let inputs = settings.inputs.iter().map(input).collect::<Result<Vec<_>, _>>()?;
            let output = |name: &String| client.register_port(name, MidiOut::default()).map_err(refused);
            let outputs = settings.outputs.iter().map(output).collect::<Result<Vec<_>, _>>()?;
            let (rt, rings) = midi_rings(outputs.len());
            let watch = Watch::of(&client);
            let process = Process { inputs, outputs, rt, watch: Arc::clone(&watch), reader, last: None };
            let active = client.activate_async(Notices(Arc::clone(&watch)), process).map_err(refused)?;
            Ok((Arc::clone(&watch), (active, watch, rings)))
        })?;
        let name = settings.client_name.clone();
        Ok((Self { active: Some(active), watch, seat, name }, rings))
    }

    /// What JACK has reported so far.
    #[must_use]
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// JACK's time, in µs: that of messages.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.as_client().time())
    }
}

impl Drop for MidiClient {
    fn drop(&mut self) {
        if let Some(active) = self.active.take() {
            close(&self.seat, &self.name, active);
        }
    }
}
