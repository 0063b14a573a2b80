"""The SigMF project's library on what sferic writes, and sferic on what that library writes.

sigmf_files.py SFERIC NATS_URL FOLDER: a daemon with the model `tensors`, the means of I and Q, is at the URL.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import sigmf
from checks import check, equal
from sigmf import SigMFFile

# Whole numbers of I and Q, by datatype: NumPy's type, full scale and middle.
INTEGERS = {
    "ci32_le": ("<i4", 2**31, 0), "ci16_le": ("<i2", 2**15, 0), "ci16_be": (">i2", 2**15, 0),
    "cu16_le": ("<u2", 2**15, 2**15), "ci8": ("i1", 2**7, 0), "cu8": ("u1", 2**7, 2**7),
}  # fmt: skip
FLOATS = {"cf32_le": "<f4", "cf32_be": ">f4", "cf64_le": "<f8"}
SAMPLES = 256


def written(sferic, folder):
    """Recordings of `sferic simulate`, read and validated."""
    scenes = folder / "scenes"
    subprocess.run([sferic, "simulate", "--out", scenes, "--scenes", "5"], check=True, capture_output=True)
    paths = sorted(scenes.glob("*.sigmf-meta"))
    equal("simulate writes as many recordings as it was asked for", len(paths), 5)
    for path in paths:
        name = f"simulate: {path.name}"
        try:
            # Compares the data with core:sha512 too.
            recording = sigmf.fromfile(path)
            recording.validate()
        except Exception as error:
            check(f"{name} is valid", False, f"{type(error).__name__}: {error}")
            continue
        check(f"{name} is valid, and its digest is right", True)
        channels = recording.get_global_field(sigmf.NUM_CHANNELS_KEY)
        samples = recording.read_samples()
        annotation = recording.get_annotations()[0]
        shape = (annotation[sigmf.SAMPLE_COUNT_KEY], channels)
        equal(f"{name} has the samples that its annotation covers", samples.shape, shape)


def made(folder, datatype):
    """A recording of random samples near (0.5, -0.25), written by the library; their means."""
    random = np.random.default_rng(sum(map(ord, datatype)))
    iq = np.stack([0.5 + random.normal(0, 0.05, SAMPLES), -0.25 + random.normal(0, 0.05, SAMPLES)], axis=1)
    if datatype in INTEGERS:
        dtype, scale, middle = INTEGERS[datatype]
        stored = np.round(iq * scale + middle).astype(dtype)
        means = (stored.astype(np.float64) - middle).mean(axis=0) / scale
    else:
        stored = iq.astype(FLOATS[datatype])
        means = stored.astype(np.float64).mean(axis=0)
    data = folder / f"{datatype}.sigmf-data"
    stored.tofile(data)
    info = {sigmf.DATATYPE_KEY: datatype, sigmf.SAMPLE_RATE_KEY: 48000}
    recording = SigMFFile(data_file=data, global_info=info)
    capture = {sigmf.FREQUENCY_KEY: 868.3e6, sigmf.DATETIME_KEY: "2026-11-25T05:00:00Z"}
    recording.add_capture(0, metadata=capture)
    recording.tofile(folder / f"{datatype}.sigmf-meta", overwrite=True)
    return recording, means


def published(sferic, nats, path):
    command = [sferic, "publish", path, "--url", nats, "--model", "tensors", "--wait", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return [json.loads(line) for line in done.stdout.splitlines()]


def read(sferic, nats, name, path, means, tolerance):
    """Publishes a recording, and compares what the model saw with what was written."""
    try:
        (outcome,) = published(sferic, nats, path)
        tensor = next(iter(outcome["tensors"].values()))
    except Exception as error:
        check(name, False, f"{type(error).__name__}: {error}")
        return
    seen = np.frombuffer(base64.b64decode(tensor["data"]), "<f4")
    near = np.allclose(seen, means, atol=tolerance)
    check(f"{name} is read to the same samples", near, f"means {seen.tolist()}, expected {means.tolist()}")
    kept = (outcome["frequency"], outcome["datetime"])
    equal(f"{name} keeps its frequency and time", kept, (868.3e6, "2026-11-25T05:00:00Z"))


def main(sferic, nats, folder):
    folder = Path(folder)
    written(sferic, folder)
    recordings = folder / "recordings"
    recordings.mkdir()
    for datatype in [*INTEGERS, *FLOATS]:
        recording, means = made(recordings, datatype)
        # The middle of unsigned numbers lies between two steps for sferic, here on one: up to a step apart.
        tolerance = 1 / INTEGERS[datatype][1] if datatype.startswith("cu") else 1e-6
        path = recordings / f"{datatype}.sigmf-meta"
        read(sferic, nats, datatype, path, means, tolerance)
    archive = recordings / "archive.sigmf"
    recording.archive(name=str(archive), overwrite=True)
    read(sferic, nats, "an archive", archive, means, 1e-6)


main(*sys.argv[1:])
