//! What roles of one host share for the stage.

pub mod loops;
