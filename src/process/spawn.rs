//! Starting and ending one process.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};
use tokio::process::{Child, ChildStdin, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::error::ProcessError;
use super::output::Output;
use super::spec::ChildSpec;

/// How many starts may wait for the spawning thread; more are refused.
const SPAWN_QUEUE: usize = 64;

struct Job {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread that starts every child. The kernel's parent death signal (`PR_SET_PDEATHSIG`, prctl(2)) comes when the
/// *thread* that forked ends, and a runtime's threads may end long before the process does. This one never ends.
static SPAWNER: LazyLock<io::Result<SyncSender<Job>>> = LazyLock::new(|| {
    let (jobs, queue) = sync_channel::<Job>(SPAWN_QUEUE);
    std::thread::Builder::new().name("child-spawner".into()).spawn(move || {
        for mut job in queue {
            // tokio panics when its runtime is gone; this thread must outlive that.
            let spawned = catch_unwind(AssertUnwindSafe(|| {
                let _runtime = job.runtime.enter();
                job.command.spawn()
            }));
            let spawned = spawned.unwrap_or_else(|_| Err(io::Error::other("the async runtime is shut down")));
            // The caller has gone: the child is dropped here, and thereby killed.
            let _ = job.reply.send(spawned);
        }
    })?;
    Ok(jobs)
});

/// How a child came to a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It ended by itself after SIGTERM.
    Terminated,
    /// It had to be killed when the deadline passed.
    Killed,
}

/// A process with its readers. Dropping it kills its whole group at once.
#[derive(Debug)]
pub(super) struct ChildProcess {
    child: Child,
    group: Option<Pid>,
    output: Output,
    /// Held open, for children that end when their standard input does.
    _stdin: Option<ChildStdin>,
}

impl ChildProcess {
    /// Starts it. With `lines` its output goes there, line by line, and not into the log; what finds no room is dropped.
    pub(super) async fn spawn(spec: &ChildSpec, lines: Option<&mpsc::Sender<String>>) -> Result<Self, ProcessError> {
        let failed = |error: &io::Error| match error.kind() {
            io::ErrorKind::NotFound => ProcessError::NotInstalled {
                name: spec.name.clone(),
                program: spec.program.clone(),
                hint: spec.install_hint.clone(),
            },
            _ => ProcessError::Spawn { name: spec.name.clone(), program: spec.program.clone(), why: error.to_string() },
        };
        let (reply, answer) = oneshot::channel();
        let job = Job { command: command(spec), runtime: Handle::current(), reply };
        let queue = SPAWNER.as_ref().map_err(failed)?;
        queue.try_send(job).map_err(|_| failed(&io::Error::other("too many children are being started")))?;
        let lost = |_| io::Error::other("the spawning thread is gone");
        let mut child = answer.await.map_err(lost).and_then(|spawned| spawned).map_err(|error| failed(&error))?;

        let mut output = Output::default();
        if let Some(stdout) = child.stdout.take() {
            output.read(&spec.name, stdout, lines.cloned());
        }
        if let Some(stderr) = child.stderr.take() {
            output.read(&spec.name, stderr, lines.cloned());
        }
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let _stdin = child.stdin.take();
        Ok(Self { child, group, output, _stdin })
    }

    /// The process id; 0 once it has ended.
    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Waits for the process to end and says how. The rest of its group is killed.
    pub(super) async fn wait(&mut self) -> String {
        let status = self.child.wait().await;
        self.kill_group();
        describe(status)
    }

    /// The last lines of output so far.
    pub(super) fn tail(&self) -> Vec<String> {
        self.output.tail()
    }

    /// The last lines of output of a process that has ended.
    pub(super) async fn final_tail(&mut self) -> Vec<String> {
        self.output.final_tail().await
    }

    /// SIGTERM, then SIGKILL when `deadline` has passed.
    pub(super) async fn stop(mut self, deadline: Duration) -> StopOutcome {
        if let Some(group) = self.group {
            // It may have ended already; the wait below finds out.
            let _ = kill_process_group(group, Signal::TERM);
        }
        if timeout(deadline, self.wait()).await.is_ok() {
            return StopOutcome::Terminated;
        }
        self.kill_group();
        // Only a process stuck in the kernel survives SIGKILL, and nothing can be done about that one.
        let _ = timeout(deadline, self.child.wait()).await;
        StopOutcome::Killed
    }

    /// Kills the group, once: its number may be given to others afterwards.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            // ESRCH: no process is left, which is the usual case.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.kill_group();
    }
}

fn command(spec: &ChildSpec) -> Command {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are two bare system calls.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // The parent may have died before the line above, and then no signal comes.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
    command
}

/// How a process ended, in words.
fn describe(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| format!("its end could not be awaited: {error}"), |status| status.to_string())
}

/// A child whose owner reads what it writes and starts it again itself. Dropping it kills it.
#[derive(Debug)]
pub struct ReadChild(ChildProcess);

impl ReadChild {
    /// Starts it; whether it is ready is for its owner to find out from its `lines`, of which those that find no room are
    /// dropped.
    ///
    /// # Errors
    /// [`ProcessError::NotInstalled`], [`ProcessError::Spawn`].
    pub async fn start(spec: &ChildSpec, lines: &mpsc::Sender<String>) -> Result<Self, ProcessError> {
        Ok(Self(ChildProcess::spawn(spec, Some(lines)).await?))
    }

    /// Waits for it to end and says how. Safe to drop and call again.
    pub async fn wait(&mut self) -> String {
        self.0.wait().await
    }

    /// SIGTERM to its process group, SIGKILL when `deadline` has passed. Returns once it is gone.
    pub async fn stop(self, deadline: Duration) -> StopOutcome {
        self.0.stop(deadline).await
    }
}
