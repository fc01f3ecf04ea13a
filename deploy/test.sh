#!/usr/bin/env bash
# `cargo test` with the given arguments. What failed is said once more at the end: where it stands among the logs of all hosts,
# nobody finds it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=$(mktemp)
[[ -t 1 ]] && export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}
# Not by a pipe: it would stay open for as long as anything lives that a test has left running.
sleep infinity &
guard=$!
tail --lines=+1 --follow --sleep-interval=0.5 --pid=$guard "$output" &
viewer=$!
trap 'kill $guard $viewer 2>/dev/null || true; rm -f "$output"' EXIT
status=0
cargo test "$@" >"$output" 2>&1 || status=$?
kill $guard
wait $guard 2>/dev/null || true
wait $viewer
if ((status)); then
    printf '\nWhat failed:\n'
    grep --text --extended-regexp --after-context=5 "panicked at|^error|^Error:|process didn't exit successfully" "$output" |
        cut --characters=1-600 || true
fi
exit $status
