//! Lets our programs find sherpa-onnx's shared libraries.
//!
//! `sherpa-onnx-sys` copies them beside what cargo builds, but its own rpath reaches only its own crate. In a build
//! folder the libraries lie beside the program or, for tests in `deps/`, one folder up; an installed program has them
//! in `../lib/sidetone`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_SHERPA").is_some() {
        for place in ["$ORIGIN", "$ORIGIN/..", "$ORIGIN/../lib/sidetone"] {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{place}");
        }
    }
}
