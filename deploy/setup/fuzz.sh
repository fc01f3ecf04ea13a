# The part `fuzz`: the driver of the fuzz targets. libFuzzer itself comes with its crate.

cargo_fuzz_version=0.13.2

setup_fuzz() {
    [[ -x $home/bin/cargo-fuzz ]] && stamp_is fuzz "$cargo_fuzz_version" && return 0
    step fuzz "Building cargo-fuzz $cargo_fuzz_version (a minute)" \
        cargo install cargo-fuzz --version "$cargo_fuzz_version" --locked --root "$home"
    stamp fuzz "$cargo_fuzz_version"
}
