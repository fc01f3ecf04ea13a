//! The subcommands, a file each, named as the subcommand.

pub mod models;
