//! The agent: takes a person's words, runs the command they match, or asks the chat model.

pub mod commands;
