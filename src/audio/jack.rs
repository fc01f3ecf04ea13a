//! One JACK client a listener, with the ports `voice_in` and `voice_out`. The sole user of the `jack` crate.
//!
//! libjack is loaded at run time: a host without it starts, and [`JackClient::open`] says what to install. libjack keeps
//! one server's shared memory for the whole process, which gives two rules that [`JackClient::open`] enforces: all
//! clients of a process belong to one server, and after that server has died every one of them is closed before the
//! first is opened anew.
//!
//! What JACK reports (death, rate, period, xruns, changes of the graph) arrives in [`Watch`] as atomics; the thread that
//! opened the client is unparked. Nothing in a callback waits for anybody.

use std::collections::BTreeSet;
use std::ffi::{CString, c_char, c_uint};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::Thread;
use std::time::Duration;

use jack::jack_sys;
use jack::{
    AudioIn, AudioOut, Client, ClientOptions, ClientStatus, Control, Frames, Port, PortFlags, PortId, ProcessScope,
};

use super::patch::{Patch, PortFlow, PortInfo};
use super::ring::{Capture, Playback, RtSide, voice_rings};
use super::rt_check::watched;

/// Name of the port that listens.
pub const PORT_IN: &str = "voice_in";
/// Name of the port that speaks.
pub const PORT_OUT: &str = "voice_out";

/// How long closing a client may take. libjack can hang on a server that died badly; the client is then left behind.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest client name that JACK takes (64 bytes with the final NUL).
const NAME_MAX_BYTES: usize = 63;
const AUDIO_TYPE: &str = "32 bit float mono audio";

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

    fn server_name(&self) -> String {
        self.server
            .clone()
            .or_else(|| std::env::var("JACK_DEFAULT_SERVER").ok().filter(|name| !name.is_empty()))
            .unwrap_or_else(|| "default".to_owned())
    }
}

/// How connecting went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patched {
    /// The ports that are there and need no more attention.
    pub known: BTreeSet<String>,
    /// The ports that are there and took no connection; to be tried again.
    pub failed: BTreeSet<String>,
}

/// Why a client can't be had. Trying again can help with all but [`JackError::Name`] and [`JackError::OtherServer`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JackError {
    /// libjack is not installed.
    #[error(
        "the JACK library can't be loaded ({0}); install it: 'apt install libjack-jackd2-0', or PipeWire's 'pipewire-jack'"
    )]
    NoLibrary(String),
    /// No server of that name runs, or it belongs to another user.
    #[error(
        "no JACK server '{server}' answers; start one as this user, such as 'jackd -R -d alsa', or name the right one in jack.server or $JACK_DEFAULT_SERVER"
    )]
    NoServer {
        /// The server that was asked.
        server: String,
    },
    /// Another client has the name.
    #[error(
        "JACK server '{server}' already has a client '{name}'; stop the other one, or give this listener another client name"
    )]
    NameTaken {
        /// The server that was asked.
        server: String,
        /// The name that is taken.
        name: String,
    },
    /// The name can't be a client's.
    #[error("'{0}' can't be the name of a JACK client; use 1 to 63 bytes without ':'")]
    Name(String),
    /// This process already has clients of another server.
    #[error(
        "a listener can't use JACK server '{server}' while another uses '{current}': libjack serves one server a process; run a second sidetone for it"
    )]
    OtherServer {
        /// The server that was asked for.
        server: String,
        /// The one that is in use.
        current: String,
    },
    /// A client of the server that died, or one that closes, is not gone yet.
    #[error(
        "another JACK client of this process has not been closed yet; if that lasts, libjack hangs: restart sidetone"
    )]
    Closing,
    /// JACK refused for another reason.
    #[error("JACK server '{server}' refused client '{name}': {reason}; see the server's own log")]
    Refused {
        /// The server that was asked.
        server: String,
        /// The client's name.
        name: String,
        /// What libjack said.
        reason: String,
    },
}

/// What JACK has reported about a client.
#[derive(Debug)]
pub struct Watch {
    down: AtomicBool,
    closing: AtomicBool,
    rate_hz: AtomicU32,
    buffer_frames: AtomicU32,
    xruns: AtomicU64,
    graph_changes: AtomicU64,
    owner: Thread,
}

impl Watch {
    /// Whether the server has died or thrown the client out.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// The server's sample rate, in Hz.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz.load(Ordering::Acquire)
    }

    /// Frames of a period.
    #[must_use]
    pub fn buffer_frames(&self) -> u32 {
        self.buffer_frames.load(Ordering::Acquire)
    }

    /// Periods that JACK missed since the client was opened.
    #[must_use]
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }

    /// Grows whenever a port comes, goes, or is connected.
    #[must_use]
    pub fn graph_changes(&self) -> u64 {
        self.graph_changes.load(Ordering::Acquire)
    }
}

struct Notices(Arc<Watch>);

