//! What a host can be switched on to do; a file or folder a role.

pub mod agent;
