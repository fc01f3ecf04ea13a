# What the demos share: what they start they also end. To be sourced; $demo is the folder that they write to.

sidetone=${SIDETONE:-target/release/sidetone}
home=${SIDETONE_HOME:-$PWD/.sidetone}

say() { printf '%s\n' "$*"; }
die() { say "demo: $*" >&2; exit 1; }

# Ends what was started, the last first. By SIGTERM: a jackd that is killed keeps one of the 8 places that a machine has.
pids=()
clean_up() {
    local status=$? pid at
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

# Whether the JACK server named by $JACK_DEFAULT_SERVER lets this user in, whatever else may be missing.
jack_is_up() {
    grep -q '"status":"ok","what":"JACK"' < <("$sidetone" doctor --json --home "$demo/home" --set 'node.roles=["voice"]' 2>/dev/null)
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

# make_home FOLDER: a home of its own for a demo's host, with your models, so that your sessions are left alone.
make_home() {
    mkdir -p "$1"
    local part
    for part in models bin venv; do
        [[ -e $home/$part ]] || die "there is no $home/$part; run \`make build\`"
        ln -s "$home/$part" "$1/$part"
    done
}

# What every demo needs, before it starts anything.
prepare() {
    [[ -x $sidetone ]] || die "there is no $sidetone; run \`make build\`"
    command -v python3 >/dev/null || die "python3 is not installed; run \`make setup\`"
    unset SIDETONE_BUS SIDETONE_NAME SIDETONE_CONFIG SIDETONE_HOME
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    rm -rf "$demo"
    make_home "$demo/home"
}
