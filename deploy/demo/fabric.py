"""What became of the answers in the middle of which a host was killed: who was asked and why, and what of each is missing or
was said twice.

Reads events.jsonl (`sidetone watch --json`), heard-N.json (`sidetone transcribe --json`) and undisturbed-N.wav (the answer
spoken in one go) in the folder given; after it come the hosts that were killed, one a turn. Fails if an answer was not taken
up by another host and finished, or if a phrase of it is missing or there twice. `--written FOLDER N` prints answer N."""

import difflib
import json
import pathlib
import sys
import wave

from report import show, table, turns, words

# The recognizer of a demo is small: a few words in a row may be misheard. A sentence is longer.
PHRASE = 5
# How much longer or shorter the same words may be when they are spoken again. A phrase is more.
SAME_LENGTH = 0.08


def routes(path):
    """Which hosts were asked, by turn, in their order."""
    found = {}
    for line in path.read_text().splitlines():
        event = json.loads(line)
        subject = event.get("subject", "").split(".")
        if subject[0] == "event" and subject[-1] == "routed":
            routed = event["message"] | {"from": subject[1]}
            found.setdefault(routed.get("turn"), []).append(routed)
    return found


def faults(written, heard):
    """The phrases that were written and not heard, and those that were heard without having been written."""
    written, heard = words(written), words(heard)
    missing, extra = [], []
    same = difflib.SequenceMatcher(None, written, heard, autojunk=False)
    for _, from_written, to_written, from_heard, to_heard in same.get_opcodes():
        # What was misheard is as long as what was said, about.
        longer = (to_heard - from_heard) - (to_written - from_written)
        if longer <= -PHRASE:
            missing.append(" ".join(written[from_written:to_written]))
        if longer >= PHRASE:
            extra.append(" ".join(heard[from_heard:to_heard]))
    return missing, extra


def lasts_ms(path):
    """How long a recording is; none if there is no such recording."""
    try:
        with wave.open(str(path)) as recording:
            return 1000 * recording.getnframes() / recording.getframerate()
    except (OSError, EOFError, wave.Error):
        return None


def takeover(turn, routed, killed):
    """Who took up what the killed host had begun; none if it had finished before."""
    wrote = turn.get("reply", {}).get("node")
    taken = [route for route in routed if route.get("after") and route["host"] != killed]
    return [route for route in taken if route["capability"] != "agent" or wrote == route["host"]]


def show_routes(routed):
    rows = [["asked by", "for", "host", "why"]]
    seen = None
    for route in routed:
        why = route["reason"]
        if route.get("after"):
            why = f"try {route['attempt']}: {why}; before: {route['after']}"
        row = [route["from"], route["capability"], route["host"] or "(anyone)", why]
        # Each sentence is a request of its own.
        if row != seen:
            rows.append(row)
        seen = row
    table([[cell if len(cell) <= 110 else cell[:109] + "…" for cell in row] for row in rows], left=True)


def main():
    if sys.argv[1] == "--written":
        done = turns(pathlib.Path(sys.argv[2]) / "events.jsonl")
        print(*(turn.get("reply", {}).get("text", "") for turn in done[int(sys.argv[3]) - 1:][:1]))
        return
    demo, killed = pathlib.Path(sys.argv[1]), sys.argv[2:]
    done, routed = turns(demo / "events.jsonl"), routes(demo / "events.jsonl")
    failed = []
    for n, host in enumerate(killed, 1):
        print(f"{n}. {host} was killed")
        if n > len(done):
            print("   The turn did not end.")
            failed.append(n)
            continue
        turn = done[n - 1]
        ways = routed.get(turn["times"]["turn"], [])
        show_routes(ways)
        written, spoken = show(demo, n, turn)
        missing, extra = faults(written, spoken)
        sounded, undisturbed = turn["times"]["spoken_ms"], lasts_ms(demo / f"undisturbed-{n}.wav")
        if undisturbed:
            print(f"   sounded  for {sounded / 1000:.1f} s; spoken in one go it takes {undisturbed / 1000:.1f} s")
        if extra and undisturbed and sounded <= undisturbed * (1 + SAME_LENGTH) and not missing:
            print(f"   Not in the answer, which is no longer than its words take; the recognizer made it up: {extra[0][:60]}…")
            extra = []
        if undisturbed and abs(sounded / undisturbed - 1) > 2 * SAME_LENGTH:
            too = "long" if sounded > undisturbed else "short"
            (extra if too == "long" else missing).append(f"the answer is too {too} for its words")
        troubles = [f"not spoken: {text}" for text in missing]
        troubles += [f"said twice, or never written: {text}" for text in extra]
        if "error" in turn:
            troubles.append(f"the turn failed: {turn['error'].get('message', '')}")
        if not written:
            troubles.append("there is no answer")
        taken = takeover(turn, ways, host)
        if not taken:
            troubles.append(f"nobody took anything up: {host} was killed too late, or the answer ended with it")
        for trouble in troubles:
            print(f"   ✗ {trouble}")
        if troubles:
            failed.append(n)
        else:
            by = " and ".join(f"{route['capability']} by {route['host']}" for route in taken)
            print(f"   ✓ taken up ({by}), finished, nothing missing, nothing said twice; {demo / f'answer-{n}.wav'}")
        print()
    if failed:
        sys.exit("demo: turn " + ", ".join(map(str, failed)) + f" did not survive; the logs are in {demo}")


if __name__ == "__main__":
    main()
