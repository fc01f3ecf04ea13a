#!/usr/bin/env bash
# Runs the tests by cargo-nextest with the given arguments; says at the end what failed, and which took longest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A JACK server that was killed keeps its place among the 8 that a machine may have. Where none runs, all of that is left over.
if command -v pgrep >/dev/null && ! pgrep -x jackd >/dev/null; then
    rm -rf /dev/shm/jack-shm-registry /dev/shm/jack-[0-9]* /dev/shm/jack_sem.* /dev/shm/jack_db-*
fi

# A machine of continuous integration is shared: there a test has a second try, and the report names those that needed it.
profile=default
[[ ${CI:-} == true ]] && profile=ci
report=target/nextest/$profile/junit.xml
rm -f "$report"
status=0
.sidetone/bin/cargo-nextest nextest run --profile "$profile" "$@" || status=$?
[[ -f $report ]] && .sidetone/venv/bin/python deploy/test_report.py "$report"
exit "$status"
