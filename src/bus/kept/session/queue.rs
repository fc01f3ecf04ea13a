//! Session events that wait for the server: in memory, and when there are very many in a file. In order, and bounded.
//!
//! ```text
//! append → memory (1,024) ──────────────▶ writer
//!            └ full → file (64 MiB) → memory ┘      both full: the append waits up to 5 s, then the event is lost, and said
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::telemetry::metrics::{SESSION_LOST, SESSION_WAITING};
use crate::wire::message::session::SessionEvent;

/// How long an append waits for room when memory and file are full.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// Events that are taken out of the file at a time.
const BATCH: usize = 256;

/// How much may wait, and where.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// Events in memory.
    pub events: usize,
    /// The file for those beyond, of this host alone; `None`: there is none.
    pub file: Option<PathBuf>,
    /// The most bytes of the file.
    pub file_bytes: u64,
    /// Whether a server without JetStream will do: events are published then, but not kept.
    pub unkept: bool,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { events: 1_024, file: None, file_bytes: 64 << 20, unkept: false }
    }
}

/// Events that wait, oldest first.
#[derive(Debug)]
pub(super) struct EventQueue {
    settings: QueueSettings,
    state: Mutex<Backlog>,
    /// Something was put in, or taken out.
    changed: Notify,
    waiting: watch::Sender<usize>,
    /// How many are done with, since it was opened.
    done: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Backlog {
    memory: VecDeque<SessionEvent>,
    /// The events after those in memory.
    spill: Option<Spill>,
    /// The log is closed: no more events come.
    closed: bool,
    /// What waits is left to the next run.
    parked: bool,
    /// An earlier run's events that are not done with.
    recovered: usize,
    /// How many were put in, with those of an earlier run.
    pushed: u64,
}

/// The file: an event a line.
#[derive(Debug)]
struct Spill {
    file: File,
    read_at: u64,
    end: u64,
    events: usize,
}

impl EventQueue {
    /// Opens it; takes up what an earlier run has left in the file.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn open(settings: QueueSettings) -> io::Result<Self> {
        let spill = match &settings.file {
            Some(path) if path.exists() => Some(Spill::open(path)?),
            _ => None,
        };
        let recovered = spill.as_ref().map_or(0, |spill| spill.events);
        let pushed = recovered as u64;
        let state = Backlog { spill: spill.filter(|spill| spill.events > 0), recovered, pushed, ..Backlog::default() };
        metrics::gauge!(SESSION_WAITING).set(recovered as f64);
        let (waiting, done) = (watch::Sender::new(recovered), watch::Sender::new(0));
        Ok(Self { settings, state: Mutex::new(state), changed: Notify::new(), waiting, done })
    }

