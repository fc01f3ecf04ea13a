//! Sidetone: one voice and agent system out of a handful of Linux hosts.

pub mod audio;
pub mod bus;
pub mod cli;
pub mod config;
pub mod engine;
pub mod home;
pub mod models;
pub mod node;
pub mod process;
pub mod role;
pub mod secret;
pub mod sound;
pub mod telemetry;
pub mod text;
