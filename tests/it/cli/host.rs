//! The program as a user runs it, in a home of its own, and hosts for it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sidetone::home::Home;
use tempfile::TempDir;

use crate::support::{furnish, model, need};

/// How long anything may take on two busy cores.
const PATIENCE: Duration = Duration::from_secs(180);
/// The name of a site's host.
pub const NAME: &str = "cli-tests";

/// A home with this checkout's models and programs, and a port for its embedded server.
pub struct Site {
    /// Ends before its home goes.
    host: Option<Host>,
    pub home: PathBuf,
    pub port: u16,
    _folder: TempDir,
}

impl Site {
    /// A fresh one, without a host.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        furnish(&home);
        Self { host: None, home, port: crate::support::nats::free_port(), _folder: folder }
    }

    /// One whose host [`NAME`] has the roles `roles`, on real models; `None` where a model or a program is missing.
    pub fn with(roles: &str) -> Option<Self> {
        let has = |role| roles.split(',').any(|of| of == role);
        let there = (!has("stt") || model("whisper-tiny.en", "model.bin").is_some())
            && (!has("tts") || model("en_US-joe-medium", "model.onnx").is_some())
            && (!has("llm") || model("smollm2-135m-instruct", "model.gguf").is_some())
            && need(Home::find(None).program("nats-server").is_file(), "nats-server");
        there.then(|| {
            let mut site = Self::new();
            site.host = Some(site.host(NAME, roles));
            site
        })
    }

    /// A path for a file of a test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// The program with its global options.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
        for name in ["SIDETONE_BUS", "SIDETONE_NAME", "SIDETONE_CONFIG", "SIDETONE_LOG_FORMAT"] {
            command.env_remove(name);
        }
        command.env("SIDETONE_LOG", "sidetone=error").args(args).arg("--home").arg(&self.home);
        command.args(["--set", &format!("bus.port={}", self.port)]);
        command
    }

    /// What its hosts have logged.
    fn log(&self) -> String {
        std::fs::read_to_string(self.file("host.log")).unwrap_or_default()
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Done {
        finish(self.command(args), &[])
    }

    /// Starts a host and waits until it is up.
    pub fn host(&self, name: &str, roles: &str) -> Host {
        self.host_with(&["run", "--name", name, "--roles", roles])
    }

    /// The same with other arguments.
    pub fn host_with(&self, args: &[&str]) -> Host {
        let mut command = self.command(args);
        command.args(["--set", "stt.threads=1", "--set", "tts.threads=1", "--set", "llm.threads=1"]);
        let log = File::options().create(true).append(true).open(self.file("host.log")).unwrap();
        command.args(["--set", "llm.engine=llamacpp"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // A test process that is killed takes its hosts with it. The signal comes when the thread that started the child
        // ends, so that is one that lives as long as the process.
        // SAFETY: prctl is safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let (started, child) = mpsc::channel();
        thread::spawn(move || {
            started.send(command.spawn().unwrap()).unwrap();
            loop {
                thread::park();
            }
        });
        let mut child = child.recv_timeout(PATIENCE).unwrap();
        let (told, lines) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Only the first lines are waited for.
                let _ = told.send(line);
            }
        });
        let line = lines.recv_timeout(PATIENCE);
        assert!(
            line.as_ref().is_ok_and(|line| line.contains(" is up on ")),
            "the host does not come up: {}",
            self.log()
        );
        Host(Some(child))
    }
}

/// A running host. Dropping it ends it.
pub struct Host(Option<Child>);

impl Host {
    /// Asks it to end, and gives its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let mut child = self.0.take().unwrap();
        terminate(&child);
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(child.wait().unwrap()));
        end.recv_timeout(PATIENCE).unwrap().code()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            terminate(&child);
            child.wait().unwrap();
        }
    }
}

fn terminate(child: &Child) {
    // SAFETY: a plain system call on a child that has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
}

/// What a run of the program came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Done {
    /// What it printed, after it did what it was told.
    #[track_caller]
    pub fn text(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        String::from_utf8(self.stdout).unwrap()
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// What it said on standard error, after it failed with `code`.
    #[track_caller]
    pub fn error(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.stderr.is_empty() && !self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

/// Runs a command with `input` on its standard input to its end.
pub fn finish(mut command: Command, input: &[u8]) -> Done {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that does not read its input closes it.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let (ended, end) = mpsc::channel();
    let pid = child.id().cast_signed();
    thread::spawn(move || ended.send(child.wait_with_output().unwrap()));
    let Ok(output) = end.recv_timeout(PATIENCE) else {
        // SAFETY: a plain system call; the thread above still waits for the child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        panic!("{command:?} does not end");
    };
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Done { code: output.status.code(), stdout: output.stdout, stderr }
}

/// Starts a command and waits for its first output; gives it back with that.
pub fn first_output(mut command: Command) -> (Child, Vec<u8>) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (told, output) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = vec![0; 4_096];
        let read = stdout.read(&mut bytes).unwrap();
        bytes.truncate(read);
        told.send((stdout, bytes)).unwrap();
    });
    let (stdout, bytes) = output.recv_timeout(PATIENCE).unwrap();
    child.stdout = Some(stdout);
    (child, bytes)
}
