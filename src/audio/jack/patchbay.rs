//! What a client sees of the graph, and how it changes it.
//!
//! libjack finds all of this in shared memory; only making and breaking a connection is a round trip to the server. But to
//! find a port by its name it compares the names of all, so what was found is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use jack::jack_sys as sys;
use jack::{Client, PortFlags};

use super::watch::Watch;

/// The name of a port that people should see, as JACK's metadata have it.
const PRETTY_NAME: &CStr = c"http://jackaudio.org/metadata/pretty-name";
/// See [`pretty_names`].
const NAMES_TIMEOUT: Duration = Duration::from_millis(200);
const AUDIO_TYPE: &str = "32 bit float mono audio";
const MIDI_TYPE: &str = "8 bit raw midi";

/// What flows through a port, seen from the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortFlow {
    /// Gives, as a microphone's port does.
    Source,
    /// Takes, as a loudspeaker's port does.
    Sink,
}

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
    /// The name that people should see, if it was given one.
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
    /// A port of that name of which nothing else is known.
    #[must_use]
    pub fn named(name: &str, kind: PortKind, flow: PortFlow) -> Self {
        Self {
            name: name.to_owned(),
            aliases: Vec::new(),
            pretty_name: None,
            kind,
            flow,
            is_physical: false,
            is_terminal: false,
            capture: Latency::default(),
            playback: Latency::default(),
        }
    }

    /// The client that has the port.
    #[must_use]
    pub fn client(&self) -> &str {
        client_of(&self.name)
    }
}

/// The client in a port's full name, `client:port`.
pub(in crate::audio) fn client_of(port: &str) -> &str {
    port.split_once(':').map_or(port, |(client, _)| client)
}

/// The graph as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphState {
    /// Every port, in JACK's order, which is that of their numbers within a client.
    pub ports: Vec<GraphPort>,
    /// Every connection, as (source, sink).
    pub connections: BTreeSet<(String, String)>,
}

/// Why two ports can't be connected or disconnected.
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

/// A port in libjack.
#[derive(Debug, Clone, Copy)]
struct Raw(*mut sys::jack_port_t);

// SAFETY: it is a place in JACK's shared memory, and libjack does not care from which thread it is read.
unsafe impl Send for Raw {}

/// What was found out about ports before, by their names.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Where they are. A place may be another port's once one has gone, so then all are looked for again.
    places: HashMap<String, Raw>,
    /// How many ports had gone by then.
    departures: u64,
    /// The names that people should see.
    pretty: BTreeMap<String, Option<String>>,
}

/// The graph as an open client sees it.
#[derive(Clone, Copy)]
pub struct Patchbay<'a> {
    /// `None` once the server has gone.
    pub(super) client: Option<&'a Client>,
    pub(super) watch: &'a Watch,
    pub(super) known: &'a Mutex<Known>,
}

