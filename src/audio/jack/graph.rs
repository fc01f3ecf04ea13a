//! A client without ports: it sees the ports of all others and their connections, and makes and breaks connections.
//!
//! It has no process callback, so JACK never waits for it. The `jack` crate can't open such a client, so the callbacks
//! are set here.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use jack::jack_sys as sys;
use jack::{Client, PortFlags};

use super::open::open_raw;
use super::table::{Seat, close, seated};
use super::watch::Watch;
use super::{JackError, server_name};
use crate::audio::patch::PortFlow;

/// Ports that came and that the owner has not asked about yet. Beyond, all ports count as new.
const FRESH_MAX: usize = 8_192;
/// The name of a port that people should see, as JACK's metadata have it.
const PRETTY_NAME: &CStr = c"http://jackaudio.org/metadata/pretty-name";
/// See [`GraphClient::pretty_names`].
const NAMES_TIMEOUT: Duration = Duration::from_millis(200);
const AUDIO_TYPE: &str = "32 bit float mono audio";
const MIDI_TYPE: &str = "8 bit raw midi";

/// What a port carries. Only ports of one kind can be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortKind {
    /// Samples.
    Audio,
    /// MIDI.
    Midi,
    /// Anything else, such as control voltage or video.
    Other,
}

/// How far a port is from the outside world, in frames: the shortest and the longest way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// By the shortest way.
    pub min_frames: u32,
    /// By the longest way.
    pub max_frames: u32,
}

/// A port of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphPort {
    /// Full name, `client:port`.
    pub name: String,
    /// Other names that the port goes by.
    pub aliases: Vec<String>,
    /// The name that people should see, if somebody gave it one.
    pub pretty_name: Option<String>,
    /// What it carries.
    pub kind: PortKind,
    /// Its direction.
    pub flow: PortFlow,
    /// Whether it stands for a device's.
    pub is_physical: bool,
    /// Whether what it carries begins or ends there.
    pub is_terminal: bool,
    /// How long ago what it carries came in.
    pub capture: Latency,
    /// How long until what it carries goes out.
    pub playback: Latency,
}

impl GraphPort {
    /// The client that has the port.
    #[must_use]
    pub fn client(&self) -> &str {
        self.name.split_once(':').map_or(&self.name, |(client, _)| client)
    }
}

/// The graph as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphState {
    /// Every port, in JACK's order, which is that of their numbers within a client.
    pub ports: Vec<GraphPort>,
    /// Every connection, as (source, sink).
    pub connections: BTreeSet<(String, String)>,
}

/// Why two ports can't be connected or parted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// There is no such port.
    #[error("there is no port '{0}' on this JACK server; `sidetone patch show` lists those that are there")]
    NoPort(String),
    /// The first takes.
    #[error("'{0}' takes, so it can't be the first of a connection; name it second")]
    NotASource(String),
    /// The second gives.
    #[error("'{0}' gives, so it can't be the second of a connection; name it first")]
    NotASink(String),
    /// One is audio, the other MIDI.
    #[error(
        "'{source_port}' is {source_kind:?} and '{sink}' is {sink_kind:?}; only ports of one kind can be connected"
    )]
    Kind {
        /// The first port.
        source_port: String,
        /// What it carries.
        source_kind: PortKind,
        /// The second port.
        sink: String,
        /// What it takes.
        sink_kind: PortKind,
    },
    /// The server has gone.
    #[error("the JACK server has gone; start it again")]
    Down,
    /// JACK refused for a reason that it does not tell. A port is seen before its client is active, and takes no
    /// connection until then.
    #[error("JACK refused '{source_port}' and '{sink}' (code {code}); its client may not be active yet")]
    Refused {
        /// The first port.
        source_port: String,
        /// The second port.
        sink: String,
        /// What JACK said.
        code: i32,
    },
}

/// What the callbacks work on.
struct Tap {
    watch: Arc<Watch>,
    fresh: Mutex<Fresh>,
    renamed: AtomicBool,
}

/// Ports that came since the owner last asked.
#[derive(Default)]
struct Fresh {
    ids: Vec<u32>,
    /// There were too many to note.
    all: bool,
}

/// An open, running client that has no ports. Dropping it closes it, within 3 s.
pub struct GraphClient {
    // Both are there until the client is dropped; the callbacks point into the tap, so it outlives the client.
    open: Option<(Client, Arc<Tap>)>,
    tap: Arc<Tap>,
    seat: Arc<Seat>,
    name: String,
}

impl std::fmt::Debug for GraphClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphClient").field("name", &self.name).field("watch", &self.watch()).finish_non_exhaustive()
    }
}

