# The part `nextest`: the program that runs the tests, each in a process of its own.

nextest_version=0.9.148

setup_nextest() {
    cargo_program cargo-nextest "$nextest_version" "three minutes"
}
