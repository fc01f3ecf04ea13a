"""Converts a Whisper model from CTranslate2's format to whisper.cpp's.

Usage: ct2_to_ggml.py SOURCE_DIR TARGET_DIR

Reads model.bin and vocabulary.txt, or vocabulary.json, of a CTranslate2 Whisper model with float weights; writes
model.bin as whisper.cpp loads it. Layouts: CTranslate2 `python/ctranslate2/specs/model_spec.py` (binary version
6), whisper.cpp `models/convert-pt-to-ggml.py`.

Needs nothing but Python. Weights are copied as they are, and the mel filters are computed in scalar arithmetic
rather than by vectorised functions, so that the result is the same on every machine and can be checked by a hash.
"""

import json
import math
import struct
import sys
from collections import namedtuple
from pathlib import Path

# A weight: `width` is the bytes of a number, 2 for half and 4 for single precision, and 0 for a flag of another type.
Tensor = namedtuple("Tensor", "shape width data")

# CTranslate2's type numbers for floats; others (1: int8, 2: int16, 3: int32) are flags in a model that can be converted.
FLOAT32, FLOAT16 = 0, 4
WIDTHS = {FLOAT32: 4, FLOAT16: 2}

GGML_MAGIC = 0x67676D6C
GGML_F32, GGML_F16 = 0, 1

# Whisper's input (openai/whisper `audio.py`).
SAMPLE_RATE_HZ = 16_000
FFT_SIZE = 400
# Every Whisper model has heads of this size.
HEAD_SIZE = 64
# How many tokens whisper.cpp wants in the file, of any Whisper model; it names the special ones after them itself.
STORED_TOKENS = 50257


def main(source: Path, target: Path) -> None:
    variables = read_ctranslate2(source / "model.bin")
    tensors = rename(variables)
    vocabulary = read_vocabulary(source)
    target.mkdir(parents=True, exist_ok=True)
    with open(target / "model.bin", "wb") as out:
        write_ggml(out, tensors, vocabulary)


def read_ctranslate2(path: Path) -> dict:
    """The variables of a CTranslate2 model by name."""
    with open(path, "rb") as file:

        def number(code: str) -> int:
            return struct.unpack("<" + code, file.read(struct.calcsize(code)))[0]

        def text() -> str:
            return file.read(number("H"))[:-1].decode("utf-8")

        version, spec = number("I"), text()
        if version != 6 or spec != "WhisperSpec":
            raise ValueError(f"{path} holds the model {spec!r} of binary version {version}; only a WhisperSpec of version 6 is known")
        number("I")  # the revision of the specification
        variables = {}
        for _ in range(number("I")):
            name = text()
            shape = tuple(number("I") for _ in range(number("B")))
            width = WIDTHS.get(number("B"), 0)
            data = file.read(number("I"))
            if shape and width == 0 and math.prod(shape) > 1:
                raise ValueError(f"{path} is quantised ({name}); only models with float weights can be converted")
            variables[name] = Tensor(shape, width, data)
        for _ in range(number("I")):
            alias, name = text(), text()
            variables[alias] = variables[name]
        return variables


def rename(variables: dict) -> dict:
    """The tensors by their names in openai/whisper, in the order of its own checkpoints' groups."""
    tensors = {}

    def linear(name: str, origin: str) -> None:
        tensors[name + ".weight"] = variables[origin + "/weight"]
        if origin + "/bias" in variables:
            tensors[name + ".bias"] = variables[origin + "/bias"]

    def norm(name: str, origin: str) -> None:
        tensors[name + ".weight"] = variables[origin + "/gamma"]
        tensors[name + ".bias"] = variables[origin + "/beta"]

    def fused(names: list, origin: str) -> None:
        """CTranslate2 stacks projections of one input; Whisper's keys have no bias, which it fills with zeros."""
        weights = split(variables[origin + "/weight"], len(names))
        biases = split(variables[origin + "/bias"], len(names))
        for name, weight, bias in zip(names, weights, biases):
            tensors[name + ".weight"] = weight
            if not name.endswith(".key"):
                tensors[name + ".bias"] = bias
            elif any(bias.data):
                raise ValueError(f"{origin} has a bias for keys, which Whisper has not")

    tensors["encoder.positional_embedding"] = variables["encoder/position_encodings/encodings"]
    for conv in ("conv1", "conv2"):
        linear(f"encoder.{conv}", f"encoder/{conv}")
        bias = tensors[f"encoder.{conv}.bias"]
        tensors[f"encoder.{conv}.bias"] = bias._replace(shape=(bias.shape[0], 1))
    norm("encoder.ln_post", "encoder/layer_norm")
    tensors["decoder.token_embedding.weight"] = variables["decoder/embeddings/weight"]
    tensors["decoder.positional_embedding"] = variables["decoder/position_encodings/encodings"]
    norm("decoder.ln", "decoder/layer_norm")

    for side in ("encoder", "decoder"):
        for layer in range(layers(variables, side)):
            block, origin = f"{side}.blocks.{layer}", f"{side}/layer_{layer}"
            norm(f"{block}.attn_ln", f"{origin}/self_attention/layer_norm")
            fused([f"{block}.attn.{part}" for part in ("query", "key", "value")], f"{origin}/self_attention/linear_0")
            linear(f"{block}.attn.out", f"{origin}/self_attention/linear_1")
            if side == "decoder":
                norm(f"{block}.cross_attn_ln", f"{origin}/attention/layer_norm")
                linear(f"{block}.cross_attn.query", f"{origin}/attention/linear_0")
                fused([f"{block}.cross_attn.{part}" for part in ("key", "value")], f"{origin}/attention/linear_1")
                linear(f"{block}.cross_attn.out", f"{origin}/attention/linear_2")
            norm(f"{block}.mlp_ln", f"{origin}/ffn/layer_norm")
            linear(f"{block}.mlp.0", f"{origin}/ffn/linear_0")
            linear(f"{block}.mlp.2", f"{origin}/ffn/linear_1")
    return tensors


