//! The command `sidetone`.

fn main() {}
