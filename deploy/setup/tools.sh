# The part `tools`: real peers for the tests. Those that Debian does not have are built from source with Go.

nats_version=v0.5.0
ollama_version=v0.17.4

source "$root/deploy/setup/packages.sh"

setup_tools() {
    if have apt-get; then
        require_packages "systemd|have systemd-analyze|to check the units of deploy/systemd"
    elif ! have systemd-analyze; then
        skip "the check of deploy/systemd: it needs systemd-analyze"
    fi
    go_is_new_enough || { skip "the tests with the nats command and Ollama: they need Go 1.24 or newer"; return 0; }
    go_tool nats "github.com/nats-io/natscli/nats@$nats_version" "a minute or two"

    # Ollama's module lacks headers that its repository vendors: these two are packages, the third is ours.
    local ollama="github.com/ollama/ollama@$ollama_version" flags=-O3
    tool_is_built ollama "$ollama" && return 0
    require_packages \
        "nlohmann-json3-dev|test -f /usr/include/nlohmann/json.hpp|to build Ollama" \
        "libstb-dev|test -f /usr/include/stb/stb_image.h|to build Ollama"
    # Built for the oldest processor, ggml is six times slower.
    if grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; then flags+=" -march=x86-64-v3"; fi
    # Go's cache knows a build by its flags: our path goes to the compiler by another way, so that all checkouts share it.
    CPATH=$root/deploy/setup/include CGO_CFLAGS=$flags CGO_CXXFLAGS=$flags go_tool ollama "$ollama" "about ten minutes, once"
}

go_is_new_enough() {
    local version
    have go && version=$(go env GOVERSION 2>/dev/null) && [[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 24))
}

tool_is_built() { [[ -x $home/bin/$1 ]] && stamp_is "$1" "$2"; }

# go_tool NAME MODULE@VERSION HOW_LONG: builds a program into bin/, unless that version is there.
go_tool() {
    tool_is_built "$1" "$2" && return 0
    step "$1" "Building $1 ${2##*@} ($3)" env GOBIN="$home/bin" GOFLAGS=-buildvcs=false nice go install "$2"
    stamp "$1" "$2"
}