impl jack::NotificationHandler for Notices {
    // Must be as careful as a signal handler: an atomic and a futex wake, no more.
    unsafe fn shutdown(&mut self, _status: ClientStatus, _reason: &str) {
        self.0.down.store(true, Ordering::Release);
        self.0.owner.unpark();
    }

    fn sample_rate(&mut self, _: &Client, rate_hz: Frames) -> Control {
        self.0.rate_hz.store(rate_hz, Ordering::Release);
        self.0.owner.unpark();
        Control::Continue
    }

    fn port_registration(&mut self, _: &Client, _port: PortId, _is_registered: bool) {
        self.0.graph_changes.fetch_add(1, Ordering::AcqRel);
        self.0.owner.unpark();
    }

    fn ports_connected(&mut self, _: &Client, _a: PortId, _b: PortId, _are_connected: bool) {
        self.0.graph_changes.fetch_add(1, Ordering::AcqRel);
        self.0.owner.unpark();
    }

    fn xrun(&mut self, _: &Client) -> Control {
        self.0.xruns.fetch_add(1, Ordering::Relaxed);
        Control::Continue
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
        self.watch.buffer_frames.store(frames, Ordering::Release);
        self.watch.owner.unpark();
        Control::Continue
    }
}

/// Every client of this process that is not closed for good, with its server.
static CLIENTS: Mutex<Vec<(String, Arc<Watch>)>> = Mutex::new(Vec::new());

/// An open, running client. Dropping it closes it, within 3 s.
pub struct JackClient {
    active: Option<jack::AsyncClient<Notices, Process>>,
    watch: Arc<Watch>,
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
        let server = settings.server_name();
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.iter().any(|(_, watch)| watch.is_down() || watch.closing.load(Ordering::Acquire)) {
            return Err(JackError::Closing);
        }
        if let Some((current, _)) = clients.iter().find(|(current, _)| *current != server) {
            return Err(JackError::OtherServer { server, current: current.clone() });
        }
        let client = open_raw(&settings.client_name, &server)?;
        let refused = |err: jack::Error| JackError::Refused {
            server: server.clone(),
            name: settings.client_name.clone(),
            reason: err.to_string(),
        };
        let input = client.register_port(PORT_IN, AudioIn::default()).map_err(refused)?;
        let output = client.register_port(PORT_OUT, AudioOut::default()).map_err(refused)?;
        let (port_in, port_out) = (input.name().map_err(refused)?, output.name().map_err(refused)?);

        let rate_hz = client.sample_rate();
        let frames = |ms: u32| (u64::from(rate_hz) * u64::from(ms) / 1000) as usize;
        // A ring shorter than two periods would lose audio however quick the other side is.
        let least = client.buffer_size() as usize * 2;
        let (rt, capture, playback) =
            voice_rings(frames(settings.capture_ms).max(least), frames(settings.playback_ms).max(least), rate_hz);
        let watch = Arc::new(Watch {
            down: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            rate_hz: AtomicU32::new(rate_hz),
            buffer_frames: AtomicU32::new(client.buffer_size()),
            xruns: AtomicU64::new(0),
            graph_changes: AtomicU64::new(1),
            owner: std::thread::current(),
        });
        let process = Process { input, output, rt, watch: Arc::clone(&watch) };
        let active = client.activate_async(Notices(Arc::clone(&watch)), process).map_err(refused)?;
        clients.push((server.clone(), Arc::clone(&watch)));
        Ok((Self { active: Some(active), watch, port_in, port_out }, capture, playback))
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

    /// Connects what `patch` wants among the ports that are not in `known`, and says how that went.
    #[must_use]
    pub fn connect(&self, patch: &Patch, known: &BTreeSet<String>) -> Patched {
        let Some(client) = self.client() else { return Patched::default() };
        let ports = audio_ports(client);
        let mut failed = BTreeSet::new();
        for (source, sink) in patch.wanted(&self.port_in, &self.port_out, &ports, known) {
            match client.connect_ports_by_name(&source, &sink) {
                Ok(()) => tracing::info!(source, sink, "JACK ports connected"),
                Err(jack::Error::PortAlreadyConnected(..)) => {}
                // A port can be seen before its client is active; then it takes no connection yet.
                Err(err) => {
                    tracing::debug!(source, sink, %err, "JACK ports not connected");
                    failed.insert(if source == self.port_out { sink } else { source });
                }
            }
        }
        let known = ports.into_iter().map(|port| port.name).filter(|name| !failed.contains(name)).collect();
        Patched { known, failed }
    }

    /// The audio ports of the graph; none once the server has gone.
    #[must_use]
    pub fn ports(&self) -> Vec<PortInfo> {
        self.client().map(audio_ports).unwrap_or_default()
    }

    /// The client while its server lives.
    fn client(&self) -> Option<&Client> {
        self.active.as_ref().filter(|_| !self.watch.is_down()).map(jack::AsyncClient::as_client)
    }
}

