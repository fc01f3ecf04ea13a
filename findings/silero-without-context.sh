#!/usr/bin/env bash
# Silero VAD 6.2.3 by ONNX Runtime 1.32.0: the model itself, fed frames of 512 samples at 16 kHz, the size that its own iterator takes.
# One would guess: a probability of speech for each, or an error if the input has another length than the model wants.
# What happens: it takes any length, and never finds speech in 512 samples: the wheel's own Python puts the last 64 samples of the frame before in front.
# With 32 it does not find any either.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 numpy==2.4.6 espeakng-loader==0.2.4 && venv/bin/pip install --quiet --disable-pip-version-check --no-deps silero-vad==6.2.3
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
import ctypes
import importlib.util
import pathlib

import espeakng_loader
import numpy
import onnxruntime


def speech(text, rate_hz=16_000):
    """The text in eSpeak's voice, mono."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    own_hz = library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
    parts = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def take(samples, count, _):
        if count:
            parts.append(numpy.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(take)
    library.espeak_SetVoiceByName(b"en-us")
    text = text.encode() + b"\0"
    library.espeak_Synth(text, len(text), 0, 0, 0, 1, None, None)
    samples = numpy.concatenate(parts) / 32_768
    at = numpy.arange(len(samples) * rate_hz // own_hz) * own_hz / rate_hz
    return numpy.interp(at, numpy.arange(len(samples)), samples).astype(numpy.float32)


folder = pathlib.Path(importlib.util.find_spec("silero_vad").submodule_search_locations[0])
session = onnxruntime.InferenceSession(folder / "data" / "silero_vad.onnx")
clip = speech("The curtain opens at eight, and the lights go down before that.")
best = {}
for context in (0, 32, 64):
    state, before, found = numpy.zeros((2, 1, 128), numpy.float32), numpy.zeros(context, numpy.float32), []
    for start in range(0, len(clip) - 511, 512):
        frame = clip[start : start + 512]
        given = {"input": numpy.concatenate([before, frame])[None], "state": state, "sr": numpy.array(16_000)}
        before = frame[512 - context :]
        probability, state = session.run(None, given)
        found.append(float(probability[0, 0]))
    best[context] = max(found)
    share = sum(p > 0.5 for p in found) / len(found)
    print(f"{context} samples in front: at most {max(found):.3f}, speech in {share:.0%} of the frames")
assert best[64] > 0.9, "it does not find this speech at all"
assert best[0] < 0.5 and best[32] < 0.5, "it finds speech without the 64 samples now"
EOF
