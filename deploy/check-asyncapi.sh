#!/usr/bin/env bash
# Holds an AsyncAPI document against AsyncAPI's own parser, where set-up could fetch that.
# Usage: deploy/check-asyncapi.sh FILE
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
modules="$root/.sidetone/node/node_modules"
if [[ ! -d $modules ]]; then
    echo "skipped: the validation of $1, as npm is not here" >&2
    [[ ${CI:-} != true ]]
    exit
fi
NODE_PATH=$modules exec node "$root/tests/asyncapi/validate.cjs" "$1"
