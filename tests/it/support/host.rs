//! A real host: the binary itself with a home of its own, and everything that it says.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use sidetone::bus::message::fault::Fault;
use sidetone::bus::message::session::{SessionEvent, What};
use sidetone::bus::message::stt;
use sidetone::bus::message::voice::{Control, State, TurnState};
use sidetone::bus::{Access, Bus, BusError, Call, embedded, subject};
use tempfile::TempDir;

use super::jack::JackServer;
use super::nats::{eventually, free_port};

/// How long a test waits for what must come: long enough for two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The name of the listener.
pub const LISTENER: &str = "main";

/// Settings that make every engine a fake; each can be overridden.
pub const FAKES: &[&str] = &[
    "stt.engine=fake",
    "stt.model=echo",
    "voice.wake_model=echo",
    "tts.engine=fake",
    "tts.voices=[\"echo\"]",
    "llm.engine=fake",
    "llm.model=echo",
];

/// What to start.
pub struct HostSpec {
    home: TempDir,
    port: u16,
    /// The server that it shares with others; `None`: it starts its own.
    bus: Option<String>,
    /// The host's name.
    pub name: String,
    arguments: Vec<String>,
    /// How the test gets onto its bus, if not by its embedded server.
    access: Option<Access>,
    /// A program that runs it, with its arguments.
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
}

impl HostSpec {
    /// A host with the roles `roles` on a server of its own, with a home that shares models and programs.
    pub fn new(name: &str, roles: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        super::furnish(home.path());
        let spec = Self {
            home,
            port: free_port(),
            bus: None,
            name: name.to_owned(),
            arguments: Vec::new(),
            access: None,
            wrapper: Vec::new(),
            environment: Vec::new(),
        };
        let port = format!("bus.port={}", spec.port);
        let arguments = ["run", "--roles", roles].map(str::to_owned);
        Self { arguments: arguments.into(), ..spec }.set(&[&port, "stt.threads=1", "tts.threads=1", "llm.threads=1"])
    }

    /// On the server at `url`, instead of one of its own.
    pub fn on(self, url: &str) -> Self {
        Self { bus: Some(url.to_owned()), ..self }.argument(&["--bus", url])
    }

    /// Settings, as `--set` takes them.
    pub fn set(mut self, settings: &[&str]) -> Self {
        for setting in settings {
            self.arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
        }
        self
    }

    /// A listener on `jack`, connected to the [`Studio`](super::studio::Studio); `more` are further lines of its table.
    pub fn listener(self, jack: &JackServer, more: &str) -> Self {
        let file = self.home.path().join("listener.toml");
        let text = format!(
            "[jack]\nserver = {:?}\n[[voice.listeners]]\nname = {LISTENER:?}\ncapture_from = [\"studio:mouth\"]\nplayback_to = [\"studio:ear\"]\n{more}\n",
            jack.name()
        );
        std::fs::write(&file, text).unwrap();
        self.argument(&["--config", file.to_str().unwrap()])
    }

    /// Settings as a file has them.
    pub fn config(self, text: &str) -> Self {
        let file = self.home.path().join(format!("settings-{}.toml", self.arguments.len()));
        std::fs::write(&file, text).unwrap();
        self.argument(&["--config", file.to_str().unwrap()])
    }

