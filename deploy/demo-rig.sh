#!/usr/bin/env bash
# A performer's rig on one machine, with config/performance-rig.toml: an OSC client starts a turn, a pedal (a JACK MIDI client)
# holds push to talk, a spoken 'play C major' arrives as notes at a synthesizer, a scene of lights goes out as OSC, and a stop
# silences all. The clients are liblo's oscsend and oscdump, jack_midi_dump, and a Python program. `make demo-rig` calls it
# after `make build`. Everything that it starts it also ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=deploy/demo/lib.sh
source deploy/demo/lib.sh
demo=$home/demo-rig
failed=0

pass() { say "   ✓ $*"; }
fail() { say "   ✗ $*"; failed=1; }

# check SECONDS TEXT COMMAND…: passes once the command succeeds.
check() {
    local seconds=$1 text=$2
    shift 2
    if within "$seconds" "$@"; then pass "$text"; else fail "$text: it did not come about within $seconds s"; fi
}

# seen FROM FILE PATTERN: whether the pattern stands in the file after so many lines.
seen() { tail -n "+$(($1 + 1))" "$2" | grep -qE -- "$3"; }
lines() { wc -l <"$1"; }
found() { tail -n "+$(($1 + 1))" "$2" | grep -E -- "$3" | head -n "${4:-1}" | sed 's/^[0-9a-f]*\.[0-9a-f]* //; s/^/     /'; }

osc_port_is_taken() { ss -Huln "sport = :$1" | grep -q .; }
find_osc_port() {
    for osc in {19000..19200..10}; do
        if ! osc_port_is_taken "$osc" && ! osc_port_is_taken $((osc + 1)) && ! osc_port_is_taken $((osc + 2)); then return; fi
    done
    die "no UDP ports are free for the demo"
}

# start_client NAME TEXT COMMAND…: a client whose output shows TEXT when it is there.
start_client() {
    local name=$1 text=$2
    shift 2
    "$@" >"$demo/$name.out" 2>"$demo/$name.log" </dev/null &
    pids+=($!)
    [[ -z $text ]] || within 20 up "$!" "$demo/$name.out" "$text" || die "$name does not come up; see $demo/$name.log"
}

start_pedal() {
    mkfifo "$demo/pedal.in"
    "$home/venv/bin/python" deploy/demo/pedal.py <"$demo/pedal.in" >"$demo/pedal.out" 2>"$demo/pedal.log" &
    pids+=($!)
    exec {pedal}>"$demo/pedal.in"
    within 20 up "$!" "$demo/pedal.out" ready || die "the pedal does not come up; see $demo/pedal.log"
}

press() { say "     pedal: $*"; printf '%s\n' "$*" >&"$pedal"; }
tell() { say "     oscsend: $*"; oscsend 127.0.0.1 "$osc" "$@"; }

idle() { seen "$1" "$demo/surface.out" '/assistant/state s "idle"'; }

prepare
for program in oscsend oscdump jack_midi_dump; do
    command -v "$program" >/dev/null || die "there is no $program; \`deploy/setup.sh packages rig\` installs it"
done
start_jack
find_port
find_osc_port
lights=$((osc + 1)) surface=$((osc + 2))
start_client lights "" oscdump -L "$lights"
start_client surface "" oscdump -L "$surface"
start_client synth "" stdbuf -oL jack_midi_dump synth
start_pedal
options=(--home "$demo/home" --config config/performance-rig.toml --set "bus.port=$port" --set 'llm.providers=[{ engine = "llamacpp" }]'
    --set "osc.listen=\"127.0.0.1:$osc\"" --set 'osc.query=""' --set 'osc.announce=false'
    --set "osc.targets={ lights = \"127.0.0.1:$lights\", surface = \"127.0.0.1:$surface\" }")
"$sidetone" run "${options[@]}" >"$demo/host.out" 2>"$demo/host.log" </dev/null &
pids+=($!)
within 120 up "$!" "$demo/host.out" ' is up on ' || die "the host was not up within 120 s; see $demo/host.log"
cat "$demo/host.out"
within 20 seen 0 "$demo/host.log" 'pedal' || true