    fn state(&self) -> MutexGuard<'_, Backlog> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events of an earlier run that are not done with.
    pub(super) fn recovered(&self) -> usize {
        self.state().recovered
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    fn count(&self, change: impl FnOnce(&mut usize)) {
        self.waiting.send_modify(|count| {
            change(count);
            metrics::gauge!(SESSION_WAITING).set(*count as f64);
        });
        self.changed.notify_waiters();
    }

    /// Waits until the event of this number is done with; `false` if `patience` ends first.
    pub(super) async fn is_done(&self, number: u64, patience: Duration) -> bool {
        let mut done = self.done.subscribe();
        tokio::time::timeout(patience, done.wait_for(|done| *done >= number)).await.is_ok()
    }

    /// Puts an event in, and gives its number; waits up to 5 s for room if there is none.
    ///
    /// # Errors
    /// Why there is no room.
    pub(super) async fn push(&self, event: SessionEvent) -> Result<u64, String> {
        let until = tokio::time::Instant::now() + ROOM_TIMEOUT;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let why = match self.try_push(&event) {
                Ok(number) => return Ok(number),
                Err(why) => why,
            };
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return Err(why);
            }
        }
    }

    fn try_push(&self, event: &SessionEvent) -> Result<u64, String> {
        let mut state = self.state();
        if state.parked {
            return Err("the host has ended".to_owned());
        }
        if state.spill.is_none() && state.memory.len() < self.settings.events {
            state.memory.push_back(event.clone());
        } else {
            self.spill(&mut state, event)?;
        }
        state.pushed += 1;
        let number = state.pushed;
        drop(state);
        self.count(|count| *count += 1);
        Ok(number)
    }

    fn spill(&self, state: &mut Backlog, event: &SessionEvent) -> Result<(), String> {
        let Some(path) = &self.settings.file else {
            return Err(format!("{} events wait for the server", self.settings.events));
        };
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut line = serde_json::to_vec(event).map_err(|e| failed(&e))?;
        line.push(b'\n');
        if let Some(spill) = &state.spill
            && spill.end + line.len() as u64 > self.settings.file_bytes
        {
            return Err(failed(&format!("it has reached its {} MiB", self.settings.file_bytes >> 20)));
        }
        let fresh = state.spill.is_none();
        let spill = match &mut state.spill {
            Some(spill) => spill,
            none => none.insert(Spill::create(path).map_err(|e| failed(&e))?),
        };
        if fresh {
            tracing::warn!(file = %path.display(), "very many session events wait for the server: further ones go to a file");
        }
        spill.push(&line).map_err(|e| failed(&e)).inspect_err(|_| {
            // Without any event in it the next belongs into memory.
            if fresh {
                state.spill = None;
            }
        })
    }

    /// The oldest event, which stays until it is [`EventQueue::done`]; `None` when there are none and the log is closed.
    pub(super) async fn next(&self) -> Option<SessionEvent> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if state.memory.is_empty() {
                    self.refill(&mut state);
                }
                if let Some(event) = state.memory.front() {
                    return Some(event.clone());
                }
                if state.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Takes events out of the file into memory.
    fn refill(&self, state: &mut Backlog) {
        let Some(spill) = &mut state.spill else { return };
        let (events, lost) = spill.take(BATCH);
        state.memory.extend(events);
        if lost > 0 {
            state.recovered = state.recovered.saturating_sub(lost);
            self.count(|count| *count = count.saturating_sub(lost));
            self.done.send_modify(|done| *done += lost as u64);
        }
        if spill.events == 0 {
            state.spill = None;
            // The events in memory are written again if they must be, see `park`.
            if let Some(path) = &self.settings.file
                && state.memory.is_empty()
            {
                remove(path);
            }
        }
    }

    /// The oldest event is kept, or given up.
    pub(super) fn done(&self) {
        let mut state = self.state();
        if state.parked {
            return;
        }
        state.memory.pop_front();
        state.recovered = state.recovered.saturating_sub(1);
        if state.memory.is_empty()
            && state.spill.is_none()
            && let Some(path) = &self.settings.file
        {
            remove(path);
        }
        drop(state);
        self.count(|count| *count = count.saturating_sub(1));
        self.done.send_modify(|done| *done += 1);
    }

    /// The log is closed: no more events come.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_waiters();
    }

    /// Leaves all that waits to the next run, in the file; gives how many that are.
    ///
    /// # Errors
    /// There is no file, or it can't be written.
    pub(super) fn park(&self) -> io::Result<usize> {
        let mut state = self.state();
        let path = self.settings.file.as_ref().ok_or_else(|| io::Error::other("there is no file for them"))?;
        let mut events: Vec<SessionEvent> = state.memory.iter().cloned().collect();
        if let Some(spill) = &mut state.spill {
            events.extend(spill.take(usize::MAX).0);
        }
        if events.is_empty() {
            return Ok(0);
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut whole = tempfile::NamedTempFile::new_in(folder)?;
        for event in &events {
            serde_json::to_writer(&mut whole, event)?;
            whole.write_all(b"\n")?;
        }
        whole.as_file().sync_all()?;
        whole.persist(path)?;
        state.memory.clear();
        state.spill = None;
        state.parked = true;
        Ok(events.len())
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %path.display(), "the file of session events stays, though they are kept");
    }
}

