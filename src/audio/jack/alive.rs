//! Keeps a client of JACK alive: opens it, stays with it, and opens the next when its server has gone.
//!
//! ```text
//!          ┌─ open fails: down(reason), once a reason ── wait 0.05 … 1 s ─┐
//!          ▼                                                             │
//!   ──▶ opening ── opened: up ──▶ watching ── server gone: close, down ──┘
//!                                   │  ▲
//!                                   └──┘ look: the graph changed, a time has come, or the thread was woken
//! ```
//!
//! What differs from client to client is a [`Supervised`]: a listener's, the graph's, that of the MIDI ports.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::JackError;

/// The first pause before another try to open a client, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long another client of this process may take to close before that is reported. Closing has a deadline below it.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// How long stopping may take; closing a client has a deadline below it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Says that the supervision is to end. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether it is to end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(in crate::audio) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Waits, unless it is to end; shorter when JACK reports something or the thread is woken.
    pub fn wait(&self, time: Duration) {
        if !self.is_set() {
            std::thread::park_timeout(time);
        }
    }
}

impl From<Arc<AtomicBool>> for Stop {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}

/// The supervision is to end: it was stopped, or its user has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Why there is no client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// It can't be opened.
    Unopened(JackError),
    /// Its server has died, or thrown it out.
    Gone,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unopened(error) => error.fmt(f),
            Self::Gone => f.write_str(
                "the JACK server has gone, or threw the client out; start it again, and the client comes back by itself",
            ),
        }
    }
}

/// When a client wants to be looked after again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// How long until then, if JACK reports nothing before.
    pub within: Duration,
    /// How long to leave the machine to others first, whatever JACK reports.
    pub breath: Duration,
}

/// A client that is kept alive. All of it is called on the supervising thread, which JACK unparks when it reports something.
pub trait Supervised {
    /// The open client, and what belongs to it.
    type Client;

    /// Opens the client. Does not wait for a server.
    ///
    /// # Errors
    /// See [`JackError`]; it is tried again.
    fn open(&mut self) -> Result<Self::Client, JackError>;

    /// Whether the client's server has gone.
    fn is_down(client: &Self::Client) -> bool;

    /// Grows whenever the graph changes.
    fn changes(client: &Self::Client) -> u64;

    /// The client is open.
    ///
    /// # Errors
    /// [`Stopped`] when its user has gone.
    fn up(&mut self, client: &mut Self::Client) -> Result<(), Stopped>;

    /// Looks after the client; `is_due` when the graph has changed or the time has come that was asked for last. `None` when
    /// that time stays.
    ///
    /// # Errors
    /// [`Stopped`] when its user has gone.
    fn look(&mut self, client: &mut Self::Client, is_due: bool) -> Result<Option<Next>, Stopped>;

    /// Closes the client, whose server has gone or whose supervision ends.
    fn close(&mut self, client: Self::Client);

    /// There is no client. Called once for each reason.
    ///
    /// # Errors
    /// [`Stopped`] when its user has gone.
    fn down(&mut self, why: &Down) -> Result<(), Stopped>;

    /// Called before each pause between two tries, with the reason that was reported last.
    fn idle(&mut self, _why: Option<&str>) {}
}

/// Keeps a client alive until `stop`, whose setter unparks this thread, or until its user has gone.
pub fn keep_alive<S: Supervised>(supervised: &mut S, stop: &Stop) {
    let _: Result<(), Stopped> = supervise(supervised, stop);
}

fn supervise<S: Supervised>(supervised: &mut S, stop: &Stop) -> Result<(), Stopped> {
    let mut wait = WAIT_MIN;
    // The reason that was reported last: while JACK stays away, once will do.
    let mut reported: Option<String> = None;
    let mut closing_since: Option<Instant> = None;
    while !stop.is_set() {
        let why = match supervised.open() {
            Ok(mut client) => {
                (wait, reported, closing_since) = (WAIT_MIN, None, None);
                let stayed = stay(supervised, &mut client, stop);
                supervised.close(client);
                stayed?;
                Some(Down::Gone)
            }
            // Another client of a server that died, mostly for moments.
            Err(JackError::Closing) if closing_since.get_or_insert_with(Instant::now).elapsed() < CLOSING_MAX => {
                wait = WAIT_MIN;
                None
            }
            Err(error) => {
                if error != JackError::Closing {
                    closing_since = None;
                }
                Some(Down::Unopened(error))
            }
        };
        if let Some(why) = why {
            let reason = why.to_string();
            if reported.as_ref() != Some(&reason) {
                supervised.down(&why)?;
                reported = Some(reason);
            }
        }
        supervised.idle(reported.as_deref());
        stop.wait(wait);
        wait = (wait * 2).min(WAIT_MAX);
    }
    Err(Stopped)
}

