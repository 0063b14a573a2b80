"""Code of several trainings: data from the generator, export, evaluation by ONNX Runtime, the bundle."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = HERE / ".data"


class Clock:
    """Seconds since the start, for the card and the progress lines."""

    def __init__(self):
        self.start = time.monotonic()

    def __str__(self):
        seconds = int(time.monotonic() - self.start)
        return f"{seconds // 60} min {seconds % 60:02} s"


def say(*words):
    """Prints progress to standard error."""
    print(*words, file=sys.stderr, flush=True)


def settle(seed):
    """Makes a run repeatable on the same machine and library versions."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)


def bundle(name):
    """The folder of a model's version 1."""
    return ROOT / "config" / "models" / name / "1"


def generate(name, split, *arguments):
    """Runs the generator with the bundle's [features]; returns the folder with its arrays.

    An array made earlier with the same model.toml features, arguments and generator is used again.
    """
    folder = DATA / name / split
    generator = Path(os.environ["SFERIC_TRAIN"])
    features = (bundle(name) / "model.toml").read_text().split("[features]")[1].split("[output]")[0]
    stamp = hashlib.sha256(generator.read_bytes() + features.encode() + repr(arguments).encode()).hexdigest()
    mark = folder / "stamp"
    if not (mark.exists() and mark.read_text() == stamp):
        mark.unlink(missing_ok=True)
        say(f"generating {name} {split}")
        command = [generator, "--model", bundle(name) / "model.toml", "--out", folder, *map(str, arguments)]
        subprocess.run(command, check=True)
        mark.write_text(stamp)
    return folder


def load(folder, name):
    """Maps an array of the generator into memory."""
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def export(model, example, path, outputs, time_axis):
    """Writes `model` as ONNX, opset 17, with a free batch and time axis."""
    axes = {"features": {0: "batch", time_axis: "time"}} | {name: {0: "batch"} for name in outputs}
    torch.onnx.export(
        model.eval(), (example,), path, input_names=["features"], output_names=outputs,
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )
    size = path.stat().st_size
    if size >= 2_000_000:
        raise SystemExit(f"{path.name} has {size} bytes, more than 2 MB")
    return size


class Onnx:
    """Runs a model file on one thread, as the daemon does."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, features, batch=64):
        """Returns all outputs for all rows of `features`, each concatenated over the batches."""
        parts = [
            self.session.run(None, {"features": np.ascontiguousarray(features[at:at + batch])})
            for at in range(0, len(features), batch)
        ]
        return [np.concatenate(part) for part in zip(*parts)]

    def milliseconds(self, features, runs=50):
        """Returns the median time of a run on one frame."""
        one = np.ascontiguousarray(features[:1])
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            self.session.run(None, {"features": one})
            times.append(1e3 * (time.perf_counter() - start))
        return float(np.median(times))


def seal(folder):
    """Puts the SHA-256 of model.onnx into model.toml and returns it."""
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    path = folder / "model.toml"
    text = re.sub(r"\[model\]\nsha256 = .*\n\n", "", path.read_text())
    path.write_text(text.replace("[features]", f'[model]\nsha256 = "{digest}"\n\n[features]', 1))
    return digest


def squared_distances(positions, uncertainties, truth):
    """Squared error in units of the ellipse's sigmas, per row."""
    east, north = (truth - positions).T
    theta = np.radians(uncertainties[:, 2])
    along = east * np.cos(theta) + north * np.sin(theta)
    across = north * np.cos(theta) - east * np.sin(theta)
    return (along / uncertainties[:, 0]) ** 2 + (across / uncertainties[:, 1]) ** 2


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def read_json(path):
    """A JSON file's content."""
    return json.loads(path.read_text())
