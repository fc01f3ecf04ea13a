//! The worker's side: verbs served, replies streamed, audio taken in, jobs done.

pub mod batch;
mod engines;
pub mod ingest;
pub mod service;
pub mod sink;
mod slots;
mod spec;
mod worker;
