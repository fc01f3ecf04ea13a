//! Sidetone: one voice and agent system out of a handful of Linux hosts.

pub mod audio;
pub mod cli;
pub mod engine;
pub mod home;
pub mod models;
pub mod process;
