# The part `fuzz`: the driver of the fuzz targets. libFuzzer itself comes with its crate.

cargo_fuzz_version=0.13.2

setup_fuzz() {
    cargo_program cargo-fuzz "$cargo_fuzz_version" "a minute"
}