impl GraphClient {
    /// Opens client `name` on `server` (`None` means [`server_name`]'s choice). The calling thread is unparked whenever JACK
    /// reports something. Never starts a server.
    ///
    /// # Errors
    /// See [`JackError`].
    pub fn open(name: &str, server: Option<&str>) -> Result<Self, JackError> {
        let server = server_name(server);
        let (seat, (client, tap)) = seated(&server, || {
            let client = open_raw(name, &server)?;
            let tap =
                Arc::new(Tap { watch: Watch::of(&client), fresh: Mutex::default(), renamed: AtomicBool::new(true) });
            activate(&client, &tap).map_err(|code| JackError::Refused {
                server: server.clone(),
                name: name.to_owned(),
                reason: format!("it can't be activated (code {code})"),
            })?;
            Ok((Some(Arc::clone(&tap.watch)), (client, tap)))
        })?;
        Ok(Self { open: Some((client, Arc::clone(&tap))), tap, seat, name: name.to_owned() })
    }

    /// What JACK has reported so far.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.tap.watch
    }

    /// The graph as it is now; empty once the server has gone. Right after a change it may be up to a period old.
    #[must_use]
    pub fn state(&self) -> GraphState {
        let Some(client) = self.client() else { return GraphState::default() };
        let mut state = GraphState::default();
        for name in client.ports(None, None, PortFlags::empty()) {
            let Some((raw, port)) = port_named(client, &name) else { continue };
            if port.flow == PortFlow::Source {
                state.connections.extend(connections_of(client, raw).into_iter().map(|sink| (name.clone(), sink)));
            }
            state.ports.push(port);
        }
        state
    }

    /// The ports that have come since the last call, by name: those that are there, also if one of the same name was
    /// there before. `None`: there were too many to note, so any may be new.
    #[must_use]
    pub fn take_fresh(&self) -> Option<BTreeSet<String>> {
        let fresh = std::mem::take(&mut *self.tap.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(client) = self.client() else { return Some(BTreeSet::new()) };
        if fresh.all {
            return None;
        }
        Some(fresh.ids.into_iter().filter_map(|id| client.port_by_id(id)?.name().ok()).collect())
    }

    /// Connects two ports by name. That they are connected already is no error.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(&self, source: &str, sink: &str) -> Result<(), ConnectError> {
        self.change(source, sink, |client, source, sink| {
            // SAFETY: the client is open, and the strings outlive the call.
            match unsafe { sys::jack_connect(client.raw(), source.as_ptr(), sink.as_ptr()) } {
                libc::EEXIST => 0,
                code => code,
            }
        })
    }

    /// Parts two ports by name.
    ///
    /// # Errors
    /// See [`ConnectError`]; [`ConnectError::Refused`] if they are not connected.
    pub fn disconnect(&self, source: &str, sink: &str) -> Result<(), ConnectError> {
        self.change(source, sink, |client, source, sink| {
            // SAFETY: the client is open, and the strings outlive the call.
            unsafe { sys::jack_disconnect(client.raw(), source.as_ptr(), sink.as_ptr()) }
        })
    }

    fn change(
        &self,
        source: &str,
        sink: &str,
        change: impl FnOnce(&Client, &CStr, &CStr) -> c_int,
    ) -> Result<(), ConnectError> {
        let client = self.client().ok_or(ConnectError::Down)?;
        let c_name = |name: &str| CString::new(name).map_err(|_| ConnectError::NoPort(name.escape_debug().to_string()));
        let (c_source, c_sink) = (c_name(source)?, c_name(sink)?);
        let code = change(client, &c_source, &c_sink);
        if code == 0 {
            return Ok(());
        }
        // JACK gives the same code for everything, so the reason is looked for.
        let port = |name: &str| {
            port_named(client, name).map(|(_, port)| port).ok_or_else(|| ConnectError::NoPort(name.to_owned()))
        };
        if self.watch().is_down() {
            return Err(ConnectError::Down);
        }
        let (first, second) = (port(source)?, port(sink)?);
        if first.flow == PortFlow::Sink {
            return Err(ConnectError::NotASource(first.name));
        }
        if second.flow == PortFlow::Source {
            return Err(ConnectError::NotASink(second.name));
        }
        if first.kind != second.kind {
            return Err(ConnectError::Kind {
                source_port: first.name,
                source_kind: first.kind,
                sink: second.name,
                sink_kind: second.kind,
            });
        }
        Err(ConnectError::Refused { source_port: first.name, sink: second.name, code })
    }

    /// Whether the names that people should see may have changed since the last call.
    #[must_use]
    pub fn take_renamed(&self) -> bool {
        self.tap.renamed.swap(false, Ordering::AcqRel)
    }

    /// The names that people should see for ports, from JACK's metadata, in their order.
    ///
    /// JACK keeps these in a database whose locks a program that was killed may have left behind. So they are read on a
    /// thread of its own, and when that does not answer within 200 ms, never again.
    #[must_use]
    pub fn pretty_names(&self, ports: &[String]) -> Vec<Option<String>> {
        static HANGS: AtomicBool = AtomicBool::new(false);
        let nothing = || vec![None; ports.len()];
        let Some(client) = self.client().filter(|_| !ports.is_empty() && !HANGS.load(Ordering::Acquire)) else {
            return nothing();
        };
        let uuid = |name: &String| {
            let c_name = CString::new(name.as_str()).ok()?;
            // SAFETY: the client is open; null is looked for.
            unsafe {
                let raw = sys::jack_port_by_name(client.raw(), c_name.as_ptr());
                (!raw.is_null()).then(|| sys::jack_port_uuid(raw))
            }
        };
        let uuids: Vec<_> = ports.iter().map(uuid).collect();
        let (answer, answered) = mpsc::sync_channel(1);
        let read = move || {
            let names: Vec<_> = uuids.into_iter().map(|uuid| uuid.and_then(pretty_name)).collect();
            // Nobody waits any more after the time-out.
            let _ = answer.try_send(names);
        };
        if std::thread::Builder::new().name("jack-names".to_owned()).spawn(read).is_err() {
            return nothing();
        }
        answered.recv_timeout(NAMES_TIMEOUT).unwrap_or_else(|_| {
            HANGS.store(true, Ordering::Release);
            tracing::warn!("JACK's metadata do not answer: ports go by their own names until sidetone is restarted");
            nothing()
        })
    }

    /// The client while its server lives.
    fn client(&self) -> Option<&Client> {
        self.open.as_ref().filter(|_| !self.watch().is_down()).map(|(client, _)| client)
    }
}

