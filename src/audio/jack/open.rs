//! Opens a client on the server of a name, which the `jack` crate can't pass on, and keeps libjack from printing.

use std::ffi::{CString, c_char, c_uint};

use jack::jack_sys;
use jack::{Client, ClientOptions, ClientStatus};

use super::JackError;

/// The longest client name that JACK takes (64 bytes with the final NUL).
const NAME_MAX_BYTES: usize = 63;

/// Opens a client that is not active yet. Never starts a server.
pub(super) fn open_raw(name: &str, server: &str) -> Result<Client, JackError> {
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
        // SAFETY: libjack has just given this client to us, and no other owner has it.
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

/// libjack prints to stdout and stderr unless it is given a logger.
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
