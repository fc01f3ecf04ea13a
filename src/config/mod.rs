//! Every setting: typed, doc-commented, defaulted. Unknown keys are refused.
//!
//! `config/default.toml` says the same to people; a test holds the two together. Later sources win, key by key: the
//! defaults, the files in their order, then `--set key=value`. A list is replaced as a whole.

mod audio;
mod engines;
mod error;
mod load;
mod midi;
mod osc;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::router::{Policy, Privacy};

pub use audio::{AudioConfig, ConnectConfig, DisconnectConfig, LINKS_MAX, LinkConfig, LinkMode, PortType};
pub use engines::{Classes, LlmConfig, LlmProvider, SttConfig, SttProvider, TtsConfig, TtsProvider};
pub use error::ConfigError;
pub use load::files;
pub use midi::{Feedback, Follow, MidiConfig, MidiOn, MidiPortConfig, TransportWord};
pub use osc::{OscConfig, OscOn, OscTarget, OscTransport, OscWhen};

/// `config/default.toml`, for people to start from.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// All settings of a host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The host itself.
    pub node: NodeConfig,
    /// The way to the other hosts.
    pub bus: BusConfig,
    /// The way to JACK.
    pub jack: JackConfig,
    /// Role `voice`.
    pub voice: VoiceConfig,
    /// Role `stt`.
    pub stt: SttConfig,
    /// Role `tts`.
    pub tts: TtsConfig,
    /// Role `llm`.
    pub llm: LlmConfig,
    /// Role `agent`.
    pub agent: AgentConfig,
    /// Role `osc`.
    pub osc: OscConfig,
    /// Role `midi`.
    pub midi: MidiConfig,
    /// Role `audio`.
    pub audio: AudioConfig,
    /// Which host is asked, by capability.
    pub route: BTreeMap<String, Policy>,
    /// What the host shows over HTTP.
    pub http: HttpConfig,
    /// What the host tells of itself.
    pub telemetry: TelemetryConfig,
    /// What is written in an old way, and how to write it now; a line each.
    #[serde(skip)]
    pub hints: Vec<String>,
}

/// The host itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Its name on the bus; empty: the hostname.
    pub name: String,
    /// What it does.
    pub roles: Vec<String>,
    /// What it has, beside what is found (`gpu`, `high_mem`, `low_power`); `-gpu` takes back what was found.
    pub tags: Vec<String>,
    /// How far what is said here may travel: `host`, `lan` (no provider outside) or `any`.
    pub privacy: Privacy,
    /// How long it may take to finish its work when it is told to stop.
    pub drain_timeout_ms: u64,
}

impl Default for NodeConfig {
    fn default() -> Self {
        let roles = ["voice", "stt", "tts", "llm", "agent"].map(str::to_owned).to_vec();
        Self { name: String::new(), roles, tags: Vec::new(), privacy: Privacy::Any, drain_timeout_ms: 10_000 }
    }
}

/// The way to the other hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// `embedded`, or the address of a NATS server with JetStream.
    pub url: String,
    /// The port of the embedded server, on loopback.
    pub port: u16,
    /// How long to try to reach the server at start.
    pub connect_timeout_ms: u64,
    /// The hosts there are, by name; empty: those in the bucket NODES, which needs JetStream.
    pub hosts: Vec<String>,
    /// How many servers of a cluster keep each stream and bucket.
    pub replicas: usize,
    /// The file with the seed of this host's nkey; empty: none. This and the next four are found from the folder of the
    /// configuration that names them.
    pub nkey_file: String,
    /// A NATS credentials file instead; empty: none.
    pub creds: String,
    /// The certificates (PEM) of who vouches for the server; empty: those that the system trusts.
    pub tls_ca: String,
    /// This host's own certificate (PEM), for a server that asks for one; empty: none.
    pub tls_cert: String,
    /// The key (PEM) of that certificate.
    pub tls_key: String,
}

impl Default for BusConfig {
    fn default() -> Self {
        let none = String::new;
        Self {
            url: "embedded".to_owned(),
            port: 4222,
            connect_timeout_ms: 30_000,
            hosts: Vec::new(),
            replicas: 1,
            nkey_file: none(),
            creds: none(),
            tls_ca: none(),
            tls_cert: none(),
            tls_key: none(),
        }
    }
}

impl BusConfig {
    /// Whether this host starts the server.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.url == "embedded"
    }
}

/// The way to JACK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JackConfig {
    /// The server's name; empty: `$JACK_DEFAULT_SERVER`, else `default`.
    pub server: String,
    /// How long the reader may be away before audio is lost.
    pub capture_ms: u32,
    /// How far ahead speech is queued.
    pub playback_ms: u32,
}

impl Default for JackConfig {
    fn default() -> Self {
        Self { server: String::new(), capture_ms: 2_000, playback_ms: 500 }
    }
}