impl Drop for JackClient {
    // On a thread of its own: libjack forbids closing from its callbacks and may hang on a dead server, and whoever
    // drops a client must get on.
    fn drop(&mut self) {
        let Some(active) = self.active.take() else { return };
        let watch = Arc::clone(&self.watch);
        watch.closing.store(true, Ordering::Release);
        let (done, closed) = mpsc::sync_channel(1);
        let close = move || {
            drop(active);
            let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
            clients.retain(|(_, other)| !Arc::ptr_eq(other, &watch));
            // Nobody waits any more after the time-out.
            let _ = done.try_send(());
        };
        // A thread that can't be started drops the closure, and the client with it, right here.
        let started = std::thread::Builder::new().name("jack-close".to_owned()).spawn(close).is_ok();
        if started && closed.recv_timeout(CLOSE_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!(
                client = self.port_in,
                "libjack does not close a client; restart sidetone if it does not come back"
            );
        }
    }
}

fn open_raw(name: &str, server: &str) -> Result<Client, JackError> {
    let bad_name = || JackError::Name(name.to_owned());
    if name.is_empty() || name.len() > NAME_MAX_BYTES || name.contains(':') {
        return Err(bad_name());
    }
    let c_name = CString::new(name).map_err(|_| bad_name())?;
    let no_server = || JackError::NoServer { server: server.to_owned() };
    let c_server = CString::new(server).map_err(|_| no_server())?;
    let library = jack_sys::library().map_err(|err| JackError::NoLibrary(err.to_string()))?;
    quiet_libjack();

    // `jack::Client::new` can't pass a server's name, which is a variadic argument.
    type Open = unsafe extern "C" fn(*const c_char, c_uint, *mut c_uint, ...) -> *mut jack_sys::jack_client_t;
    // Without USE_EXACT_NAME: jackd 1.9 answers a name that is taken with an unspecific error, or else gives another name.
    let options = ClientOptions::NO_START_SERVER | ClientOptions::SERVER_NAME;
    let mut status: c_uint = 0;
    // SAFETY: the type is that of jack/jack.h; the strings outlive the call, which copies them.
    let raw = unsafe {
        let open = library.get::<Open>(b"jack_client_open\0").map_err(|err| JackError::NoLibrary(err.to_string()))?;
        open(c_name.as_ptr(), options.bits(), &raw mut status, c_server.as_ptr())
    };
    if !raw.is_null() {
        // SAFETY: libjack has just given this client to us, and nobody else has it.
        let client = unsafe { Client::from_raw(raw) };
        if client.name() == name {
            return Ok(client);
        }
        return Err(JackError::NameTaken { server: server.to_owned(), name: name.to_owned() });
    }
    let status = ClientStatus::from_bits_truncate(status);
    Err(if status.contains(ClientStatus::SERVER_FAILED) {
        no_server()
    } else {
        JackError::Refused { server: server.to_owned(), name: name.to_owned(), reason: format!("{status:?}") }
    })
}

/// Messages of libjack that wait to be logged; further ones are left out.
const MESSAGES: usize = 64;

/// libjack prints to stdout and stderr unless told otherwise.
///
/// Its threads log in the middle of being cancelled, and a thread that is cancelled while it writes a line ends the whole
/// program: so they only hand the text over.
fn quiet_libjack() {
    static OUT: std::sync::OnceLock<std::sync::mpsc::SyncSender<String>> = std::sync::OnceLock::new();
    unsafe extern "C" fn log(message: *const c_char) {
        if message.is_null() {
            return;
        }
        // SAFETY: libjack gives a NUL-terminated string that lives during the call.
        let message = unsafe { std::ffi::CStr::from_ptr(message) };
        if let Some(out) = OUT.get() {
            // Full: libjack says the same many times over.
            let _ = out.try_send(message.to_string_lossy().into_owned());
        }
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let (out, messages) = std::sync::mpsc::sync_channel::<String>(MESSAGES);
        let write = move || messages.iter().for_each(|message| tracing::debug!(text = message, "libjack"));
        if let Err(error) = std::thread::Builder::new().name("libjack-log".to_owned()).spawn(write) {
            tracing::debug!(%error, "what libjack says is not logged");
        }
        let _ = OUT.set(out);
        jack::set_logger(jack::LoggerType::Custom { info: log, error: log });
    });
}

fn audio_ports(client: &Client) -> Vec<PortInfo> {
    let list = |flags: PortFlags, flow: PortFlow| {
        client.ports(None, Some(AUDIO_TYPE), flags).into_iter().map(move |name| {
            let aliases = client.port_by_name(&name).and_then(|port| port.aliases().ok()).unwrap_or_default();
            PortInfo { name, aliases, flow }
        })
    };
    list(PortFlags::IS_OUTPUT, PortFlow::Source).chain(list(PortFlags::IS_INPUT, PortFlow::Sink)).collect()
}
