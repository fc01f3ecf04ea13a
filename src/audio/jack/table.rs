//! Who of this process has a client of JACK open, and who may open one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::JackError;
use super::watch::Watch;

/// How long closing a client may take. libjack can hang on a server that died badly; the client is then left behind.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long libjack's own threads may take to be done with the news that the server has died.
const SETTLE: Duration = Duration::from_millis(30);

/// Every client of this process that is not closed for good.
static CLIENTS: Mutex<Vec<Arc<Seat>>> = Mutex::new(Vec::new());

/// The place of a client in the table. It is taken before the client is opened and left after it was closed.
#[derive(Debug)]
pub(super) struct Seat {
    server: String,
    /// JACK tells it when the server goes.
    watch: Arc<Watch>,
    closing: AtomicBool,
}

impl Seat {
    /// Whether the client's server has died since.
    fn is_stale(&self) -> bool {
        self.watch.is_down()
    }
}

/// Opens a client by `open`, if the other clients of this process allow it. No other client is opened meanwhile.
pub(super) fn seated<T>(
    server: &str,
    open: impl FnOnce() -> Result<(Arc<Watch>, T), JackError>,
) -> Result<(Arc<Seat>, T), JackError> {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if clients.iter().any(|seat| seat.is_stale() || seat.closing.load(Ordering::Acquire)) {
        return Err(JackError::Closing);
    }
    if let Some(other) = clients.iter().find(|seat| seat.server != server) {
        return Err(JackError::OtherServer { server: server.to_owned(), current: other.server.clone() });
    }
    let (watch, opened) = open()?;
    let seat = Arc::new(Seat { server: server.to_owned(), watch, closing: AtomicBool::new(false) });
    clients.push(Arc::clone(&seat));
    Ok((seat, opened))
}

fn leave(seat: &Arc<Seat>) {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    clients.retain(|other| !Arc::ptr_eq(other, seat));
}

/// Closes a client by dropping it, on a thread of its own, and waits for 3 s at most: libjack forbids closing from its
/// callbacks and may hang on a dead server, and the thread that drops a client must get on.
pub(super) fn close(seat: &Arc<Seat>, name: &str, client: impl Send + 'static) {
    seat.closing.store(true, Ordering::Release);
    let seat = Arc::clone(seat);
    let (done, closed) = mpsc::sync_channel(1);
    let close = move || {
        if seat.is_stale() {
            // The thread that reported it is still in the middle of that, and closing cancels it wherever it is: in our code, that
            // ends the whole program ("exception not rethrown"). There is nothing that says when it is out.
            std::thread::sleep(SETTLE);
        }
        drop(client);
        leave(&seat);
        // After the time-out there is no reader.
        let _ = done.try_send(());
    };
    // A thread that can't be started drops the closure, and the client with it, right here.
    let started = std::thread::Builder::new().name("jack-close".to_owned()).spawn(close).is_ok();
    if started && closed.recv_timeout(CLOSE_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
        tracing::error!(client = name, "libjack does not close a client; restart sidetone if it does not come back");
    }
}
