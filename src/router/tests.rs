//! Properties of the router, held against a plain reading of the rules.

mod errors;
mod health;
mod order;
mod rules;
mod world;
