#!/usr/bin/env bash
# Sets up what building, running and testing need. Part by part, and only what is missing:
#
#   packages   Debian or Ubuntu packages, by sudo after saying which
#   python     a private Python environment: nats-server, llama.cpp's server, sherpa-onnx's libraries
#   rig        for the demo of a rig and the tests: OSC clients, JackTrip
#   fuzz       for `make fuzz` only: cargo-fuzz
#   peers      for the tests only: packages with networks and clocks that can be bent
#   tools      for the tests only: the `nats` command and Ollama, built with Go
#   nextest    for the tests only: the program that runs them
#   asyncapi   for the tests only: the validator of the bus contract, by npm
#
# Usage: deploy/setup.sh [PART…]      (default: packages python)
# All but the packages stays in the checkout's own folder .sidetone, and in the caches of cargo and Go.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=$root/.sidetone
mkdir -p "$home"/{bin,lib,log,stamps}

source "$root/deploy/setup/lib.sh"
source "$root/deploy/setup/python.sh"
for part in "${@:-packages python}"; do
    for name in $part; do
        file="$root/deploy/setup/$name.sh"
        [[ $name != lib && -f $file ]] || die "there is no part '$name'; parts: packages, python, rig, fuzz, peers, tools, nextest, asyncapi"
        source "$file"
        "setup_$name"
    done
done
