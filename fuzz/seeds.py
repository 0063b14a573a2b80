#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: `fuzz/seeds.py FOLDER` makes a folder a target in it.

Small inputs that are right, and some that are nearly right, made here or taken from the repository's models;
what the fuzzer finds from them stays beside them. `ops/fuzz` runs this.
"""

import io
import json
import struct
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def packed(value):
    """MessagePack of what frames are made of."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\xd9" + bytes([len(value.encode())]) + value.encode()
    if isinstance(value, bytes):
        return b"\xc5" + struct.pack(">H", len(value)) + value
    if isinstance(value, list):
        return b"\xdc" + struct.pack(">H", len(value)) + b"".join(map(packed, value))
    pairs = b"".join(packed(key) + packed(each) for key, each in value.items())
    return b"\xde" + struct.pack(">H", len(value)) + pairs


FRAMES = [
    {"frame_id": "a", "seq": 7, "samples": bytes(64), "datatype": "ci8", "sample_rate": 48000.0},
    {"iq_data": [[0.5, 0.25]] * 4, "model": "degrees@1", "priority": "high", "timeout_ms": 250},
    {"samples": b"\0\0\x80\x3f" * 4, "datatype": "cf32_be", "num_channels": 2, "cache_enabled": False},
    {
        "session_id": "s", "datetime": "2026-11-25T05:00:00.1234567891Z", "frequency": 868.3e6,
        "geolocation": {"type": "Point", "coordinates": [7.6, 45.0, 240.0]}, "samples": b"abcd",
        "datatype": "cu16_le", "unknown": [None, {"x": True}],
    },
]  # fmt: skip

CAPTURES = [
    [{"core:sample_start": 0, "core:frequency": 868.3e6, "core:datetime": "2026-11-25T05:00:00Z"}],
    [
        {"core:sample_start": 0, "core:frequency": 1e6, "core:global_index": 0},
        {"core:sample_start": 512, "core:frequency": 1e6, "core:global_index": 4096},
        {"core:sample_start": 1024, "core:frequency": 2e6, "core:header_bytes": 4},
    ],
    [],
]
GLOBALS = [
    {"core:datatype": "ci8", "core:version": "1.2.5", "core:sample_rate": 48000},
    {"core:datatype": "cu8", "core:version": "1.0.0", "core:num_channels": 2, "core:trailing_bytes": 8},
    {
        "core:datatype": "cf32_le", "core:version": "1.2.0", "core:sha512": "00",
        "core:dataset": "x.sigmf-data",
        "core:geolocation": {"type": "Point", "coordinates": [7.6, 45.0]}, "core:offset": 16,
        "core:extensions": [{"name": "sferic", "version": "1.0.0", "optional": True}],
    },
]  # fmt: skip

NAMES = [
    "name_433.92M_250k.cu8", "gqrx_20261125_050000_868300000_1800000_fc.raw", "a.cs16", "x.bin",
    "x_1024k_433920kHz.cfile",
    "SDRSharp_20261125_050000Z_145800000Hz_IQ.wav", "baseband_100600000Hz_05-00-00_25-11-2026.wav",
    "capture_2.4GHz_20Msps.cf32",
]  # fmt: skip

PARENTS = [
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\na=1,b=2",
    "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
]


def metadata():
    return [
        json.dumps({"global": head, "captures": captures, "annotations": []}).encode()
        for head in GLOBALS
        for captures in CAPTURES
    ]


def archives():
    for kind in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
            for name in ("one", "folder/" + "two" * 25):
                for ending, content in ((".sigmf-meta", metadata()[0]), (".sigmf-data", bytes(256))):
                    member = tarfile.TarInfo(name + ending)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        yield file.getvalue()


def bundles():
    for path in sorted(ROOT.glob("tests/models/*/*/model.toml")):
        graph = (path.parent / "model.onnx").read_bytes()
        yield path.read_bytes() + b"\0" + graph[:2048]
    # An initialiser whose data are in weights.bin, by hand: graph (7), initializer (5), external_data (13).
    entry = b"\x0a\x08location\x12\x0bweights.bin"
    tensor = b"\x6a" + bytes([len(entry)]) + entry + b"\x70\x01"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    yield b"[features]\nkind = \"iq\"\n[output]\nkind = \"tensors\"\n\0\x3a" + bytes([len(graph)]) + graph


def encoded(values):
    """Each in both encodings, as the first byte says."""
    yield from (b"\0" + packed(value) for value in values)
    yield from (b"\1" + json.dumps(value, default=lambda _: "QCBAIA==").encode() for value in values)


def batches():
    bare = [[0.5, 0.25]] * 2
    return [
        {"samples": [*FRAMES, bare, 3], "model": "a", "timeout_ms": 7},
        {"iq_samples": [bare, {"source": "a.b", "model": None}], "continue_on_error": False, "seq": 1},
    ]


def seeds():
    messages = list(encoded(FRAMES))
    return {
        "batches": list(encoded(batches())),
        "frames": messages,
        "salvage": [*messages, *(message[: len(message) // 2] for message in messages)],
        "metadata": metadata(),
        "archives": list(archives()),
        "bundles": list(bundles()),
        "hints": [name.encode() for name in NAMES],
        "traceparent": [parent.encode() for parent in PARENTS],
    }


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for target, inputs in seeds().items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(inputs):
            (folder / f"seed-{number:02}").write_bytes(content)