impl Drop for GraphClient {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            close(&self.seat, &self.name, open);
        }
    }
}

fn pretty_name(uuid: sys::jack_uuid_t) -> Option<String> {
    let (mut value, mut kind) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the key is a string that lives on; what comes back is ours to free by jack_free.
    unsafe {
        if sys::jack_get_property(uuid, PRETTY_NAME.as_ptr(), &raw mut value, &raw mut kind) != 0 {
            return None;
        }
        let name = text(value);
        sys::jack_free(value.cast());
        sys::jack_free(kind.cast());
        name.filter(|name| !name.is_empty())
    }
}

/// The port of that name, unless it has just gone or has no direction.
fn port_named(client: &Client, name: &str) -> Option<(*mut sys::jack_port_t, GraphPort)> {
    let c_name = CString::new(name).ok()?;
    // SAFETY: the client is open. Null is looked for; a port that goes meanwhile leaves its place in JACK's shared memory.
    let (raw, flags, kind) = unsafe {
        let raw = sys::jack_port_by_name(client.raw(), c_name.as_ptr());
        if raw.is_null() {
            return None;
        }
        (raw, sys::jack_port_flags(raw), text(sys::jack_port_type(raw))?)
    };
    let has = |flag: PortFlags| flags.cast_unsigned() & flag.bits() != 0;
    let flow = match (has(PortFlags::IS_OUTPUT), has(PortFlags::IS_INPUT)) {
        (true, _) => PortFlow::Source,
        (_, true) => PortFlow::Sink,
        _ => return None,
    };
    let port = client.port_by_name(name)?;
    let latency = |side| {
        let (min_frames, max_frames) = port.get_latency_range(side);
        Latency { min_frames, max_frames }
    };
    let found = GraphPort {
        name: name.to_owned(),
        aliases: port.aliases().unwrap_or_default(),
        pretty_name: None,
        kind: match kind.as_str() {
            AUDIO_TYPE => PortKind::Audio,
            MIDI_TYPE => PortKind::Midi,
            _ => PortKind::Other,
        },
        flow,
        is_physical: has(PortFlags::IS_PHYSICAL),
        is_terminal: has(PortFlags::IS_TERMINAL),
        capture: latency(jack::LatencyType::Capture),
        playback: latency(jack::LatencyType::Playback),
    };
    Some((raw, found))
}

/// What a port is connected to, also if it is another client's.
fn connections_of(client: &Client, port: *mut sys::jack_port_t) -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: both are JACK's; the list ends with null and is ours to free by jack_free, its strings with it.
    unsafe {
        let list = sys::jack_port_get_all_connections(client.raw(), port);
        if list.is_null() {
            return names;
        }
        let mut at = list;
        while !(*at).is_null() {
            names.extend(text(*at));
            at = at.add(1);
        }
        sys::jack_free(list.cast());
    }
    names
}