def layers(variables: dict, side: str) -> int:
    count = 0
    while f"{side}/layer_{count}/self_attention/linear_0/weight" in variables:
        count += 1
    return count


def split(tensor: Tensor, parts: int) -> list:
    """Cuts `tensor` into equal parts along its first axis."""
    shape = (tensor.shape[0] // parts, *tensor.shape[1:])
    size = len(tensor.data) // parts
    return [Tensor(shape, tensor.width, tensor.data[i * size : (i + 1) * size]) for i in range(parts)]


def read_vocabulary(source: Path) -> list:
    """GPT-2's tokens, as bytes."""
    plain = source / "vocabulary.txt"
    if plain.exists():
        tokens = plain.read_bytes().decode("utf-8").split("\n")
    else:
        tokens = json.loads((source / "vocabulary.json").read_text(encoding="utf-8"))
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    return [bytes(byte_of[character] for character in token) for token in tokens[:STORED_TOKENS]]


def byte_characters() -> list:
    """The character by which GPT-2's vocabulary writes each byte (openai/gpt-2 `encoder.py`): printable bytes stand
    for themselves, the others are counted up from 256."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    characters, spare = [], 256
    for byte in range(256):
        if byte in printable:
            characters.append(chr(byte))
        else:
            characters.append(chr(spare))
            spare += 1
    return characters


def mel_filters(bands: int) -> list:
    """Triangular filters on Slaney's mel scale, `bands` rows of FFT_SIZE / 2 + 1 weights, as
    `librosa.filters.mel(sr=16000, n_fft=400, n_mels=bands)` gives."""
    top_hz = SAMPLE_RATE_HZ / 2
    bins_hz = [top_hz * i / (FFT_SIZE // 2) for i in range(FFT_SIZE // 2 + 1)]
    top_mel = hz_to_mel(top_hz)
    edges_hz = [mel_to_hz(top_mel * i / (bands + 1)) for i in range(bands + 2)]
    rows = []
    for low, middle, high in zip(edges_hz, edges_hz[1:], edges_hz[2:]):
        area = 2 / (high - low)
        rows.append([area * max(0.0, min((hz - low) / (middle - low), (high - hz) / (high - middle))) for hz in bins_hz])
    return rows


# Slaney's scale is linear below 1 kHz (15 mel) and logarithmic above, 27 steps for a factor of 6.4.
LOG_STEP = math.log(6.4) / 27


def hz_to_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) / LOG_STEP


def mel_to_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * math.exp(LOG_STEP * (mel - 15))


def write_ggml(out, tensors: dict, vocabulary: list) -> None:
    vocabulary_size, text_state = tensors["decoder.token_embedding.weight"].shape
    audio_context, audio_state = tensors["encoder.positional_embedding"].shape
    text_context = tensors["decoder.positional_embedding"].shape[0]
    bands = tensors["encoder.conv1.weight"].shape[1]
    audio_layers, text_layers = (
        sum(name.startswith(f"{side}.blocks.") and name.endswith(".attn_ln.bias") and "cross" not in name for name in tensors)
        for side in ("encoder", "decoder")
    )
    header = (
        GGML_MAGIC,
        vocabulary_size,
        audio_context,
        audio_state,
        audio_state // HEAD_SIZE,
        audio_layers,
        text_context,
        text_state,
        text_state // HEAD_SIZE,
        text_layers,
        bands,
        GGML_F16,
    )
    out.write(struct.pack("<12i", *header))

    filters = mel_filters(bands)
    out.write(struct.pack("<2i", len(filters), len(filters[0])))
    for row in filters:
        out.write(struct.pack(f"<{len(row)}f", *row))

    out.write(struct.pack("<i", len(vocabulary)))
    for token in vocabulary:
        out.write(struct.pack("<i", len(token)) + token)

    for name, tensor in tensors.items():
        # whisper.cpp keeps vectors and positions in single precision, and expects matrices in half.
        single = len(tensor.shape) < 2 or name.endswith((".positional_embedding", "conv1.bias", "conv2.bias"))
        encoded = name.encode("utf-8")
        out.write(struct.pack("<3i", len(tensor.shape), len(encoded), GGML_F32 if single else GGML_F16))
        out.write(struct.pack(f"<{len(tensor.shape)}i", *reversed(tensor.shape)))
        out.write(encoded)
        out.write(in_precision(tensor, 4 if single else 2))


def in_precision(tensor: Tensor, width: int) -> bytes:
    """The numbers of `tensor`, `width` bytes each; half to single is exact, single to half is rounded."""
    if tensor.width == width:
        return tensor.data
    count = math.prod(tensor.shape)
    codes = {2: "e", 4: "f"}
    numbers = struct.unpack(f"<{count}{codes[tensor.width]}", tensor.data)
    return struct.pack(f"<{count}{codes[width]}", *numbers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
