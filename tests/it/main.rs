//! Integration tests, in one program.

mod engines;