/// Stays with an open client until its server goes.
fn stay<S: Supervised>(supervised: &mut S, client: &mut S::Client, stop: &Stop) -> Result<(), Stopped> {
    supervised.up(client)?;
    let (mut seen, mut due) = (None, Instant::now());
    while !S::is_down(client) {
        if stop.is_set() {
            return Err(Stopped);
        }
        let changes = S::changes(client);
        let is_due = seen != Some(changes) || Instant::now() >= due;
        if let Some(next) = supervised.look(client, is_due)? {
            (seen, due) = (Some(changes), Instant::now() + next.within);
            std::thread::sleep(next.breath);
        }
        // News since then have unparked this thread, so this does not wait.
        stop.wait(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// A thread that keeps a client alive. Dropping it ends the thread, and waits for nothing; [`Supervisor::close`] waits.
#[derive(Debug)]
pub struct Supervisor {
    stop: Stop,
    thread: Thread,
    ended: Mutex<Receiver<()>>,
}

impl Supervisor {
    /// Starts the thread `name`, with what `supervised` makes. JACK need not be there.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start<S: Supervised + Send + 'static>(
        name: &str,
        supervised: impl FnOnce(Stop) -> S,
    ) -> std::io::Result<Self> {
        let (end, ended) = mpsc::sync_channel(1);
        let stop = Stop::default();
        let mut supervised = supervised(stop.clone());
        let stopped = stop.clone();
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            keep_alive(&mut supervised, &stopped);
            drop(supervised);
            // Only `close` listens, and not for ever.
            let _ = end.try_send(());
        })?;
        Ok(Self { stop, thread: handle.thread().clone(), ended: Mutex::new(ended) })
    }

    /// Has the client looked after now.
    pub fn wake(&self) {
        self.thread.unpark();
    }

    /// Closes the client and ends the thread. Waits up to 5 s, so not for a thread of a runtime.
    pub fn close(&self) {
        self.end();
        // A second caller, or one after the end, finds that the thread has gone.
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(STOP_TIMEOUT);
        if ended == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!(
                thread = self.thread.name(),
                "the supervisor of a JACK client does not stop: libjack hangs"
            );
        }
    }

    fn end(&self) {
        self.stop.set();
        self.thread.unpark();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Follows a script: what opening gives, and after how many looks a client's server goes.
    #[derive(Default)]
    struct Scripted {
        opens: VecDeque<Result<u32, JackError>>,
        seen: Vec<String>,
        stop: Stop,
    }

    struct Client {
        looks_left: u32,
        is_due: Vec<bool>,
    }

    impl Supervised for Scripted {
        type Client = Client;

        fn open(&mut self) -> Result<Client, JackError> {
            let looks_left = self.opens.pop_front().unwrap_or_else(|| {
                self.stop.set();
                Ok(0)
            })?;
            Ok(Client { looks_left, is_due: Vec::new() })
        }

        fn is_down(client: &Client) -> bool {
            client.looks_left == 0
        }

        fn changes(_: &Client) -> u64 {
            7
        }

        fn up(&mut self, _: &mut Client) -> Result<(), Stopped> {
            self.seen.push("up".to_owned());
            Ok(())
        }

        fn look(&mut self, client: &mut Client, is_due: bool) -> Result<Option<Next>, Stopped> {
            client.looks_left -= 1;
            client.is_due.push(is_due);
            // As JACK does when it reports something that is no change of the graph.
            std::thread::current().unpark();
            Ok(is_due.then_some(Next { within: Duration::from_secs(3_600), breath: Duration::ZERO }))
        }

        fn close(&mut self, client: Client) {
            self.seen.push(format!("closed after {:?}", client.is_due));
        }

        fn down(&mut self, why: &Down) -> Result<(), Stopped> {
            let why = why.to_string();
            self.seen.push(why.split([',', ';']).next().unwrap_or_default().to_owned());
            Ok(())
        }
    }

    fn no_server() -> Result<u32, JackError> {
        Err(JackError::NoServer { server: "x".to_owned() })
    }

    #[test]
    fn a_client_is_opened_again_and_each_reason_is_reported_once() {
        let stop = Stop::default();
        let opens = [no_server(), no_server(), Err(JackError::Closing), Ok(3), no_server(), Ok(1)];
        let mut scripted = Scripted { opens: opens.into(), stop: stop.clone(), ..Scripted::default() };
        keep_alive(&mut scripted, &stop);
        let no_server = "no JACK server 'x' answers";
        let gone = "the JACK server has gone";
        let expected = [
            no_server,
            "up",
            "closed after [true, false, false]",
            gone,
            no_server,
            "up",
            "closed after [true]",
            gone,
            "up",
            "closed after []",
            gone,
        ];
        assert_eq!(scripted.seen, expected);
    }

    #[test]
    fn a_client_is_closed_when_its_supervision_ends() {
        struct Idle(mpsc::Sender<&'static str>);

        impl Supervised for Idle {
            type Client = ();

            fn open(&mut self) -> Result<(), JackError> {
                Ok(())
            }

            fn is_down((): &()) -> bool {
                false
            }

            fn changes((): &()) -> u64 {
                0
            }

            fn up(&mut self, (): &mut ()) -> Result<(), Stopped> {
                self.0.send("up").map_err(|_| Stopped)
            }

            fn look(&mut self, (): &mut (), _: bool) -> Result<Option<Next>, Stopped> {
                Ok(Some(Next { within: Duration::from_secs(3_600), breath: Duration::ZERO }))
            }

            fn close(&mut self, (): ()) {
                let _ = self.0.send("closed");
            }

            fn down(&mut self, _: &Down) -> Result<(), Stopped> {
                Ok(())
            }
        }

        let (out, seen) = mpsc::channel();
        let supervisor = Supervisor::start("idle", |_| Idle(out)).unwrap();
        assert_eq!(seen.recv().unwrap(), "up");
        supervisor.close();
        assert_eq!(seen.iter().collect::<Vec<_>>(), ["closed"]);
        // The second time there is nothing to wait for.
        supervisor.close();
    }
}
