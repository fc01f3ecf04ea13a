//! A host as its user runs it: `sidetone run` as a process, and what the system says of a process.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use sidetone::home::Home;

/// The program under test, built beside this bench.
pub const SIDETONE: &str = env!("CARGO_BIN_EXE_sidetone");
/// The name of the host that is measured.
pub const NODE: &str = "bench";

/// How long a host may take to come up.
const UP_TIMEOUT: Duration = Duration::from_secs(120);
/// How long it may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// Log lines that are kept, the newest.
const LOG_LINES: usize = 4_000;

type Log = Arc<Mutex<std::collections::VecDeque<String>>>;

/// A running host. Dropping it ends it.
pub struct RunningHost {
    child: Child,
    /// The address of its bus.
    pub url: String,
    /// From the start of the process to the word that everything serves.
    pub up_after: Duration,
    log: Log,
}

impl RunningHost {
    /// Starts `sidetone run` with `home` on a free port and the settings `sets`; waits until it is up.
    pub fn start(home: &Home, sets: &[String]) -> anyhow::Result<Self> {
        let port = super::support::free_port()?;
        Self::launch(home, NODE, format!("nats://127.0.0.1:{port}"), &format!("bus.port={port}"), sets)
    }

    /// Starts another by the name `name` on the bus of this one; waits until it is up.
    pub fn beside(&self, home: &Home, name: &str, sets: &[String]) -> anyhow::Result<Self> {
        Self::launch(home, name, self.url.clone(), &format!("bus.url={}", self.url), sets)
    }

    fn launch(home: &Home, name: &str, url: String, bus: &str, sets: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(SIDETONE);
        command.arg("run").arg("--home").arg(home.path()).args(["--name", name, "--log-format", "json"]);
        command.args(["--log", "sidetone::audio=debug", "--set", bus]);
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        let begun = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {SIDETONE}"))?;
        let log = Log::default();
        let out = child.stdout.take().context("no standard output")?;
        let err = child.stderr.take().context("no standard error")?;
        keep(err, Arc::clone(&log));
        let lines = lines(out);
        let mut host = Self { child, url, up_after: Duration::ZERO, log };
        host.wait_until_up(&lines)?;
        host.up_after = begun.elapsed();
        Ok(host)
    }

    fn wait_until_up(&self, lines: &Receiver<String>) -> anyhow::Result<()> {
        let until = Instant::now() + UP_TIMEOUT;
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(" is up on ") => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("the host is not up within {} s", UP_TIMEOUT.as_secs()),
                Err(RecvTimeoutError::Disconnected) => bail!("the host ended at start: {}", self.last_words()),
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the host ended in mid-run ({status}): {}", self.last_words()),
        }
    }

    /// Waits until it logs `message`.
    pub fn wait_for_log(&self, message: &str, patience: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        while self.logged(message).is_none() {
            anyhow::ensure!(Instant::now() < until, "the host did not log {message:?}: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The fields of its last log line with the message `message`.
    pub fn logged(&self, message: &str) -> Option<serde_json::Value> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().rev().find_map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["fields"]["message"] == message).then(|| line["fields"].take())
        })
    }

    fn last_words(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().rev().take(5).rev().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for RunningHost {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Starts a part of this bench as a process of its own; its standard output is for the caller.
pub fn part(arguments: &[&str], input: Stdio) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = Command::new(program);
    command.arg("--part").args(arguments).stdin(input).stdout(Stdio::piped());
    command.spawn().context("can't start a part of the bench")
}

/// Asks a child to end, and waits; kills it when it does not.
pub fn end(child: &mut Child) {
    // In vain if it has gone.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let until = Instant::now() + END_TIMEOUT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (out, lines) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // Once nobody waits for them the lines are read to keep the pipe open.
            let _ = out.try_send(line);
        }
    });
    lines
}

fn keep(from: impl Read + Send + 'static, log: Log) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
}

/// A process, as /proc shows it.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    parent: u32,
    ticks: u64,
}

impl Process {
    /// Reads the process `pid`.
    pub fn read(pid: u32) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
        // The name is in parentheses and may hold any of them; what follows has a fixed order, from field 3 on.
        let (head, tail) = text.rsplit_once(')').context("/proc/PID/stat has changed its form")?;
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let parent = u32::try_from(number(4)).unwrap_or(0);
        Ok(Self { pid, name, parent, ticks: number(14) + number(15) })
    }

    /// The processes that come from `pid`, itself left out.
    pub fn descendants(pid: u32) -> anyhow::Result<Vec<Self>> {
        let numbers = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        // One may end while it is looked at.
        let all: Vec<Self> = numbers.filter_map(|pid| Self::read(pid).ok()).collect();
        let (mut found, mut parents) = (Vec::<Self>::new(), vec![pid]);
        while let Some(parent) = parents.pop() {
            let children = all.iter().filter(|process| process.parent == parent);
            for child in children {
                parents.push(child.pid);
                found.push(child.clone());
            }
        }
        Ok(found)
    }

    /// The time it has had on a processor, its ended children left out.
    pub fn cpu(&self) -> Duration {
        // SAFETY: a plain call.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Duration::from_secs_f64(self.ticks as f64 / per_second.max(1) as f64)
    }

    /// What it holds in memory.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let path = PathBuf::from(format!("/proc/{}/status", self.pid));
        let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let mb = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            let kib: f64 = line.and_then(|kib| kib.trim().parse().ok()).with_context(|| format!("no {name} there"))?;
            anyhow::Ok(kib * 1_024.0 / 1e6)
        };
        Ok(Memory { resident_mb: mb("VmRSS:")?, shared_mb: mb("RssShmem:")? })
    }
}

/// The memory of a process.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All that is in memory, what others share in full.
    pub resident_mb: f64,
    /// What of it is shared memory, as that of a JACK server with its clients.
    pub shared_mb: f64,
}
