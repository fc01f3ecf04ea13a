//! What the tests share.

pub mod jack;