impl Spill {
    fn create(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file, read_at: 0, end: 0, events: 0 })
    }

    /// Opens what an earlier run has left; a last line that it did not finish is cut off.
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let (mut end, mut events, mut line) = (0, 0, Vec::new());
        let mut reader = BufReader::new(&file);
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            end += line.len() as u64;
            events += 1;
            line.clear();
        }
        file.set_len(end)?;
        Ok(Self { file, read_at: 0, end, events })
    }

    fn push(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        let written = self.file.write_all(line);
        if written.is_err() {
            // A part of it would spoil the next.
            self.file.set_len(self.end)?;
        }
        written?;
        self.end += line.len() as u64;
        self.events += 1;
        Ok(())
    }

    /// The next events, and how many beside them can't be read.
    fn take(&mut self, most: usize) -> (Vec<SessionEvent>, usize) {
        let (mut taken, before) = (Vec::new(), self.events);
        if let Err(error) = self.read(most, &mut taken) {
            tracing::error!(%error, "the file of session events can't be read on");
            self.events = 0;
        }
        let lost = before - self.events - taken.len();
        if lost > 0 {
            metrics::counter!(SESSION_LOST).increment(lost as u64);
            tracing::error!(events = lost, "session events in a file can't be read and are lost");
        }
        (taken, lost)
    }

    fn read(&mut self, most: usize, taken: &mut Vec<SessionEvent>) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.read_at))?;
        let (mut reader, mut line) = (BufReader::new(&self.file), Vec::new());
        while taken.len() < most && self.events > 0 {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            taken.extend(serde_json::from_slice(&line).ok());
            self.read_at += line.len() as u64;
            self.events -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Message as _;

    fn event(n: usize) -> SessionEvent {
        SessionEvent { id: n.to_string(), ..SessionEvent::example() }
    }

    fn queue(folder: &Path, file_bytes: u64) -> EventQueue {
        let file = Some(folder.join("state/waiting.jsonl"));
        EventQueue::open(QueueSettings { events: 4, file, file_bytes, unkept: false }).unwrap()
    }

    async fn rest(queue: &EventQueue) -> Vec<usize> {
        queue.close();
        let mut ids = Vec::new();
        while let Some(event) = queue.next().await {
            ids.push(event.id.parse().unwrap());
            queue.done();
        }
        ids
    }

    #[tokio::test]
    async fn order_is_kept_over_memory_and_file_and_runs() {
        let folder = tempfile::tempdir().unwrap();
        let first = queue(folder.path(), 1 << 20);
        for n in 0..600 {
            first.push(event(n)).await.unwrap();
        }
        assert_eq!(first.next().await.unwrap().id, "0");
        first.done();
        assert_eq!(*first.waiting().borrow(), 599);
        assert_eq!(first.park().unwrap(), 599);
        let second = queue(folder.path(), 1 << 20);
        assert_eq!(second.recovered(), 599);
        second.push(event(600)).await.unwrap();
        assert_eq!(rest(&second).await, (1..=600).collect::<Vec<_>>());
        assert_eq!(second.recovered(), 0);
        assert_eq!(*second.waiting().borrow(), 0);
        assert!(!folder.path().join("state/waiting.jsonl").exists(), "nothing waits any more");
    }

    #[tokio::test]
    async fn a_line_that_was_not_finished_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let first = queue(folder.path(), 1 << 20);
        for n in 0..8 {
            first.push(event(n)).await.unwrap();
        }
        first.park().unwrap();
        let path = folder.path().join("state/waiting.jsonl");
        let mut file = File::options().append(true).open(path).unwrap();
        // Nor does a line that is no event hold the others up.
        file.write_all(b"nonsense\n{\"id\":\"8").unwrap();
        let second = queue(folder.path(), 1 << 20);
        assert_eq!(rest(&second).await, (0..8).collect::<Vec<_>>());
        assert_eq!(second.recovered(), 0, "nothing of the earlier run is left to be looked for");
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_an_append_ends_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let one = serde_json::to_vec(&event(1)).unwrap().len() as u64 + 1;
        let queue = queue(folder.path(), 2 * one);
        for n in 0..6 {
            queue.push(event(n)).await.unwrap();
        }
        let why = queue.push(event(6)).await.unwrap_err();
        assert!(why.contains("waiting.jsonl: it has reached"), "{why}");
        // Room in time is enough.
        let (pushed, ()) = tokio::join!(queue.push(event(7)), async {
            for _ in 0..5 {
                queue.next().await.unwrap();
                queue.done();
            }
            queue.next().await.unwrap();
        });
        pushed.unwrap();
        assert_eq!(rest(&queue).await, [5, 7]);
    }
}
