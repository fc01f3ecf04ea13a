#!/usr/bin/env bash
# Four hosts on one machine and one nats-server: one hears, one recognizes and speaks, one thinks, and a spare can do what
# the last two do. Two questions are asked; in the middle of each answer a host is killed, and the answer is finished all
# the same. Shows who was asked and why, and whether anything is missing or was said twice. `make demo-fabric` calls it
# after `make build`. Everything that it starts it also ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=deploy/demo/lib.sh
source deploy/demo/lib.sh
demo=$home/demo-fabric
declare -A host_pid

start_nats() {
    find_port
    export SIDETONE_BUS=nats://127.0.0.1:$port
    "$home/bin/nats-server" -a 127.0.0.1 -p "$port" -js -sd "$demo/nats" >"$demo/nats.log" 2>&1 </dev/null &
    pids+=($!)
    within 20 port_is_taken "$port" || die "nats-server does not come up; see $demo/nats.log"
    say "A nats-server runs on $SIDETONE_BUS."
}

# start_host NAME ROLES: each in a home of its own, as on a machine of its own.
start_host() {
    make_home "$demo/$1"
    "$sidetone" run --name "$1" --roles "$2" --home "$demo/$1" "${options[@]}" \
        >"$demo/$1.out" 2>"$demo/$1.log" </dev/null &
    host_pid[$1]=$!
    pids+=($!)
}

host_is_up() {
    within 120 up "${host_pid[$1]}" "$demo/$1.out" ' is up on ' || die "$1 was not up within 120 s; see $demo/$1.log"
}

# As if its plug were pulled.
kill_host() {
    local pid=${host_pid[$1]} at
    kill -9 "$pid"
    say "── $1 is killed (SIGKILL) ──"
    # Without the shell's own word about it.
    { wait "$pid" || true; } 2>/dev/null
    for at in "${!pids[@]}"; do
        [[ ${pids[at]} != "$pid" ]] || unset "pids[$at]"
    done
    pids=("${pids[@]}")
}

start_watching() {
    "$sidetone" watch "${here[@]}" </dev/null &
    pids+=($!)
    "$sidetone" watch "${here[@]}" --json >"$demo/events.jsonl" 2>"$demo/watch.log" </dev/null &
    pids+=($!)
    within 20 grep -qs '"notice":"watching"' "$demo/events.jsonl" || die "nothing is to be seen; see $demo/watch.log"
}

# heard_of COUNT TEXT: waits until so many events with it have come, of those after line $from.
heard_of() { (($(grep -cm"$1" -- "$2" < <(timeout 90 tail -n "+$from" -f "$demo/events.jsonl")) == $1)); }

turns_over() { (($(grep -cs '"kind":"times"' "$demo/events.jsonl") >= $1)); }

# act N QUESTION HOST COUNT SECONDS: asks, and kills the host so many seconds after the sentence COUNT was sent to be spoken.
act() {
    local from player
    from=$(($(wc -l <"$demo/events.jsonl") + 1))
    "$sidetone" play "tests/fixtures/demo/$2.flac" --record "$demo/answer-$1.wav" --until-silent-s 6 --timeout-s 90 \
        "${here[@]}" 2>"$demo/play-$1.log" </dev/null &
    player=$!
    pids+=("$player")
    heard_of "$4" '"capability":"tts"' || die "no answer was begun; see $demo/events.jsonl"
    sleep "$5"
    kill_host "$3"
    wait "$player" || say "No answer: $(tail -n 1 "$demo/play-$1.log")"
    unset 'pids[-1]'
    within 60 turns_over "$1" || say "The turn did not end; see $demo/events.jsonl"
    "$sidetone" transcribe "$demo/answer-$1.wav" --json "${here[@]}" >"$demo/heard-$1.json" 2>"$demo/hear-$1.log" ||
        say "The answer can't be transcribed: $(tail -n 1 "$demo/hear-$1.log")"
    # The same words spoken in one go, to compare with how long the answer sounded.
    python3 deploy/demo/fabric.py --written "$demo" "$1" >"$demo/written-$1.txt"
    "$sidetone" say -o "$demo/undisturbed-$1.wav" "$(<"$demo/written-$1.txt")" "${here[@]}" >/dev/null 2>"$demo/say-$1.log" ||
        say "The answer can't be spoken anew: $(tail -n 1 "$demo/say-$1.log")"
}

# Whether the registry has forgotten the host.
left() {
    local nodes
    nodes=$("$sidetone" nodes --json "${here[@]}") && ! grep -q "\"node\": *\"$1\"" <<<"$nodes"
}

prepare
options=(--config deploy/demo/fabric.toml)
start_jack
start_nats
start_host stage voice
start_host booth stt,tts
start_host rack llm,agent
start_host spare stt,tts,llm,agent
here=(--home "$demo/home" "${options[@]}")
for host in stage booth rack spare; do host_is_up "$host"; done
say ""
"$sidetone" nodes "${here[@]}"
say ""
say "Who would recognize speech (\`sidetone route stt --lang en --explain\`)"
"$sidetone" route stt --lang en --explain "${here[@]}"
say ""
start_watching

say ""
say "1. The host that thinks is killed while it writes the answer"
act 1 question rack 1 0
say ""
say "2. The host that speaks is killed while the answer sounds"
act 2 rain booth 2 0.3

say ""
say "Who is left"
for host in rack booth; do within 20 left "$host" || say "$host is still listed"; done
"$sidetone" nodes "${here[@]}"
say ""
python3 deploy/demo/fabric.py "$demo" rack booth
