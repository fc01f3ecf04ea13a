#!/usr/bin/env bash
# Asks a host three things through JACK and shows what happens, where the time goes, and whether what was spoken is what
# was written. `make demo` calls it after `make build`. Everything that it starts it also ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sidetone=${SIDETONE:-target/release/sidetone}
home=${SIDETONE_HOME:-$PWD/.sidetone}
demo=$home/demo
questions=(command question wake)
titles=("A command" "A question for the model" "A wake word said by a person, then a question")

say() { printf '%s\n' "$*"; }
die() { say "demo: $*" >&2; exit 1; }

# Ends what was started, the last first. By SIGTERM: a jackd that is killed keeps one of the 8 places that a machine has.
pids=()
clean_up() {
    local status=$? pid
    trap - EXIT INT TERM
    for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
        pid=${pids[at]}
        kill "$pid" 2>/dev/null || continue
        within 20 gone "$pid" || { say "demo: process $pid does not end and is killed"; kill -9 "$pid" 2>/dev/null || true; }
        wait "$pid" 2>/dev/null || true
    done
    exit "$status"
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# within SECONDS COMMAND…: tries until it succeeds. Fails when the time is over.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# up PID LOG TEXT: whether LOG has TEXT. Ends the demo when the process has gone.
up() {
    grep -qs -- "$3" "$2" && return 0
    gone "$1" || return 1
    tail -n 20 "$2" "${2%.out}.log" 2>/dev/null | sed 's/^/    /' >&2
    die "it ended before it was up; all it said is in ${2%.*}.*"
}

# Whether the JACK server named by $JACK_DEFAULT_SERVER lets this user in.
jack_is_up() {
    "$sidetone" doctor --json --home "$demo/home" --config deploy/demo/demo.toml --set 'node.roles=["voice"]' 2>/dev/null |
        grep -q '"status":"ok","what":"JACK"'
}

# Takes the user's JACK server if it runs, else starts one without a sound card.
start_jack() {
    export JACK_DEFAULT_SERVER=${JACK_DEFAULT_SERVER:-default}
    if jack_is_up; then
        say "The JACK server '$JACK_DEFAULT_SERVER' runs: you hear the answers where it plays."
        return
    fi
    command -v jackd >/dev/null || die "jackd is not installed; run \`make setup\`"
    export JACK_DEFAULT_SERVER=sidetone-demo
    local mode
    for mode in '-R -P 60' '-r'; do
        # shellcheck disable=SC2086  # two arguments
        jackd -n "$JACK_DEFAULT_SERVER" $mode -d dummy -r 48000 -p 128 >"$demo/jackd.log" 2>&1 </dev/null &
        pids+=($!)
        if within 10 jack_is_up; then
            say "A JACK server on the dummy driver runs ($mode): nothing is heard, the answers are recorded."
            return
        fi
        say "jackd $mode does not come up; see $demo/jackd.log"
        kill "$!" 2>/dev/null || true
        within 5 gone "$!" || true
    done
    die "no JACK server can be started; \`jackd -d dummy\` shows why"
}

port_is_taken() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port for the demo's own NATS: the usual one unless a host of yours has it.
find_port() {
    for port in 4222 {14222..14252}; do
        port_is_taken "$port" || return 0
    done
    die "no port is free for the demo's NATS server"
}

# The demo has a home of its own, with your models, so that your sessions are left alone.
make_home() {
    rm -rf "$demo"
    mkdir -p "$demo/home"
    local part
    for part in models bin venv; do
        [[ -e $home/$part ]] || die "there is no $home/$part; run \`make build\`"
        ln -s "$home/$part" "$demo/home/$part"
    done
}

start_host() {
    find_port
    options=(--home "$demo/home" --config deploy/demo/demo.toml --set "bus.port=$port")
    unset SIDETONE_BUS SIDETONE_NAME SIDETONE_CONFIG
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

[[ -x $sidetone ]] || die "there is no $sidetone; run \`make build\`"
command -v python3 >/dev/null || die "python3 is not installed; run \`make setup\`"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
make_home
start_jack
start_host
for n in 1 2 3; do ask "$n"; done
hear
say ""
python3 deploy/demo/report.py "$demo"