say ""
say "1. An OSC client asks, the loudspeaker answers, a surface shows it"
at=$(lines "$demo/surface.out")
tell /assistant/ask s "what time is it"
check 60 "the turn is shown: processing, speaking, idle" seen "$at" "$demo/surface.out" '/assistant/state s "speaking"'
check 60 "it was answered" idle "$at"
found "$at" "$demo/surface.out" '/assistant/(state|transcript|reply)' 8

say ""
say "2. A pedal holds push to talk; 'play C major' is spoken; the synthesizer gets the notes"
at=$(lines "$demo/surface.out") notes=$(lines "$demo/synth.out")
# The voice is another each time: whoever is not understood says it again.
for attempt in 1 2 3; do
    "$sidetone" say -o "$demo/chord.wav" "Play C major." "${options[@]}" >"$demo/say.log" 2>&1 ||
        die "nobody speaks the command; see $demo/say.log"
    again=$(lines "$demo/surface.out")
    press cc 64 127
    check 20 "it listens while the pedal is down" seen "$again" "$demo/surface.out" '/assistant/state s "listening"'
    "$sidetone" play "$demo/chord.wav" "${options[@]}" >"$demo/play.log" 2>&1 || fail "nothing was spoken; see $demo/play.log"
    press cc 64 0
    within 60 seen "$again" "$demo/surface.out" '/assistant/transcript' || break
    if ((attempt == 3)) || seen "$again" "$demo/surface.out" '/assistant/transcript s "[Pp]lay '; then break; fi
    found "$again" "$demo/surface.out" '/assistant/transcript'
    check 60 "it was answered" idle "$again"
done
for note in C4 E4 G4; do
    declare -A hex=([C4]=3c [E4]=40 [G4]=43)
    check 60 "$note arrives" seen "$notes" "$demo/synth.out" "90 ${hex[$note]}"
done
found "$again" "$demo/surface.out" '/assistant/transcript'
check 30 "the notes end by themselves" seen "$notes" "$demo/synth.out" "80 3c|90 3c 00"

say ""
say "3. A scene: by a cue of a DAW, by a typed command, by the expression pedal"
at=$(lines "$demo/lights.out")
tell /cue/7 f 2.5
check 10 "the cue is the desk's scene 7" seen "$at" "$demo/lights.out" '/scene if 7 2.5'
tell /assistant/command s "light scene twelve"
check 10 "the command is scene 12" seen "$at" "$demo/lights.out" '/scene i 12'
# A period that JACK could not finish in time takes its events with it; a pedal that is moved says where it is again and again.
for attempt in 1 2 3; do
    press cc 11 64
    if ((attempt == 3)) || within 5 seen "$at" "$demo/lights.out" '/master f 0.50'; then break; fi
done
check 10 "the pedal is the master" seen "$at" "$demo/lights.out" '/master f 0.50'
found "$at" "$demo/lights.out" . 9

say ""
say "4. Stop: a long text is spoken, a chord is held; one pedal ends all"
at=$(lines "$demo/surface.out") notes=$(lines "$demo/synth.out")
# It takes half a minute to say.
long=$(printf 'This is a sentence that nobody wants to hear to its end. %.0s' {1..10})
tell /assistant/say s "$long"
tell /assistant/command s "play a G7 on the synth for eight bars"
check 30 "it speaks" seen "$at" "$demo/surface.out" '/assistant/state s "speaking"'
check 30 "the chord sounds" seen "$notes" "$demo/synth.out" '90 43'
at=$(lines "$demo/surface.out") notes=$(lines "$demo/synth.out")
press cc 66 127
check 2 "the speech has ended" idle "$at"
check 2 "the notes have ended" seen "$notes" "$demo/synth.out" '80 43|90 43 00'

say ""
((failed == 0)) || die "something did not come about; the logs are in $demo"
say "All of it came about. The logs are in $demo."
