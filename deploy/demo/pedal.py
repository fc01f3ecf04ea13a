"""A foot controller that is played by lines on standard input: a JACK MIDI client of its own, as any other would be.

`cc 64 127` presses the sustain pedal, `note 36 100` plays a pad, `bytes fa` sends what it says. Prints `ready` once JACK
has it, and then each line when it has left."""

import collections
import os
import sys
import threading

import jack


def message(line):
    """The bytes of a line."""
    word, *numbers = line.split()
    if word == "bytes":
        return bytes.fromhex("".join(numbers))
    status = {"cc": 0xB0, "note": 0x90}.get(word)
    if status is None or len(numbers) != 2:
        sys.exit(f"pedal: {line!r} is neither 'cc NUMBER VALUE' nor 'note NUMBER VELOCITY' nor 'bytes HEX'")
    return bytes([status, *(int(number) for number in numbers)])


def main():
    client = jack.Client("pedal", no_start_server=True, servername=os.environ.get("JACK_DEFAULT_SERVER"))
    out = client.midi_outports.register("out")
    waiting, left = collections.deque(), threading.Semaphore(0)

    @client.set_process_callback
    def process(_frames):
        out.clear_buffer()
        while waiting:
            out.write_midi_event(0, waiting.popleft())
            left.release()

    with client:
        print("ready", flush=True)
        for line in sys.stdin:
            waiting.append(message(line))
            if not left.acquire(timeout=5):
                sys.exit("pedal: JACK takes nothing")
            print(line.strip(), flush=True)


main()
