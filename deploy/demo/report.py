"""What became of the demo's three turns: the time of each stage, and what was written beside what was heard.

Reads events.jsonl (`sidetone watch --json`) and heard-N.json (`sidetone transcribe --json`) in the folder given. Fails if a
turn got no answer, or if more than half of the words that were written were not heard."""

import json
import pathlib
import re
import sys
import textwrap

TURNS = 3
# The stages of a turn, as session events of kind `times` name them.
STAGES = [
    ("endpoint_ms", "silence that ends it"),
    ("stt_ms", "transcript"),
    ("first_sentence_ms", "first sentence"),
    ("first_audio_ms", "first audio made"),
    ("first_sample_ms", "into JACK"),
    ("total_ms", "end of speech to first sound"),
    ("spoken_ms", "answer sounded for"),
]


def turns(path):
    """The turns that came to an end, in their order: each kind of event by its name."""
    found = {}
    for line in path.read_text().splitlines():
        message = json.loads(line).get("message", {})
        if message.get("turn") and message.get("kind"):
            found.setdefault(message["turn"], {})[message["kind"]] = message
    return [turn for turn in found.values() if "times" in turn]


def words(text):
    """The words of a text as they are compared: lower case, without punctuation; 'p.m.' is 'pm', and a digit is a word, since
    '7:24 PM' is heard as '724pm' as well."""
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text.lower())
    return re.findall(r"\d|[^\W\d_]+", re.sub(r"['’]", "", text))


def errors(written, heard):
    """The least number of words to change, add or leave out (Levenshtein's distance)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(written, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def verdict(written, heard):
    """A few words for people, and whether it was heard: numbers and names are spelled in more than one way."""
    written, heard = words(written), words(heard)
    wrong = errors(written, heard)
    if wrong == 0:
        return "✓ word for word", True
    return f"{wrong} of {len(written)} words differ", 2 * wrong <= len(written)


def table(rows, left=False):
    """Prints rows under each other; columns after the first are flush right, unless they are `left`."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        rest = [cell.ljust(width) if left else cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print(("  " + "  ".join([row[0].ljust(widths[0]), *rest])).rstrip())


def show(demo, n, turn):
    """Prints what was asked, written and heard in turn N; gives the last two."""
    heard = demo / f"heard-{n}.json"
    asked = turn.get("utterance", {}).get("text", "")
    written = turn.get("reply", {}).get("text", "")
    spoken = json.loads(heard.read_text())["text"] if heard.exists() and heard.stat().st_size else ""
    for label, text in [("asked", asked), ("written", written), ("heard", spoken)]:
        print(textwrap.fill(text or "(nothing)", 100, initial_indent=f"   {label:8} ", subsequent_indent=" " * 12))
    return written, spoken


def main():
    demo = pathlib.Path(sys.argv[1])
    done = turns(demo / "events.jsonl")
    failed = []
    if done:
        print("Where the time went, in ms:\n")
        table([["turn", *(str(n) for n in range(1, len(done) + 1))]]
              + [[label, *(str(turn["times"].get(key, 0)) for turn in done)] for key, label in STAGES])
    for n in range(1, TURNS + 1):
        print(f"\n{n}.")
        if n > len(done):
            print("   The turn did not end.")
            failed.append(n)
            continue
        turn = done[n - 1]
        written, spoken = show(demo, n, turn)
        if "error" in turn:
            print(f"   failed   {turn['error'].get('message', '')}")
        said, is_heard = verdict(written, spoken)
        print(f"   {said}; {demo / f'answer-{n}.wav'}")
        if not written or not is_heard:
            failed.append(n)
    if failed:
        sys.exit("\ndemo: turn " + ", ".join(map(str, failed)) + f" was not answered, or its answer was not heard; the logs are in {demo}")


if __name__ == "__main__":
    main()
