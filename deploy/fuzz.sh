#!/usr/bin/env bash
# Feeds noise to what reads OSC, MIDI and the bus, SECONDS_EACH (20) for each target; `make fuzz` calls it. Inputs that were of
# use are kept in .sidetone/fuzz; one that breaks something is named, and left there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

home=${SIDETONE_HOME:-$PWD/.sidetone}
targets=("$@")
((${#targets[@]})) || targets=(osc midi bus)

# Without sanitizers, which need a nightly compiler: what is read so has no unsafe code, and a panic is what is looked for.
export CARGO_TARGET_DIR=$PWD/target/fuzz PATH=$home/bin:$PATH
for target in "${targets[@]}"; do
    mkdir -p "$home/fuzz/$target"
    cargo fuzz run --sanitizer none --fuzz-dir tests/fuzz "$target" "$home/fuzz/$target" "tests/fuzz/corpus/$target" -- \
        -max_total_time="${SECONDS_EACH:-20}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$home/fuzz/$target-" || {
        echo "fuzz: $target broke; the input is $home/fuzz/$target-…; feed it again with" \
            "\`cargo fuzz run --sanitizer none --fuzz-dir tests/fuzz $target FILE\`" >&2
        exit 1
    }
done
