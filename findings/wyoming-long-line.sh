#!/usr/bin/env bash
# wyoming 1.10.2 (Home Assistant's voice protocol): an event with its data in the header line, which the protocol allows.
# One would guess: a long text is read, or refused with an error.
# What happens: a line of more than 64 KiB reads as the end of the stream, without an error, and all that follows on the connection is lost. The same data as a block
# of its own after the line (data_length) is read at any length.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check wyoming==1.10.2
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
import asyncio
import json

from wyoming.event import Event, async_read_event, async_write_event


async def read(send):
    """What is read of what `send` sends, to the end."""
    seen, over = [], asyncio.Event()

    async def serve(reader, writer):
        while (event := await async_read_event(reader)) is not None:
            seen.append(event.type)
        writer.close()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await send(writer)
    await async_write_event(Event("describe"), writer)
    writer.write_eof()
    await asyncio.wait_for(over.wait(), 10)
    server.close()
    return seen


async def main():
    def inline(length):
        async def send(writer):
            line = {"type": "transcript", "data": {"text": "a" * length}}
            writer.write(json.dumps(line).encode() + b"\n")

        return send

    async def block(writer):
        await async_write_event(Event("transcript", {"text": "a" * 70_000}), writer)

    short, long, blocks = await read(inline(60_000)), await read(inline(70_000)), await read(block)
    print(f"60,000 in the line: {short}\n70,000 in the line: {long}\n70,000 in a block: {blocks}")
    assert short == blocks == ["transcript", "describe"]
    assert long == [], "long lines are read or refused now"


asyncio.run(main())
EOF
