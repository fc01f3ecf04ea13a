#!/usr/bin/env bash
# Runs the tests by cargo-nextest with the given arguments; says at the end what failed, and which took longest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

report=target/nextest/default/junit.xml
rm -f "$report"
status=0
.sidetone/bin/cargo-nextest nextest run "$@" || status=$?
[[ -f $report ]] && .sidetone/venv/bin/python deploy/test_report.py "$report"
exit "$status"
