#!/usr/bin/env bash
# tract 0.23.9 (the wheel) against ONNX Runtime 1.32.0: a softmax between quantized tensors, as quantizing tools write it.
# One would guess: both give the same, to a step of the last quantization.
# What happens: QuantizeLinear, DequantizeLinear, Softmax, QuantizeLinear gives the largest step everywhere in tract, without a word. Either half of it alone is right.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tract==0.23.9 onnx==1.20.0 onnxruntime==1.32.0 numpy==2.4.6
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 venv/bin/python - <<'EOF'
import numpy
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper


def constant(name, kind, value):
    return helper.make_tensor(name, kind, [], [value])


def model(before, after):
    """A softmax, with quantization before it, after it, or both."""
    nodes, last = [], "x"
    if before:
        nodes.append(helper.make_node("QuantizeLinear", ["x", "step", "middle"], ["xq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["xq", "step", "middle"], ["xd"]))
        last = "xd"
    nodes.append(helper.make_node("Softmax", [last], ["p" if after else "y"], axis=-1))
    if after:
        nodes.append(helper.make_node("QuantizeLinear", ["p", "part", "zero"], ["pq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["pq", "part", "zero"], ["y"]))
    constants = []
    if before:
        constants += [constant("step", TensorProto.FLOAT, 0.05), constant("middle", TensorProto.UINT8, 128)]
    if after:
        constants += [constant("part", TensorProto.FLOAT, 1 / 255), constant("zero", TensorProto.UINT8, 0)]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "softmax", [value("x")], [value("y")], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    onnx.save(made, "model.onnx")


x = numpy.array([[1, 2, 3, 0]], numpy.float32)
wrong = {}
for before, after in ((True, False), (False, True), (True, True)):
    model(before, after)
    wanted = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]
    given = tract.onnx().load("model.onnx").into_model().into_runnable().run([x])[0].to_numpy()
    wrong[before, after] = not numpy.allclose(wanted, given, atol=1.5 / 255)
    print(f"quantized before {before}, after {after}: onnxruntime {wanted[0].round(3)}, tract {given[0].round(3)}")
assert not wrong[True, False] and not wrong[False, True], "half of it is wrong as well"
assert wrong[True, True], "tract is right now"
EOF
