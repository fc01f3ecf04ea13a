#!/usr/bin/env bash
# Smart Turn v3.2 (the model in the wheel pipecat-ai 1.14.0) by ONNX Runtime 1.32.0: has the speaker finished?
# One would guess: silence is no finished turn; an output named 'logits' goes through a sigmoid.
# What happens: eight seconds of zeros are finished (0.99), and so is a faint noise; 'logits' is a probability already, so that a sigmoid on it would never
# give less than 0.5.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 numpy==2.4.6 && venv/bin/pip install --quiet --disable-pip-version-check --no-deps pipecat-ai==1.14.0
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
import importlib.util
import pathlib
import sysconfig

import numpy
import onnxruntime

folder = pathlib.Path(sysconfig.get_paths()["purelib"], "pipecat/audio/turn/smart_turn")
# Importing the package itself would need all that it depends on.
spec = importlib.util.spec_from_file_location("features", folder / "_whisper_features.py")
features = importlib.util.module_from_spec(spec)
spec.loader.exec_module(features)
session = onnxruntime.InferenceSession(folder / "data" / "smart-turn-v3.2-cpu.onnx")


def finished(samples):
    given = features.compute_whisper_log_mel_features(samples, do_normalize=True)[None].astype(numpy.float32)
    return float(session.run(None, {"input_features": given})[0][0, 0])


seconds = 8 * 16_000
noise = numpy.random.default_rng(1).normal(0, 1, seconds).astype(numpy.float32)
silent, faint = finished(numpy.zeros(seconds, numpy.float32)), finished(noise * 0.001)
print(f"output: {[output.name for output in session.get_outputs()]}")
print(f"zeros: {silent:.3f}\nnoise of -60 dB: {faint:.3f}")
assert session.get_outputs()[0].name == "logits"
assert 0.5 < silent <= 1 and 0.5 < faint <= 1, "silence is no finished turn any more, or the output is no probability"
EOF