impl std::fmt::Debug for Patchbay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patchbay").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl Patchbay<'_> {
    /// What JACK has reported so far.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        self.watch
    }

    /// The graph as it is now; empty once the server has gone. Right after a change it may be up to a period old.
    #[must_use]
    pub fn state(&self) -> GraphState {
        let Some(client) = self.client else { return GraphState::default() };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the names: what goes in between is found with the next view.
        let departures = self.watch.departures();
        if std::mem::replace(&mut known.departures, departures) != departures {
            known.places.clear();
        }
        let names = client.ports(None, None, PortFlags::empty());
        let mut state = GraphState::default();
        for name in names {
            let place = known.places.get(&name).copied().filter(|raw| name_of(*raw).as_ref() == Some(&name));
            let Some(raw) = place.or_else(|| by_name(client, &name)) else { continue };
            let Some(port) = read(raw, &name) else { continue };
            if port.flow == PortFlow::Source {
                state.connections.extend(connections_of(client, raw.0).into_iter().map(|sink| (name.clone(), sink)));
            }
            known.places.insert(name, raw);
            state.ports.push(port);
        }
        let there: BTreeSet<&str> = state.ports.iter().map(|port| port.name.as_str()).collect();
        known.places.retain(|name, _| there.contains(name.as_str()));
        self.name(&mut known, &mut state);
        state
    }

    /// Adds the names that people should see.
    fn name(&self, known: &mut Known, state: &mut GraphState) {
        let Known { places, pretty, .. } = known;
        if self.watch.take_renamed() {
            pretty.clear();
        }
        pretty.retain(|name, _| places.contains_key(name));
        let unknown = places.iter().filter(|(name, _)| !pretty.contains_key(*name));
        let (names, raws): (Vec<String>, Vec<Raw>) = unknown.map(|(name, raw)| (name.clone(), *raw)).unzip();
        if !names.is_empty() {
            let found = pretty_names(&raws);
            pretty.extend(names.into_iter().zip(found));
        }
        for port in &mut state.ports {
            port.pretty_name = pretty.get(&port.name).cloned().flatten();
        }
    }

    /// The ports that have come since the last call, by name: those that are there, also if one of the same name was
    /// there before. `None`: there were too many to note, so any may be new.
    ///
    /// JACK tells of a port when its client is active: from then on it takes connections.
    #[must_use]
    pub fn take_fresh(&self) -> Option<BTreeSet<String>> {
        let fresh = self.watch.take_fresh();
        let Some(client) = self.client else { return Some(BTreeSet::new()) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = BTreeSet::new();
        for id in fresh.ids {
            // SAFETY: the client is open; null is looked for.
            let raw = unsafe { sys::jack_port_by_id(client.raw(), id) };
            if raw.is_null() {
                continue;
            }
            let Some(name) = name_of(Raw(raw)).filter(|name| !name.is_empty()) else { continue };
            known.places.insert(name.clone(), Raw(raw));
            known.pretty.remove(&name);
            names.insert(name);
        }
        (!fresh.all).then_some(names)
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

    /// Disconnects two ports by name.
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
        let client = self.client.filter(|_| !self.watch.is_down()).ok_or(ConnectError::Down)?;
        let c_name = |name: &str| CString::new(name).map_err(|_| ConnectError::NoPort(name.escape_debug().to_string()));
        let (c_source, c_sink) = (c_name(source)?, c_name(sink)?);
        let code = change(client, &c_source, &c_sink);
        if code == 0 {
            return Ok(());
        }
        if self.watch.is_down() {
            return Err(ConnectError::Down);
        }
        // JACK gives the same code for everything, so the reason is looked for.
        let port = |name: &str| {
            let found = by_name(client, name).and_then(|raw| read(raw, name));
            found.ok_or_else(|| ConnectError::NoPort(name.to_owned()))
        };
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
}

/// The names that people should see for ports, from JACK's metadata, in their order.
///
/// JACK keeps these in a database whose locks a program that was killed may have left behind. So they are read on a
/// thread of its own, and when that does not answer within 200 ms, never again.
fn pretty_names(ports: &[Raw]) -> Vec<Option<String>> {
    static HANGS: AtomicBool = AtomicBool::new(false);
    let nothing = || vec![None; ports.len()];
    if HANGS.load(Ordering::Acquire) {
        return nothing();
    }
    // SAFETY: the ports are libjack's, which looks for nothing but their numbers.
    let uuids: Vec<_> = ports.iter().map(|raw| unsafe { sys::jack_port_uuid(raw.0) }).collect();
    let (answer, answered) = mpsc::sync_channel(1);
    let read = move || {
        let names: Vec<_> = uuids.into_iter().map(pretty_name).collect();
        // After the time-out there is no reader.
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

fn by_name(client: &Client, name: &str) -> Option<Raw> {
    let c_name = CString::new(name).ok()?;
    // SAFETY: the client is open; null is looked for.
    let raw = unsafe { sys::jack_port_by_name(client.raw(), c_name.as_ptr()) };
    (!raw.is_null()).then_some(Raw(raw))
}

fn name_of(port: Raw) -> Option<String> {
    // SAFETY: a port that goes leaves its place in JACK's shared memory; null is looked for.
    unsafe { text(sys::jack_port_name(port.0)) }
}

/// What is to be known of a port, unless it has just gone or has no direction.
fn read(raw: Raw, name: &str) -> Option<GraphPort> {
    // SAFETY: a port that goes meanwhile leaves its place in JACK's shared memory.
    let (flags, kind) = unsafe { (sys::jack_port_flags(raw.0), text(sys::jack_port_type(raw.0))?) };
    let has = |flag: PortFlags| flags.cast_unsigned() & flag.bits() != 0;
    let flow = match (has(PortFlags::IS_OUTPUT), has(PortFlags::IS_INPUT)) {
        (true, _) => PortFlow::Source,
        (_, true) => PortFlow::Sink,
        _ => return None,
    };
    let latency = |side| {
        let mut range = sys::jack_latency_range_t { min: 0, max: 0 };
        // SAFETY: as above; the range outlives the call.
        unsafe { sys::jack_port_get_latency_range(raw.0, side, &raw mut range) };
        Latency { min_frames: range.min, max_frames: range.max }
    };
    let kind = match kind.as_str() {
        AUDIO_TYPE => PortKind::Audio,
        MIDI_TYPE => PortKind::Midi,
        _ => PortKind::Other,
    };
    Some(GraphPort {
        aliases: aliases(raw),
        is_physical: has(PortFlags::IS_PHYSICAL),
        is_terminal: has(PortFlags::IS_TERMINAL),
        capture: latency(sys::JackCaptureLatency),
        playback: latency(sys::JackPlaybackLatency),
        ..GraphPort::named(name, kind, flow)
    })
}

/// Up to two other names.
fn aliases(port: Raw) -> Vec<String> {
    // SAFETY: libjack says how long a name may be, with its NUL, and writes no more than that.
    unsafe {
        let len = usize::try_from(sys::jack_port_name_size()).unwrap_or(0).max(1);
        let mut names: [Vec<c_char>; 2] = [vec![0; len], vec![0; len]];
        let places = names.each_mut().map(|name| name.as_mut_ptr());
        sys::jack_port_get_aliases(port.0, places.as_ptr().cast_mut());
        names.iter().filter_map(|name| text(name.as_ptr())).filter(|name| !name.is_empty()).collect()
    }
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
