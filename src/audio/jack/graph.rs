//! A client without ports: it sees the ports of all others and their connections, and makes and breaks connections.
//!
//! It has no process callback, so JACK never waits for it. The `jack` crate can't open such a client, so the callbacks
//! are set here.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use jack::Client;
use jack::jack_sys as sys;

use super::open::open_raw;
use super::patchbay::{ConnectError, GraphState, Known, Patchbay};
use super::table::{Seat, close, seated};
use super::watch::Watch;
use super::{JackError, server_name};

/// An open, running client that has no ports. Dropping it closes it, within 3 s.
pub struct GraphClient {
    // Both are there until the client is dropped; the callbacks point into the watch, so it outlives the client.
    open: Option<(Client, Arc<Watch>)>,
    watch: Arc<Watch>,
    known: Mutex<Known>,
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
        let (seat, (client, watch)) = seated(&server, || {
            let client = open_raw(name, &server)?;
            let watch = Watch::of(&client);
            // Of the two the client goes first, also when this fails: its callbacks look at the watch.
            let open = (client, watch);
            activate(&open.0, &open.1).map_err(|code| JackError::Refused {
                server: server.clone(),
                name: name.to_owned(),
                reason: format!("it can't be activated (code {code})"),
            })?;
            Ok((Arc::clone(&open.1), open))
        })?;
        let open = Some((client, Arc::clone(&watch)));
        Ok(Self { open, watch, known: Mutex::default(), seat, name: name.to_owned() })
    }

    /// What JACK has reported so far.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The graph as it sees it.
    #[must_use]
    pub fn patchbay(&self) -> Patchbay<'_> {
        let client = self.open.as_ref().filter(|_| !self.watch.is_down()).map(|(client, _)| client);
        Patchbay { client, watch: &self.watch, known: &self.known }
    }

    /// As [`Patchbay::state`].
    #[must_use]
    pub fn state(&self) -> GraphState {
        self.patchbay().state()
    }

    /// As [`Patchbay::take_fresh`].
    #[must_use]
    pub fn take_fresh(&self) -> Option<BTreeSet<String>> {
        self.patchbay().take_fresh()
    }

    /// As [`Patchbay::connect`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(&self, source: &str, sink: &str) -> Result<(), ConnectError> {
        self.patchbay().connect(source, sink)
    }

    /// As [`Patchbay::disconnect`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn disconnect(&self, source: &str, sink: &str) -> Result<(), ConnectError> {
        self.patchbay().disconnect(source, sink)
    }
}

impl Drop for GraphClient {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            close(&self.seat, &self.name, open);
        }
    }
}

/// Sets the callbacks and starts the client. The watch must live until the client is closed.
fn activate(client: &Client, watch: &Arc<Watch>) -> Result<(), c_int> {
    let (raw, arg) = (client.raw(), Arc::as_ptr(watch).cast_mut().cast::<c_void>());
    let ok = |code: c_int| if code == 0 { Ok(()) } else { Err(code) };
    // SAFETY: the types are those of jack/jack.h. The owner of the client keeps the watch longer than the client, and what is
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

/// Gives the watch to `notice`. A panic must not unwind into C.
///
/// # Safety
/// `arg` is what [`activate`] gave to JACK.
unsafe fn notify(arg: *mut c_void, notice: impl FnOnce(&Watch)) {
    // SAFETY: the watch outlives the client, and JACK calls nothing of a client that is closed.
    let watch = unsafe { &*arg.cast_const().cast::<Watch>() };
    // The default hook has already reported a panic.
    let _ = catch_unwind(AssertUnwindSafe(|| notice(watch)));
}

unsafe extern "C" fn on_shutdown(_: sys::jack_status_t, _: *const c_char, arg: *mut c_void) {
    // SAFETY: JACK gives back what `activate` gave.
    unsafe { notify(arg, |watch| watch.went_down()) }
}

unsafe extern "C" fn on_rate(rate_hz: u32, arg: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { notify(arg, |watch| watch.has_rate(rate_hz)) }
    0
}

unsafe extern "C" fn on_period(frames: u32, arg: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { notify(arg, |watch| watch.has_period(frames)) }
    0
}

unsafe extern "C" fn on_port(id: u32, came: c_int, arg: *mut c_void) {
    // SAFETY: as above.
    unsafe { notify(arg, |watch| if came == 0 { watch.port_went() } else { watch.port_came(id) }) }
}

unsafe extern "C" fn on_connection(_: u32, _: u32, _: c_int, arg: *mut c_void) {
    // SAFETY: as above.
    unsafe { notify(arg, |watch| watch.graph_changed()) }
}

unsafe extern "C" fn on_rename(id: u32, _: *const c_char, _: *const c_char, arg: *mut c_void) -> c_int {
    // Under another name it is another port to rules, which go by names.
    let notice = |watch: &Watch| {
        watch.port_went();
        watch.port_came(id);
    };
    // SAFETY: as above.
    unsafe { notify(arg, notice) }
    0
}

unsafe extern "C" fn on_xrun(arg: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { notify(arg, |watch| watch.missed_a_period()) }
    0
}

/// Also when a client becomes active: its ports take connections from then on.
unsafe extern "C" fn on_order(arg: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe { notify(arg, |watch| watch.graph_changed()) }
    0
}

unsafe extern "C" fn on_property(
    _: sys::jack_uuid_t,
    _: *const c_char,
    _: sys::jack_property_change_t,
    arg: *mut c_void,
) {
    // SAFETY: as above.
    unsafe { notify(arg, Watch::was_renamed) }
}
