"""Makes a Piper voice loadable by sherpa-onnx.

Usage: piper_to_sherpa.py SOURCE_DIR TARGET_DIR

Reads voice.onnx and voice.json (Piper's NAME.onnx.json); writes model.onnx, tokens.txt and voice.json.

sherpa-onnx wants the voice's properties as metadata within the ONNX file, and the table from phoneme to id as a
text file (https://k2-fsa.github.io/sherpa/onnx/tts/piper.html). An ONNX file is one protobuf message, so the
metadata is changed on the bytes: old entries are cut out and new ones appended. The weights are not touched, the
result is the same on every machine, and neither onnx nor protobuf need be installed.
"""

import json
import sys
from pathlib import Path

# From onnx.proto: ModelProto.metadata_props = 14, a repeated StringStringEntryProto of key = 1 and value = 2.
METADATA_PROPS = 14
KEY, VALUE = 1, 2

# Protobuf's wire types (https://protobuf.dev/programming-guides/encoding/).
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def main(source: Path, target: Path) -> None:
    config_text = (source / "voice.json").read_bytes()
    config = json.loads(config_text)
    model = without_field((source / "voice.onnx").read_bytes(), METADATA_PROPS)
    for key, value in metadata(config).items():
        entry = string_field(KEY, key) + string_field(VALUE, str(value))
        model += bytes_field(METADATA_PROPS, entry)

    target.mkdir(parents=True, exist_ok=True)
    (target / "model.onnx").write_bytes(model)
    (target / "tokens.txt").write_bytes(tokens(config).encode("utf-8"))
    (target / "voice.json").write_bytes(config_text)


def metadata(config: dict) -> dict:
    """What sherpa-onnx reads of a Piper voice."""
    return {
        "model_type": "vits",
        "comment": "piper",
        "language": config["language"]["name_english"],
        "voice": config["espeak"]["voice"],
        "has_espeak": 1,
        "n_speakers": config["num_speakers"],
        "sample_rate": config["audio"]["sample_rate"],
    }


def tokens(config: dict) -> str:
    """A line a phoneme: the phoneme, a blank and its id. The phoneme may itself be a blank."""
    return "".join(f"{phoneme} {ids[0]}\n" for phoneme, ids in config["phoneme_id_map"].items())


def without_field(message: bytes, unwanted: int) -> bytearray:
    """The protobuf `message` without its top-level fields numbered `unwanted`."""
    kept = bytearray()
    position = 0
    while position < len(message):
        start = position
        tag, position = read_varint(message, position)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            _, position = read_varint(message, position)
        elif wire_type == LENGTH:
            length, position = read_varint(message, position)
            position += length
        elif wire_type == FIXED64:
            position += 8
        elif wire_type == FIXED32:
            position += 4
        else:
            raise ValueError(f"not an ONNX file: wire type {wire_type} at byte {start}")
        if position > len(message):
            raise ValueError(f"the ONNX file is cut short: field {field} ends at byte {position} of {len(message)}")
        if field != unwanted:
            kept += message[start:position]
    return kept


def read_varint(data: bytes, position: int) -> tuple:
    """The variable-length integer at `position`, and where it ends."""
    value = shift = 0
    while True:
        if position >= len(data):
            raise ValueError("the ONNX file is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def bytes_field(field: int, content: bytes) -> bytes:
    return varint(field << 3 | LENGTH) + varint(len(content)) + content


def string_field(field: int, text: str) -> bytes:
    return bytes_field(field, text.encode("utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
