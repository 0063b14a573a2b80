"""perf_analyzer, by the Open Inference Protocol."""

import array
import csv
import os
import random
import re
import subprocess

from programs import Failed

WARNED = re.compile(r"([\d.]+)% of the requests were delayed")


class Analyzer:
    """Runs the program and reads its figures."""

    def __init__(self, tools, folder):
        self.program, self.folder = tools / "judges/perf_analyzer/bin/perf_analyzer", folder
        libraries = tools.glob("judges/perf_analyzer/lib/python*/site-packages/nvidia/cuda_runtime/lib")
        self.environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}

    def data(self, shape):
        """A folder with the tensor that is sent. What the program makes up itself has NaN in it."""
        name, axes = shape.split(":")
        count = 1
        for axis in axes.split(","):
            count *= int(axis)
        numbers = random.Random(1)
        tensor = array.array("f", (numbers.uniform(-0.6, 0.6) for _ in range(count)))
        folder = self.folder / "tensors"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(tensor.tobytes())
        return folder

    def run(self, address, model, shape, seconds, *options):
        """A row for each load: its `level`, `rate`, and `latency_ms` from when a request was sent.

        A figure is that of three windows in a row, however much they differ.
        """
        table = self.folder / "perf_analyzer.csv"
        table.unlink(missing_ok=True)
        command = [self.program, "-m", model, "-u", address, "-i", "http", "-b", "1", "--shape", shape]
        command += ["--input-data", self.data(shape), "--percentile", "99", "-f", table, "--verbose-csv"]
        command += ["--measurement-interval", str(round(seconds / 3 * 1000)), "-s", "999", *options]
        streams = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        # A search measures a few loads, each of them up to ten windows.
        bound = 120 + 60 * seconds
        options = dict(env=self.environment, text=True, timeout=bound, **streams)
        try:
            done = subprocess.run(list(map(str, command)), **options)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"perf_analyzer: not over within {bound:.0f} s") from error
        if done.returncode != 0 or not table.exists():
            raise Failed(f"perf_analyzer ended with {done.returncode}: {done.stdout.strip()[-500:]}")
        rows = [self.row(each) for each in csv.DictReader(table.open())]
        if delayed := WARNED.findall(done.stdout):
            rows[-1]["delayed"] = float(delayed[-1]) / 100
        if count := re.findall(r"Request count: (\d+)", done.stdout):
            rows[-1]["queries"] = int(count[-1])
        return rows

    @staticmethod
    def row(each):
        level = float(next(iter(each.values())))
        latency = {name: float(each[f"{name} latency"]) / 1e3 for name in ("p50", "p90", "p99")}
        # Of its own in each latency: making the request up and reading the answer.
        own = (float(each["Client Send"]) + float(each["Client Recv"])) / 1e3
        return {
            "own_ms": own,
            "level": level,
            "rate": float(each["Inferences/Second"]),
            "latency_ms": latency,
        }