    /// A host whose settings name the bus; the test gets there by `access`.
    pub fn reached_by(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// Arguments of the command line.
    pub fn argument(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Run by another program, which must put it into its own place, such as `ip netns exec`.
    pub fn run_by(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The address of its server.
    pub fn url(&self) -> String {
        self.bus.clone().unwrap_or_else(|| embedded::url(self.port))
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_sidetone");
        let mut command = Command::new(self.wrapper.first().map_or(program, String::as_str));
        command.args(self.wrapper.iter().skip(1));
        if !self.wrapper.is_empty() {
            command.arg(program);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments).arg("--name").arg(&self.name).arg("--home").arg(self.home.path());
        for variable in ["SIDETONE_CONFIG", "SIDETONE_BUS", "SIDETONE_NAME", "SIDETONE_LOG", "JACK_DEFAULT_SERVER"] {
            command.env_remove(variable);
        }
        command.env("SIDETONE_LOG", "sidetone=debug").stdin(Stdio::null());
        // A test that is killed takes its host with it.
        // SAFETY: prctl is safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        command
    }

    /// Starts it where it must refuse to; gives its exit code and what it says on standard error but for log lines.
    pub fn refused(&self) -> (i32, String) {
        let log = self.home().join("refused.log");
        let errors = std::fs::File::create(&log).unwrap();
        let child = self.command().stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        let status = ended(child, PATIENCE).unwrap_or_else(|| panic!("the host does not end:\n{}", read(&log)));
        let code = status.code().unwrap_or_else(|| panic!("the host was killed: {status}\n{}", read(&log)));
        let text = read(&log);
        assert!(!text.contains("panicked"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("sidetone: ")).count(), 1, "{text}");
        let why = text.find("sidetone: ").map_or("", |at| &text[at..]).to_owned();
        super::jack::wait_for("its children to be gone", || children(self.home()).is_empty().then_some(()));
        (code, why)
    }

    /// Starts it and waits until it is up.
    pub async fn start(self) -> Host {
        let log = self.home().join("host.log");
        let mut host = Host { child: None, log, spec: self, bus: None };
        host.restart().await;
        host
    }

    /// The same for one that is told to use the bus of another.
    pub async fn start_on(self, bus: &Bus) -> Host {
        let log = self.home().join("host.log");
        let mut host = Host { child: None, log, spec: self, bus: Some(bus.clone()) };
        host.restart().await;
        host
    }
}

/// A running host. Dropping it ends it; if the test has failed, what it said is shown.
pub struct Host {
    /// What was started.
    pub spec: HostSpec,
    child: Option<Child>,
    log: PathBuf,
    bus: Option<Bus>,
}

impl Host {
    /// Starts it (again) and waits until it is up.
    pub async fn restart(&mut self) {
        let errors = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut child = self.spec.command().stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        self.child = Some(child);
        let (up_out, up) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Only the first is waited for.
                let _ = up_out.send(line);
            }
        });
        let up = tokio::task::spawn_blocking(move || up.recv_timeout(PATIENCE)).await.unwrap();
        assert!(up.is_ok_and(|line| line.contains("is up on")), "the host does not come up");
        if self.bus.is_none() {
            let access = self.spec.access.clone().unwrap_or_else(|| Access::from(&self.spec.url()));
            self.bus = Some(Bus::connect(access, "tests").await.unwrap());
        }
        self.bus().until_up().await;
    }

    /// A connection to its bus.
    pub fn bus(&self) -> &Bus {
        self.bus.as_ref().unwrap()
    }

    /// Tells its listener something.
    pub async fn control(&self, control: Control) -> Result<State, BusError> {
        self.bus().control(&self.spec.name, LISTENER, &control, &Call::within(Duration::from_secs(20))).await
    }

    /// Waits until its listener has JACK: it hears of it a moment after its ports are connected.
    pub async fn has_audio(&self) {
        let state = || async { self.control(Control::Meter { ms: 0 }).await.ok().filter(|state| state.audio) };
        eventually(state).await;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call on a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id().cast_signed()
    }

    /// Sends it a signal and waits for its end.
    pub fn end(&mut self, signal: i32) -> ExitStatus {
        // SAFETY: a plain system call on a child that has not been waited for.
        unsafe { libc::kill(self.pid(), signal) };
        let child = self.child.take().unwrap();
        ended(child, PATIENCE).unwrap_or_else(|| panic!("the host does not end on signal {signal}:\n{}", self.log()))
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let child = self.child.take().unwrap();
        ended(child, PATIENCE).unwrap_or_else(|| panic!("the host does not end by itself:\n{}", self.log()))
    }