/// Role `voice`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VoiceConfig {
    /// Who listens; each has a JACK client of its own.
    pub listeners: Vec<ListenerConfig>,
    /// What tells speech from silence: `earshot` or `silero`.
    pub vad: String,
    /// The probability from which a frame is speech.
    pub vad_on: f32,
    /// Speech stays speech down to this probability.
    pub vad_off: f32,
    /// Audio from before the speech that an utterance starts with.
    pub pre_roll_ms: u32,
    /// Speech that it takes to start an utterance.
    pub start_ms: u32,
    /// Silence that ends an utterance.
    pub end_silence_ms: u32,
    /// What is still heard after push to talk has ended, such as the end of the last word.
    pub release_ms: u32,
    /// Silence after which a request is answered that looks unfinished by its last words; 0: none is waited for.
    pub unfinished_silence_ms: u32,
    /// The longest utterance; while the pedal is held, the longest of up to ten parts of one.
    pub max_utterance_ms: u32,
    /// How long a listener waits for speech after the wake phrase or push to talk.
    pub listen_timeout_ms: u32,
    /// Speech after which the wake phrase is looked for while the speaker goes on.
    pub wake_after_ms: u32,
    /// How long the wake phrase is looked for from the beginning of speech.
    pub wake_window_ms: u32,
    /// What looks for the wake phrase.
    pub wake_engine: String,
    /// The model by which the wake engine `transcript` does so, on this host.
    pub wake_model: String,
    /// How long the transcript may take.
    pub stt_timeout_ms: u64,
    /// How long the whole answer may take, its speech included.
    pub turn_timeout_ms: u64,
    /// Silence after which the next turn begins a new session.
    pub session_idle_ms: u64,
}

impl Default for VoiceConfig {
    fn default() -> Self {
        Self {
            listeners: vec![ListenerConfig::default()],
            vad: "earshot".to_owned(),
            vad_on: 0.5,
            vad_off: 0.35,
            pre_roll_ms: 300,
            start_ms: 80,
            end_silence_ms: 500,
            release_ms: 120,
            unfinished_silence_ms: 1_500,
            max_utterance_ms: 30_000,
            listen_timeout_ms: 5_000,
            wake_after_ms: 900,
            wake_window_ms: 2_600,
            wake_engine: "transcript".to_owned(),
            wake_model: "whisper-tiny.en".to_owned(),
            stt_timeout_ms: 20_000,
            turn_timeout_ms: 300_000,
            session_idle_ms: 600_000,
        }
    }
}

/// What opens a turn, until the listener is told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenMode {
    /// A wake phrase, or push to talk.
    Wake,
    /// Any speech.
    Open,
    /// Push to talk only.
    PushToTalk,
}

/// One listener: a microphone, a loudspeaker, and the names it hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerConfig {
    /// Its name; its JACK client is `sidetone-<name>`.
    pub name: String,
    /// Its wake phrases, each with the spellings in which it is heard as well.
    pub wake: BTreeMap<String, Vec<String>>,
    /// What it hears: `jack`, or a recording as `file:PATH`.
    pub source: String,
    /// The ports that `voice_in` is connected to: `client:port` with `*`, `?` and `[12]`, a client for all of its, or `/regex/`.
    pub capture_from: Vec<String>,
    /// The ports that `voice_out` is connected to, written the same way.
    pub playback_to: Vec<String>,
    /// The voice that it speaks with; empty: the default of whoever speaks.
    pub voice: String,
    /// The language that is spoken to it, such as `en`; empty: the default of whoever transcribes.
    pub language: String,
    /// What is often said to it, by which the recognizer goes where it is in doubt: a few phrases or names.
    pub prompt: String,
    /// What opens a turn.
    pub mode: ListenMode,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            name: "main".to_owned(),
            wake: BTreeMap::from([("Computer".to_owned(), Vec::new())]),
            source: "jack".to_owned(),
            capture_from: vec!["system:capture_1".to_owned()],
            playback_to: vec!["system:playback_[12]".to_owned()],
            voice: String::new(),
            language: String::new(),
            prompt: String::new(),
            mode: ListenMode::Wake,
        }
    }
}

/// Role `agent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// Where commands come from: `builtin`, files, folders.
    pub commands: Vec<String>,
    /// What the chat model is told before every conversation.
    pub system_prompt: String,
    /// The chat model, by its name or class; empty: the default of whoever answers.
    pub model: String,
    /// The most turns of the session that the chat model is shown, as many as fit. When they are more, half of them are
    /// left out at once, so that the prompt keeps its beginning for many turns and the model does not read it again.
    pub history_turns: usize,
    /// How much the chat model holds, with its answer, in tokens: turns that do not fit are not shown.
    pub context_tokens: u32,
    /// The most tokens of an answer.
    pub max_tokens: u32,
    /// The chat model's sampling temperature.
    pub temperature: f32,
    /// Turns at once.
    pub slots: usize,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            commands: vec!["builtin".to_owned()],
            system_prompt: "You are a voice assistant. Answer in one or two short sentences of plain spoken English."
                .to_owned(),
            model: String::new(),
            history_turns: 8,
            context_tokens: 4_096,
            max_tokens: 200,
            temperature: 0.3,
            slots: 8,
        }
    }
}

/// What the host shows over HTTP: `/health`, `/capabilities`, `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port, such as `127.0.0.1:9464`; empty: no server.
    pub listen: String,
}

/// What the host tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The collector that spans are sent to by OTLP over HTTP, such as `http://127.0.0.1:4318`; empty: none.
    pub otlp_url: String,
}

impl Config {
    /// The name of this host on the bus.
    #[must_use]
    pub fn node_name(&self) -> String {
        if !self.node.name.is_empty() {
            return self.node.name.clone();
        }
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .ok()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "localhost".to_owned())
    }
}
