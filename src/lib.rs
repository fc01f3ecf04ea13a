//! Sidetone: one voice and agent system out of a handful of Linux hosts.
//!
//! Every host runs this program with some roles switched on. Roles talk only over NATS, even on one host. Audio that
//! must be in time stays in JACK. What was said and done is kept in JetStream.
//!
//! ```text
//! JACK in → ring → VAD → wake → utterance ─ stt.request ─▶ transcript ─ agent.run ─▶ command match
//!                                                                        ├─ hit: its action
//! JACK out ◀ ring ◀ PCM chunks ◀─ tts.stream ─ sentences ◀─ text deltas ◀┴─ miss: llm.chat
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`cli`] | one file a subcommand, named as the subcommand |
//! | [`node`] | the host: starts the roles, restarts what fails, drains under a deadline |
//! | [`role`] | trait `Role`, the table `ROLES`; a file or folder a role |
//! | [`fabric`] | a need is met by a host that can: asks the one that the router chooses, and the next when that fails |
//! | [`router`] | pure policy: what is needed and who is there give an ordered list of hosts, each with its reason |
//! | [`bus`] | the sole user of NATS: connections, requests and streams of replies, services, what the server keeps |
//! | [`wire`] | the messages of the bus, whatever carries them: subjects, messages, how bodies are written, the contract; knows no NATS |
//! | [`audio`] | JACK, rings, resampling, VAD, endpointing, wake phrases; knows neither bus nor tokio |
//! | [`engine`] | speech to text, text to speech, chat: traits, and tables from name to builder |
//! | [`action`] | what configuration says is to be done, and the same with its slots filled in |
//! | [`rig`] | what performers' gear sets off, and what goes out to it; the one stop |
//! | [`sound`] | between samples and what the bus carries |
//! | [`midi`] | MIDI without any device: messages, names of notes and chords, triggers, the clock |
//! | [`osc`] | OSC as bytes and values: decoding within limits, patterns, time tags, framing, pace |
//! | [`text`] | sentences of a stream of text; what of a text is spoken |
//! | [`turn`] | a talk as pure decisions: what happened goes in with its time, what to do comes out |
//! | [`config`] | every setting: typed, defaulted; unknown keys refused |
//! | [`models`] | the catalogue of models, and how they are had |
//! | [`telemetry`], [`http`] | log lines, traces, metrics, health; the server that shows them |
//! | [`process`], [`home`], [`secret`], [`hardware`], `memory` | child processes; the host's folder; keys that do not print; tags and addresses; freed memory |
//!
//! What holds everywhere, and what a test holds to where it can:
//!
//! - `main → cli → node → role → fabric → {router, bus}`, and `role → {audio, engine}`. Roles never import roles; `audio` and `engine` never import `bus`.
//! - A subject is spelled in [`wire::subject`] and nowhere else.
//! - Decisions are pure: the turn, the endpointing, the command matcher, the sentence splitter take values and give values.
//! - `process()` does not allocate, lock, block, log or call the system.
//! - Every queue is bounded, and what happens when it is full is written beside it. Nothing waits without a deadline.
//! - An error says what was tried, on what, why it can't be, and what would do.
//! - What was said stays out of log texts.

pub mod action;
pub mod audio;
pub mod bus;
pub mod cli;
pub mod config;
pub mod engine;
pub mod fabric;
pub mod hardware;
pub mod home;
pub mod http;
mod memory;
pub mod midi;
pub mod models;
pub mod node;
pub mod osc;
pub mod process;
pub mod rig;
pub mod role;
pub mod router;
pub mod secret;
pub mod sound;
pub mod telemetry;
pub mod text;
pub mod turn;
pub mod wire;