    /// The program `sidetone` on its bus, with its home.
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
        command.args(arguments).arg("--bus").arg(self.spec.url()).arg("--home").arg(self.spec.home());
        command.env_remove("SIDETONE_CONFIG").env_remove("SIDETONE_NAME").env("SIDETONE_LOG", "sidetone=error");
        command.stdin(Stdio::null());
        command
    }

    /// The child processes that work in its home, such as its NATS server.
    pub fn children(&self) -> Vec<i32> {
        children(self.spec.home())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        read(&self.log)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if let Some(child) = self.child.take() {
            // SAFETY: a plain system call on a child that has not been waited for.
            unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
            if ended(child, Duration::from_secs(20)).is_none() && !failed {
                panic!("the host does not end on SIGTERM:\n{}", self.log());
            }
        }
        if failed {
            eprintln!("what the host {} logged:\n{}", self.spec.name, self.log());
        }
    }
}

/// Waits for a child's end; kills it when that does not come.
fn ended(mut child: Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes with `folder` in their command line but for the hosts themselves, which name it as their home.
fn children(folder: &Path) -> Vec<i32> {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            (line.contains(folder) && !line.contains("--home")).then_some(pid)
        })
        .collect()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// Something that was published.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A listener's state.
    State(State),
    /// An event of a session.
    Session(SessionEvent),
    /// A fault that no caller hears of.
    Fault(Fault),
    /// Somebody asked for a transcript.
    Transcribe,
}

/// Everything that is published on a bus from now on.
pub struct Follow {
    seen: tokio::sync::mpsc::UnboundedReceiver<Seen>,
    story: Vec<Seen>,
}

impl Follow {
    /// Subscribes; what is published after this is seen.
    pub async fn new(bus: &Bus) -> Self {
        let (out, seen) = tokio::sync::mpsc::unbounded_channel();
        let states = bus.subscribe::<State>(subject::VOICE_STATES).await.unwrap();
        let sessions = bus.subscribe::<SessionEvent>(subject::SESSIONS).await.unwrap();
        let faults = bus.subscribe::<Fault>(&subject::event_of_all("fault")).await.unwrap();
        let requests = bus.subscribe::<stt::Request>("stt.request").await.unwrap();
        let mut all = futures::stream::select_all([
            states.map(|(_, state)| Seen::State(state.unwrap())).boxed(),
            sessions.map(|(_, event)| Seen::Session(event.unwrap())).boxed(),
            faults.map(|(_, fault)| Seen::Fault(fault.unwrap())).boxed(),
            requests.map(|_| Seen::Transcribe).boxed(),
        ]);
        tokio::spawn(async move {
            while let Some(seen) = all.next().await {
                if out.send(seen).is_err() {
                    return;
                }
            }
        });
        Self { seen, story: Vec::new() }
    }

    /// Waits for what `wanted` takes.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Seen) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = tokio::time::timeout_at(until.into(), self.seen.recv()).await;
            let Ok(Some(seen)) = seen else { panic!("waited in vain for {what}; seen: {:#?}", self.story) };
            let found = wanted(&seen);
            self.story.push(seen);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Waits for a state.
    pub async fn state(&mut self, wanted: TurnState) -> State {
        self.until(wanted.name(), |seen| match seen {
            Seen::State(state) if state.state == wanted => Some(state.clone()),
            _ => None,
        })
        .await
    }

    /// An event of a session that `wanted` takes: one of the story, or the next. It comes by another way than states.
    pub async fn session<T>(&mut self, what: &str, mut wanted: impl FnMut(&What) -> Option<T>) -> T {
        let mut wanted = |seen: &Seen| if let Seen::Session(event) = seen { wanted(&event.what) } else { None };
        match self.story.iter().find_map(&mut wanted) {
            Some(found) => found,
            None => self.until(what, wanted).await,
        }
    }

    /// Waits for an error in a session; gives its stage and message.
    pub async fn error(&mut self) -> (String, String) {
        self.session("an error", |what| match what {
            What::Error { stage, message, .. } => Some((stage.clone(), message.clone())),
            _ => None,
        })
        .await
    }

    /// What was seen since the last call.
    pub fn story(&mut self) -> Vec<Seen> {
        while let Ok(seen) = self.seen.try_recv() {
            self.story.push(seen);
        }
        std::mem::take(&mut self.story)
    }
}

/// The states in a story, in their order.
pub fn states(story: &[Seen]) -> Vec<TurnState> {
    story.iter().filter_map(|seen| if let Seen::State(state) = seen { Some(state.state) } else { None }).collect()
}
