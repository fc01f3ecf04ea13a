#!/usr/bin/env bash
# Asks a host three things through JACK and shows what happens, where the time goes, and whether what was spoken is what
# was written. `make demo` calls it after `make build`. Everything that it starts it also ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=deploy/demo/lib.sh
source deploy/demo/lib.sh
demo=$home/demo
questions=(command question wake)
titles=("A command" "A question for the model" "A wake word said by a person, then a question")

start_host() {
    find_port
    options=(--home "$demo/home" --config deploy/demo/demo.toml --set "bus.port=$port")
    "$sidetone" run "${options[@]}" >"$demo/host.out" 2>"$demo/host.log" </dev/null &
    pids+=($!)
    within 120 up "$!" "$demo/host.out" ' is up on ' || die "the host was not up within 120 s; see $demo/host.log"
    cat "$demo/host.out"
    "$sidetone" watch "${options[@]}" </dev/null &
    pids+=($!)
    "$sidetone" watch "${options[@]}" --json >"$demo/events.jsonl" 2>"$demo/watch.log" </dev/null &
    pids+=($!)
}

# The turns that are over.
turns_over() { (($(grep -cs '"kind":"times"' "$demo/events.jsonl") >= $1)); }

# ask N: plays question N and records the answer.
ask() {
    local question=tests/fixtures/demo/${questions[$1 - 1]}.flac
    say ""
    say "$1. ${titles[$1 - 1]}"
    "$sidetone" play "$question" --record "$demo/answer-$1.wav" --until-silent-s 3 --timeout-s 90 "${options[@]}" \
        2>"$demo/play-$1.log" </dev/null &
    # A signal to this script breaks off `wait`, where it would otherwise be taken after the command.
    pids+=($!)
    wait "$!" || { say "No answer: $(tail -n 1 "$demo/play-$1.log")"; return; }
    unset 'pids[-1]'
    within 30 turns_over "$1" || say "The turn did not end; see $demo/events.jsonl"
}

# Has the answers transcribed by the same host.
hear() {
    local n
    for n in 1 2 3; do
        [[ -s $demo/answer-$n.wav ]] || continue
        "$sidetone" transcribe "$demo/answer-$n.wav" --json "${options[@]}" >"$demo/heard-$n.json" 2>"$demo/hear-$n.log" ||
            say "Answer $n can't be transcribed: $(tail -n 1 "$demo/hear-$n.log")"
    done
}

prepare
start_jack
start_host
for n in 1 2 3; do ask "$n"; done
hear
say ""
python3 deploy/demo/report.py "$demo"