/// # Safety
/// Null, or a string that ends with NUL and lives during the call.
unsafe fn text(raw: *const c_char) -> Option<String> {
    if raw.is_null() {
        return None;
    }
    // SAFETY: as said above.
    Some(unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned())
}

/// Sets the callbacks and starts the client. The tap must live until the client is closed.
fn activate(client: &Client, tap: &Arc<Tap>) -> Result<(), c_int> {
    let (raw, arg) = (client.raw(), Arc::as_ptr(tap).cast_mut().cast::<c_void>());
    let ok = |code: c_int| if code == 0 { Ok(()) } else { Err(code) };
    // SAFETY: the types are those of jack/jack.h. Whoever opened the client keeps the tap longer than the client, and what is
    // called only shares it.
    unsafe {
        sys::jack_on_info_shutdown(raw, Some(on_shutdown), arg);
        ok(sys::jack_set_sample_rate_callback(raw, Some(on_rate), arg))?;
        ok(sys::jack_set_buffer_size_callback(raw, Some(on_period), arg))?;
        ok(sys::jack_set_port_registration_callback(raw, Some(on_port), arg))?;
        ok(sys::jack_set_port_connect_callback(raw, Some(on_connection), arg))?;
        ok(sys::jack_set_port_rename_callback(raw, Some(on_rename), arg))?;
        ok(sys::jack_set_xrun_callback(raw, Some(on_xrun), arg))?;
        ok(sys::jack_set_graph_order_callback(raw, Some(on_order), arg))?;
        // A server without metadata refuses, and has no names to tell.
        sys::jack_set_property_change_callback(raw, Some(on_property), arg);
        ok(sys::jack_activate(raw))
    }
}

/// Gives the tap to `notice`. A panic must not unwind into C.
///
/// # Safety
/// `arg` is what [`activate`] gave to JACK.
unsafe fn tapped(arg: *mut c_void, notice: impl FnOnce(&Tap)) {
    // SAFETY: the tap outlives the client, and JACK calls nothing of a client that is closed.
    let tap = unsafe { &*arg.cast_const().cast::<Tap>() };
    // The default hook has already told about a panic.
    let _ = catch_unwind(AssertUnwindSafe(|| notice(tap)));
}

unsafe extern "C" fn on_shutdown(_: sys::jack_status_t, _: *const c_char, arg: *mut c_void) {
    // SAFETY: JACK gives back what `activate` gave.
    unsafe { tapped(arg, |tap| tap.watch.went_down()) }
}

unsafe extern "C" fn on_rate(rate_hz: u32, arg: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { tapped(arg, |tap| tap.watch.has_rate(rate_hz)) }
    0
}

unsafe extern "C" fn on_period(frames: u32, arg: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { tapped(arg, |tap| tap.watch.has_period(frames)) }
    0
}

unsafe extern "C" fn on_port(id: u32, came: c_int, arg: *mut c_void) {
    let notice = |tap: &Tap| {
        if came != 0 {
            note_fresh(tap, id);
        }
        tap.watch.graph_changed();
    };
    // SAFETY: as above.
    unsafe { tapped(arg, notice) }
}

unsafe extern "C" fn on_connection(_: u32, _: u32, _: c_int, arg: *mut c_void) {
    // SAFETY: as above.
    unsafe { tapped(arg, |tap| tap.watch.graph_changed()) }
}

unsafe extern "C" fn on_rename(id: u32, _: *const c_char, _: *const c_char, arg: *mut c_void) -> c_int {
    let notice = |tap: &Tap| {
        // Under another name it is another port to whoever goes by names.
        note_fresh(tap, id);
        tap.watch.graph_changed();
    };
    // SAFETY: as above.
    unsafe { tapped(arg, notice) }
    0
}

unsafe extern "C" fn on_xrun(arg: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { tapped(arg, |tap| tap.watch.missed_a_period()) }
    0
}

/// Also when a client becomes active: its ports take connections from then on.
unsafe extern "C" fn on_order(arg: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { tapped(arg, |tap| tap.watch.graph_changed()) }
    0
}

unsafe extern "C" fn on_property(
    _: sys::jack_uuid_t,
    _: *const c_char,
    _: sys::jack_property_change_t,
    arg: *mut c_void,
) {
    let notice = |tap: &Tap| {
        tap.renamed.store(true, Ordering::Release);
        tap.watch.graph_changed();
    };
    // SAFETY: as above.
    unsafe { tapped(arg, notice) }
}

fn note_fresh(tap: &Tap, id: u32) {
    let mut fresh = tap.fresh.lock().unwrap_or_else(PoisonError::into_inner);
    if fresh.ids.len() < FRESH_MAX {
        fresh.ids.push(id);
    } else {
        fresh.all = true;
    }
}
