//! The catalogue of models, and how they are had.
//!
//! `config/models.toml` is compiled in; a host's own `<home>/models.toml` adds to it. Each model is a folder
//! `<home>/models/<name>/` with files named by its kind (see [`ModelKind::files`]), whatever they were called where they
//! came from, so that an engine needs no more than the folder. What is in it was checked by hash when it was fetched,
//! which `model.toml` beside the files records: to look at a model's state is then a matter of file sizes.

mod catalogue;
mod download;
mod error;
mod fetch;
mod kind;
mod progress;
mod source;
mod store;

pub use catalogue::{Catalogue, Converter, Model};
pub use error::ModelError;
pub use fetch::{Outcome, fetch};
pub use kind::ModelKind;
pub use progress::Progress;
pub use store::{ModelState, state, verify};
